"""The rasteriser: values computed by hand, invariances, and every backend against the torch reference."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import model
from model.rasterize import choose_backend, rasterize
from model.types import Camera, GaussianCloud

CUDA_BACKENDS = ["gsplat", "diff_gaussian_rasterization"]


def make_cloud(batch=1, count=300, channels=3, seed=0, scale=0.06, dtype=torch.float32, device="cpu") -> GaussianCloud:
    """A ball of flat, turned Gaussians round the origin, about 1 m wide."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(batch, count, *shape, generator=g, dtype=torch.float64)  # noqa: E731
    means = torch.nn.functional.normalize(draw(3) - 0.5, dim=-1) * (0.2 + 0.3 * draw(1))
    scales = scale * torch.exp(draw(3) - 0.5) * torch.tensor([1.0, 1.0, 0.3])
    cloud = GaussianCloud(means, draw(4) - 0.5, scales, 0.05 + 0.94 * draw(), draw(channels))
    return cloud.to(dtype).to(device)


def make_cameras(batch=1, views=1, width=40, height=36, distance=2.0, dtype=torch.float32, device="cpu") -> Camera:
    """Cameras on a circle round the origin, which they see off the picture's centre."""
    w2c = torch.eye(4, dtype=torch.float64).repeat(batch, views, 1, 1)
    for c in range(views):
        a = 0.4 + 1.3 * c
        w2c[:, c, :3, :3] = torch.tensor([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])
        w2c[:, c, 2, 3] = distance
    intrinsics = torch.tensor(
        [[1.5 * width, 0, 0.52 * width], [0, 1.4 * width, 0.47 * height], [0, 0, 1]], dtype=torch.float64
    )
    size = torch.tensor([width, height]).expand(batch, views, 2)
    return Camera(w2c.to(dtype).to(device), intrinsics.expand(batch, views, 3, 3).to(dtype).to(device), size.to(device))


def one_gaussian(z=2.0, sigma=0.02, opacity=0.8, dtype=torch.float64) -> GaussianCloud:
    """On the optical axis, isotropic."""
    t = lambda x: torch.tensor(x, dtype=dtype)[None, None]  # noqa: E731
    return GaussianCloud(t([0.0, 0.0, z]), t([2.0, 0, 0, 0]), t([sigma] * 3), t(opacity), t([0.9, 0.5, 0.1]))


def axis_camera(size=17, focal=50.0, dtype=torch.float64) -> Camera:
    """At the origin, looking along z; the axis meets the middle of the middle pixel."""
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]], dtype=dtype)
    return Camera(torch.eye(4, dtype=dtype)[None, None], intrinsics[None, None], torch.tensor([[[size, size]]]))


def values_and_gradients(cloud, cameras, backend, background, antialiased, seed=5):
    """All outputs, and the gradients of a random projection of them."""
    leaves = [t.detach().clone().requires_grad_() for t in (*vars(cloud).values(), background)]
    render = rasterize(GaussianCloud(*leaves[:5]), cameras, leaves[5], backend, antialiased)
    g = torch.Generator().manual_seed(seed)
    draw = lambda t: torch.randn(t.shape, generator=g, dtype=torch.float64).to(t)  # noqa: E731
    outputs = (render.color, render.alpha, render.depth)
    return outputs, torch.autograd.grad(sum((o * draw(o)).sum() for o in outputs), leaves)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_one_gaussian_by_hand(backend):
    cloud, camera = one_gaussian(), axis_camera()
    background = torch.tensor([0.0, 1.0, 0.25], dtype=torch.float64)
    render = rasterize(cloud, camera, background, backend)
    variance = (50.0 * 0.02 / 2) ** 2 + 0.3  # px²
    for dx, dy in [(0, 0), (1, 0), (0, -2), (1, 1)]:
        alpha = 0.8 * math.exp(-0.5 * (dx * dx + dy * dy) / variance)
        alpha = alpha if alpha >= 1 / 255 else 0.0
        color = alpha * cloud.colors[0, 0] + (1 - alpha) * background
        assert render.alpha[0, 0, 8 + dy, 8 + dx, 0].item() == pytest.approx(alpha, rel=1e-9)
        assert torch.allclose(render.color[0, 0, 8 + dy, 8 + dx], color)
        assert render.depth[0, 0, 8 + dy, 8 + dx, 0].item() == pytest.approx(2.0 if alpha else 0.0)
    assert render.alpha[0, 0, 0, 0, 0] == 0
    assert torch.equal(render.color[0, 0, 0, 0], background)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_front_hides_back_and_caps_alpha(backend):
    near, far = one_gaussian(1.0, 0.05, 1.0), one_gaussian(3.0, 0.3, 1.0)
    cloud = GaussianCloud.cat([far, near], 1)
    cloud = GaussianCloud(
        *list(vars(cloud).values())[:4], torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    )
    render = rasterize(cloud, axis_camera(), None, backend)
    # .999 of the near one; the far one would leave 1e-6, under the 1e-4 at which a pixel closes, so it is not counted
    assert torch.allclose(render.color[0, 0, 8, 8], torch.tensor([0.0, 0.999], dtype=torch.float64))
    assert render.depth[0, 0, 8, 8, 0].item() == pytest.approx(1.0)


