"""Differentiable rasterising of 3D Gaussians behind one call, `rasterize`; one file a backend.

`reference` is plain torch (any device, any float type, slow), `numba_cpu` the fast one on a CPU, `gsplat_cuda` the
fast one on CUDA, `inria` diff_gaussian_rasterization, chosen by name only. All follow gsplat: pixel centres at +0.5,
0.3 px² added to the projected covariance (.1 where antialiased), alpha capped at .999 and dropped under 1/255, a pixel
closed before its transmittance reaches 1e-4, near plane .01 m, quaternions wxyz and normalised here. `inria` differs as
its file says.

Axes: B scenes, C cameras of each, N Gaussians, D colour channels, H W pixels.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from model.types import Camera, GaussianCloud, TensorGroup

Backend = Literal["auto", "torch", "numba", "gsplat", "diff_gaussian_rasterization"]
CUDA_ONLY = {
    "gsplat": "pip install gsplat (extra `gpu`)",
    "diff_gaussian_rasterization": "build graphdeco-inria/diff-gaussian-rasterization from GitHub (non-commercial)",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Render(TensorGroup):
    """What the cameras see."""

    color: Tensor  # [B, C, H, W, D] over the background
    alpha: Tensor  # [B, C, H, W, 1] 0..1
    weighted_depth: Tensor  # [B, C, H, W, 1] camera z, metres, times alpha; [B, C, H, W, 0] where it was not asked for

    @property
    def depth(self) -> Tensor:
        """Expected camera z of what is seen, metres; 0 where alpha is 0, [B, C, H, W, 1]."""
        return self.weighted_depth / self.alpha.clamp(min=1e-10)


def rasterize(
    cloud: GaussianCloud,  # [B, N]
    cameras: Camera,  # [B, C], all of one size
    background: Tensor | None = None,  # [D], or [B, C, D]; none: zeros (black)
    backend: str = "auto",
    antialiased: bool = False,
    size: tuple[int, int] | None = None,  # the cameras' width and height; none: read from them, which waits for a GPU
    depth: bool = True,  # whether depth is wanted
) -> Render:
    """Render every scene from each of its cameras.

    Gradients reach means, rotations, scales, opacities, colours and background (cameras: `torch` and `gsplat` only).
    `antialiased` adds a pixel's .1 px² and scales opacities by the area that this added (Mip-Splatting). Half-precision clouds are
    rendered in float32. Errors: ValueError on shapes, sizes or devices that differ, or a backend the device cannot run;
    ModuleNotFoundError if its package is missing; FloatingPointError on a non-finite Gaussian (`torch`, `numba`).
    """
    _belong_together(cloud, cameras)
    width, height = size or _common_size(cameras)
    name = choose_backend(backend, cloud.means.device)
    _announce(name, str(cloud.means.device.type))
    dtype = torch.promote_types(cloud.means.dtype, torch.float32)
    with torch.autocast(cloud.means.device.type, enabled=False):
        cloud = cloud.to(dtype)
        w2c, intrinsics = cameras.w2c.to(dtype), cameras.intrinsics.to(dtype)
        if background is not None:
            channels = cloud.colors.shape[-1]
            if background.shape[-1] != channels:
                raise ValueError(f"background: expected {channels} channels, got shape {tuple(background.shape)}")
            background = background.to(cloud.colors).expand(*w2c.shape[:2], channels)
        color, alpha, weighted = _load(name).render(cloud, w2c, intrinsics, width, height, antialiased, background, depth)
        return Render(color, alpha, weighted if depth else weighted[..., :0])


def choose_backend(name: str, device: torch.device | str) -> str:
    """The backend that `name` means on `device`; 'auto': gsplat on CUDA, numba on a CPU, torch on anything else."""
    kind = torch.device(device).type
    if name not in get_args(Backend):
        raise ValueError(f"rasterizer: expected one of {', '.join(get_args(Backend))}, got {name!r}")
    if name == "auto":
        name = {"cuda": "gsplat", "cpu": "numba"}.get(kind, "torch")
    needed = "cuda" if name in CUDA_ONLY else "cpu" if name == "numba" else kind
    if kind != needed:
        raise ValueError(f"rasterizer: {name} runs on {needed} tensors, got {kind}; move them or choose 'auto'")
    if name in CUDA_ONLY and importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"rasterizer: {name} is not installed; {CUDA_ONLY[name]}, or choose 'torch' (slow)")
    return name


def _belong_together(cloud: GaussianCloud, cameras: Camera) -> None:
    batch = tuple(cloud.means.shape[:-2])
    views = tuple(cameras.w2c.shape[:-2])
    if len(batch) != 1 or len(views) != 2 or views[0] != batch[0]:
        raise ValueError(f"rasterize: expected a cloud [B, N] and cameras [B, C], got {batch} + N and {views}")
    if cameras.w2c.device != cloud.means.device:
        raise ValueError(f"rasterize: cameras are on {cameras.w2c.device}, the cloud on {cloud.means.device}")


def _common_size(cameras: Camera) -> tuple[int, int]:
    """Width and height of all cameras."""
    sizes = cameras.size.reshape(-1, 2).tolist()
    if any(size != sizes[0] for size in sizes):
        raise ValueError(f"rasterize: cameras of one call must have one size, got {sorted(set(map(tuple, sizes)))}")
    return int(sizes[0][0]), int(sizes[0][1])


def _load(name: str):  # type: ignore[no-untyped-def]  # a module with `render`
    # imported when first used: numba costs 0.5 s, the CUDA packages may be absent
    if name == "torch":
        from model.rasterize import reference as module
    elif name == "numba":
        from model.rasterize import numba_cpu as module  # type: ignore[no-redef]
    elif name == "gsplat":
        from model.rasterize import gsplat_cuda as module  # type: ignore[no-redef]
    else:
        from model.rasterize import inria as module  # type: ignore[no-redef]
    return module


@functools.cache
def _announce(name: str, device: str) -> None:
    log.info("Gaussians are rasterised by %s on %s", name, device)
