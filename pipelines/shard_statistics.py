"""What a shard set's manifest says in numbers: seconds, frames, speakers and bytes a split, features' mean and deviation."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIGITS = 6  # significant, of the features' mean and deviation


@dataclass
class Statistics:
    """Gathered sample by sample, in the order of the shards, so that sums come out the same."""

    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: dict[str, dict[str, Any]] = field(default_factory=dict)  # id → {split, group, shard, frames, fps}
    encoders: set[str] = field(default_factory=set)
    frames: int = 0  # of the training split's features
    total: NDArray[np.float64] | None = None  # [A]
    squares: NDArray[np.float64] | None = None  # [A]

    def add(self, split: str, shard: str, id: str, group: str, members: dict[str, bytes]) -> None:
        about: dict[str, Any] = {"split": split, "group": group, "shard": shard}
        if "features.npz" in members:
            about |= self._clip(split, members["features.npz"])
        self.items[id] = about
        sums = self.splits.setdefault(split, {"samples": 0, "groups": set(), "bytes": 0, "frames": 0, "seconds": Fraction(0)})
        sums["samples"] += 1
        sums["groups"].add(group)
        sums["bytes"] += sum(map(len, members.values()))
        sums["frames"] += about.get("frames", 0)
        sums["seconds"] += about.get("frames", 0) / Fraction(about.get("fps", 1))

    def summary(self, splits: tuple[str, ...]) -> dict[str, Any]:
        """{split: {samples, groups, bytes, frames, seconds}, features: {encoder, dim, frames, mean [A], std [A]}}.

        Mean and deviation are those of the training split. Views of scans are no frames: they have no seconds.
        """
        empty = {"samples": 0, "groups": set(), "bytes": 0, "frames": 0, "seconds": 0}
        out: dict[str, Any] = {}
        for split in splits:
            sums = self.splits.get(split, empty)
            out[split] = {**sums, "groups": len(sums["groups"]), "seconds": round(float(sums["seconds"]), 3)}
        if self.total is not None and self.squares is not None:
            mean = self.total / self.frames
            std = np.sqrt(np.maximum(self.squares / self.frames - mean**2, 0))
            values = {"mean": _short(mean), "std": _short(std)}
            out["features"] = {"encoder": sorted(self.encoders), "dim": len(mean), "frames": self.frames, **values}
        return out

    def _clip(self, split: str, npz: bytes) -> dict[str, Any]:
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            features, fps = arrays["features"].astype(np.float64), arrays["fps"].tolist()
            self.encoders.add(str(arrays["encoder"]))
        if split == "train":
            zero = np.zeros(features.shape[1])
            self.total = (zero if self.total is None else self.total) + features.sum(0)
            self.squares = (zero if self.squares is None else self.squares) + (features**2).sum(0)
            self.frames += len(features)
        return {"frames": len(features), "fps": str(Fraction(*fps))}


def _short(values: NDArray[np.float64]) -> list[float]:
    return [float(f"{v:.{DIGITS}g}") for v in values]