@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_antialiasing_keeps_the_light_of_a_small_gaussian(backend):
    """In the mean over where in its pixel it lies: what one pixel's centre reads is more or less than its share."""
    camera, sigma, places = axis_camera(), 0.004, (torch.arange(8) - 3.5) / 8  # 0.1 px; px
    shifts = torch.cartesian_prod(places, places).double() * (2 / 50)
    clouds = one_gaussian(sigma=sigma).map(lambda t: t.expand(len(shifts), *t.shape[1:]))
    clouds = replace(clouds, means=clouds.means + torch.nn.functional.pad(shifts, (0, 1))[:, None])
    cameras = camera.map(lambda t: t.expand(len(shifts), *t.shape[1:]))
    light = rasterize(clouds, cameras, None, backend, antialiased=True).alpha.sum().item() / len(shifts)
    assert light == pytest.approx(0.8 * 2 * math.pi * (50 * sigma / 2) ** 2, rel=0.15)
    assert rasterize(one_gaussian(sigma=sigma), camera, None, backend).alpha.sum().item() > 10 * light


@pytest.mark.parametrize(("dtype", "batch", "views", "channels", "antialiased"), [
    (torch.float64, 1, 1, 3, False),
    (torch.float64, 2, 2, 5, True),
    (torch.float32, 2, 1, 1, False),
    (torch.float32, 1, 3, 3, True),
])  # fmt: skip
def test_numba_agrees_with_torch(dtype, batch, views, channels, antialiased):
    cloud = make_cloud(batch, channels=channels, dtype=dtype)
    cameras = make_cameras(batch, views, dtype=dtype)
    background = torch.linspace(0.1, 0.9, channels, dtype=dtype)
    expected, expected_grads = values_and_gradients(cloud, cameras, "torch", background, antialiased)
    got, got_grads = values_and_gradients(cloud, cameras, "numba", background, antialiased)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    assert expected[1].max() > 0.9
    assert expected[1].min() == 0
    for e, g in zip(expected, got, strict=True):
        assert e.shape == g.shape
        assert (e - g).abs().max() < tolerance
    for e, g in zip(expected_grads, got_grads, strict=True):
        assert (e - g).norm() <= 10 * tolerance * e.norm()


@pytest.mark.parametrize("antialiased", [False, True])
def test_numba_passes_gradcheck(antialiased):
    cloud = make_cloud(1, 5, 2, seed=3, scale=0.25, dtype=torch.float64)
    cloud = GaussianCloud(cloud.means, cloud.rotations, cloud.scales, 0.4 + 0.2 * cloud.opacities, cloud.colors)
    cameras = make_cameras(1, 2, 12, 10, dtype=torch.float64)
    leaves = [
        t.clone().requires_grad_() for t in (*vars(cloud).values(), torch.tensor([0.3, 0.6], dtype=torch.float64))
    ]

    def function(*leaves):
        render = rasterize(GaussianCloud(*leaves[:5]), cameras, leaves[5], "numba", antialiased)
        return render.color, render.alpha, render.depth * render.alpha  # depth alone jumps where alpha is cut

    assert torch.autograd.gradcheck(function, leaves, eps=1e-7, atol=1e-4, rtol=1e-3)


def test_batch_equals_single_calls():
    cloud, cameras = make_cloud(2), make_cameras(2, 3)
    together = rasterize(cloud, cameras)
    for b in range(2):
        for c in range(3):
            alone = rasterize(cloud[b : b + 1], cameras[b : b + 1, c : c + 1])
            assert torch.equal(alone.color[0, 0], together.color[b, c])
            assert torch.equal(alone.depth[0, 0], together.depth[b, c])


def test_gradient_of_one_output_alone():
    cloud, cameras = make_cloud(dtype=torch.float64), make_cameras(dtype=torch.float64)
    for name in ("color", "alpha", "depth"):
        grads = []
        for backend in ("torch", "numba"):
            means = cloud.means.clone().requires_grad_()
            render = rasterize(GaussianCloud(means, *list(vars(cloud).values())[1:]), cameras, None, backend)
            grads += torch.autograd.grad(getattr(render, name).square().sum(), means)
        assert (grads[0] - grads[1]).norm() < 1e-9 * grads[0].norm()


