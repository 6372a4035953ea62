"""`model.body.Body` against the `smplx` package on the embedded body file."""

from __future__ import annotations

import importlib.resources

import pytest
import roma
import torch
from torch import Tensor

from model.body import POSE_FEATURES, Body, PoseDirs, SurfacePoints
from model.body_scoring import kinematics_of_frames, rotations_of_frames
from model.types import SMPLX_SHAPES, SmplxParams

BODY_FILE = importlib.resources.files("samples") / "body" / "SMPLX_NEUTRAL.npz"
BATCH = 3


@pytest.fixture(scope="module")
def body() -> Body:
    return Body.load(str(BODY_FILE))


def random_params(seed: int) -> SmplxParams:
    generator = torch.Generator().manual_seed(seed)
    scale = {"betas": 1.0, "expression": 1.0, "transl": 1.0, "global_orient": 1.0}
    fields = {n: scale.get(n, 0.3) * torch.randn(BATCH, *s, generator=generator) for n, s in SMPLX_SHAPES.items()}
    return SmplxParams(**fields)


def random_motion(seed: int) -> Tensor:
    torch.manual_seed(seed)
    motion = torch.eye(4)
    motion[:3, :3] = roma.random_rotmat()
    motion[:3, 3] = torch.tensor([0.3, -1.2, 2.5])
    return motion


def test_vertices_and_joints_agree_with_the_smplx_package(body: Body) -> None:
    import smplx

    reference = smplx.create(str(BODY_FILE), model_type="smplx", use_pca=False, flat_hand_mean=True, batch_size=BATCH)
    params = random_params(0)
    with torch.no_grad():
        expected = reference(**{n: getattr(params, n).reshape(BATCH, -1) for n in SMPLX_SHAPES})
        torch.testing.assert_close(body.vertices(params), expected.vertices, atol=1e-4, rtol=0)
        torch.testing.assert_close(body.joints(params), expected.joints[:, :55], atol=1e-4, rtol=0)


def test_pose_directions_are_packed_without_loss(body: Body) -> None:
    dense = body.pose_dirs
    assert dense.shape == (POSE_FEATURES, 3 * len(body.template))
    for packed, again in zip(body.packed_pose_dirs, PoseDirs.pack(dense), strict=True):
        assert torch.equal(packed, again)
    points = body.all_vertices()
    unpacked = SurfacePoints(points.rest, points.shape_dirs, dense, points.weights)
    params = random_params(4)
    torch.testing.assert_close(body.posed_points(unpacked, params), body.vertices(params), atol=1e-6, rtol=0)
    assert len(body.pose_points) < len(body.template) / 2


def test_points_without_pose_directions_are_allowed(body: Body) -> None:
    points = body.all_vertices()
    plain = SurfacePoints(points.rest, points.shape_dirs, torch.zeros(0, 0), points.weights)
    assert plain.pose_dirs.shape == (0, 0)
    rest = SmplxParams.zeros(1)
    torch.testing.assert_close(body.posed_points(plain, rest), body.vertices(rest))


def test_moved_parameters_move_the_vertices_rigidly(body: Body) -> None:
    params, motion = random_params(1), random_motion(1)
    expected = body.vertices(params) @ motion[:3, :3].T + motion[:3, 3]
    torch.testing.assert_close(body.vertices(body.moved(params, motion)), expected, atol=1e-4, rtol=0)


def test_surface_points_ride_on_the_posed_triangles(body: Body) -> None:
    """Exact at corners; inside a triangle skinning weights are blended, which a rest pose cannot tell apart."""
    faces = torch.tensor([0, 100, 20000])
    corner = torch.eye(3)
    params = random_params(2)
    posed = body.posed_points(body.surface(faces, corner), params)
    vertices = body.vertices(params)[:, torch.as_tensor(body.faces)[faces, torch.arange(3)]]
    torch.testing.assert_close(posed, vertices, atol=1e-5, rtol=0)
    centre = torch.full((3, 3), 1 / 3)
    rest = body.posed_points(body.surface(faces, centre), SmplxParams.zeros(1))
    template = body.template[torch.as_tensor(body.faces)[faces]].mean(1)
    torch.testing.assert_close(rest[0], template, atol=1e-5, rtol=0)


def test_batch_size_does_not_change_the_result(body: Body) -> None:
    params = random_params(3)
    torch.testing.assert_close(body.vertices(params)[1:2], body.vertices(params[1:2]), atol=1e-5, rtol=0)


def test_kinematics_of_frames_are_the_bodys(body: Body) -> None:
    params = random_params(4)
    params.jaw_pose[0], params.leye_pose[1] = 0, 1e-7  # angles too small to be divided by
    rotations = roma.rotvec_to_rotmat(params.full_pose)
    wanted = body.kinematics(rotations, params.shape_coefficients, params.transl)  # as with gradients
    frames_last = rotations_of_frames(params.full_pose)
    torch.testing.assert_close(frames_last.permute(3, 0, 1, 2), rotations, atol=1e-6, rtol=0)
    for got, one in zip(kinematics_of_frames(body, frames_last, params.shape_coefficients, params.transl), wanted, strict=True):
        torch.testing.assert_close(got, one, atol=1e-6, rtol=0)


def test_gradients_reach_every_parameter(body: Body) -> None:
    params = SmplxParams.zeros(1).map(lambda t: (t + 0.1).requires_grad_())
    body.vertices(params).square().sum().backward()
    for name in SMPLX_SHAPES:
        gradient = getattr(params, name).grad
        assert torch.isfinite(gradient).all(), name
        assert gradient.abs().sum() > 0, name


def test_file_without_the_schema_is_refused(tmp_path) -> None:
    import numpy as np

    path = tmp_path / "other.npz"
    np.savez(path, v_template=np.zeros((1, 3)))
    with pytest.raises(KeyError, match="lacks"):
        Body.load(path)
