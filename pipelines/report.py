"""The comparison: end to end against two-stage on the same held-out clips, as one HTML file that opens offline.

Reads what the evaluations and the baseline wrote (`metrics.json` with rows, definitions, curves and provenance; videos a clip)
and computes no metric of its own.
"""

from __future__ import annotations

import base64
import io
import json
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape

from configs.schema import Config
from pipelines import media
from pipelines.provenance import provenance
from pipelines.store import InputRejected, Record, Store, hash_files, hash_json, write_json, writing

CODE_VERSION = "1"
SYSTEMS = ("end_to_end", "two_stage")
ROW_NAMES = {
    "ground_truth": "ground truth", "other_clip": "truth of another clip", "frozen": "frozen pose", "end_to_end": "end to end",
    "two_stage": "two-stage (speech → motion → avatar)", "silhouette": "one colour in the true silhouette",
    "stage1": "stage 1, predicted SMPL-X", "stage1_true_body": "stage 1, true SMPL-X",
}  # fmt: skip
PANEL = 256  # side of one panel of the side-by-side video, pixels


def comparison(config: Config, store: Store) -> Record:
    """Write comparison/{report.html, table.json, side_by_side_*.mp4, curves.png}."""
    sources = {
        "stage1": store.evaluation("stage1"), "stage2": store.evaluation("stage2"),
        "baseline": store.baseline("video"), "speaking": store.speaking,
    }  # fmt: skip
    missing = [str(p / "metrics.json") for n, p in sources.items() if n != "speaking" and not (p / "metrics.json").is_file()]
    if missing:
        raise InputRejected(f"comparison: expected the evaluations' results, lacks {', '.join(missing)}; run those assets first")
    files = sorted(f for p in sources.values() if p.is_dir() for f in p.rglob("*") if f.is_file())
    inputs = hash_json([hash_files(files, store.root), config.workspace])
    return store.once("comparison", "all", CODE_VERSION, inputs, [store.comparison], lambda: _write(config, store, sources))


def _write(config: Config, store: Store, sources: dict[str, Path]) -> dict[str, Any]:
    results = {n: json.loads((p / "metrics.json").read_text()) for n, p in sources.items() if n != "speaking"}
    rows = results["stage2"]["rows"] | results["baseline"]["rows"]
    order = [r for r in ("ground_truth", "other_clip", "frozen", "two_stage", "end_to_end") if r in rows]
    definitions = results["stage2"]["definitions"]
    table = {name: rows[name] for name in order}
    with writing(store.comparison) as folder:
        folder.mkdir()
        videos = [side_by_side(store, clip, folder / f"side_by_side_{i}.mp4") for i, clip in enumerate(shared_clips(store))]
        (folder / "curves.png").write_bytes(plot_curves(results["stage2"]["curves"] | results["baseline"]["curves"]))
        write_json(folder / "table.json", {"rows": table, "definitions": definitions, "provenance": provenance(config, store)})
        sections = [
            _section(
                "Speaking",
                "A held-out person's picture and speech that the networks never saw.",
                videos=[_embedded(p, p.name) for p in sorted(sources["speaking"].glob("*.mp4"))],
            ),
            _section(
                "End to end against two-stage",
                f"{len(videos)} held-out clips. Left to right: truth, two-stage, end to end.",
                videos=[_embedded(folder / name, name) for name in videos],
                tables=[_table(table, definitions)],
                plots=[_embedded(folder / "curves.png", "Mouth opening and wrist speed of the first held-out clip")],
            ),
            _section(
                "Stage 1: one picture to an avatar",
                "Held-out subjects and views.",
                tables=[_table(results["stage1"]["rows"], results["stage1"]["definitions"])],
                plots=[_embedded(sources["stage1"] / "preview.png", "Held-out subjects: picture, true view, rendered view")],
            ),
            _section("Training", "", plots=_losses(store, folder)),
            _section("Where these figures come from", "", tables=[_provenance_table(config, store)]),
        ]
        page = Environment(loader=PackageLoader("pipelines"), autoescape=select_autoescape()).get_template("report.html")
        subtitle = "FGD compares within this page only: its auto-encoder is trained on this workspace's clips."
        (folder / "report.html").write_text(
            page.render(title="speech-avatar: end to end against two-stage", subtitle=subtitle, sections=sections)
        )
    metrics = {f"{s}/{name}": value for s in SYSTEMS for name, value in rows.get(s, {}).items() if isinstance(value, float)}
    return {
        "clips": len(videos),
        "metrics": metrics,
        "table": markdown_table(table, definitions),
        "report": str(store.comparison / "report.html"),
        "preview": str(store.comparison / "curves.png"),
    }


