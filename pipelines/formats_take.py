"""`Take`: one recorded performance of one SMPL-X body, which every motion format is read into and written from.

Conventions, stated here for all formats: float64; axis-angle in smplx's joint order; fingers relative to the flat hand; a
y-up world in metres in which the camera, where there is one, stands at `camera.w2c`; sample i stands for the time
(i + 1/2) / fps, as video frames do. Coefficients may be of any count: a format that holds fewer says so when it is written.
Axes: T frames, E expressions, B betas.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import roma
import torch
from torch import Tensor

from model.body import JOINT_NAMES, Body
from model.types import JOINTS, Camera, SmplxParams
from pipelines.store import InputRejected

JAW, EYES = 22, (23, 24)
JAW_LIMIT, EYE_LIMIT = 1.2, 1.4  # radians that no jaw and no eye turns by: beyond, the joints are in another order


@dataclass(frozen=True)
class Take:
    """Motion of one body. Building one checks shapes and that all numbers are finite (InputRejected)."""

    pose: Tensor  # [T, 55, 3]
    transl: Tensor  # [T, 3]
    expression: Tensor  # [T, E]
    betas: Tensor  # [B]
    fps: Fraction
    camera: Camera | None = None  # no leading axes; none: the format has none
    confidence: Tensor | None = None  # [T] 0..1
    audio: Path | None = None  # beside the motion
    video: Path | None = None  # pictures of the frames, beside the motion
    masks: Path | None = None  # `mask.npz` beside the motion

    def __post_init__(self) -> None:
        frames = len(self.pose)
        wanted = {"pose": (frames, JOINTS, 3), "transl": (frames, 3), "expression": (frames, -1), "betas": (-1,)}
        for name, shape in wanted.items():
            value = getattr(self, name)
            if value.dim() != len(shape) or any(w not in (-1, g) for w, g in zip(shape, value.shape, strict=True)):
                raise InputRejected(f"{name}: expected shape {shape} (-1: any), got {tuple(value.shape)}")
            if not math.isfinite(value.sum()) and not torch.isfinite(value).all():  # the sum tells most, in a fifth of the time
                where = (~torch.isfinite(value)).nonzero()[0].tolist()
                at = f"frame {where[0]}, joint {JOINT_NAMES[where[1]]}" if name == "pose" else f"index {where}"
                raise InputRejected(f"{name}: expected finite numbers, got {value[tuple(where)].item()} at {at}; cut or repair it")
        if frames == 0:
            raise InputRejected("expected at least one frame, got none")
        if self.fps <= 0:
            raise InputRejected(f"fps: expected a positive rate, got {self.fps}")

    @property
    def frames(self) -> int:
        return len(self.pose)

    @property
    def seconds(self) -> float:
        return float(self.frames / self.fps)

    def replace(self, **changes: object) -> Take:
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def part(self, start: int, stop: int) -> Take:
        """Frames start..stop."""
        if (start, stop) == (0, self.frames):
            return self
        cut = {n: getattr(self, n)[start:stop] for n in ("pose", "transl", "expression")}
        return self.replace(**cut, confidence=None if self.confidence is None else self.confidence[start:stop])

    def params(self, betas: Tensor | None = None) -> SmplxParams:
        """[T] in float32 with 10 betas and 10 expressions, for the body model; `betas`: another's shape."""
        betas = fitted(self.betas if betas is None else betas, 10).expand(self.frames, 10)
        return SmplxParams.from_pose(*(t.float() for t in (self.pose, betas, fitted(self.expression, 10), self.transl)))

    @classmethod
    def of(cls, params: SmplxParams, fps: Fraction, camera: Camera | None = None, confidence: Tensor | None = None) -> Take:
        """From motion [T] of one shape."""
        if not torch.allclose(params.betas, params.betas[:1].expand_as(params.betas)):
            raise ValueError("a take holds one shape, got betas that change over time")
        pose, transl, expression = (t.detach().cpu().double() for t in (params.full_pose, params.transl, params.expression))
        return cls(pose, transl, expression, params.betas[0].detach().cpu().double(), Fraction(fps), camera, confidence)


def moved(take: Take, transform: Tensor, body: Body) -> Take:
    """The same bodies after the rigid motion [4, 4] (smplx turns about the pelvis, so that `transl` follows)."""
    turn, shift = transform[:3, :3].double(), transform[:3, 3].double()
    rest = _pelvis(take, body)
    orient = roma.rotmat_to_rotvec(turn @ roma.rotvec_to_rotmat(take.pose[:, 0]))
    transl = (rest + take.transl) @ turn.T + shift - rest
    return take.replace(pose=torch.cat([orient[:, None], take.pose[:, 1:]], 1), transl=transl)


