import copy
from dataclasses import replace

import pytest
import roma
import torch

from model.geometry import rotation_from_quaternion
from model.smplx_tokens import DUTIES, SmplxDecoder
from model.stage1 import EDGES, FEATURES, OUTPUTS, PICTURE, Stage1
from model.types import Camera, GaussianCloud, SmplxParams
from model.visibility import OUTLINE
from tests.tiny import tiny_stage1

SIZE, COUNT = 64, 768
CONFIG = tiny_stage1(SIZE, COUNT)


@pytest.fixture(scope="module")
def network(body):
    torch.manual_seed(0)
    return Stage1(CONFIG, body)


def camera(batch=1, focal=110.0, size=SIZE):
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    eye = torch.eye(4).expand(batch, 4, 4)
    return Camera(eye, intrinsics.expand(batch, 3, 3), torch.tensor([size, size]).expand(batch, 2))


def upright(body, batch=1, depth=3.4):
    """T-pose before the camera, facing it, the whole body in the picture."""
    params = SmplxParams.zeros(batch)
    motion = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    motion[:3, 3] = torch.tensor([0.0, -0.4, depth])
    return body.moved(params, motion.expand(batch, 4, 4))


def picture(batch=1):
    torch.manual_seed(3)
    return torch.rand(batch, 3, SIZE, SIZE)


def test_shapes_from_picture_to_posed_cloud(network):
    encoding = network.encode(picture(2), camera(2))
    assert encoding.tokens.smplx.shape == (2, 32, 32)
    assert encoding.tokens.triplane.shape == (2, 3, 8, 16, 16)
    assert encoding.image_tokens.shape == (2, 16, 32)
    features = network.canonical(encoding)
    assert features.shape == (2, COUNT, FEATURES + PICTURE + OUTPUTS)
    posed = network.pose(network.gaussians(features), encoding.params)
    assert posed.means.shape == (2, COUNT, 3)
    assert posed.colors.shape == (2, COUNT, 3)
    assert encoding[1:].params.transl.shape == (1, 3)


def test_every_learned_number_gets_a_gradient(body):
    torch.manual_seed(0)
    network = Stage1(CONFIG, body)
    encoding = network.encode(picture(2), camera(2), upright(body, 2))
    cloud = network.pose(network.gaussians(network.canonical(encoding)), encoding.params)
    sum(getattr(cloud, name).square().sum() for name in cloud.__dataclass_fields__).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


def test_a_sample_does_not_depend_on_its_batch(network):
    images = picture(3)
    together = network.encode(images, camera(3))
    alone = network.encode(images[1:2], camera(1))
    torch.testing.assert_close(together.tokens.triplane[1:2], alone.tokens.triplane, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.params.transl[1:2], alone.params.transl, atol=1e-4, rtol=1e-4)


def test_untrained_body_stands_upright_before_the_camera(network):
    params = network.decode_smplx(torch.zeros(1, 32, 32), torch.tensor([1.7]))
    root = roma.rotvec_to_rotmat(params.global_orient[0])
    torch.testing.assert_close(root, torch.diag(torch.tensor([1.0, -1.0, -1.0])), atol=1e-5, rtol=0)
    joints = network.body.joints(params)[0]
    assert joints[15, 1] < joints[0, 1] < joints[7, 1], "head above pelvis above ankle in a camera whose y points down"
    assert (joints[:, 2] > 0.5).all()


