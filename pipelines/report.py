"""The comparison: end to end against two-stage on the same held-out clips, as one HTML file that opens offline.

Everything it needs lies inside it: films, numbers, a few lines of script that draw the plots. It computes no metric of its
own (`comparison.py` puts the evaluations' figures side by side), and under every figure stands what it was made from.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape

from configs.schema import Config
from model.metrics import Interval
from pipelines.comparison import ACCUMULATION, LOST, MEANINGS, ORDER, OURS, ROW_NAMES, THEIRS, Comparison, reading, verdict
from pipelines.provenance import provenance
from pipelines.report_films import encoded, film, picture, shared_clips, side_by_side
from pipelines.report_plots import Panel, plot_intervals
from pipelines.scoring_summary import cell, markdown_rows, number
from pipelines.store import Record, Store, hash_files, hash_json, write_json, writing

CODE_VERSION = "6"  # 4: what the truth is; 5: jackknife intervals of FGD; 6: all rows in all panels, whole pages on paper
COLOURS = {
    "ground_truth": "#18202b", "oracle_draw": "#2f8f5b", "other_clip": "#8a94a0", "nearest_clip": "#7d5ba6", "frozen": "#b0b8c1",
    "still_avatar": "#5f9ea0",
    "two_stage": "#c96a12", "end_to_end": "#1f66b1",
}  # fmt: skip
SHORT = {"other_clip": "other clip", "nearest_clip": "nearest clip", "ground_truth": "truth"}
PARTS = {
    "motion": ("predicted motion, fitted avatar", "motion", "#8a5a2b"), "avatar": ("true motion, predicted avatar", "avatar", "#b5893f"),
    "together": ("two-stage: both predicted", "two-stage", COLOURS["two_stage"]),
    "end_to_end": ("end to end", "end to end", COLOURS["end_to_end"]),
}  # fmt: skip
ABOUT = {
    "psnr_gain": "PSNR inside the person's box, end to end less two-stage, dB; above 0 is nearer to this one performance (it rewards "
    "moving less: see how to read)",
    "mouth_gain": "correlation of mouth and speech beyond that with wrong speech, end to end less two-stage; above 0 is better as long "
    "as neither passes the truth (see how to read)",
    "fgd_ratio": "Fréchet distance of motion, end to end over two-stage; below 1 is better, few speakers bring it nearer to 1",
}
FEW = 5  # speakers under which the page says how little intervals tell
LINEAGE = ("run", "checkpoint", "data", "commit")
CLIP = "__"  # between a talk's and a clip's id in file names


def comparison(config: Config, store: Store) -> Record:
    """Write comparison/{report.html, table.json, table.md, side_by_side_*.mp4, figures.png, losses.png}."""
    found = Comparison.load(store)
    folders = [store.evaluation("stage1"), store.evaluation("stage2"), store.baseline("video"), store.speaking]
    files = sorted(f for folder in folders if folder.is_dir() for f in folder.rglob("*") if f.is_file())
    inputs = hash_json([hash_files(files, store.root), config.workspace])
    return store.once("comparison", "all", CODE_VERSION, inputs, [store.comparison], lambda: _write(config, store, found))


def _write(config: Config, store: Store, found: Comparison) -> dict[str, Any]:
    headline, losses = found.headline(), found.losses()
    clips = shared_clips(store)
    table = {name: found.rows[name] for name in ORDER if name in found.rows}
    text = markdown(found, table)
    with writing(store.comparison) as folder:
        folder.mkdir()
        for i, clip in enumerate(clips):
            side_by_side(store, clip, folder / f"side_by_side_{i}.mp4")
        plot_intervals(folder / "figures.png", _panels(table))
        plot_intervals(folder / "losses.png", _loss_panels(losses))
        write_json(folder / "table.json", found.as_json())
        (folder / "table.md").write_text(text)
        page = Environment(loader=PackageLoader("pipelines"), autoescape=select_autoescape()).get_template("report.html")
        (folder / "report.html").write_text(page.render(**_page(config, store, found, table, folder, clips, text)))
    figures = {f"{s}/{n}": f["value"] for s in (OURS, THEIRS) for n, f in found.rows.get(s, {}).items()}
    return {
        "clips": len(clips),
        "metrics": {n: i.value for n, i in headline.items()} | figures,
        "intervals": {n: [i.low, i.high] for n, i in headline.items()},
        "lineage": {name: dict(lineage(about)) for name, about in found.provenance.items()},
        "table": text,
        "report": str(store.comparison / "report.html"),
        "preview": str(store.comparison / "figures.png"),
        "pictures": {"what each stage loses": str(store.comparison / "losses.png")},
    }


def markdown(found: Comparison, table: dict[str, Any]) -> str:
    """Tables for a paper: the rows, the gains, what each stage loses; intervals in brackets."""
    named = {ROW_NAMES.get(n, n): row for n, row in table.items()}
    speakers = len(set(found.who.values()))
    lines = [markdown_rows(named, found.definitions)]
    lines += [f"{len(found.who)} held-out clips of {speakers} speakers, 95 % intervals over them; the truth is {found.judged_by}.", ""]
    lines += ["| end to end against two-stage | value | |", "|---|---:|---|"]
    lines += [f"| {n} | {_bracketed(i)} | {verdict(n, i)} |" for n, i in found.headline().items()]
    losses = found.losses()
    if losses:
        lines += ["", "| lost against true motion and a fitted avatar | " + " | ".join(PARTS[p][0] for p in PARTS) + " |"]
        lines += ["|---|" + "---:|" * len(PARTS)]
        lines += [f"| {f} | " + " | ".join(_bracketed(lost.get(p)) for p in PARTS) + " |" for f, lost in losses.items()]
    about = found.provenance["stage2"]
    trained = [f"- {name}: {f['data']}; {f['steps']} steps, {f['seen']}" for name, f in found.learned.items()]
    told = ["", *(f"- {line}" for line in reading(found)), *([""] if trained else []), *trained]
    return "\n".join([*lines, *told, "", "; ".join(f"{n} `{v}`" for n, v in lineage(about))]) + "\n"


def lineage(about: dict[str, Any]) -> list[tuple[str, str]]:
    """Runs, checkpoints, data version and commit of results, from their provenance."""
    stages = [("stage 1", "train_stage1"), ("stage 2", "train_stage2"), ("baseline", "baseline_motion")]
    present = [(label, key) for label, key in stages if key in about]
    runs = [f"{label} {about[f'{key}_run']}" for label, key in present if f"{key}_run" in about]
    named = {
        "run": ", ".join(runs), "checkpoint": ", ".join(f"{label} {about[key]}" for label, key in present),
        "data": ", ".join(str(about[k]) for k in ("talks_shards", "scans_shards") if k in about), "commit": str(about.get("commit", "")),
    }  # fmt: skip
    return [(name, named[name]) for name in LINEAGE if named[name]]


def _page(
    config: Config, store: Store, found: Comparison, table: dict[str, Any], folder: Path, clips: list[str], text: str
) -> dict[str, Any]:
    """What the template asks for."""
    speakers = len(set(found.who.values()))
    losses, training = found.losses(), _training(store)
    figures = [n for n in found.definitions if any(n in row for row in table.values())]
    by = "" if found.two_stage_by == "own" else f" Its avatar is {found.two_stage_by}'s."
    shown_value = lambda n, i: f"{i.value:.3g}" if n == "fgd_ratio" else f"{i.value:+.3g}"  # noqa: E731
    few = f" ({speakers} speakers only)" if speakers < FEW else ""
    tiles = [
        {"name": n, "value": shown_value(n, i), "range": _range(i), "says": verdict(n, i) + few, "about": ABOUT[n]}
        for n, i in found.headline().items()
    ]
    films = [
        film(folder / f"side_by_side_{i}.mp4", f"{clip.split(CLIP)[-1]}: truth, two-stage, end to end") for i, clip in enumerate(clips)
    ]
    speaking = [film(p, f"{p.name}: a held-out person's picture, another's speech") for p in sorted(store.speaking.glob("*.mp4"))]
    source = {n: lineage(about) for n, about in found.provenance.items()}
    both = lineage({**found.provenance["baseline"], **found.provenance["stage2"]})
    preview = store.evaluation("stage1") / "preview.png"
    sections = [
        _section(
            "films-section", "Side by side", "Left to right: truth, two-stage, end to end. Nobody here was seen in training.",
            both, films=films,
        ),
        _section("speaking-section", "Speaking", "One picture and speech that the networks never saw.", source["stage2"], films=speaking),
        _section(
            "figures-section", "Figures",
            f"{len(found.who)} held-out clips of {speakers} speakers; intervals are 95 %, over speakers (means: bootstrap; Fréchet "
            f"distances: jackknife). The truth is {found.judged_by}. The difference is end to end less two-stage on the same clips.",
            both, tables=[_table(found, table, figures)], still=encoded((folder / "figures.png").read_bytes()),
        ),
        _section(
            "reading-section", "How to read these figures", "", both, points=reading(found),
            tables=[_learned(found)] if found.learned else [],
        ),
        _section("curves-section", "Over time", "", both),
        _section(
            "losses-section", "What each stage loses",
            "The two-stage system with one stage replaced by the truth, on the same clips. An avatar fitted to other frames of the "
            "clip, moved by the true motion, is the ceiling; every number is what is lost against it.",
            both, tables=[_loss_table(found)] if losses else [], still=encoded((folder / "losses.png").read_bytes()),
        ),
        _section(
            "stage1-section", "Stage 1: one picture to an avatar", f"{found.stage1.get('subjects', 0)} held-out people, views not shown.",
            source["stage1"], tables=[_stage1_table(found.stage1)],
            pictures=[picture(preview, "Held-out people: truth above; predicted and true SMPL-X below")] if preview.is_file() else [],
        ),
        _section("training-section", "Training", "", source["stage2"]),
        _section("paper-section", "For a paper", "What every figure is; on the screen also all tables as markdown.", source["stage2"]),
        _section("lineage-section", "Where these figures come from", "", [], tables=[_plain(provenance(config, store))]),
    ]  # fmt: skip
    absent = {"speaking-section": not speaking, "films-section": not films, "training-section": not training, "losses-section": not losses}
    shown = [n for n in ORDER if any(n in c for c in found.curves.values())]
    return {
        "title": "End to end against two-stage",
        "intro": f"Speech and one picture in, a speaking person out: one network trained end to end, beside speech → SMPL-X → avatar.{by}",
        "tiles": tiles, "caution": f"{speakers} speakers: intervals of so few say little." if speakers < FEW else "",
        "sections": [s for s in sections if not absent.get(s["id"])], "figure_names": figures, "loss_names": list(losses),
        "has_losses": bool(losses), "clip_names": list(found.curves), "training_names": list(training), "markdown": text,
        "definitions": found.definitions,
        "curve_rows": [
            {"id": n, "name": ROW_NAMES[n], "color": COLOURS[n], "shown": n in ("ground_truth", OURS, THEIRS)} for n in shown
        ],
        "data": {
            "rows": table, "order": list(table), "definitions": found.definitions, "curves": found.curves, "training": training,
            "names": {n: {"name": ROW_NAMES[n], "short": SHORT.get(n, ROW_NAMES[n]), "color": COLOURS[n]} for n in ORDER},
            "losses": found.as_json()["losses"], "part_order": list(PARTS),
            "parts": {n: {"name": a, "short": b, "color": c} for n, (a, b, c) in PARTS.items()},
        },
    }  # fmt: skip


def _section(id: str, title: str, text: str, source: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    blank = {"films": [], "still": "", "tables": [], "pictures": [], "points": []}
    return {"id": id, "title": title, "text": text, "lineage": source, **blank, **more}


def _table(found: Comparison, table: dict[str, Any], figures: list[str]) -> dict[str, Any]:
    """A row a figure; both systems, their paired difference, then what tells how much it is worth."""
    kinds = {OURS: "ours", THEIRS: "theirs"}
    others = [n for n in table if n not in kinds]
    systems = [n for n in kinds if n in table]
    head = [{"text": "", "kind": ""}, *({"text": ROW_NAMES[n], "kind": kinds[n]} for n in systems)]
    head += [{"text": "difference", "kind": ""}, *({"text": ROW_NAMES.get(n, n), "kind": ""} for n in others)]
    rows = []
    for figure in figures:
        gain = found.gain(figure)
        sure = gain is not None and gain.low is not None and gain.high is not None and (gain.low > 0 or gain.high < 0)
        line = [{"text": figure, "small": found.definitions[figure], "kind": "name"}]
        line += [_cell(table[n].get(figure), kinds[n]) for n in systems]
        line.append(_cell(vars(gain) if gain else None, "sure" if sure else ""))
        rows.append([*line, *(_cell(table[n].get(figure), "") for n in others)])
    meanings = "; ".join(f"{ROW_NAMES[n]}: {MEANINGS[n]}" for n in table)
    return {"head": head, "rows": rows, "note": f"Bold: the interval of the difference does not hold 0. {meanings}."}


def _loss_table(found: Comparison) -> dict[str, Any]:
    losses = found.losses()
    head = [{"text": "", "kind": ""}, *({"text": ROW_NAMES[r], "kind": {OURS: "ours", THEIRS: "theirs"}.get(r, "")} for r in ACCUMULATION)]
    rows = []
    for figure in LOST:
        if figure in losses:
            line = [{"text": figure, "small": found.definitions[figure], "kind": "name"}]
            rows.append([*line, *(_cell(found.rows.get(r, {}).get(figure), "") for r in ACCUMULATION)])
            parts = [_cell(vars(losses[figure][p]) if p in losses[figure] else None, "") for p in PARTS]
            rows.append([{"text": "lost", "kind": "name"}, {"text": "", "kind": ""}, *parts])
    return {"head": head, "rows": rows, "note": "lost: against the first column on the same clips, positive where it is worse."}


def _stage1_table(results: dict[str, Any]) -> dict[str, Any]:
    definitions = results["definitions"]
    head = [{"text": "", "kind": ""}, *({"text": ROW_NAMES.get(n, n), "kind": ""} for n in results["rows"])]
    rows = [
        [{"text": f, "small": text, "kind": "name"}, *(_cell(row.get(f), "") for row in results["rows"].values())]
        for f, text in definitions.items()
    ]
    return {"head": head, "rows": rows, "note": ""}


def _learned(found: Comparison) -> dict[str, Any]:
    """What each side was trained on, and how long."""
    head = [{"text": t, "kind": "text"} for t in ("", "learned from", "optimiser steps", "motion seen")]
    rows = [
        [{"text": name, "kind": "name"}, *({"text": str(facts.get(k, "–")), "kind": "text"} for k in ("data", "steps", "seen"))]
        for name, facts in found.learned.items()
    ]
    return {"head": head, "rows": rows, "note": ""}


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    rows = [[{"text": k, "kind": "name"}, {"text": str(v), "kind": "text"}] for k, v in facts.items()]
    return {"head": [{"text": t, "kind": "text"} for t in ("what", "version")], "rows": rows, "note": ""}


def _cell(figure: dict[str, Any] | None, kind: str) -> dict[str, str]:
    if figure is None:
        return {"text": "–", "small": "", "kind": kind}
    certain = figure["low"] is None or figure["low"] == figure["high"]
    bounds = "" if certain else f"{_short(figure['low'])} … {_short(figure['high'])}"
    return {"text": _short(figure["value"]), "small": bounds, "kind": kind}


def _short(value: float) -> str:
    """Three significant digits, as long as these are not more than five decimals."""
    size = abs(value)
    if size < 1e-5:
        return number(value, 2)
    return f"{value:.{min(5, max(0, 2 - math.floor(math.log10(size))))}f}"


def _bracketed(interval: Interval | None) -> str:
    return cell(vars(interval) if interval else None)


def _range(interval: Interval) -> str:
    return "no interval" if interval.low is None else f"{interval.low:.3g} … {interval.high:.3g}"


def _training(store: Store) -> dict[str, Any]:
    """Total loss over steps of each stage that was trained here."""
    found = {}
    for stage in ("stage1", "stage2"):
        path = store.checkpoint(stage) / "metrics.jsonl"  # type: ignore[arg-type]
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
        total = [(r["step"], r["total"]) for r in lines if "total" in r]
        if total:
            steps, values = zip(*total, strict=True)
            found[stage] = {"series": [{"name": "loss", "x": steps, "y": values, "color": COLOURS["end_to_end"]}]}
    return found


def _panels(table: dict[str, Any]) -> list[Panel]:
    chosen = [f for f in ("psnr", "ssim", "fgd", "mouth_r_gain", "upper_mpjpe_mm", "jerk") if any(f in r for r in table.values())]
    interval = lambda figure: None if figure is None else Interval(figure["value"], figure["low"], figure["high"])  # noqa: E731
    return [(f, [(ROW_NAMES[n], COLOURS[n], interval(r.get(f))) for n, r in table.items()]) for f in chosen]


def _loss_panels(losses: dict[str, dict[str, Interval]]) -> list[Panel]:
    return [(f"{f} lost", [(name, colour, lost.get(p)) for p, (name, _, colour) in PARTS.items()]) for f, lost in losses.items()]
