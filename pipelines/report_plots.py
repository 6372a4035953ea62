"""Still plots of the comparison, for Dagster's metadata; the page draws its own."""

from __future__ import annotations

import math
from pathlib import Path

from model.metrics import Interval

Panel = tuple[str, list[tuple[str, str, Interval]]]  # title; label, colour and value of each line


def plot_intervals(path: Path, panels: list[Panel]) -> None:
    """One panel a figure, one line a row with its 95 % interval; PNG, the same bytes for the same values."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, max(1, len(panels)))
    height = max((len(lines) for _, lines in panels), default=1)
    rows = max(1, math.ceil(len(panels) / columns))
    figure, axes = plt.subplots(rows, columns, figsize=(4.2 * columns, (0.32 * height + 0.9) * rows), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for k, (axis, (title, lines)) in enumerate(zip(axes.flat, panels, strict=False)):
        for i, (_, colour, value) in enumerate(lines):
            if value.low is not None and value.high is not None:
                axis.plot([value.low, value.high], [i, i], color=colour, alpha=0.35, lw=5, solid_capstyle="round")
            axis.plot(value.value, i, "o", color=colour, ms=6)
        axis.set_yticks(range(len(lines)), [label for label, _, _ in lines] if k % columns == 0 else [""] * len(lines), fontsize=8)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="x", labelsize=8)
        axis.grid(axis="x", color="#e6eaee")
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)