def test_order_quaternion_length_and_threads_do_not_matter():
    cloud, cameras = make_cloud(), make_cameras()
    expected = rasterize(cloud, cameras).color
    shuffle = torch.randperm(cloud.means.shape[1], generator=torch.Generator().manual_seed(1))
    assert torch.equal(rasterize(cloud[:, shuffle], cameras).color, expected)
    longer = GaussianCloud(cloud.means, 7 * cloud.rotations, cloud.scales, cloud.opacities, cloud.colors)
    assert (rasterize(longer, cameras).color - expected).abs().max() < 1e-5
    threads = torch.get_num_threads()
    try:
        pictures = []
        for count in (1, 3):
            torch.set_num_threads(count)
            pictures.append(values_and_gradients(cloud, cameras, "numba", torch.zeros(3), False))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(pictures[0][0] + pictures[0][1], pictures[1][0] + pictures[1][1], strict=True):
        assert torch.equal(one, other)


def test_moving_cloud_and_cameras_together_changes_nothing():
    cloud, cameras = make_cloud(dtype=torch.float64), make_cameras(dtype=torch.float64)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64)  # 90° about z
    move = torch.eye(4, dtype=torch.float64)
    move[:3, :3], move[:3, 3] = turn, torch.tensor([3.0, -2.0, 5.0])
    w, x, y, z = cloud.rotations.unbind(-1)
    turned = torch.stack([w - z, x - y, y + x, z + w], -1)  # (1, 0, 0, 1) ⊗ q, not normalised
    moved = GaussianCloud(cloud.means @ turn.T + move[:3, 3], turned, cloud.scales, cloud.opacities, cloud.colors)
    view = Camera(cameras.w2c @ torch.linalg.inv(move), cameras.intrinsics, cameras.size)
    assert torch.allclose(rasterize(moved, view).color, rasterize(cloud, cameras).color, atol=1e-9)


def test_unseen_gaussians_leave_background_and_no_gradient():
    behind, beside = one_gaussian(-2.0), one_gaussian(2.0)
    beside = GaussianCloud(beside.means + torch.tensor([9.0, 0, 0]), *list(vars(beside).values())[1:])
    faint = one_gaussian(2.0, opacity=1 / 300)
    cloud = GaussianCloud.cat([behind, beside, faint], 1)
    _, grads = values_and_gradients(cloud, axis_camera(), "numba", torch.ones(3, dtype=torch.float64), False)
    assert all(g.abs().max() == 0 for g in grads[:5])
    assert grads[5].abs().max() > 0
    assert torch.equal(
        rasterize(cloud, axis_camera(), torch.ones(3)).color, torch.ones(1, 1, 17, 17, 3, dtype=torch.float64)
    )


def test_gaussian_that_fills_the_view_is_bounded():
    render = rasterize(one_gaussian(0.011, sigma=1e6, opacity=0.5), axis_camera(), None, "numba")
    assert torch.allclose(render.alpha, torch.tensor(0.5, dtype=torch.float64), atol=1e-6)


def test_half_precision_cloud_is_rendered_in_float32():
    render = rasterize(make_cloud(dtype=torch.bfloat16), make_cameras())
    assert render.color.dtype == torch.float32
    assert torch.isfinite(render.color).all()


@pytest.mark.parametrize("backend", ["torch", "numba"])
@pytest.mark.parametrize("field", ["means", "rotations", "scales", "opacities"])
def test_non_finite_gaussian_is_an_error(backend, field):
    cloud = make_cloud()
    getattr(cloud, field)[0, 7] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        rasterize(cloud, make_cameras(), None, backend)


def test_wrong_input_is_refused_with_one_line():
    cloud, cameras = make_cloud(), make_cameras()
    with pytest.raises(ValueError, match=r"cloud \[B, N\] and cameras \[B, C\]"):
        rasterize(cloud, cameras[0])
    two = make_cameras(1, 2)
    mixed = Camera(two.w2c, two.intrinsics, torch.tensor([[[40, 36], [36, 40]]]))
    with pytest.raises(ValueError, match="one size"):
        rasterize(cloud, mixed)
    with pytest.raises(ValueError, match="expected 3 channels"):
        rasterize(cloud, cameras, torch.ones(4))
    learned = Camera(cameras.w2c.requires_grad_(), cameras.intrinsics, cameras.size)
    with pytest.raises(ValueError, match="no gradient of cameras"):
        rasterize(cloud, learned, None, "numba")


