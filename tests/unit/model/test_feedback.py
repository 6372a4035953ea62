import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from model.feedback import FEW, GAIN, HEARD, LEVELS, MASK, Correction, differences
from model.geometry import apply_matrices, rotation_from_quaternion
from model.rasterize import rasterize
from model.stage1 import FEATURES, OUTPUTS, Stage1
from model.types import Camera, SmplxParams
from tests.tiny import tiny_stage1

SIZE, COUNT = 64, 768
CONFIG = tiny_stage1(SIZE, COUNT)
FOCAL, ASIDE = 1.7, (0.03, -0.02)  # focal length and principal point, in picture sides
COLOR, COVERAGE, PLACE, LOG_SIZE, OPACITY = slice(0, 3), 3, slice(4, 7), slice(7, 10), slice(10, 11)  # of what is heard
OF_HEAD = {"outward": 2, "size": slice(3, 6), "opacity": 10, "color": slice(11, 14)}


@pytest.fixture(scope="module")
def network(body):
    torch.manual_seed(0)
    return Stage1(CONFIG, body)


@pytest.fixture(scope="module")
def taught(network):
    """`network` with corrections that say something."""
    torch.manual_seed(1)
    taught = copy.deepcopy(network)
    for correction in taught.corrections:
        torch.nn.init.normal_(correction.out.weight, std=0.05)
    return taught


@pytest.fixture(scope="module")
def upright(body):  # [1] T-pose before the camera, facing it
    return before_camera(body, SmplxParams.zeros(1))


@pytest.fixture(scope="module")
def bent(body):  # [1] turned aside, every joint a little bent
    return before_camera(body, bent_params())


def bent_params():
    turned = {"global_orient": torch.tensor([[0.1, 0.7, 0.2]]), "body_pose": 0.25 * noise(1, 21, 3)}
    return replace(SmplxParams.zeros(1), **turned)


def before_camera(body, params, roll=0.0):
    """A body [1] before the camera, rolled about its axis by so many radians."""
    motion, about, angle = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])), torch.eye(4), torch.tensor(roll)
    motion[:3, 3] = torch.tensor([0.0, -0.4, 3.4])
    about[:2, :2] = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
    return body.moved(params, (about @ motion)[None])


def noise(*shape, seed=2):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def avatar(network, base=None, **changes):
    """Canonical Gaussians [1] of many colours, or of one; `changes` are added to the head's outputs."""
    y, many = torch.zeros(1, COUNT, OUTPUTS), 0.5 + 0.1 * noise(1, COUNT, 3)
    for name, value in changes.items():
        y[..., OF_HEAD[name]] += value
    return network.head.decode(y, many if base is None else torch.full_like(many, base), network.anchors)


def drawn(network, cloud, params, aside=ASIDE):
    """The picture [1, 1, 4, S, S] of a cloud in a pose, colours on white, then alpha."""
    seen = rasterize(network.pose(cloud, params), camera_of(aside), torch.ones(3), antialiased=True)
    return torch.cat([seen.color, seen.alpha], -1).movedim(-1, 2)


def camera_of(aside, views=1):  # [1, views]
    intrinsics = torch.tensor([[FOCAL, 0, 0.5 + aside[0]], [0, FOCAL, 0.5 + aside[1]], [0, 0, 1 / SIZE]]) * SIZE
    return Camera(torch.eye(4), intrinsics, torch.tensor([SIZE, SIZE])).map(lambda t: t.expand(1, views, *t.shape))


def told(network, cloud, bodies, pictures, aside=ASIDE):
    """What Gaussians hear of one picture or several, [N, HEARD]."""
    stance = network.anchors.stance(SmplxParams.cat(bodies))
    return differences(network.anchors, cloud, stance, camera_of(aside, len(bodies)), torch.cat(pictures, 1))[0]


def pixels_of(heard):
    """How many pixels each Gaussian covers, [N]."""
    return FEW * heard[:, -1] / (1 - heard[:, -1])


def test_beside_its_own_picture_an_avatar_hears_nothing_but_what_it_covers(network, bent):
    cloud = avatar(network)
    picture = drawn(network, cloud, bent)
    heard = told(network, cloud, [bent], [picture])
    assert heard.shape == (COUNT, HEARD)
    assert heard[:, :-1].abs().max() < 1e-4
    torch.testing.assert_close(pixels_of(heard).sum(), picture[:, :, 3].sum(), atol=0, rtol=1e-3)