def test_steering_moves_each_number_of_the_decoder_alone(body):
    torch.manual_seed(0)
    decoder, tokens, focal = SmplxDecoder(body, 96), torch.randn(40, 96), torch.tensor(1.6)
    moved = tokens[None].repeat(3, 1, 1)
    steering = decoder.steering()
    for row, number in enumerate((16 * 6 + 2, 132 + 5, 132 + 180 + 18 + 4)):  # left shoulder, left hand, expression
        moved[row, : steering.shape[1]] += 0.3 * steering[number]
    before, after = decoder.read(tokens, focal), decoder.read(moved, focal)
    change = (after.pose - before.pose).flatten(1)
    expected = torch.zeros(3, 55 * 6)
    expected[0, 16 * 6 + 2] = expected[1, 25 * 6 + 5] = 0.3
    torch.testing.assert_close(change, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close((after.expression - before.expression)[2], 0.3 * torch.eye(10)[4], atol=1e-4, rtol=0)
    torch.testing.assert_close(after.betas, before.betas.expand(3, 10))


def test_decoded_bodies_look_the_same_at_any_focal_length(network):
    """Twice the focal length: the pelvis is twice as far and falls on the same pixel."""
    torch.manual_seed(5)
    tokens = torch.randn(1, 32, 32)
    near, far = (network.decode_smplx(tokens, torch.tensor([f / SIZE])) for f in (110.0, 220.0))
    a, b = network.body.joints(near)[:, :1], network.body.joints(far)[:, :1]
    torch.testing.assert_close(b[..., 2], 2 * a[..., 2])
    pixel_a, _ = camera(focal=110.0).project(a)
    pixel_b, _ = camera(focal=220.0).project(b)
    torch.testing.assert_close(pixel_a, pixel_b, atol=1e-3, rtol=0)


def test_principal_point_moves_the_body_not_its_pixels(network):
    torch.manual_seed(5)
    tokens, focal = torch.randn(1, 32, 32), torch.tensor([110.0 / SIZE])
    intrinsics = camera().intrinsics.clone()
    intrinsics[..., 0, 2] += 16
    moved = Camera(camera().w2c, intrinsics, camera().size)
    centred = network.body.joints(network.decode_smplx(tokens, focal))[:, :1]
    aside = network.body.joints(network.decode_smplx(tokens, focal, torch.tensor([[16 / SIZE, 0.0]])))[:, :1]
    torch.testing.assert_close(moved.project(aside)[0], camera().project(centred)[0], atol=1e-3, rtol=0)


def test_posing_with_a_rigid_motion_moves_the_cloud_rigidly(network):
    encoding = network.encode(picture(), camera())
    cloud = network.gaussians(network.canonical(encoding))
    params = SmplxParams.zeros(1).map(lambda t: 0.3 * torch.randn_like(t))
    motion = torch.eye(4)
    motion[:3, :3], motion[:3, 3] = roma.random_rotmat(), torch.tensor([0.1, 0.2, 3.0])
    still, moved = network.pose(cloud, params), network.pose(cloud, network.body.moved(params, motion[None]))
    torch.testing.assert_close(moved.means, still.means @ motion[:3, :3].T + motion[:3, 3], atol=1e-4, rtol=0)
    turned = motion[:3, :3] @ rotation_from_quaternion(still.rotations)
    torch.testing.assert_close(rotation_from_quaternion(moved.rotations), turned, atol=1e-4, rtol=0)
    assert torch.equal(moved.colors, cloud.colors)
    assert torch.equal(moved.scales, cloud.scales)


def test_posing_without_motion_returns_the_canonical_cloud(network):
    cloud = network.gaussians(network.canonical(network.encode(picture(), camera())))
    posed = network.pose(cloud, SmplxParams.zeros(1))
    torch.testing.assert_close(posed.means, cloud.means, atol=1e-5, rtol=0)
    same = rotation_from_quaternion(posed.rotations) - rotation_from_quaternion(cloud.rotations)
    assert same.abs().max() < 1e-4


def test_one_identity_takes_many_poses(network):
    cloud = network.gaussians(network.canonical(network.encode(picture(), camera())))
    params = SmplxParams.zeros(5).map(lambda t: 0.2 * torch.randn_like(t))
    posed = network.pose(cloud, params)
    assert posed.means.shape == (5, COUNT, 3)
    torch.testing.assert_close(posed[2:3].means, network.pose(cloud, params[2:3]).means, atol=1e-6, rtol=0)


def test_gaussians_keep_their_bounds_whatever_the_features(network):
    cloud = network.gaussians(torch.randn(1, COUNT, FEATURES + PICTURE + OUTPUTS) * 1e4)
    assert network.offsets(cloud).norm(dim=-1).max() <= CONFIG.max_offset + 1e-5
    assert cloud.scales.max() <= CONFIG.max_scale
    assert cloud.scales.min() > 0
    assert cloud.opacities.min() >= 0
    assert cloud.opacities.max() <= 1
    assert cloud.colors.min() >= 0
    assert cloud.colors.max() <= 1
    assert all(getattr(cloud, n).isfinite().all() for n in cloud.__dataclass_fields__)


def test_true_params_say_where_the_picture_is_read(network, body):
    """Left half of the picture red, right half blue: seen anchors start with the colour they project on."""
    params = upright(body)
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, 0, :, : SIZE // 2], image[:, 2, :, SIZE // 2 :] = 1, 1
    pixels = network.encode(image, camera(), params).pixels[0]
    colors, seen = pixels[:, -PICTURE:-1], pixels[:, -1]
    means, _ = network.anchors.posed(None, params)
    across = camera().project(means)[0][0, :, 0] - SIZE / 2
    left, right = (seen > 0.999) & (across < -2), (seen > 0.999) & (across > 2)
    assert left.sum() > 40
    assert right.sum() > 40
    assert (colors[left, 0] > 0.99).all()
    assert (colors[right, 2] > 0.99).all()


def test_back_is_hidden_and_guessed_from_the_front(network, body):
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, 1] = 0.7
    pixels = network.encode(image, camera(), upright(body)).pixels[0]
    normal_z = network.anchors.frames[:, 2, 2]
    seen = pixels[:, -1]
    assert seen[normal_z < -0.5].max() == 0
    assert seen[normal_z > 0.8].mean() > 0.6
    green = torch.tensor([0.0, 0.7, 0.0]).expand(COUNT, 3)
    torch.testing.assert_close(pixels[:, -PICTURE:-1], green, atol=2e-3, rtol=0)


