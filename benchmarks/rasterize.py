"""Speed of the Gaussian rasteriser, and how far the fast backend is from the torch reference.

The scene is a body-sized figure of capsules covered with flat Gaussians of about 1 cm, seen full height. On a CPU numba
is measured, with `--device cuda` gsplat, there also against gsplat called directly; the reference runs in the same
process on the smallest case, on a CPU on the largest too.
"""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import Figure, arguments, device_name, milliseconds, publish, timings
from model.rasterize import choose_backend, rasterize
from model.types import Camera, GaussianCloud

CAPSULES = [  # from, to, radius: metres, y up, feet at 0
    ((0, 1.62, 0), (0, 1.70, 0), 0.10), ((0, 1.0, 0), (0, 1.35, 0), 0.16),
    ((-0.10, 0.92, 0), (-0.12, 0.50, 0), 0.08), ((-0.12, 0.50, 0), (-0.13, 0.08, 0), 0.055),
    ((0.10, 0.92, 0), (0.12, 0.50, 0), 0.08), ((0.12, 0.50, 0), (0.13, 0.08, 0), 0.055),
    ((-0.20, 1.40, 0), (-0.42, 1.18, 0.02), 0.05), ((-0.42, 1.18, 0.02), (-0.58, 0.98, 0.12), 0.04),
    ((0.20, 1.40, 0), (0.42, 1.18, 0.02), 0.05), ((0.42, 1.18, 0.02), (0.58, 0.98, 0.12), 0.04),
]  # fmt: skip
# Gaussians, pixels a side, scenes, cameras, bar for forward and backward together on a CPU of 2 cores
CASES: dict[str, list[Any]] = {
    "cpu": [(8192, 128, 1, 1, "<= 20"), (8192, 256, 1, 1, "<= 20"), (8192, 128, 2, 2, None), (40000, 512, 1, 1, None)],
    "cuda": [(8192, 256, 1, 1, None), (8192, 256, 8, 4, None), (40000, 512, 8, 1, None), (100000, 1024, 1, 1, None)],
}


def figure_cloud(count: int, batch: int = 1, seed: int = 0) -> GaussianCloud:
    """Flat Gaussians [batch, count] on the surface of the capsules, all scenes alike."""
    g = torch.Generator().manual_seed(seed)
    start, end, radius = (torch.tensor([c[k] for c in CAPSULES], dtype=torch.float32) for k in range(3))
    area = 2 * math.pi * radius * ((end - start).norm(dim=-1) + 2 * radius)
    which = torch.multinomial(area, count, replacement=True, generator=g)
    start, end, radius = start[which], end[which], radius[which, None]
    axis = torch.nn.functional.normalize(end - start, dim=-1)
    length = (end - start).norm(dim=-1, keepdim=True)
    along = torch.rand(count, 1, generator=g) * (length + 2 * radius) - radius
    inside = along.clamp(min=0).minimum(length)
    outward = torch.randn(count, 3, generator=g)
    outward = torch.nn.functional.normalize(outward - (outward * axis).sum(-1, keepdim=True) * axis, dim=-1)
    beyond = (along - inside) / radius  # -1..1 over the caps
    normal = outward * (1 - beyond * beyond).clamp(min=0).sqrt() + axis * beyond
    means = start + axis * inside + normal * radius
    scales = 0.01 * torch.exp(0.25 * torch.randn(count, 3, generator=g)) * torch.tensor([1.0, 1.0, 0.3])
    colors = 0.5 + 0.35 * torch.sin(means * torch.tensor([9.0, 7.0, 11.0])) + 0.15 * torch.rand(count, 3, generator=g)
    opacities = 0.85 + 0.1 * torch.rand(count, generator=g)
    cloud = GaussianCloud(means, _turn_z_to(normal), scales, opacities, colors.clamp(0, 1))
    return cloud.map(lambda t: t[None].repeat(batch, *[1] * t.dim()))