def test_choice_of_backend(monkeypatch):
    assert choose_backend("auto", "cpu") == "numba"
    assert choose_backend("torch", "cuda") == "torch"
    with pytest.raises(ValueError, match="expected one of auto, torch"):
        choose_backend("opengl", "cpu")
    with pytest.raises(ValueError, match="numba runs on cpu tensors, got cuda"):
        choose_backend("numba", "cuda")
    with pytest.raises(ValueError, match="gsplat runs on cuda tensors, got cpu"):
        choose_backend("gsplat", "cpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install gsplat"):
        choose_backend("auto", "cuda")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_backend("auto", "cuda") == "gsplat"


@pytest.mark.parametrize("backend", CUDA_BACKENDS)
@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize(("batch", "views", "channels"), [(1, 1, 3), (2, 3, 5)])
def test_cuda_backend_agrees_with_torch(backend, antialiased, batch, views, channels):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    pytest.importorskip(backend)
    cloud = make_cloud(batch, channels=channels, device="cuda")
    cameras = make_cameras(batch, views, device="cuda")
    background = torch.linspace(0.1, 0.9, channels, device="cuda")
    expected, expected_grads = values_and_gradients(cloud, cameras, "torch", background, antialiased)
    got, got_grads = values_and_gradients(cloud, cameras, backend, background, antialiased)
    tolerance = 1e-3 if backend == "gsplat" else 2e-2  # Inria's caps and cuts differ
    for e, g in zip(expected, got, strict=True):
        assert e.shape == g.shape
        assert (e - g).abs().mean() < tolerance
    for e, g in zip(expected_grads, got_grads, strict=True):
        assert (e - g).norm() <= 10 * tolerance * e.norm()


@pytest.mark.parametrize("package", ["model", "pipelines"])
def test_idle_threads_are_told_to_sleep_before_torch_is_loaded(package):
    code = f"import {package}, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    root = Path(model.__file__).parents[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert said.stdout.split() == ["passive", "False"], said.stderr


def test_inria_adapter_speaks_its_conventions(monkeypatch):
    """A stand-in with Inria's documented conventions draws one pixel per Gaussian: where, what and how many passes."""

    class Settings(NamedTuple):
        image_height: int
        image_width: int
        tanfovx: float
        tanfovy: float
        bg: torch.Tensor
        scale_modifier: float
        viewmatrix: torch.Tensor
        projmatrix: torch.Tensor
        sh_degree: int
        campos: torch.Tensor
        prefiltered: bool
        debug: bool

    class Rasterizer(torch.nn.Module):
        def __init__(self, settings):
            super().__init__()
            self.settings = settings

        def forward(self, means3D, means2D, opacities, colors_precomp, scales, rotations):
            s = self.settings
            assert torch.allclose(rotations.norm(dim=-1), torch.ones(()))
            clip = torch.cat([means3D, torch.ones_like(means3D[:, :1])], -1) @ s.projmatrix
            ndc = clip[:, :2] / clip[:, 3:]
            size = torch.tensor([s.image_width, s.image_height])
            pixel = (((ndc + 1) * size - 1) / 2).round().long()  # indices: pixel centres are whole numbers there
            picture = s.bg[:, None, None].repeat(1, s.image_height, s.image_width)
            picture[:, pixel[:, 1], pixel[:, 0]] = (colors_precomp * opacities).T
            return picture, None

    stand_in = types.ModuleType("diff_gaussian_rasterization")
    stand_in.GaussianRasterizationSettings, stand_in.GaussianRasterizer = Settings, Rasterizer
    monkeypatch.setitem(sys.modules, "diff_gaussian_rasterization", stand_in)
    from model.rasterize import inria

    cloud, camera = make_cloud(1, 6, 4), make_cameras(1, 2)
    color, alpha, depth = inria.render(cloud, camera.w2c, camera.intrinsics, 40, 36, False, None, True)
    for view in range(2):
        pixels, z = camera[0, view].project(cloud.means[0])
        for n in range(6):
            x, y = pixels[n].floor().long().tolist()
            assert alpha[0, view, y, x, 0].item() == pytest.approx(cloud.opacities[0, n].item(), rel=1e-4)
            assert torch.allclose(color[0, view, y, x], cloud.opacities[0, n] * cloud.colors[0, n], rtol=1e-4)
            assert depth[0, view, y, x, 0].item() == pytest.approx((cloud.opacities[0, n] * z[n]).item(), rel=1e-4)
    with pytest.raises(ValueError, match="antialiasing"):
        inria.render(cloud, camera.w2c, camera.intrinsics, 40, 36, True, None, True)


def test_depth_that_is_not_asked_for_is_not_there():
    cloud, cameras = make_cloud(count=40), make_cameras()
    with_depth, without = (rasterize(cloud, cameras, depth=wanted) for wanted in (True, False))
    assert with_depth.depth.shape == (1, 1, 36, 40, 1)
    assert without.depth.shape == (1, 1, 36, 40, 0)
    assert torch.equal(with_depth.color, without.color)
