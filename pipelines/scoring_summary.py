"""What folders scored, put together: means and intervals, FGD, viseme accuracy; the table for a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model import metrics
from model.fgd import Moments, frechet_of
from model.metrics_intervals import speaker_draws
from pipelines.scoring_clips import DEFINITIONS

RESAMPLES_FGD = 200
ROUNDING = 1e-9  # less is an error of rounding, such as the truth's distance from itself
Latents = Mapping[str, tuple[Tensor, Tensor]]  # clip → latents of the truth and of a row, over the same frames
Figures = Mapping[str, Mapping[str, float]]  # clip → figure → value


@dataclass
class Row:
    """What one folder scored on each clip."""

    name: str
    clips: dict[str, dict[str, float]] = field(default_factory=dict)
    latents: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of truth and of this row, over the same frames
    mouths: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # features at phones: truth's, this row's
    notes: list[str] = field(default_factory=list)

    def take(self, other: Row) -> None:
        """Add what another row of the same folder scored on other clips."""
        self.clips |= other.clips
        self.latents |= other.latents
        self.mouths |= other.mouths
        self.notes += other.notes


def add_visemes(rows: dict[str, Row], truth: str = "truth") -> None:
    """Add viseme accuracy to the clips, where the truth lists phones: kinds are learned from all of the truth's mouths."""
    mouths = rows[truth].mouths
    if not mouths:
        return
    names = sorted(mouths)
    kinds = np.concatenate([mouths[n][0] for n in names])
    if len(set(kinds)) < 2:
        return
    learned = metrics.Visemes(np.concatenate([mouths[n][1][0] for n in names]), kinds.tolist())
    for row in rows.values():
        for name, (spoken, sides) in row.mouths.items():
            row.clips[name]["viseme_accuracy"] = learned.accuracy(sides[1], spoken.tolist())


def summary(row: Row, who: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Figure → value, bounds and the number of clips that it could be measured on."""
    figures = {}
    for figure in DEFINITIONS:
        names = sorted(n for n, f in row.clips.items() if figure in f)
        if names:
            interval = metrics.speaker_bootstrap([row.clips[n][figure] for n in names], [who[n] for n in names])
            figures[figure] = {**asdict(interval), "clips": len(names)}
    distance = _fgd(row, who)
    return {"fgd": {**asdict(distance), "clips": len(row.latents)}, **figures} if distance else figures


def _fgd(row: Row, who: Mapping[str, str]) -> metrics.Interval | None:
    """FGD of all clips, and its interval over speakers; the truth's side is drawn with it.

    A distance between fewer speakers is larger, so that the bounds lie high, the more so the fewer there are.
    """
    if sum(len(truth) for truth, _ in row.latents.values()) < 2:
        return None
    distance, speakers = _distance(row.latents, who)
    value = float(distance(torch.ones(1, speakers)))
    if speakers < 2:
        return metrics.Interval(value, None, None)
    low, high = np.quantile(distance(torch.tensor(speaker_draws(speakers, RESAMPLES_FGD))).numpy(), [0.025, 0.975])
    return metrics.Interval(value, float(low), float(high))


def _distance(latents: Latents, who: Mapping[str, str]) -> tuple[Callable[[Tensor], Tensor], int]:
    """Function from how often each speaker is drawn [R, S] to FGD [R], and S."""
    names = sorted(latents)
    centre = torch.cat([latents[n][0] for n in names]).double().mean(0)
    speakers = sorted({who[n] for n in names})
    sides = []
    for side in range(2):
        each = [torch.cat([latents[n][side] for n in names if who[n] == s]) for s in speakers]
        sides.append(Moments.stack([Moments.of(x, centre) for x in each]))
    return (lambda draws: frechet_of(*(s.weighted(draws) for s in sides))), len(speakers)


def fgd_ratio(first: Latents, second: Latents, who: Mapping[str, str]) -> metrics.Interval:
    """FGD of one row over that of another, on the clips that both have; below 1 the first is nearer to the truth.

    Both sides of the interval's resamples hold the same speakers.
    """
    shared = sorted(set(first) & set(second))
    if not shared:
        raise ValueError("fgd_ratio: expected two rows with clips in common, got none")
    (above, speakers), (below, _) = (_distance({n: x[n] for n in shared}, who) for x in (first, second))
    ratio = lambda draws: above(draws) / below(draws).clamp(min=1e-12)  # noqa: E731
    value = float(ratio(torch.ones(1, speakers)))
    if speakers < 2:
        return metrics.Interval(value, None, None)
    low, high = np.quantile(ratio(torch.tensor(speaker_draws(speakers, RESAMPLES_FGD))).numpy(), [0.025, 0.975])
    return metrics.Interval(value, float(low), float(high))


def difference(first: Figures, second: Figures, who: Mapping[str, str], figure: str) -> metrics.Interval | None:
    """Mean over clips of one row's figure less another's on the same clip, and its interval over speakers."""
    names = [n for n in sorted(first) if figure in first[n] and figure in second.get(n, {})]
    if not names:
        return None
    return metrics.speaker_bootstrap([first[n][figure] - second[n][figure] for n in names], [who[n] for n in names])


def markdown(result: dict[str, Any]) -> str:
    """A table for a paper: a row a figure, a column a folder, intervals in brackets; definitions below."""
    lines = [markdown_rows(result["rows"]), f"{result['clips']} clips of {result['speakers']} speakers, 95 % intervals over speakers;"]
    by = f", picture encoder `{result['picture_encoder']}`" if "picture_encoder" in result else ""
    lines += [f"FGD's auto-encoder `{result['autoencoder']}`, body `{result['body']}`{by}.", ""]
    return "\n".join([*lines, *(f"- **{n}**: {d}" for n, d in result["definitions"].items())]) + "\n"


def cell(figure: dict[str, Any] | None) -> str:
    """'12.3 [11.9, 12.8]'."""
    if figure is None:
        return "–"
    bounds = "" if figure["low"] is None else f" [{number(figure['low'])}, {number(figure['high'])}]"
    return f"{number(figure['value'])}{bounds}"


def number(value: float, digits: int = 4) -> str:
    """So many significant digits, without an exponent where the number is large; rounding errors are 0."""
    if abs(value) < ROUNDING:
        return "0"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def markdown_rows(table: Mapping[str, Mapping[str, dict[str, Any]]], figures: Iterable[str] = DEFINITIONS) -> str:
    """A row a figure, a column a row of `table`, intervals in brackets."""
    shown = [f for f in figures if any(f in row for row in table.values())]
    lines = ["| figure | " + " | ".join(table) + " |", "|---|" + "---:|" * len(table)]
    lines += [f"| {f} | " + " | ".join(cell(row.get(f)) for row in table.values()) + " |" for f in shown]
    return "\n".join(lines) + "\n"
