"""What folders scored, put together: means and intervals, FGD, viseme accuracy; the table for a paper."""

from __future__ import annotations

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


@dataclass
class Row:
    """What one folder scored on each clip."""

    name: str
    clips: dict[str, dict[str, float]] = field(default_factory=dict)
    latents: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)  # of truth and of this row, over the same frames
    mouths: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)  # features at phones: truth's, this row's
    notes: list[str] = field(default_factory=list)


def add_visemes(rows: dict[str, Row]) -> None:
    """Add viseme accuracy to the clips, where the truth lists phones: kinds are learned from all of the truth's mouths."""
    mouths = rows["truth"].mouths
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


def summary(row: Row, who: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Figure → value, bounds and the number of clips that it could be measured on."""
    figures = {}
    for figure in DEFINITIONS:
        names = sorted(n for n, f in row.clips.items() if figure in f)
        if names:
            interval = metrics.speaker_bootstrap([row.clips[n][figure] for n in names], [who[n] for n in names])
            figures[figure] = {**asdict(interval), "clips": len(names)}
    distance = _fgd(row, who)
    return {"fgd": {**asdict(distance), "clips": len(row.latents)}, **figures} if distance else figures


def _fgd(row: Row, who: dict[str, str]) -> metrics.Interval | None:
    """FGD of all clips, and its interval over speakers; the truth's side is drawn with it.

    A distance between fewer speakers is larger, so that the bounds lie high, the more so the fewer there are.
    """
    names = sorted(row.latents)
    if sum(len(row.latents[n][0]) for n in names) < 2:
        return None
    centre = torch.cat([row.latents[n][0] for n in names]).double().mean(0)
    speakers = sorted({who[n] for n in names})
    sides = []
    for side in range(2):
        each = [torch.cat([row.latents[n][side] for n in names if who[n] == s]) for s in speakers]
        sides.append(Moments.stack([Moments.of(x, centre) for x in each]))
    distance = lambda draws: frechet_of(*(s.weighted(draws) for s in sides))  # noqa: E731
    value = float(distance(torch.ones(1, len(speakers))))
    if len(speakers) < 2:
        return metrics.Interval(value, None, None)
    low, high = np.quantile(distance(torch.from_numpy(speaker_draws(len(speakers), RESAMPLES_FGD))).numpy(), [0.025, 0.975])
    return metrics.Interval(value, float(low), float(high))


def markdown(result: dict[str, Any]) -> str:
    """A table for a paper: a row a figure, a column a folder, intervals in brackets; definitions below."""
    rows = result["rows"]
    lines = ["| figure | " + " | ".join(rows) + " |", "|---|" + "---:|" * len(rows)]
    for figure in result["definitions"]:
        lines.append(f"| {figure} | " + " | ".join(cell(rows[r].get(figure)) for r in rows) + " |")
    lines += ["", f"{result['clips']} clips of {result['speakers']} speakers, 95 % intervals over speakers; FGD's auto-encoder"]
    lines += [f"`{result['autoencoder']}`, body `{result['body']}`.", ""]
    return "\n".join([*lines, *(f"- **{n}**: {d}" for n, d in result["definitions"].items())]) + "\n"


def cell(figure: dict[str, Any] | None) -> str:
    """'12.3 [11.9, 12.8]'."""
    if figure is None:
        return "–"
    bounds = "" if figure["low"] is None else f" [{figure['low']:.4g}, {figure['high']:.4g}]"
    return f"{figure['value']:.4g}{bounds}"
