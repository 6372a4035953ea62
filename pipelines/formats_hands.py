"""Hands of a body file: its mean hand, and its principal components; and what a reader or writer of motion is told.

smplx adds the mean hand to the finger rotations where it was made with `flat_hand_mean=False` (its default): EMAGE, BEAT2,
TalkSHOW, THuman2.1 and HuGe100K keep fingers relative to it. LHM and our fit files keep them relative to the flat hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.body import Body
from model.types import Camera
from pipelines.formats_take import default_camera
from pipelines.store import InputRejected

LEFT, RIGHT = slice(25, 40), slice(40, 55)  # of the 55 joints


@dataclass(frozen=True)
class HandSpace:
    """Mean and components of both hands, axis-angle."""

    mean: Tensor  # [2, 45] left, right
    components: Tensor | None  # [2, 45, 45] rows are components; none where the body file has none

    @classmethod
    def load(cls, body_file: Path) -> HandSpace:
        with np.load(body_file, allow_pickle=False) as npz:
            get = lambda key: torch.from_numpy(np.stack([npz[f"{key}l"], npz[f"{key}r"]])).double()  # noqa: E731
            mean = get("hands_mean").reshape(2, 45) if "hands_meanl" in npz.files else torch.zeros(2, 45).double()
            return cls(mean, get("hands_components") if "hands_componentsl" in npz.files else None)

    def from_mean(self, pose: Tensor) -> Tensor:
        """Pose [T, 55, 3] with fingers relative to the mean hand → relative to the flat hand."""
        return self._shifted(pose, 1.0)

    def to_mean(self, pose: Tensor) -> Tensor:
        return self._shifted(pose, -1.0)

    def _shifted(self, pose: Tensor, sign: float) -> Tensor:
        result = pose.clone()
        for hand, part in enumerate((LEFT, RIGHT)):
            result[:, part] += sign * self.mean[hand].reshape(15, 3)
        return result

    def coefficients(self, pose: Tensor, count: int) -> Tensor:
        """Fingers of pose [T, 55, 3] (flat hand) as `count` principal components a hand, [T, 2, count].

        The closest ones: components need not be orthogonal, so this is a least-squares fit.
        """
        return torch.stack([
            (pose[:, part].flatten(1) - self.mean[h]) @ torch.linalg.pinv(self._some(h, count)) for h, part in enumerate((LEFT, RIGHT))
        ], 1)  # fmt: skip

    def fingers(self, coefficients: Tensor) -> Tensor:
        """[T, 2, count] → finger rotations relative to the flat hand [T, 30, 3], left then right."""
        both = [self.mean[h] + coefficients[:, h] @ self._some(h, coefficients.shape[-1]) for h in range(2)]
        return torch.cat(both, 1).reshape(-1, 30, 3)

    def _some(self, hand: int, count: int) -> Tensor:  # [count, 45]
        if self.components is None:
            raise InputRejected("hands as principal components: the body file has no hands_componentsl and hands_componentsr")
        if not 1 <= count <= 45:
            raise InputRejected(f"hands as principal components: expected 1 to 45 a hand, got {count}")
        return self.components[hand, :count]


@dataclass(frozen=True)
class Context:
    """What a file of motion leaves open."""

    body: Body
    hands: HandSpace
    camera: Camera | None = None  # for a format that has none, or needs another; none: `default_camera`
    rate: Fraction | None = None  # of a format that does not say; when writing, the rate to resample to
    hands_pca: int | None = None  # fingers as so many components where the format can; none: all 45 numbers

    @property
    def given_camera(self) -> Camera:
        return self.camera or default_camera()


def hands_for_writing(take_pose: Tensor, context: Context, said: list[str]) -> tuple[Tensor, Tensor]:
    """Left and right fingers [T, 45] relative to the flat hand, or [T, n] components; the loss of those is said."""
    left, right = (take_pose[:, part].flatten(1) for part in (LEFT, RIGHT))
    if context.hands_pca is None:
        return left, right
    found = context.hands.coefficients(take_pose, context.hands_pca)
    error = (context.hands.fingers(found) - torch.cat([left, right], 1).reshape(-1, 30, 3)).norm(dim=-1)
    said.append(f"fingers: what {context.hands_pca} components a hand cannot say (up to {error.max():.3g} rad, mean {error.mean():.3g})")
    return found[:, 0], found[:, 1]