def markdown_table(rows: dict[str, dict[str, float]], definitions: dict[str, str]) -> str:
    """The table as markdown, rows by their readable names."""
    lines = ["| | " + " | ".join(definitions) + " |", "|" + "---|" * (len(definitions) + 1)]
    for row, values in rows.items():
        lines.append(f"| {ROW_NAMES.get(row, row)} | " + " | ".join(_number(values.get(name)) for name in definitions) + " |")
    return "\n".join(lines)


def shared_clips(store: Store) -> list[str]:
    """Clips of which both systems' videos exist."""
    ours = {p.stem for p in (store.evaluation("stage2") / "videos").glob("*.mp4")}
    return sorted(ours & {p.stem for p in store.baseline("video").glob("*.mp4")})


def side_by_side(store: Store, clip: str, target: Path) -> str:
    """Truth | two-stage | end to end in one mp4 with the clip's speech; returns the file's name."""
    ours, theirs = store.evaluation("stage2") / "videos" / f"{clip}.mp4", store.baseline("video") / f"{clip}.mp4"
    truth = store.evaluation("stage2") / "truth" / f"{clip}.mp4"
    labels = ("truth", "two-stage", "end to end")

    def panels() -> Any:
        for pictures in zip_longest(*(media.frames(p) for p in (truth, theirs, ours))):
            if any(p is None for p in pictures):
                return  # the shortest ends the video
            yield np.concatenate([_labelled(p, text) for p, text in zip(pictures, labels, strict=True)], 1)

    rate = Fraction(media.probe(ours).fps)
    media.write_video(target, panels(), rate, media.read_audio(ours))
    return target.name


def _labelled(picture: np.ndarray, text: str) -> np.ndarray:
    panel = cv2.resize(picture, (PANEL, PANEL), interpolation=cv2.INTER_AREA)
    return cv2.putText(np.ascontiguousarray(panel), text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 60, 90), 1, cv2.LINE_AA)


def plot_curves(curves: dict[str, Any]) -> bytes:
    """Mouth opening and wrist speed over time of each row; PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 5), sharex=True)
    for row in ("ground_truth", "two_stage", "end_to_end"):
        if row not in curves:
            continue
        for axis, name in zip(axes, ("mouth", "wrist"), strict=True):
            axis.plot(curves[row]["time"], curves[row][name], label=ROW_NAMES[row], lw=1.3)
    axes[0].set_ylabel("mouth opening, mm")
    axes[1].set_ylabel("wrist speed, m/s")
    axes[1].set_xlabel("time, s")
    axes[0].legend(fontsize=8)
    return _png(figure)


def plot_losses(files: dict[str, Path]) -> bytes | None:
    """Total training loss over steps, one panel a stage; None where nothing was trained."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    found = {n: [json.loads(line) for line in p.read_text().splitlines()] for n, p in files.items() if p.is_file()}
    if not found:
        return None
    figure, axes = plt.subplots(1, len(found), figsize=(9, 3), squeeze=False)
    for axis, (name, lines) in zip(axes[0], found.items(), strict=True):
        axis.plot([r["step"] for r in lines if "total" in r], [r["total"] for r in lines if "total" in r], lw=1.3)
        axis.set_title(name)
        axis.set_yscale("log")
        axis.set_xlabel("step")
    return _png(figure)


def _png(figure: Any) -> bytes:
    from matplotlib import pyplot as plt

    stream = io.BytesIO()
    figure.tight_layout()
    figure.savefig(stream, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return stream.getvalue()


def _section(title: str, text: str, videos: Any = (), tables: Any = (), plots: Any = ()) -> dict[str, Any]:
    return {"title": title, "text": text, "videos": list(videos), "tables": list(tables), "plots": list(plots)}


def _embedded(path: Path, caption: str) -> dict[str, str]:
    return {"data": base64.b64encode(path.read_bytes()).decode(), "caption": caption}


def _losses(store: Store, folder: Path) -> list[dict[str, str]]:
    png = plot_losses({name: store.checkpoint(name) / "metrics.jsonl" for name in ("stage1", "stage2")})
    if png is None:
        return []
    (folder / "losses.png").write_bytes(png)
    return [_embedded(folder / "losses.png", "Training losses")]


def _table(rows: dict[str, dict[str, float]], definitions: dict[str, str]) -> dict[str, Any]:
    head = [{"text": ""}] + [{"text": name, "help": help_text} for name, help_text in definitions.items()]
    body = [{"cells": [ROW_NAMES.get(r, r), *(_number(v.get(m)) for m in definitions)], "system": r in SYSTEMS} for r, v in rows.items()]
    return {"head": head, "rows": body, "note": "; ".join(f"{name}: {text}" for name, text in definitions.items())}


def _provenance_table(config: Config, store: Store) -> dict[str, Any]:
    rows = [{"cells": [k, v], "system": False} for k, v in provenance(config, store).items()]
    return {"head": [{"text": "what"}, {"text": "version"}], "rows": rows, "note": ""}


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
