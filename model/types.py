"""Groups of tensors that travel together: `SmplxParams`, `Camera`, `GaussianCloud`, `AvatarTokens`.

Conventions, stated here and nowhere else: metres, radians, pixels; rotations axis-angle in `SmplxParams`;
quaternions wxyz; cameras OpenCV (x right, y down, z forward), `w2c` maps world columns to camera columns,
pixel centres lie at +0.5; images are [..., H, W, channels] in 0..1 unless a signature says otherwise.
Every type holds leading axes `...` in common, `.to(device)`, and slices with `x[index]` over them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

JOINTS = 55
SMPLX_SHAPES: dict[str, tuple[int, ...]] = {
    "global_orient": (3,), "body_pose": (21, 3), "left_hand_pose": (15, 3), "right_hand_pose": (15, 3),
    "jaw_pose": (3,), "leye_pose": (3,), "reye_pose": (3,), "expression": (10,), "betas": (10,), "transl": (3,),
}  # fmt: skip
# order of `full_pose`, which is smplx's joint order
POSE_PARTS = ("global_orient", "body_pose", "jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose")

Self = TypeVar("Self", bound="TensorGroup")


class TensorGroup:
    """Base: `.to`, `.detach`, slicing and stacking over the leading axes of every field."""

    def map(self: Self, function: Any) -> Self:
        """Apply to every tensor, also those of groups inside this one."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}  # type: ignore[arg-type]
        return type(self)(**{n: v.map(function) if isinstance(v, TensorGroup) else function(v) for n, v in values.items()})

    def to(self: Self, *args: Any, **kwargs: Any) -> Self:
        return self.map(lambda t: t.to(*args, **kwargs))

    def detach(self: Self) -> Self:
        return self.map(lambda t: t.detach())

    def __getitem__(self: Self, index: Any) -> Self:
        return self.map(lambda t: t[index])

    @classmethod
    def cat(cls: type[Self], groups: list[Self], dim: int = 0) -> Self:
        def join(values: list[Any]) -> Any:
            return type(values[0]).cat(values, dim) if isinstance(values[0], TensorGroup) else torch.cat(values, dim)

        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return cls(**{n: join([getattr(g, n) for g in groups]) for n in names})

    def _expect(self, shapes: dict[str, tuple[int, ...]]) -> None:
        leads = {}
        for name, shape in shapes.items():
            got = tuple(getattr(self, name).shape)
            tail = got[len(got) - len(shape) :]
            if len(got) < len(shape) or any(e not in (-1, g) for e, g in zip(shape, tail, strict=True)):
                raise ValueError(f"{type(self).__name__}.{name}: expected [..., {shape}], got {got}")
            leads[name] = got[: len(got) - len(shape)]
        if len(set(leads.values())) > 1:
            raise ValueError(f"{type(self).__name__}: leading axes differ: {leads}")


@dataclass(frozen=True)
class SmplxParams(TensorGroup):
    """SMPL-X parameters with leading axes [...], usually [T] or [B]."""

    global_orient: Tensor  # [..., 3]
    body_pose: Tensor  # [..., 21, 3]
    left_hand_pose: Tensor  # [..., 15, 3]
    right_hand_pose: Tensor  # [..., 15, 3]
    jaw_pose: Tensor  # [..., 3]
    leye_pose: Tensor  # [..., 3]
    reye_pose: Tensor  # [..., 3]
    expression: Tensor  # [..., 10]
    betas: Tensor  # [..., 10]
    transl: Tensor  # [..., 3]

    def __post_init__(self) -> None:
        self._expect(SMPLX_SHAPES)

    @property
    def full_pose(self) -> Tensor:  # [..., 55, 3] axis-angle in smplx's joint order
        lead = self.global_orient.shape[:-1]
        return torch.cat([getattr(self, n).reshape(*lead, -1, 3) for n in POSE_PARTS], -2)

    @property
    def shape_coefficients(self) -> Tensor:  # [..., 20] betas, then expression
        return torch.cat([self.betas, self.expression], -1)

    @classmethod
    def from_pose(cls, full_pose: Tensor, betas: Tensor, expression: Tensor, transl: Tensor) -> SmplxParams:
        """The inverse of `full_pose`: [..., 55, 3] plus the rest."""
        parts, start = {}, 0
        for name in POSE_PARTS:
            shape = SMPLX_SHAPES[name]
            count = shape[0] if len(shape) == 2 else 1
            part = full_pose[..., start : start + count, :]
            parts[name] = part if len(shape) == 2 else part[..., 0, :]
            start += count
        return cls(**parts, betas=betas, expression=expression, transl=transl)

    @classmethod
    def zeros(cls, *lead: int, device: Any = None) -> SmplxParams:
        return cls(**{n: torch.zeros(*lead, *s, device=device) for n, s in SMPLX_SHAPES.items()})


@dataclass(frozen=True)
class Camera(TensorGroup):
    """Pinhole camera(s) without distortion."""

    w2c: Tensor  # [..., 4, 4]
    intrinsics: Tensor  # [..., 3, 3] pixels
    size: Tensor  # [..., 2] width, height, pixels (int64)

    def __post_init__(self) -> None:
        self._expect({"w2c": (4, 4), "intrinsics": (3, 3), "size": (2,)})

    def resized(self, width: int, height: int) -> Camera:
        """The same view sampled on another pixel grid."""
        target = torch.tensor([width, height], device=self.size.device).expand_as(self.size)
        scale = target / self.size
        rows = torch.cat([scale, torch.ones_like(scale[..., :1])], -1)
        return Camera(self.w2c, self.intrinsics * rows[..., None].to(self.intrinsics.dtype), target)

    def at_origin(self) -> Camera:
        """The same camera for what lies in its own frame."""
        return Camera(torch.eye(4, dtype=self.w2c.dtype, device=self.w2c.device).expand_as(self.w2c), self.intrinsics, self.size)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """World points [..., P, 3] → pixels [..., P, 2] and depths [..., P] (metres along z)."""
        camera = points @ self.w2c[..., :3, :3].mT + self.w2c[..., None, :3, 3]
        depth = camera[..., 2]
        pixels = camera @ self.intrinsics.mT
        return pixels[..., :2] / depth.clamp(min=1e-4)[..., None], depth


@dataclass(frozen=True)
class GaussianCloud(TensorGroup):
    """N anisotropic 3D Gaussians; colours have any channel count D."""

    means: Tensor  # [..., N, 3] metres
    rotations: Tensor  # [..., N, 4] quaternions wxyz, need not be normalised
    scales: Tensor  # [..., N, 3] standard deviations, metres
    opacities: Tensor  # [..., N] 0..1
    colors: Tensor  # [..., N, D]

    def __post_init__(self) -> None:
        n = self.means.shape[-2]
        self._expect({"means": (n, 3), "rotations": (n, 4), "scales": (n, 3), "opacities": (n,), "colors": (n, -1)})


@dataclass(frozen=True)
class AvatarTokens(TensorGroup):
    """Stage 1's representation of one posed person."""

    smplx: Tensor  # [B, K, d] SMPL-X tokens
    triplane: Tensor  # [B, 3, channels, R, R] identity triplane in canonical (template) space

    def __post_init__(self) -> None:
        self._expect({"smplx": (-1, -1), "triplane": (3, -1, -1, -1)})
