"""The sheet round both legs from which skirts are made: where it lies, how it moves, and that it leaves the skin as it is."""

import pytest
import torch

from model.anchors import UNSEEN, Anchors
from model.body import JOINT_NAMES
from model.skirt import ABOVE_ANKLE, ABOVE_HIP, COLUMNS, NARROWER, ROWS, skirt_mesh
from model.stage1 import COVERED_OFFSET, OFFSET_STEP, OUTPUTS, Stage1
from model.types import SMPLX_SHAPES, Camera, SmplxParams
from model.visibility import ColorFill, sight
from tests.tiny import tiny_stage1

SKIN, SHEET = 1024, 512


@pytest.fixture(scope="module")
def anchors(body):
    return Anchors(body, SKIN, 1.4, SHEET)


@pytest.fixture(scope="module")
def bare(body):
    return Anchors(body, SKIN, 1.4)


@pytest.fixture(scope="module")
def network(body):
    torch.manual_seed(0)
    return Stage1(tiny_stage1(64, SKIN).model_copy(update={"skirt": SHEET}), body)


def height(body, joint):
    return float(body.joint_template[JOINT_NAMES.index(joint), 1])


def bent(**joints):  # [1] a body whose named joints are turned
    pose = torch.zeros(1, 55, 3)
    for name, turn in joints.items():
        pose[0, JOINT_NAMES.index(name)] = torch.tensor(turn)
    return SmplxParams.from_pose(pose, *(torch.zeros(1, *SMPLX_SHAPES[k]) for k in ("betas", "expression", "transl")))


def before_a_camera(body, batch=1):
    """T-pose in the frame of a camera that sees the whole body from the front."""
    motion = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    motion[:3, 3] = torch.tensor([0.0, -0.4, 3.4])
    return body.moved(SmplxParams.zeros(batch), motion.expand(batch, 4, 4))


def test_the_sheet_reaches_from_the_hips_to_the_ankles_outside_both_legs(body):
    points, _ = skirt_mesh(body)
    points, template = torch.from_numpy(points), body.template.double()
    top, bottom = height(body, "left_hip") + ABOVE_HIP, height(body, "left_ankle") + ABOVE_ANKLE
    assert points[:, 1].max() == pytest.approx(top)
    assert points[:, 1].min() == pytest.approx(bottom)
    legs = template[(template[:, 1] < top - 0.02) & (template[:, 1] > bottom + 0.02)]
    nearest = torch.cdist(legs, points).argmin(1)
    middle = torch.tensor([0.0, float(points[:, 2].max() + points[:, 2].min()) / 2], dtype=torch.float64)
    off = (points[nearest][:, [0, 2]] - middle).norm(dim=1) - (legs[:, [0, 2]] - middle).norm(dim=1)
    assert off.min() > 0


def test_its_triangles_face_outward_and_it_grows_no_narrower(body):
    points, triangles = skirt_mesh(body)
    points = torch.from_numpy(points)
    a, b, c = points[torch.from_numpy(triangles)].unbind(1)
    normal = torch.linalg.cross(b - a, c - a)
    assert ((normal * (a + b + c) / 3)[:, [0, 2]].sum(1) > 0).all()
    reach = points.view(ROWS, COLUMNS, 3)[..., [0, 2]].norm(dim=-1).mean(1)
    assert reach[-1] > reach[0]
    assert (reach.diff() >= (NARROWER - 1) * reach[:-1]).all()


def test_the_skin_keeps_its_anchors(anchors, bare):
    assert len(anchors) == SKIN + SHEET
    for name in ("home", "frames", "spacing", "coordinates", "neighbours", "opacity", "off"):
        assert torch.equal(getattr(anchors, name)[:SKIN], getattr(bare, name)), name
    assert torch.equal(anchors.points.rest[:SKIN], bare.points.rest)
    assert not bare.covered.any()


def test_anchors_of_the_sheet_lie_evenly_on_it_and_begin_unseen(anchors):
    sheet = anchors.places[SKIN:]
    distance = torch.cdist(sheet, sheet).fill_diagonal_(1.0).amin(1)
    assert (distance > 0.5 * anchors.spacing[SKIN:]).float().mean() > 0.9
    torch.testing.assert_close(anchors.home[SKIN:], sheet)
    assert (anchors.opacity[SKIN:] == UNSEEN).all()
    assert set(anchors.region[SKIN:]) == {"skirt"}


