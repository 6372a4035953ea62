"""Still plots of the comparison, for Dagster's metadata; the page draws its own."""

from __future__ import annotations

import math
from pathlib import Path

from model.metrics import Interval

Line = tuple[str, str, Interval | None]  # label, colour and value (none: an empty line)
Panel = tuple[str, list[Line]]  # title; lines
LONGEST = 3.0  # as many times as values lie apart, an interval is drawn to each side of them: that of two speakers may be endless


def plot_intervals(path: Path, panels: list[Panel]) -> None:
    """One panel a figure, one line a row with its 95 % interval; PNG, the same bytes for the same values.

    All panels have the same lines, since only the first of each row of panels names them.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import MaxNLocator

    labels = [label for label, _, _ in panels[0][1]] if panels else []
    for title, lines in panels:
        got = [label for label, _, _ in lines]
        if got != labels:
            raise ValueError(f"plot_intervals: expected the lines {labels} in every panel, got {got} in {title}; give None for absent ones")
    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    size = (4.2 * columns, (0.3 * max(1, len(labels)) + 0.95) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for k, (axis, (title, lines)) in enumerate(zip(axes.flat, panels, strict=False)):
        for i, (_, colour, value) in enumerate(lines):
            if value is None:
                axis.text(0.02, i, "no value", color="#8a94a0", fontsize=7, va="center", transform=axis.get_yaxis_transform())
                continue
            if value.low is not None and value.high is not None:
                axis.plot([value.low, value.high], [i, i], color=colour, alpha=0.35, lw=5, solid_capstyle="round")
            axis.plot(value.value, i, "o", color=colour, ms=6)
        axis.set_yticks(range(len(lines)), labels if k % columns == 0 else [""] * len(lines), fontsize=8)
        axis.set_ylim(len(lines) - 0.4, -0.6)
        if limits := _limits(lines):
            axis.set_xlim(*limits)
        axis.set_title(title, fontsize=9)
        axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10], min_n_ticks=3))
        axis.tick_params(axis="x", labelsize=8)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color="#e6eaee")
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout(h_pad=1.5, w_pad=1.5)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _limits(lines: list[Line]) -> tuple[float, float] | None:
    """Ends of a panel's axis; none where it has no values."""
    values = [value.value for _, _, value in lines if value is not None]
    if not values:
        return None
    ends = [end for _, _, value in lines if value is not None for end in (value.low, value.high) if end is not None]
    room = LONGEST * (max(values) - min(values) or abs(values[0]) or 1.0)
    low, high = max(min(values + ends), min(values) - room), min(max(values + ends), max(values) + room)
    margin = 0.05 * (high - low or abs(high) or 1.0)
    return low - margin, high + margin