def test_gaussians_hear_how_far_the_colours_are_off_where_they_lie(network, upright):
    """The left half of the picture is darker: who is in it hears just that, as far as it is seen; who is not, nothing."""
    cloud, darker = avatar(network), torch.tensor([-0.02, -0.05, -0.1])
    picture = drawn(network, cloud, upright)
    picture[:, :, :3, :, : SIZE // 2] += darker[:, None, None]
    heard, means = told(network, cloud, [upright], [picture]), network.pose(cloud, upright).means[0]
    across = SIZE * (FOCAL * means[:, 0] / means[:, 2] + ASIDE[0])  # pixels from the middle
    left, right = across < -5, across > 5
    assert left.sum() > 60
    assert right.sum() > 60
    torch.testing.assert_close(heard[left, COLOR], GAIN * darker * heard[left, -1:], atol=1e-4, rtol=0)
    assert heard[right, :-1].abs().max() < 1e-4


def test_who_is_hidden_covers_and_hears_about_nothing(network, upright):
    """The chest lies before the back and is dense; both would be darker."""
    cloud = avatar(network, opacity=4.0, size=1.0)
    picture = drawn(network, cloud, upright)
    picture[:, :, :3] -= 0.1 * picture[:, :, 3:]
    heard, rest, normal = told(network, cloud, [upright], [picture]), network.anchors.points.rest, network.anchors.frames[:, 2, 2]
    trunk = (rest[:, 0].abs() < 0.1) & (rest[:, 1] > -0.4) & (rest[:, 1] < 0.05)
    chest, back = heard[trunk & (normal > 0.8)], heard[trunk & (normal < -0.8)]
    assert chest[:, COLOR].mean() < -0.8
    assert back[:, COLOR].mean() > 0.06 * chest[:, COLOR].mean()
    assert back[:, -1].mean() < 0.06 * chest[:, -1].mean()
    assert pixels_of(back).mean() < 0.05


def test_where_the_person_is_wider_rims_hear_outward_and_that_they_should_cover_more(network, bent):
    cloud = avatar(network)
    heard = told(network, cloud, [bent], [drawn(network, avatar(network, outward=1.5), bent)])
    posed = network.pose(cloud, bent)
    normal = rotation_from_quaternion(posed.rotations)[0, ..., 2]
    facing = -(normal * F.normalize(posed.means[0], dim=-1)).sum(-1)
    seen, outward, aside = pixels_of(heard) > 0.3, heard[:, PLACE][:, 2], heard[:, PLACE][:, :2]
    broad = torch.from_numpy(network.anchors.region == "trunk_and_arms")  # fingers are rim all through
    rim, middle = seen & (facing.abs() < 0.2), seen & broad & (facing > 0.9)
    assert outward[rim].mean() > 10 * outward[middle].abs().mean()
    assert outward[rim].mean() > 10 * aside[rim].mean(0).abs().max()
    assert heard[rim, COVERAGE].mean() > 5 * heard[middle, COVERAGE].mean()


MOVES = {  # what is heard of each kind, and how a cloud takes a step [N, ...] of it
    "colours": (COLOR, lambda anchors, cloud, step: replace(cloud, colors=cloud.colors + step)),
    "places": (PLACE, lambda anchors, cloud, step: replace(cloud, means=cloud.means + in_spacings(anchors, step))),
    "sizes": (LOG_SIZE, lambda anchors, cloud, step: replace(cloud, scales=cloud.scales * step.exp())),
    "opacities": (OPACITY, lambda anchors, cloud, step: replace(cloud, opacities=cloud.opacities * step[:, 0].exp())),
}


def in_spacings(anchors, step):  # [N, 3] in the anchors' frames → template space, metres
    return apply_matrices(anchors.frames, step * anchors.spacing[:, None])


@pytest.mark.parametrize("kind", MOVES)
def test_a_step_along_what_is_heard_lowers_the_squared_difference_by_what_it_promises(network, bent, kind):
    def unlike(cloud):
        squares = (drawn(network, cloud, bent) - picture).double().square() / 2
        return squares[:, :, :3].sum() + MASK * squares[:, :, 3:].sum()

    part, moved = MOVES[kind]
    cloud = avatar(network, base=0.5, opacity=-2.5)  # of one colour: which of two lies before the other then makes no step in it
    picture = drawn(network, avatar(network, base=0.5, opacity=-1.5, outward=0.3, color=0.3), bent)
    heard = told(network, cloud, [bent], [picture])
    slope = heard[:, part] * (pixels_of(heard) + FEW)[:, None] / GAIN
    step = 0.01 * slope / slope.abs().max()
    fallen, promised = unlike(cloud) - unlike(moved(network.anchors, cloud, step)), (slope * step).sum()
    assert 0.9 < fallen / promised < 1.1


def test_what_is_heard_lies_in_the_frames_of_anchors_however_they_are_turned(network, body):
    """A quarter turn of body and picture, about the camera's axis."""
    cloud, wider = avatar(network), avatar(network, outward=0.5, color=0.3)
    bodies = [before_camera(body, bent_params(), roll) for roll in (0.0, torch.pi / 2)]
    still, rolled = (told(network, cloud, [b], [drawn(network, wider, b, (0, 0))], (0, 0)) for b in bodies)
    torch.testing.assert_close(rolled, still, atol=1e-3, rtol=0)


def test_several_pictures_count_by_how_much_of_each_is_covered(network, upright, bent):
    cloud, other = avatar(network), avatar(network, outward=0.5, color=0.3)
    bodies = [upright, bent]
    pictures = [drawn(network, other, body) for body in bodies]
    together = told(network, cloud, bodies, pictures)
    alone = [told(network, cloud, [b], [p]) for b, p in zip(bodies, pictures, strict=True)]
    weights = [pixels_of(heard)[:, None] + FEW for heard in alone]
    pixels = sum(weights) - 2 * FEW
    expected = sum(w * h for w, h in zip(weights, alone, strict=True)) / (pixels + FEW)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=1e-4)


