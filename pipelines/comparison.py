"""What the evaluations measured, put side by side: gains of end to end over two-stage, and what each stage loses.

Everything is computed from the figures of single clips and from FGD's latents, which the evaluations keep beside their
tables; differences are paired (the same clips) and their intervals are over speakers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from model.metrics import Interval
from pipelines.learned import learned
from pipelines.scoring import DEFINITIONS
from pipelines.scoring_summary import Latents, difference, fgd_ratio
from pipelines.store import InputRejected, Store

OURS, THEIRS = "end_to_end", "two_stage"
ORDER = ("ground_truth", "oracle_draw", "other_clip", "nearest_clip", "frozen", "still_avatar", "two_stage", "end_to_end")
ACCUMULATION = ("true_both", "true_avatar", "true_motion", "two_stage", "end_to_end")
ROW_NAMES = {
    "ground_truth": "ground truth", "oracle_draw": "oracle draw", "other_clip": "truth of another clip",
    "nearest_clip": "nearest training clip", "frozen": "frozen picture",
    "still_avatar": "frozen avatar", "end_to_end": "end to end", "two_stage": "two-stage",
    "true_both": "true motion, fitted avatar", "true_avatar": "predicted motion, fitted avatar",
    "true_motion": "true motion, predicted avatar", "silhouette": "one colour in the true silhouette",
    "stage1": "stage 1, predicted SMPL-X", "stage1_true_body": "stage 1, true SMPL-X",
}  # fmt: skip
MEANINGS = {
    "ground_truth": "the clip itself: what every figure is measured from",
    "oracle_draw": "another draw of the same person saying the same, moving the avatar that both systems have: "
    "as good as a perfect sampler can score",
    "other_clip": "the true motion of another held-out clip: right style, wrong speech",
    "nearest_clip": "the true motion of the training clip that sounds most alike",
    "frozen": "the reference picture itself, held",
    "still_avatar": "the avatar of the reference picture, held in its pose: against the picture held, what drawing costs",
    "two_stage": "speech → motion → avatar of the picture, posed and rendered",
    "end_to_end": "speech and picture → pictures, trained together",
}
# figures of the table of what each stage loses, and whether more of them is better
LOST = {"psnr": 1, "ssim": 1, "identity": 1, "upper_mpjpe_mm": -1, "face_mse": -1, "mouth_r_gain": 1}


@dataclass(frozen=True)
class Comparison:
    """Rows of both evaluations on the same clips."""

    rows: dict[str, dict[str, dict[str, Any]]]  # row → figure → value, low, high, clips
    definitions: dict[str, str]
    per_clip: dict[str, dict[str, dict[str, float]]]  # row → clip → figure → value
    who: dict[str, str]  # clip → speaker
    known: int  # clips whose true motion is known; the others are judged by their fits
    latents: dict[str, Latents]
    curves: dict[str, dict[str, dict[str, list[float]]]]  # clip → row → series
    provenance: dict[str, dict[str, Any]]  # of the stage1, stage2 and baseline results
    stage1: dict[str, Any]  # that evaluation's results
    two_stage_by: str  # which programs the two stages are
    learned: dict[str, dict[str, str]]  # side → what it was trained on

    @classmethod
    def load(cls, store: Store) -> Comparison:
        """Of a workspace in which the evaluations and the baseline have run. InputRejected names what is missing."""
        folders = {"stage1": store.evaluation("stage1"), "stage2": store.evaluation("stage2"), "baseline": store.baseline("video")}
        lacking = [str(f / "metrics.json") for f in folders.values() if not (f / "metrics.json").is_file()]
        if lacking:
            raise InputRejected(f"comparison: expected the evaluations' results, lacks {', '.join(lacking)}; run those assets first")
        found = {name: json.loads((folder / "metrics.json").read_text()) for name, folder in folders.items()}
        if any("per_clip" not in found[n] for n in ("stage2", "baseline")):
            raise InputRejected("comparison: expected figures of single clips beside the evaluations' tables; run those assets again")
        first, second = found["baseline"], found["stage2"]
        curves = {clip: first["curves"].get(clip, {}) | lines for clip, lines in second["curves"].items()}
        return cls(
            {n: _ordered(row) for n, row in (first["rows"] | second["rows"]).items()},
            _ordered(first["definitions"] | second["definitions"]), first["per_clip"] | second["per_clip"],
            first["speakers"] | second["speakers"], second["known"], _latents(folders["baseline"]) | _latents(folders["stage2"]), curves,
            {name: about["provenance"] for name, about in found.items()}, found["stage1"], str(first.get("by", "own")), learned(store),
        )  # fmt: skip

    @property
    def judged_by(self) -> str:
        """What the truth is."""
        if self.known == len(self.who):
            return "the speakers' true motion"
        fitted = "bodies fitted to the videos, which move hands and lips less than the speakers did"
        return fitted if not self.known else f"true motion in {self.known} clips, in the others {fitted}"

    def gain(self, figure: str, ours: str = OURS, theirs: str = THEIRS) -> Interval | None:
        """`ours` less `theirs` on the same clips."""
        return difference(self.per_clip.get(ours, {}), self.per_clip.get(theirs, {}), self.who, figure)

    def headline(self) -> dict[str, Interval]:
        """End to end less two-stage: `psnr_gain` dB, `mouth_gain` of the mouth's correlation gain; `fgd_ratio` of their FGDs."""
        gains = {"psnr_gain": self.gain("psnr"), "mouth_gain": self.gain("mouth_r_gain")}
        found = {name: gain for name, gain in gains.items() if gain is not None}
        if set(self.latents.get(OURS, {})) & set(self.latents.get(THEIRS, {})):
            found["fgd_ratio"] = fgd_ratio(self.latents[OURS], self.latents[THEIRS], self.who)
        return found

    def losses(self) -> dict[str, dict[str, Interval]]:
        """Figure → what is lost, positive where it is worse: by predicting the motion, the avatar, both; by end to end.

        All are against the same ceiling, `true_both`. `together` less `motion` less `avatar` is what their meeting adds.
        """
        wanted = {"motion": "true_avatar", "avatar": "true_motion", "together": THEIRS, "end_to_end": OURS}
        found: dict[str, dict[str, Interval]] = {}
        for figure, sign in LOST.items():
            for name, row in wanted.items():
                lost = self.gain(figure, row, "true_both")
                if lost is not None:
                    found.setdefault(figure, {})[name] = _turned(lost) if sign > 0 else lost
        return found

    def as_json(self) -> dict[str, Any]:
        """All numbers of the comparison."""
        return {
            "rows": self.rows, "definitions": self.definitions, "clips": sorted(self.who), "speakers": len(set(self.who.values())),
            "known": self.known,
            "headline": {n: asdict(i) for n, i in self.headline().items()},
            "losses": {f: {n: asdict(i) for n, i in lost.items()} for f, lost in self.losses().items()},
            "provenance": self.provenance, "two_stage_by": self.two_stage_by, "learned": self.learned, "reading": reading(self),
        }  # fmt: skip