def _pelvis(take: Take, body: Body) -> Tensor:  # [T, 3] at rest
    betas, expression = fitted(take.betas, 10).expand(take.frames, 10), fitted(take.expression, 10)
    directions = body.joint_dirs[0].double().cpu()  # [3, 20]
    return body.joint_template[0].double().cpu() + torch.cat([betas, expression], 1) @ directions.T


def resampled(take: Take, target: Fraction, frames: int | None = None) -> Take:
    """At another rate: rotations by spherical interpolation, the rest linearly; ends are held."""
    if take.fps == target and frames in (None, take.frames):
        return take
    low, high, weight = sample_places(take.frames, float(take.fps / target), frames or max(1, round(take.frames * target / take.fps)))
    lerp = lambda x: x[low] + (x[high] - x[low]) * weight.reshape(-1, *[1] * (x.dim() - 1)).to(x)  # noqa: E731
    pose = slerp(take.pose[low], take.pose[high], weight)
    confidence = None if take.confidence is None else lerp(take.confidence)
    return take.replace(pose=pose, transl=lerp(take.transl), expression=lerp(take.expression), confidence=confidence, fps=Fraction(target))


def sample_places(count: int, ratio: float, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where `frames` samples, `ratio` of the old ones apart, lie among `count`: two neighbours and the second's weight."""
    time = ((torch.arange(frames, dtype=torch.float64) + 0.5) * ratio - 0.5).clamp(0, count - 1)
    low = time.floor().long().clamp(max=max(count - 2, 0))
    return low, (low + 1).clamp(max=count - 1), time - low


def slerp(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    """Axis-angle [T, J, 3] along the shortest turn from `first` to `second`, weights [T] of the second."""
    a, b = roma.rotvec_to_unitquat(first), roma.rotvec_to_unitquat(second)
    step = roma.unitquat_to_rotvec(roma.quat_product(roma.quat_conjugation(a), b))
    return roma.unitquat_to_rotvec(roma.quat_product(a, roma.rotvec_to_unitquat(step * weight[:, None, None].to(step))))


def fitted(x: Tensor, count: int) -> Tensor:
    """The first `count` of the last axis, zeros where there are fewer."""
    return torch.nn.functional.pad(x, (0, count - x.shape[-1])) if x.shape[-1] < count else x[..., :count]


def dropped_coefficients(take: Take, betas: int | None, expressions: int | None) -> list[str]:
    """One line for each kind of coefficient of which more than the given count differ from zero."""
    said = []
    for name, value, limit in (("betas", take.betas, betas), ("expression", take.expression, expressions)):
        if limit is not None and value.shape[-1] > limit and bool(value[..., limit:].any()):
            said.append(f"{name}: coefficients {limit + 1} to {value.shape[-1]} (largest {value[..., limit:].abs().max():.3g})")
    return said


def implausible(take: Take) -> str | None:
    """A line where jaw or eyes turn as none can, which is what files with the joints in another order look like."""
    for joint, limit in ((JAW, JAW_LIMIT), *((eye, EYE_LIMIT) for eye in EYES)):
        turns = take.pose[:, joint].norm(dim=-1)
        if turns.max() > limit and (turn := float(turns.quantile(0.9))) > limit:
            return (
                f"joint {joint} ({JOINT_NAMES[joint]}) turns {turn:.1f} rad, beyond {limit}: are the joints in smplx's order "
                "(0-21 body, 22 jaw, 23-24 eyes, 25-39 left hand, 40-54 right hand)?"
            )
    return None


def make_camera(w2c: Tensor, focal: Tensor, principal: Tensor, size: Tensor) -> Camera:
    """[4,4], [2], [2], [2] (w, h) → one camera."""
    intrinsics = torch.eye(3)
    intrinsics[0, 0], intrinsics[1, 1] = focal[0], focal[1]
    intrinsics[:2, 2] = principal
    return Camera(w2c, intrinsics, size)


def default_camera() -> Camera:
    """Upright at the world's origin, looking along −z, with the intrinsics of the reference's EMAGE → LHM conversion."""
    w2c = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    return make_camera(w2c, torch.tensor([1000.0, 1000.0]), torch.tensor([345.0, 614.0]), torch.tensor([691, 1229]))
