import numpy as np
import pytest
import roma
import torch

from model.anchors import Anchors
from model.geometry import rotation_from_quaternion
from model.surface_sampling import sample_surface, thin
from model.types import SmplxParams

COUNT = 2048


@pytest.fixture(scope="module")
def anchors(body):
    return Anchors(body, COUNT, 1.4)


def random_params(batch=2, scale=0.3):
    torch.manual_seed(1)
    zeros = SmplxParams.zeros(batch)
    return zeros.map(lambda t: torch.randn_like(t) * scale)


def test_the_set_is_the_same_every_time(body, anchors):
    again = Anchors(body, COUNT, 1.4)
    assert torch.equal(anchors.points.rest, again.points.rest)
    assert torch.equal(anchors.frames, again.frames)
    assert len(anchors) == COUNT


def test_face_and_hands_are_denser(anchors):
    spacing = {name: anchors.spacing[torch.from_numpy(anchors.region == name)].mean() for name in set(anchors.region)}
    assert spacing["face"] < spacing["hands"] < spacing["trunk_and_arms"] < spacing["legs"]
    assert (anchors.region == "face").mean() > 0.15


def test_regions_lie_where_their_names_say(anchors):
    rest = anchors.points.rest.numpy()
    face, hands = rest[anchors.region == "face"], rest[anchors.region == "hands"]
    legs = rest[anchors.region == "legs"]
    assert np.abs(face[:, 0]).max() < 0.13
    assert face[:, 2].mean() > rest[:, 2].mean()
    assert np.abs(hands[:, 0]).min() > np.abs(face[:, 0]).max()
    assert legs[:, 1].mean() < face[:, 1].min()


def test_frames_are_rotations_whose_third_column_points_outward(anchors):
    frames = anchors.frames
    torch.testing.assert_close(frames @ frames.mT, torch.eye(3).expand_as(frames), atol=1e-5, rtol=0)
    assert (torch.linalg.det(frames) > 0.99).all()
    trunk = torch.from_numpy(anchors.region == "trunk_and_arms")
    front = trunk & (anchors.points.rest[:, 0].abs() < 0.05)
    middle = anchors.points.rest[front, 2].median()
    outward = (anchors.points.rest[front, 2] - middle) * frames[front, 2, 2]
    assert (outward > 0).float().mean() > 0.9


def test_anchors_lie_evenly(anchors):
    """Neighbours keep at least half the mean spacing nearly everywhere; of independent draws 54 % would not."""
    trunk = torch.from_numpy(anchors.region == "trunk_and_arms")
    distance = torch.cdist(anchors.points.rest[trunk], anchors.points.rest[trunk]).fill_diagonal_(1.0).amin(1)
    assert (distance > 0.5 * anchors.spacing[trunk]).float().mean() > 0.9


def test_triplane_coordinates_stay_in_the_box_and_in_order(anchors):
    c, rest = anchors.coordinates, anchors.points.rest
    assert c.abs().max() <= 1
    for axis in range(3):
        order = rest[:, axis].argsort()
        assert (c[order, axis].diff() >= -1e-6).all()


def test_body_and_anchors_keep_float32(body):
    network = Anchors(body, 128, 1.4).bfloat16()
    assert network.frames.dtype == torch.float32
    assert network.points.weights.dtype == torch.float32
    assert network.body.template.dtype == torch.float32
    torch.testing.assert_close(network.points.weights.sum(1), torch.ones(128))


def test_posed_anchors_are_the_body_models_surface_points(body, anchors):
    params = random_params()
    means, _ = anchors.posed(None, params)
    vertices = body.vertices(params)[:, torch.from_numpy(body.faces)[anchors.faces]]
    expected = (vertices * anchors.barycentric[..., None]).sum(2)
    # a point skinned by its mean weights is not quite the mean of its skinned corners
    assert (means - expected).norm(dim=-1).max() < 5e-3
    assert (means - expected).norm(dim=-1).mean() < 2e-4


def test_a_rigid_motion_of_the_body_moves_anchors_and_turns(body, anchors):
    params = random_params()
    means, turns = anchors.posed(None, params)
    motion = torch.eye(4)
    motion[:3, :3] = roma.random_rotmat()
    motion[:3, 3] = torch.tensor([0.3, -0.2, 2.0])
    moved, moved_turns = anchors.posed(None, body.moved(params, motion.expand(2, 4, 4)))
    torch.testing.assert_close(moved, means @ motion[:3, :3].T + motion[:3, 3], atol=1e-4, rtol=0)
    turned = motion[:3, :3] @ rotation_from_quaternion(turns)
    torch.testing.assert_close(rotation_from_quaternion(moved_turns), turned, atol=1e-4, rtol=0)


def test_sampling_follows_area_and_gives_the_exact_count():
    corners = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, 0], [3, 0, 0], [0, 3, 0]]], float)
    faces, barycentric = sample_surface(corners, np.array([1.0, 1.0]), 100)
    assert np.bincount(faces, minlength=2).tolist() == pytest.approx([10, 90], abs=4)
    np.testing.assert_allclose(barycentric.sum(1), 1)
    assert (barycentric >= 0).all()
    faces, _ = sample_surface(corners, np.array([9.0, 1.0]), 101)
    assert np.bincount(faces).tolist() in ([50, 51], [51, 50])


def test_thinning_drops_the_crowded():
    line = np.array([[0.0], [0.01], [1.0], [2.0], [3.0]])
    assert len(thin(line, 4, 0.5)) == 4
    assert {2, 3, 4} <= set(thin(line, 4, 0.5).tolist())