def test_no_gradient_passes_through_what_is_heard(network, bent):
    cloud = avatar(network).map(lambda x: x.detach().requires_grad_())
    picture = drawn(network, avatar(network, color=0.3), bent).detach().requires_grad_()
    heard = told(network, cloud, [bent.map(lambda x: x.clone().requires_grad_())], [picture])
    assert not heard.requires_grad
    assert heard.abs().max() > 0.1
    plain = avatar(network).detach()
    told(network, plain, [bent], [picture])
    assert not plain.means.requires_grad, "the cloud is left as it was"


@pytest.fixture(scope="module")
def told_of_one(network):
    """Whom a correction changes, [N], where one Gaussian alone hears of colours; `share` is how much of the picture it covers."""
    torch.manual_seed(5)
    correction = Correction(FEATURES, OUTPUTS, 16)
    torch.nn.init.normal_(correction.out.weight)

    def changed(one, share):
        silence = torch.zeros(1, COUNT, HEARD)
        silence[..., -1], silence[:, one, -1] = 0.5, share
        speaks = silence.clone()
        speaks[:, one, COLOR] = 1.0
        nothing = torch.zeros(1, COUNT, FEATURES), torch.zeros(1, COUNT, OUTPUTS)
        before, after = (correction(*nothing, heard, network.exchange) for heard in (silence, speaks))
        return (after - before)[0].abs().amax(-1) > 1e-6

    return changed


def test_who_hears_nothing_is_corrected_as_neighbours_and_those_that_lie_alike(network, told_of_one):
    """Nobody else is; of those that lie alike some are behind."""
    near, cells = (network.anchors.neighbours == 100).any(1), network.color_fill.cells
    alike = torch.stack([cells[level] == cells[level][100] for level in LEVELS]).any(0)
    changed, normal = told_of_one(100, 0.5), network.anchors.frames[:, 2, 2]
    assert torch.equal(changed, near | alike)
    assert (normal[changed] < 0).any()
    assert (normal[changed] > 0).any()


def test_who_covers_nothing_tells_its_neighbours_alone(network, told_of_one):
    near = (network.anchors.neighbours == 100).any(1)
    near[100] = True
    assert torch.equal(told_of_one(100, 0.0), near)