def test_a_second_picture_shows_what_the_first_hides(network, body):
    front = upright(body)
    turned = body.moved(front, _turn_about(front, body))
    red, blue = (torch.zeros(1, 3, SIZE, SIZE) for _ in range(2))
    red[:, 0], blue[:, 2] = 0.8, 0.8
    both = torch.stack([red, blue], 1)
    cameras, params = Camera.cat([camera()[:, None]] * 2, 1), SmplxParams.cat([x[:, None] for x in (front, turned)], 1)
    alone, joined = network.encode(red, camera(), front), network.encode_several(both, cameras, params)
    colors, seen = joined.pixels[0, :, -4:-1], joined.pixels[0, :, -1]
    outward = network.anchors.frames[:, 2, 2]
    ahead, behind = (outward > 0.9) & (alone.pixels[0, :, -1] == 1), (outward < -0.9) & (seen == 1)
    torch.testing.assert_close(colors[ahead].mean(0), torch.tensor([0.8, 0, 0]), atol=0.02, rtol=0)
    torch.testing.assert_close(colors[behind].mean(0), torch.tensor([0, 0, 0.8]), atol=0.02, rtol=0)
    assert (seen > 0.5).float().mean() > 1.6 * (alone.pixels[0, :, -1] > 0.5).float().mean()


def _turn_about(params, body):
    """The motion [1, 4, 4] that turns a body by half round its own vertical axis, which is the camera's -y."""
    pelvis = body.joints(params)[:, 0]
    motion = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0]))[None].clone()
    motion[:, :3, 3] = pelvis - (motion[:, :3, :3] @ pelvis[..., None])[..., 0]
    return motion


def test_legs_outside_the_picture_take_the_colour_last_seen_above(network, body):
    """Trunk red, thighs green, the picture ends at the thighs: the feet start green, not a mean of both."""
    params = upright(body, depth=1.7)
    hips = camera().project(body.joints(params)[:, 1:3])[0][0, :, 1].mean().int()
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, 0, :hips], image[:, 1, hips:] = 1, 1
    pixels = network.encode(image, camera(), params).pixels[0]
    feet = network.anchors.points.rest[:, 1] < body.joint_template[7, 1]
    assert pixels[feet, -1].max() == 0
    assert (pixels[feet, -3] > 0.8).all()


def test_a_limb_beside_its_place_takes_no_colour_from_the_background(network, body):
    """A blue strip on white where the trunk is; the arms lie over white."""
    params = upright(body)
    shoulders = camera().project(body.joints(params)[:, 16:18])[0][0, :, 0]
    image = torch.ones(1, 3, SIZE, SIZE)
    image[:, :2, :, int(shoulders.min()) : int(shoulders.max()) + 1] = 0
    pixels = network.encode(image, camera(), params).pixels[0]
    hands = torch.from_numpy(network.anchors.region == "hands")
    assert pixels[hands, -1].max() == 0
    blue = torch.tensor([0.0, 0.0, 1.0]).expand(COUNT, 3)
    torch.testing.assert_close(pixels[:, -PICTURE:-1], blue, atol=0.02, rtol=0)


