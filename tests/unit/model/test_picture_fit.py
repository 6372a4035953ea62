from dataclasses import replace

import pytest
import torch

from model.picture_fit import pictured_avatar
from model.rasterize import rasterize
from model.stage1 import Stage1
from model.types import Camera, SmplxParams
from tests.tiny import tiny_stage1

SIZE, COUNT = 48, 600
CONFIG = tiny_stage1(SIZE, COUNT)
CAMERA = Camera(torch.eye(4)[None], torch.tensor([[[80.0, 0, 24], [0, 80.0, 24], [0, 0, 1]]]), torch.tensor([[SIZE, SIZE]]))


@pytest.fixture(scope="module")
def network(body):
    torch.manual_seed(0)
    return Stage1(CONFIG, body).requires_grad_(False)


@pytest.fixture(scope="module")
def upright(body):
    motion = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    motion[:3, 3] = torch.tensor([0.0, -0.4, 3.4])
    return body.moved(SmplxParams.zeros(1), motion[None])


@pytest.fixture(scope="module")
def red_person(network, upright):  # [1, SIZE, SIZE, 4] the network's own figure, dressed in red
    encoding = pictured_avatar(network, torch.ones(1, SIZE, SIZE, 4), CAMERA, upright, True)
    alpha = _render(network, encoding, upright).alpha[0]
    return torch.cat([alpha * torch.tensor([0.8, 0.1, 0.1]) + 1 - alpha, alpha], -1)


def test_a_body_known_to_be_right_stays_and_is_read_with_corrections(network, upright, red_person):
    encoding = pictured_avatar(network, red_person, CAMERA, upright, True)
    assert encoding.params is upright
    read = network.encode(red_person[..., :3].movedim(-1, 1), CAMERA, upright)
    assert torch.equal(encoding.pixels, read.pixels)
    assert torch.equal(encoding.change, read.change)


def test_each_picture_is_fitted_by_itself_and_always_the_same(network, upright, red_person):
    two = lambda x: torch.cat([x, x.flip(2)])  # noqa: E731
    picture, pair, cameras = red_person, SmplxParams.cat([upright, upright]), Camera.cat([CAMERA, CAMERA])
    together = pictured_avatar(network, two(picture), cameras, pair)
    alone, again = (pictured_avatar(network, picture, CAMERA, upright) for _ in range(2))
    torch.testing.assert_close(together.params.full_pose[:1], alone.params.full_pose, atol=2e-3, rtol=0)
    assert torch.equal(again.params.full_pose, alone.params.full_pose)
    assert not torch.equal(alone.params.full_pose, upright.full_pose)


def test_a_body_beside_its_place_moves_into_the_picture(network, upright, red_person):
    """The picture is the network's own drawing of the body, which is then told to stand 5 cm aside."""
    render = _render(network, pictured_avatar(network, red_person, CAMERA, upright, True), upright)
    picture = torch.cat([render.color[0], render.alpha[0]], -1)
    aside = replace(upright, transl=upright.transl + torch.tensor([0.05, 0.0, 0.0]))
    found = pictured_avatar(network, picture, CAMERA, aside).params
    off = lambda params: (network.body.joints(params) - network.body.joints(upright))[0, :22, :2].norm(dim=-1).mean()  # noqa: E731
    assert off(found) < 0.6 * off(aside)


def _render(network, encoding, params):
    cloud = network.pose(network.gaussians(network.canonical(encoding)), params)
    return rasterize(cloud, CAMERA.map(lambda x: x[None]), torch.ones(3), antialiased=True)