def photos(count=1):
    """Noisy people on white [B, 3, S, S], and their cameras [B]."""
    image = torch.ones(count, 3, SIZE, SIZE)
    image[..., 6:60, 16:48] = (0.5 + 0.2 * noise(count, 3, 54, 32)).clamp(0.05, 0.95)
    intrinsics = torch.tensor([[110.0, 0, SIZE / 2], [0, 110.0, SIZE / 2], [0, 0, 1]])
    return image, Camera(torch.eye(4).expand(count, 4, 4), intrinsics.expand(count, 3, 3), torch.full((count, 2), SIZE))


def test_corrections_that_have_learned_nothing_change_nothing(network):
    assert len(network.corrections) == CONFIG.corrections == 3
    encoding = network.encode(*photos())
    assert encoding.change.shape == (1, COUNT, OUTPUTS)
    assert encoding.change.abs().max() == 0


def test_an_avatar_can_be_read_without_corrections(taught):
    corrected, plain = (taught.encode(*photos(), corrected=which) for which in (True, False))
    assert corrected.change.abs().max() > 0.01
    assert plain.change.abs().max() == 0
    assert torch.equal(corrected.learned, plain.learned)
    assert torch.equal(corrected.pixels, plain.pixels)


def test_a_network_without_corrections_reads_a_picture(body):
    network = Stage1(CONFIG.model_copy(update={"corrections": 0}), body)
    encoding = network.encode(*photos())
    assert not any(name.startswith("corrections") for name in network.state_dict())
    assert encoding.change.shape == (1, COUNT, OUTPUTS)
    assert network.gaussians(network.canonical(encoding)).means.isfinite().all()


def test_the_second_round_hears_what_the_first_has_left(network, upright):
    """The picture is darker than the avatar; the first round darkens it."""
    network, heard = copy.deepcopy(network), []
    for correction in network.corrections:
        correction.register_forward_pre_hook(lambda _, given: heard.append(given[2]))
    image, camera = photos()
    image[:] = torch.where(image < 1, 0.2, image)
    network.head.out.bias.data[11:14] += 1.5
    network.corrections[0].out.bias.data[11:14] -= 1.0
    network.encode(image, camera, upright)
    first, second, *_ = (colors[0, :, COLOR].mean() for colors in heard)
    assert first < -1
    assert 0.6 * first < second < 0


def test_a_correction_does_not_depend_on_the_others_in_the_batch(taught, upright):
    images, cameras = photos(3)
    bodies = SmplxParams.cat([upright] * 3)
    together, alone = taught.encode(images, cameras, bodies).change, taught.encode(images[1:2], cameras[1:2], upright).change
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=0)
    assert (together[1:2] - together[:1]).abs().mean() > 1e-3, "the others differ"


def test_several_pictures_of_a_person_correct_one_avatar(taught, upright):
    images, cameras = photos(2)
    bodies = SmplxParams.cat([upright[:, None]] * 2, 1)
    both = taught.encode_several(images[None], cameras[None], bodies).change
    first = taught.encode(images[:1], cameras[:1], upright).change
    assert both.shape == first.shape
    assert (both - first).abs().max() > 0.01


def test_corrections_and_features_learn_from_what_the_corrected_avatar_looks_like(taught):
    taught = copy.deepcopy(taught)
    encoding = taught.encode(*photos())
    encoding.learned.retain_grad()
    taught.gaussians(taught.canonical(encoding)).colors.square().sum().backward()
    silent = [n for n, p in taught.corrections.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not silent
    assert encoding.learned.grad.abs().max() > 0


def test_features_learn_through_the_corrections_too(taught):
    encoding = taught.encode(*photos())
    learned = torch.autograd.grad(encoding.change.square().sum(), encoding.learned)[0]
    assert learned.abs().max() > 0
    assert learned.isfinite().all()


def test_corrections_in_bfloat16_are_about_those_in_float32(taught):
    full = taught.encode(*photos()).change
    with torch.autocast("cpu", torch.bfloat16):
        half = taught.encode(*photos()).change
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    assert (half - full).abs().mean() < 0.1 * full.abs().mean()
    assert full.abs().mean() > 0.005