def test_neighbours_are_of_the_same_surface(anchors):
    assert (anchors.neighbours[:SKIN] < SKIN).all()
    assert (anchors.neighbours[SKIN:] >= SKIN).all()


def test_the_sheet_has_a_place_of_its_own_in_the_triplane(anchors):
    own = anchors.coordinates[SKIN:]
    assert own.abs().max() <= 1
    assert (torch.cdist(own, own).fill_diagonal_(1.0).amin(1) > 1e-3).all()
    down = torch.argsort(anchors.places[SKIN:, 1])
    assert (own[down, 1].diff() >= 0).all()


def test_the_sheet_hangs_when_a_knee_bends_and_goes_half_as_far_as_the_thighs(anchors, body):
    low = torch.zeros(len(anchors), dtype=torch.bool)
    low[SKIN:] = anchors.places[SKIN:, 1] < height(body, "left_knee")
    straight, upright = anchors.posed(None, bent())
    torch.testing.assert_close(straight[0], anchors.places, atol=1e-5, rtol=0)
    means, _ = anchors.posed(None, bent(left_knee=[1.2, 0.0, 0.0]))
    torch.testing.assert_close(means[0, low], straight[0, low], atol=0.02, rtol=0)  # what swells under it moves it a little
    _, turns = anchors.posed(None, bent(left_hip=[0.4, 0.0, 0.0], right_hip=[0.4, 0.0, 0.0]))
    angle = 2 * torch.arccos((turns * upright).sum(-1).abs().clamp(max=1))[0, low]
    torch.testing.assert_close(angle, torch.full_like(angle, 0.2), atol=5e-3, rtol=0)


def test_the_sheet_covers_nothing_that_is_behind_it(anchors, bare, body):
    params = before_a_camera(body)
    view = torch.tensor([1.7]), torch.zeros(1, 2)
    seen, alone = (sight(*a.posed(None, params), a.frames[..., 2], *view, SKIN).seen[0] for a in (anchors, bare))
    assert torch.equal(seen[:SKIN], alone)
    front = anchors.frames[SKIN:, 2, 2] > 0.8
    assert (seen[SKIN:][front] > 0.5).float().mean() > 0.9
    assert (seen[SKIN:][anchors.frames[SKIN:, 2, 2] < 0] == 0).all()


def test_colours_do_not_pass_from_skin_to_sheet(anchors):
    fill = ColorFill(anchors.places, anchors.sheet)
    red, blue = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    colors = torch.where(anchors.sheet[:, None] > 0, blue, red)
    seen = (torch.arange(len(anchors)) % 7 == 0).float()
    torch.testing.assert_close(fill(colors[None], seen[None])[0], colors, atol=1e-4, rtol=0)
    unseen_sheet = fill(colors[None], (seen * (1 - anchors.sheet))[None])[0]
    torch.testing.assert_close(unseen_sheet[SKIN:], torch.full((SHEET, 3), 0.5))
    torch.testing.assert_close(unseen_sheet[:SKIN], colors[:SKIN], atol=1e-4, rtol=0)


def test_legs_under_it_stay_close_and_the_sheet_goes_far(network):
    anchors = network.anchors
    y = torch.zeros(1, len(anchors), OUTPUTS)
    y[..., 2] = 0.2 / OFFSET_STEP
    off = network.offsets(network.head.decode(y, torch.full((1, len(anchors), 3), 0.5), anchors))[0].norm(dim=-1)
    assert torch.equal(anchors.covered.nonzero()[:, 0], torch.from_numpy(anchors.region == "legs").nonzero()[:, 0])
    assert off[anchors.covered].max() < COVERED_OFFSET
    assert off[~anchors.covered].min() > 0.15


def test_a_network_with_a_sheet_learns_it(network):
    torch.manual_seed(3)
    intrinsics = torch.tensor([[110.0, 0, 32], [0, 110, 32], [0, 0, 1]]).expand(2, 3, 3)
    camera = Camera(torch.eye(4).expand(2, 4, 4), intrinsics, torch.full((2, 2), 64))
    encoding = network.encode(torch.rand(2, 3, 64, 64), camera, before_a_camera(network.body, 2))
    cloud = network.pose(network.gaussians(network.canonical(encoding)), encoding.params)
    assert cloud.means.shape == (2, SKIN + SHEET, 3)
    assert cloud.opacities[:, SKIN:].max() < 0.05 < cloud.opacities[:, :SKIN].min()
    sum(getattr(cloud, name).square().sum() for name in cloud.__dataclass_fields__).backward()
    assert not [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