def test_anchors_know_how_far_outward_the_background_begins(network, body):
    """Flanks before a dark strip wider than the trunk: the outline is empty beyond the strip's edge only."""
    params, metre = upright(body, depth=1.7), 110 / 1.7  # pixels
    across = camera().project(network.anchors.posed(None, params)[0])[0][0, :, 0]
    normal = network.anchors.frames[:, 0, 2]
    flanks = (normal.abs() > 0.97) & torch.from_numpy(network.anchors.region == "trunk_and_arms")
    image = torch.ones(1, 3, SIZE, SIZE)
    left, right = int(across[flanks].min() - 0.09 * metre), int(across[flanks].max() + 0.09 * metre) + 1
    image[..., left:right] = 0.2
    outline = network.encode(image, camera(), params).pixels[0, flanks, -PICTURE - EDGES - len(OUTLINE) : -PICTURE - EDGES]
    gap = torch.where(normal > 0, right - across, across - left)[flanks, None] / metre - torch.tensor(OUTLINE)
    assert (gap < -0.04).sum() > 3
    assert outline[gap > 0.04].max() < 0.1
    assert outline[gap < -0.04].min() > 0.9


def test_colours_are_read_where_gaussians_have_moved_to(network, body):
    """Every Gaussian is sent 8 cm to the side; a picture of two halves then colours them by their new places."""
    params, image = upright(body), torch.zeros(1, 3, SIZE, SIZE)
    image[:, 0, :, : SIZE // 2], image[:, 2, :, SIZE // 2 :] = 1, 1
    moved = copy.deepcopy(network)
    means = network.anchors.points.rest[None] + torch.tensor([0.08, 0, 0])
    moved.head.decode = lambda y, base, anchors: replace(network.head.decode(y, base, anchors), means=means)
    before, after = (n.encode(image, camera(), params).pixels[0, :, -PICTURE:] for n in (network, moved))
    width = lambda p: ((p[:, 3] > 0.9) & (p[:, 2] > 0.9)).sum() / (p[:, 3] > 0.9).sum()  # noqa: E731
    assert abs(width(after) - width(before)) > 0.1


def test_a_nearer_limb_hides_what_is_behind(network, body):
    front = upright(body)
    turned = front.body_pose.clone()
    turned[0, 15] = torch.tensor([0.0, -1.45, 0.0])  # left upper arm forward
    turned[0, 17] = torch.tensor([0.0, -1.4, 0.0])  # forearm across the chest
    across = SmplxParams(**{**{n: getattr(front, n) for n in front.__dataclass_fields__}, "body_pose": turned})
    trunk = torch.from_numpy(network.anchors.region == "trunk_and_arms")
    chest = trunk & (network.anchors.points.rest[:, 0].abs() < 0.12)
    open_, hidden = (network.encode(picture(), camera(), p).pixels[0, chest, -1] for p in (front, across))
    lost = (open_ > 0.5) & (hidden < 0.1)
    assert 3 < lost.sum() < 0.6 * (open_ > 0.5).sum()


def test_predicted_params_are_returned_even_where_true_ones_align(network, body):
    image = picture()
    with_truth = network.encode(image, camera(), upright(body))
    torch.testing.assert_close(with_truth.params.transl, network.encode(image, camera()).params.transl)


def test_bfloat16_autocast_keeps_kinematics_in_float32(network):
    with torch.autocast("cpu", torch.bfloat16):
        encoding = network.encode(picture(), camera())
        cloud = network.pose(network.gaussians(network.canonical(encoding)), encoding.params)
    assert cloud.means.dtype == encoding.params.transl.dtype == torch.float32
    full = network.encode(picture(), camera())
    assert (encoding.params.transl - full.params.transl).abs().max() < 0.1
    assert all(getattr(cloud, n).isfinite().all() for n in cloud.__dataclass_fields__)


def test_network_cast_to_bfloat16_still_runs(body):
    network = Stage1(CONFIG, body).bfloat16()
    encoding = network.encode(picture(), camera())
    cloud = network.pose(network.gaussians(network.canonical(encoding)), encoding.params)
    assert isinstance(cloud, GaussianCloud)
    assert cloud.means.dtype == torch.float32


def test_weights_alone_restore_the_network(network, body):
    other = Stage1(CONFIG, body)
    state = network.state_dict()
    assert not any(name.startswith("anchors.") for name in state), "body and anchors come from the body file"
    other.load_state_dict(state)
    torch.testing.assert_close(
        other.encode(picture(), camera()).tokens.triplane, network.encode(picture(), camera()).tokens.triplane
    )


def test_too_few_tokens_are_refused(body):
    with pytest.raises(ValueError, match=f"at least {DUTIES}, got 8"):
        Stage1(CONFIG.model_copy(update={"smplx_tokens": 8}), body)
