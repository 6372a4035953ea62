import math

import roma
import torch
import torch.nn.functional as F

from model.geometry import (
    aligned_quaternions,
    ancestors,
    geodesic_angle,
    quaternion_from_rotation,
    quaternion_multiply,
    rotate,
    rotation_from_6d,
    rotation_from_quaternion,
    rotation_to_6d,
    rotvec_to_6d,
    soft_bound,
)


def rotations(*shape):
    return roma.random_rotmat(shape)


def blend_rotations(joints, weights, *tree):
    return F.normalize(weights @ aligned_quaternions(joints, *tree), dim=-1)


def about_z(degrees):
    return roma.rotvec_to_rotmat(torch.tensor([0.0, 0.0, math.radians(degrees)]))


def test_6d_round_trip():
    r = rotations(200)
    torch.testing.assert_close(rotation_from_6d(rotation_to_6d(r)), r, atol=1e-6, rtol=0)


def test_6d_holds_the_first_two_columns():
    r = rotations(3)
    six = rotation_to_6d(r)
    torch.testing.assert_close(six[:, :3], r[:, :, 0])
    torch.testing.assert_close(six[:, 3:], r[:, :, 1])
    torch.testing.assert_close(rotvec_to_6d(torch.zeros(3)), torch.tensor([1.0, 0, 0, 0, 1, 0]))


def test_any_6d_gives_a_rotation():
    r = rotation_from_6d(torch.randn(500, 6) * 3)
    torch.testing.assert_close(r @ r.mT, torch.eye(3).expand(500, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(r), torch.ones(500), atol=1e-5, rtol=0)


def test_quaternions_multiply_as_matrices_do():
    a, b = rotations(100), rotations(100)
    product = quaternion_multiply(quaternion_from_rotation(a), quaternion_from_rotation(b))
    torch.testing.assert_close(rotation_from_quaternion(product), a @ b, atol=1e-5, rtol=0)


def test_quaternion_order_is_wxyz():
    torch.testing.assert_close(quaternion_from_rotation(about_z(0)).abs(), torch.tensor([1.0, 0, 0, 0]))
    torch.testing.assert_close(rotation_from_quaternion(torch.tensor([2.0, 0, 0, 2.0])), about_z(90), atol=1e-6, rtol=0)


def test_vectors_turn_as_their_matrices_turn_them_and_back():
    turns, vectors = F.normalize(torch.randn(3, 1, 4), dim=-1), torch.randn(5, 3)
    turned = rotate(turns, vectors)
    torch.testing.assert_close(turned, (rotation_from_quaternion(turns) @ vectors[..., None])[..., 0])
    torch.testing.assert_close(rotate(turns, turned, back=True), vectors.expand(3, 5, 3))


def test_geodesic_angle_of_known_rotations():
    base = rotations(1)[0]
    for degrees in (0.0, 1e-2, 30.0, 90.0, 179.0, 180.0):
        angle = geodesic_angle(base, base @ about_z(degrees))
        assert math.isclose(math.degrees(angle.item()), degrees, abs_tol=0.05)


def test_geodesic_angle_has_finite_gradients_at_zero_and_half_turn():
    for degrees in (0.0, 180.0):
        r = about_z(degrees).requires_grad_()
        geodesic_angle(torch.eye(3), r).backward()
        assert r.grad.isfinite().all()


def test_points_of_one_joint_turn_with_it():
    joints = rotations(2, 4)
    weights = torch.eye(4)
    blended = blend_rotations(joints, weights, torch.tensor([0, 0, 1, 2]), ancestors([-1, 0, 1, 2]))
    torch.testing.assert_close(rotation_from_quaternion(blended), joints, atol=1e-5, rtol=0)


def test_blend_is_half_way_between_neighbours_however_far_the_chain_has_turned():
    # each joint 100° further than its parent: past 180° quaternions of neighbours would come out with opposite signs
    turns = torch.stack([about_z(100.0 * k) for k in range(6)])[None]
    parents = [-1, 0, 1, 2, 3, 4]
    weights = torch.zeros(5, 6)
    for k in range(5):
        weights[k, k] = weights[k, k + 1] = 0.5
    blended = blend_rotations(turns, weights, torch.tensor([0, 0, 1, 2, 3, 4]), ancestors(parents))[0]
    expected = torch.stack([about_z(100.0 * k + 50) for k in range(5)])
    torch.testing.assert_close(rotation_from_quaternion(blended), expected, atol=1e-5, rtol=0)


def test_blend_agrees_with_the_polar_factor_for_moderate_bends():
    parent = rotations(1)
    child = parent @ roma.rotvec_to_rotmat(torch.tensor([[0.3, -0.4, 0.2]]))
    weights = torch.rand(50, 1)
    weights = torch.cat([weights, 1 - weights], 1)
    joints = torch.stack([parent, child], 1)
    blended = blend_rotations(joints, weights, torch.tensor([0, 0]), ancestors([-1, 0]))
    polar = roma.special_procrustes(torch.einsum("nj,bjik->bnik", weights, joints))
    assert geodesic_angle(rotation_from_quaternion(blended), polar).max() < 2e-3


def test_soft_bound_limits_length_and_keeps_short_vectors():
    x = torch.randn(1000, 3) * 10 ** torch.linspace(-4, 2, 1000)[:, None]
    y = soft_bound(x, 0.5)
    assert (y.norm(dim=-1) <= 0.5 + 1e-6).all()
    short = x.norm(dim=-1) < 0.02
    torch.testing.assert_close(y[short], x[short], rtol=2e-3, atol=1e-7)
    zero = torch.zeros(3, requires_grad=True)
    soft_bound(zero, 0.5).sum().backward()
    torch.testing.assert_close(zero.grad, torch.ones(3))