def _turn_z_to(normal: Tensor) -> Tensor:  # [N, 3] unit → quaternions [N, 4] wxyz
    x, y, z = normal.unbind(-1)
    return torch.nn.functional.normalize(torch.stack([1 + z, -y, x, torch.zeros_like(x)], -1) + 1e-6, dim=-1)


def ring_cameras(size: int, batch: int, views: int, distance: float = 2.6) -> Camera:
    """Cameras [batch, views] around the figure, which fills nine tenths of the picture's height."""
    poses = torch.eye(4).repeat(batch, views, 1, 1)
    for c in range(views):
        yaw = 0.35 + 2 * math.pi * c / views
        place = torch.tensor([distance * math.sin(yaw), 0.9, distance * math.cos(yaw)])
        forward = torch.tensor([-math.sin(yaw), 0.0, -math.cos(yaw)])
        down = torch.tensor([0.0, -1.0, 0.0])
        poses[:, c, :3, :3] = torch.stack([torch.linalg.cross(down, forward), down, forward])
        poses[:, c, :3, 3] = -poses[:, c, :3, :3] @ place
    focal = size * distance / 2
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]).expand(batch, views, 3, 3)
    return Camera(poses, intrinsics, torch.tensor([size, size]).expand(batch, views, 2))


def measure_case(
    device: str, backend: str, count: int, size: int, batch: int, views: int, bar: str | None
) -> list[Figure]:
    """Forward without gradients, and forward with backward to all five fields."""
    cloud, cameras = figure_cloud(count, batch).to(device), ring_cameras(size, batch, views).to(device)
    both = _both(cloud, cameras, torch.rand(batch, views, size, size, 3, device=device), backend)
    background = torch.ones(3, device=device)
    wait = torch.cuda.synchronize if device == "cuda" else None

    def forward() -> None:
        with torch.no_grad():
            rasterize(cloud, cameras, background, backend, size=(size, size), depth=False)

    case = f"{count // 1000}k_{batch * views}x{size}px"  # 8k Gaussians in each of 4 pictures of 128 px: 8k_4x128px
    repeats, budget = (3, 20.0) if backend == "torch" else (50, 6.0)
    return [
        *milliseconds(f"{backend}_forward_{case}", timings(forward, repeats, budget, wait)),
        *milliseconds(f"{backend}_forward_backward_{case}", timings(both, repeats, budget, wait), bar),
    ]


def measure_speedup(count: int = 40000, size: int = 512) -> Figure:
    """How many times faster numba draws and differentiates than the torch reference does, measured in turn."""
    ours, reference = (_both(*_scene("cpu", count, size, 1), name) for name in ("numba", "torch"))
    ours()
    ratios = [_seconds(reference) / _seconds(ours) for _ in range(3)]
    return Figure(f"cpu_speedup_{count // 1000}k_{size}", statistics.median(ratios), "times", ">= 40")


def measure_second_start() -> Figure:
    """Seconds that a fresh process needs for its first picture and gradient beyond importing torch; the kernels lie compiled."""
    code = (
        "import time, torch; start = time.perf_counter()\n"
        "from benchmarks.rasterize import _both, _scene; _both(*_scene('cpu', 256, 64, 1), 'numba')(); print(time.perf_counter() - start)"
    )
    spent = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) for _ in range(2)]
    return Figure("cpu_second_start_s", spent[-1], "s", "<= 1")