def reading(found: Comparison) -> list[str]:
    """How to read this very table: sentences with its own numbers."""
    value = lambda row, figure: (found.rows.get(row, {}).get(figure) or {}).get("value")  # noqa: E731
    lines = []
    oracle, held, avatar = (value(r, "psnr") for r in ("oracle_draw", "frozen", "still_avatar"))
    if held is not None and avatar is not None:
        lines.append(
            f"PSNR compares pixels with one particular performance. The reference picture held still scores {held:.1f} dB, the "
            f"avatar made of it held still {avatar:.1f} dB: drawing a person from one picture costs {held - avatar:.1f} dB."
        )
    if oracle is not None and avatar is not None:
        told = "less than" if oracle < avatar else "more than"
        lines.append(
            f"A perfect sampler, which draws another true performance of the same speech, scores {oracle:.1f} dB with that avatar, {told} "
            "not moving at all: hands that gesture elsewhere cost more than hands that rest. So PSNR tells whether the person stands and "
            "looks right; above the oracle draw it rewards moving less, not moving better."
        )
    ceiling, moved = (value(r, "psnr") for r in ("true_both", "true_motion"))
    if ceiling is not None and moved is not None:
        lines.append(
            f"With the true motion the avatar of one picture scores {moved:.1f} dB, one fitted to the clip {ceiling:.1f} dB: no system of "
            "this size passes the second."
        )
    floor, frozen = value("oracle_draw", "fgd"), value("frozen", "fgd")
    if floor is not None and frozen is not None:
        told = "Read both systems between those two." if frozen > floor else "On so few clips it cannot tell motion from none."
        lines.append(
            f"Fréchet distances are against {found.judged_by}: the oracle draw's {floor:.3g} is what another true performance scores "
            f"on these clips, a frozen pose {frozen:.3g}. {told} Few speakers make all of them too large and ratios nearer to 1: an "
            "interval says what as many other speakers would give."
        )
    lines.append(
        "Mouths are judged by mouth_r_gain: correlation with the speech less that with somebody else's. A mouth that only follows "
        "loudness can pass the truth there, since real mouths do other things too; beside it stand lag and viseme accuracy."
    )
    truth, passing = value("ground_truth", "mouth_r_gain"), {n: value(n, "mouth_r_gain") for n in (OURS, THEIRS)}
    for name, gain in passing.items():
        if truth is not None and gain is not None and gain > truth:
            lines.append(f"Here {ROW_NAMES[name]} does: {gain:.3f}, the truth {truth:.3f}.")
    return lines


def verdict(name: str, interval: Interval) -> str:
    """What a headline figure says, in words."""
    if interval.low is None or interval.high is None:
        return "no interval: too few speakers"
    good, neutral = (interval.low > 0, interval.high < 0), 0.0
    if name == "fgd_ratio":
        good, neutral = (interval.high < 1, interval.low > 1), 1.0
    if good[0]:
        return "end to end is better"
    return "two-stage is better" if good[1] else f"undecided: the interval holds {neutral:g}"


def _ordered(figures: dict[str, Any]) -> dict[str, Any]:
    """By figures, in the order of `DEFINITIONS`."""
    return {n: figures[n] for n in (*DEFINITIONS, *(n for n in figures if n not in DEFINITIONS)) if n in figures}


def _turned(interval: Interval) -> Interval:
    low, high = (None if x is None else -x for x in (interval.high, interval.low))
    return Interval(-interval.value, low, high)


def _latents(folder: Path) -> dict[str, Latents]:
    path = folder / "latents.npz"
    if not path.is_file():
        return {}
    found: dict[str, dict[str, tuple[torch.Tensor, torch.Tensor]]] = {}
    with np.load(path, allow_pickle=False) as npz:
        for key in npz.files:
            row, clip, side = key.split("|")
            if side == "truth":
                found.setdefault(row, {})[clip] = (torch.from_numpy(npz[key]), torch.from_numpy(npz[f"{row}|{clip}|got"]))
    return dict(found)
