"""What `speech-avatar fit` prints: the clips of a video with their figures, and why the rest was left out."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from pipelines.overlay import DOUBTFUL


def fit_table(summary: dict[str, Any]) -> Table:
    """The content of a summary.json (pipelines/fit_video.py) as a table; what "off" means: pipelines/fit_quality.py."""
    caption = "frames/s: " + ", ".join(f"{name} {value:g}" for name, value in summary["frames_per_second"].items())
    if any(clip["confidence"] < DOUBTFUL for clip in summary["clips"].values()):
        caption += f"\nconfidence below {DOUBTFUL:g}: arms are hidden or the fit is lost; such frames are amber in overlay.mp4"
    table = Table(title=escape(summary["video"]), title_justify="left", caption=caption, caption_justify="left")
    table.add_column("clip", overflow="fold")
    for heading in ("seconds", "frames", "off %", "confidence", "body mm", "face mm"):
        table.add_column(heading, justify="right")
    for name, clip in summary["clips"].items():
        span = f"{clip['start']:.2f}-{clip['end']:.2f}"
        figures = (clip[key] for key in ("reprojection_percent", "confidence", "body_mm", "face_mm"))
        table.add_row(name.removeprefix(f"{summary['talk']}_"), span, str(clip["frames"]), *map(_figure, figures))
    return table


def left_out_table(summary: dict[str, Any]) -> Table | None:
    """Seconds and clips that were left out, with the reason; None where there are none."""
    table = Table("left out", "seconds", "why", title_justify="left")
    table.columns[1].justify = "right"
    for reason, seconds in sorted(summary["rejected_seconds"].items(), key=lambda item: -item[1]):
        table.add_row("stretches", f"{seconds:.2f}", escape(reason))
    for name, reason in summary["not_fitted"].items():
        table.add_row(name.removeprefix(f"{summary['talk']}_"), "", escape(reason))
    return table if table.row_count else None


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
