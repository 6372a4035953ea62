"""What a person wants to see of a talk's clips and fits: contact sheet, histograms, tables. Added to their records' facts.

The record itself (its hashes) stays as the stage made it; pictures are drawn once for each of its outcomes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from configs.schema import Config
from pipelines.fit import STAGE as FITS
from pipelines.fit import FitBody, load_fit_body
from pipelines.fit_quality import Quality, clip_quality, fitted_clips, joined, percent, speeds
from pipelines.media import write_picture
from pipelines.store import Record, Store, writing

STAGE = "contact_sheets"
CODE_VERSION = "1"
MOST_CLIPS, COLUMNS = 6, 2  # on a contact sheet
CELL_WIDTH, LABEL_HEIGHT = 640, 28  # pixels


def with_reasons(record: Record) -> Record:
    """A talk's cut with a table of where its seconds went, clips and reasons, and a picture of what was rejected."""
    facts = record.facts
    if "rejected" not in facts:
        return record
    rows = [("in clips", facts["clip_seconds"]), *sorted(facts["rejected"].items(), key=lambda row: -row[1])]
    whole = sum(seconds for _, seconds in rows) or 1.0
    lines = [f"| {name} | {seconds:.2f} | {seconds / whole:.1%} |" for name, seconds in rows]
    table = "\n".join(["| where the seconds went | seconds | share |", "|---|---:|---:|", *lines])
    told = {name: value for name, value in facts.items() if name != "rejected_preview"}
    pictures = {"rejected_stretches": facts["rejected_preview"]} if "rejected_preview" in facts else {}
    return replace(record, facts={**told, "table": table, "pictures": pictures})


def with_pictures(config: Config, store: Store, talk: str, record: Record, load: Callable[[Config], FitBody] = load_fit_body) -> Record:
    """A talk's fits with their contact sheet, histograms, reprojection, speeds, and a table of the clips."""
    if record.status != "ok":
        return record
    folder = store.talk(talk)
    sheet, histograms = folder / "fits_sheet.jpg", folder / "fits_histograms.png"

    def work() -> dict[str, Any]:
        clips = fitted_clips(store, talk)
        body = load(config)
        qualities = {clip: clip_quality(body, clip) for clip in clips}
        whole = joined(list(qualities.values()))
        cells = [(clip / "fit_preview.png", label(clip.name, q)) for clip, q in qualities.items()]
        write_picture(sheet, contact_sheet(cells)[..., ::-1], quality=88)
        draw_histograms(histograms, whole)
        return {
            "table": _table(store, talk, qualities), "preview": str(sheet), "pictures": {"histograms": str(histograms)},
            "speeds": {f"{name}_fps": value for name, value in speeds(store, talk).items()},
            "reprojection_percent": percent(whole.median_reprojection()),
        }  # fmt: skip

    shown = store.once(STAGE, talk, CODE_VERSION, record.output_hash, [sheet, histograms], work).facts
    metrics = {**record.facts.get("metrics", {}), "reprojection_percent": shown["reprojection_percent"], **shown["speeds"]}
    facts = {**record.facts, **{k: shown[k] for k in ("table", "preview", "pictures")}, "metrics": metrics}
    return replace(record, facts={**facts, "metrics": {k: v for k, v in metrics.items() if v is not None}})


def contact_sheet(cells: list[tuple[Path, str]]) -> np.ndarray:
    """Pictures of up to `MOST_CLIPS` clips, evenly chosen, each under its label: [H, W, 3] BGR."""
    chosen = sorted({round(i) for i in np.linspace(0, len(cells) - 1, min(len(cells), MOST_CLIPS))})
    tiles = [_cell(*cells[i]) for i in chosen]
    columns = min(COLUMNS, len(tiles))
    height = max(tile.shape[0] for tile in tiles)
    blank = np.full((height, CELL_WIDTH, 3), 255, np.uint8)
    padded = [cv2.copyMakeBorder(t, 0, height - t.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for t in tiles]
    padded += [blank] * (-len(padded) % columns)
    return np.concatenate([np.concatenate(padded[i : i + columns], 1) for i in range(0, len(padded), columns)], 0)


def draw_histograms(path: Path, quality: Quality) -> None:
    """Frames by reprojection (far ones in the last bar) and by confidence."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((7.0, 2.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    off = 100 * quality.reprojection[np.isfinite(quality.reprojection)]
    if len(off):
        most = max(1.5 * float(np.percentile(off, 95)), 1.0)
        left.hist(np.minimum(off, most), bins=30, range=(0, most), color="#4477aa")
        left.axvline(float(np.median(off)), color="black", linewidth=1)
        left.set_title(f"median {np.median(off):.2f} %", fontsize=9)
    left.set(xlabel="reprojection, % of the person's box", ylabel="frames")
    right.hist(quality.confidence, bins=30, range=(0, 1), color="#66aa55")
    right.set_title(f"mean {quality.confidence.mean():.3f}", fontsize=9)
    right.set(xlabel="confidence")
    with writing(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def label(clip: str, quality: Quality) -> str:
    return f"{clip}  off {100 * quality.median_reprojection():.2f} %  confidence {quality.confidence.mean():.2f}"


def _cell(picture: Path, text: str) -> np.ndarray:
    image = cv2.imread(str(picture))
    if image is None:
        image = np.full((CELL_WIDTH // 2, CELL_WIDTH, 3), 200, np.uint8)  # a clip without a preview
    image = cv2.resize(image, (CELL_WIDTH, round(image.shape[0] * CELL_WIDTH / image.shape[1])), interpolation=cv2.INTER_AREA)
    strip = np.full((LABEL_HEIGHT, CELL_WIDTH, 3), 255, np.uint8)
    cv2.putText(strip, text, (6, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, image], 0)


def _table(store: Store, talk: str, qualities: dict[Path, Quality]) -> str:
    lines = ["| clip | frames | off % of box | confidence | body mm |", "|---|---:|---:|---:|---:|"]
    for clip, quality in qualities.items():
        record = store.read_record(FITS, f"{talk}/{clip.name}")
        millimetres = record.facts.get("body_mm", float("nan")) if record is not None else float("nan")
        off, sure = 100 * quality.median_reprojection(), quality.confidence.mean()
        lines.append(f"| {clip.name} | {len(quality.confidence)} | {off:.2f} | {sure:.3f} | {millimetres:.1f} |")
    return "\n".join(lines)