def measure_against_gsplat(scenes: int = 8, count: int = 40000, size: int = 512) -> list[Figure]:
    """All scenes in one call of ours, in one call of gsplat, and in a loop of gsplat's calls, a picture each; in turn."""
    from gsplat import rasterization

    cloud, cameras, target = _scene("cuda", count, size, scenes)
    leaves = [t.clone().requires_grad_() for t in vars(cloud).values()]

    def bare(part: slice) -> None:
        means, rotations, scales, opacities, colors = (t[part] for t in leaves)
        view = cameras.w2c[part], cameras.intrinsics[part]
        drawn = rasterization(means, rotations, scales, opacities, colors, *view, size, size, packed=False)
        picture = drawn[0] + 1 - drawn[1]
        torch.autograd.grad((picture * target[part]).sum(), leaves)

    def loop() -> None:
        for scene in range(scenes):
            bare(slice(scene, scene + 1))

    ours = _both(cloud, cameras, target, "gsplat")
    calls: dict[str, Callable[[], None]] = {"ours": ours, "bare": lambda: bare(slice(None)), "loop": loop}
    for call in calls.values():
        _seconds(call, "cuda")
    spent = [{name: _seconds(call, "cuda") for name, call in calls.items()} for _ in range(20)]
    ratio = lambda top, bottom: statistics.median(row[top] / row[bottom] for row in spent)  # noqa: E731
    return [
        Figure("gpu_overhead", ratio("ours", "bare"), "times", "<= 1.15"),
        Figure("gpu_batch_speedup", ratio("loop", "ours"), "times", ">= 3"),
    ]


def _scene(device: str, count: int, size: int, scenes: int) -> tuple[GaussianCloud, Camera, Tensor]:
    """Figures, a camera each, and weights of the pictures whose gradient is taken."""
    cloud, cameras = figure_cloud(count, scenes).to(device), ring_cameras(size, scenes, 1).to(device)
    return cloud, cameras, torch.rand(scenes, 1, size, size, 3, device=device)


def _both(cloud: GaussianCloud, cameras: Camera, target: Tensor, backend: str) -> Callable[[], None]:
    """Forward and backward to all five fields."""
    leaves = [t.clone().requires_grad_() for t in vars(cloud).values()]
    background = torch.ones(3, device=target.device)
    size = target.shape[3], target.shape[2]

    def run() -> None:
        color = rasterize(GaussianCloud(*leaves), cameras, background, backend, size=size, depth=False).color
        torch.autograd.grad((color * target).sum(), leaves)

    return run


def _seconds(call: Callable[[], None], device: str = "cpu") -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def measure_parity(device: str, backend: str) -> list[Figure]:
    """Largest difference of colour, and relative difference of the gradients, between the backend and the reference."""
    cloud, cameras = figure_cloud(2000).to(device), ring_cameras(96, 1, 1).to(device)
    target = torch.randn(1, 1, 96, 96, 3, generator=torch.Generator().manual_seed(1)).to(device)
    results = []
    for name in ("torch", backend):
        leaves = [t.clone().requires_grad_() for t in vars(cloud).values()]
        color = rasterize(GaussianCloud(*leaves), cameras, torch.ones(3, device=device), name).color
        results.append((color.detach(), torch.autograd.grad((color * target).sum(), leaves)))
    (color, grads), (other, other_grads) = results
    error = max(float((a - b).norm() / a.norm()) for a, b in zip(grads, other_grads, strict=True))
    return [
        Figure(f"{backend}_color_error", float((color - other).abs().max()), "of 1", "<= 1e-3"),
        Figure(f"{backend}_gradient_error", error, "relative", "<= 1e-2"),
    ]


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    options = parser.parse_args()
    started = time.perf_counter()
    backend = choose_backend("auto", options.device)
    figures = measure_parity(options.device, backend)
    for count, size, batch, views, bar in CASES[options.device]:
        figures += measure_case(options.device, backend, count, size, batch, views, bar)
    count, size, batch, views, _ = CASES[options.device][0]
    figures += measure_case(options.device, "torch", count, size, batch, views, None)
    figures += measure_against_gsplat() if options.device == "cuda" else [measure_speedup(), measure_second_start()]
    config = {
        "cases": CASES[options.device],
        "gaussian_size_metres": 0.01,
        "channels": 3,
        "gradients": "all five fields",
    }
    seconds = time.perf_counter() - started
    publish(
        "rasterize", figures, device=device_name(options.device), config=config, seconds=seconds, path=options.json
    )


if __name__ == "__main__":
    main()
