import pytest
import roma
import torch

from configs.schema import ImageEncoderConfig, Stage1Config, Stage2Config
from model.geometry import geodesic_angle
from model.motion import MOTION, ROOT_LIMIT, TRANSLATION_LIMIT, bounded, motion_vector, params_from_motion
from model.stage1 import Stage1
from model.stage2 import Stage2, audio_window, smooth
from model.types import Camera, SmplxParams

SIZE, AUDIO = 64, 6
STAGE1 = Stage1Config(
    image=ImageEncoderConfig(image_size=SIZE, depth=1), width=32, heads=4, smplx_tokens=32, smplx_layers=1,
    pixel_channels=8, triplane_resolution=16, triplane_tokens=4, triplane_channels=8, fusion_layers=1, gaussians=512,
)  # fmt: skip
CONFIG = Stage2Config(
    width=32, heads=4, layers=2, window=16, seed_frames=3, audio_context=4, appearance_tokens=3, appearance_resolution=8
)


@pytest.fixture(scope="module")
def stage1(body):
    torch.manual_seed(0)
    return Stage1(STAGE1, body)


@pytest.fixture(scope="module")
def reference(stage1):
    torch.manual_seed(1)
    intrinsics = torch.tensor([[110.0, 0, 32], [0, 110, 32], [0, 0, 1]]).expand(2, 3, 3)
    camera = Camera(torch.eye(4).expand(2, 4, 4), intrinsics, torch.tensor([SIZE, SIZE]).expand(2, 2))
    with torch.no_grad():
        return stage1.encode(torch.rand(2, 3, SIZE, SIZE), camera)


@pytest.fixture(scope="module")
def untrained(stage1):
    torch.manual_seed(2)
    return Stage2(CONFIG, stage1, AUDIO)


@pytest.fixture(scope="module")
def moving(stage1):
    """A network with random heads, as if trained: it moves a lot."""
    torch.manual_seed(2)
    network = Stage2(CONFIG, stage1, AUDIO)
    for head in (network.steering, network.context, network.appearance):
        torch.nn.init.normal_(head.weight, std=1.0)
    return network


def window_audio(batch=2, seed=0):
    torch.manual_seed(seed)
    return torch.randn(batch, CONFIG.window + 2 * CONFIG.audio_context, AUDIO)


def turns(params):
    return roma.rotvec_to_rotmat(params.full_pose)


def assert_same_pose(params, expected, tolerance=1e-4):
    assert geodesic_angle(*torch.broadcast_tensors(turns(params), turns(expected))).max() < 5e-3
    for name in ("expression", "betas", "transl"):
        a, b = getattr(params, name), getattr(expected, name)
        torch.testing.assert_close(a, b.expand_as(a), atol=tolerance, rtol=0)


def random_params(*lead, scale=0.5):
    return SmplxParams.zeros(*lead).map(lambda t: torch.randn_like(t) * scale)


# motion vectors


def test_motion_vector_round_trip():
    torch.manual_seed(0)
    reference = random_params(3)
    params = random_params(3, 7)
    vector = motion_vector(params, reference)
    assert vector.shape == (3, 7, MOTION)
    back = params_from_motion(vector, reference)
    assert geodesic_angle(turns(back), turns(params)).max() < 2e-3
    torch.testing.assert_close(back.transl, params.transl)
    torch.testing.assert_close(back.expression, params.expression)
    torch.testing.assert_close(back.betas, reference.betas[:, None].expand(3, 7, 10))


def test_motion_vector_is_zero_at_the_reference():
    reference = random_params(2)
    still = reference.map(lambda t: t[:, None].expand(2, 4, *t.shape[1:]))
    assert motion_vector(still, reference).abs().max() < 1e-5


def test_bounds_hold_root_and_translation_and_leave_small_motion_alone():
    torch.manual_seed(0)
    still, wild = SmplxParams.zeros(1), random_params(1, 50, scale=3.0)
    kept = params_from_motion(bounded(motion_vector(wild, still)), still)
    assert geodesic_angle(turns(kept)[:, :, 0], torch.eye(3).expand(1, 50, 3, 3)).max() <= ROOT_LIMIT + 1e-3
    assert kept.transl.norm(dim=-1).max() <= TRANSLATION_LIMIT + 1e-5
    small = random_params(1, 50, scale=0.01)
    vector = motion_vector(small, still)
    torch.testing.assert_close(bounded(vector), vector, atol=1e-3, rtol=0)


# the network


def test_untrained_network_holds_the_reference_pose(untrained, reference):
    frames = untrained(reference, window_audio(), torch.randn(2, CONFIG.seed_frames, MOTION))
    assert_same_pose(frames.params, reference.params.map(lambda t: t[:, None]))
    assert frames.smplx_tokens.shape == (2, CONFIG.window, 32, 32)
    assert frames.appearance.abs().max() == 0


def test_better_reference_params_are_what_is_moved(untrained, reference):
    """A fit may replace the predicted parameters: generation then starts from the fit."""
    fit = reference.params.map(lambda t: t + 0.1)
    given = type(reference)(**{**reference.__dict__, "params": fit})
    assert_same_pose(untrained(given, window_audio()).params, fit.map(lambda t: t[:, None]))


def test_untrained_frames_render_as_stage_one_poses_the_reference(untrained, stage1, reference):
    frames = untrained(reference, window_audio())
    cloud = untrained.render_cloud(reference, frames, 5)
    expected = stage1.pose(stage1.gaussians(stage1.canonical(reference)), reference.params)
    torch.testing.assert_close(cloud.means, expected.means, atol=1e-4, rtol=0)
    torch.testing.assert_close(cloud.colors, expected.colors, atol=1e-6, rtol=0)


def test_each_sample_may_ask_for_its_own_frame(moving, reference):
    frames = moving(reference, window_audio())
    mixed = moving.render_cloud(reference, frames, torch.tensor([2, 9]), moving.identity(reference))
    torch.testing.assert_close(mixed.means[1], moving.render_cloud(reference, frames, 9).means[1])
    torch.testing.assert_close(mixed.colors[0], moving.render_cloud(reference, frames, 2).colors[0])
    assert (mixed.colors[0] - moving.render_cloud(reference, frames, 9).colors[0]).abs().max() > 1e-4


def test_gradients_reach_both_stages(stage1, reference):
    torch.manual_seed(0)
    network = Stage2(CONFIG, stage1, AUDIO)
    frames = network(reference, window_audio(), torch.zeros(2, CONFIG.seed_frames, MOTION))
    cloud = network.render_cloud(reference, frames, 3)
    (cloud.colors.sum() + cloud.means.square().sum() + frames.params.expression.sum()).backward()
    for name in ("steering.weight", "appearance.weight"):
        grad = dict(network.named_parameters())[name].grad
        assert grad.isfinite().all()
        assert grad.abs().max() > 0
    assert stage1.head.out.weight.grad.abs().max() > 0
    stage1.zero_grad()


def test_a_frame_hears_only_its_window_and_its_context(stage1, reference):
    """With one layer, sound more than `audio_context` from a frame reaches it through other frames alone."""
    torch.manual_seed(2)
    network = Stage2(CONFIG.model_copy(update={"layers": 1}), stage1, AUDIO)
    torch.nn.init.normal_(network.steering.weight)
    block = network.blocks[0]
    torch.nn.init.zeros_(block.self_attention.out.weight)  # shut the way through other frames
    audio = window_audio()
    changed = audio.clone()
    changed[:, -2:] += 5
    a, b = (network(reference, x).smplx_tokens[:, :, 24] for x in (audio, changed))  # 24: the unfiltered face token
    moved = (a - b).abs().amax((0, 2)) > 1e-5
    # the convolutions on audio reach 4 frames; the context 4 more
    assert not moved[: CONFIG.window - 6].any()
    assert moved[-1]


def test_faces_follow_at_frame_rate_while_bodies_are_smooth():
    x = torch.zeros(1, 31, 1)
    x[:, 15] = 1
    y = smooth(x, 1.5)
    assert y[0, 15] < 0.3
    assert torch.allclose(y.sum(), torch.tensor(1.0))
    assert torch.allclose(y, y.flip(1), atol=1e-6)
    torch.testing.assert_close(smooth(torch.full((1, 9, 2), 0.7), 1.5), torch.full((1, 9, 2), 0.7))


@pytest.mark.parametrize("length", [1, 3, 16, 17, 29, 60])
def test_any_length_is_generated(moving, reference, length):
    frames = moving.generate(reference[:1], torch.randn(length, AUDIO))
    assert frames.smplx_tokens.shape[:2] == frames.params.transl.shape[:2] == frames.appearance.shape[:2] == (1, length)


def test_generation_is_deterministic_and_starts_as_its_first_window(moving, reference):
    audio = torch.randn(2, 50, AUDIO)
    first, second = moving.generate(reference, audio), moving.generate(reference, audio)
    assert torch.equal(first.smplx_tokens, second.smplx_tokens)
    seed = torch.zeros(2, CONFIG.seed_frames, MOTION)
    window = moving(reference, audio_window(audio, 0, CONFIG.window, CONFIG.audio_context), seed)
    kept = CONFIG.window - CONFIG.seed_frames
    torch.testing.assert_close(first.smplx_tokens[:, :kept], window.smplx_tokens[:, :kept], atol=1e-4, rtol=1e-4)


def test_the_end_of_a_speech_does_not_change_its_beginning(moving, reference):
    audio = torch.randn(60, AUDIO)
    whole, cut = moving.generate(reference[:1], audio), moving.generate(reference[:1], audio[:45])
    torch.testing.assert_close(whole.params.transl[:, :20], cut.params.transl[:, :20])


def test_long_generation_does_not_drift(moving, reference):
    frames = moving.generate(reference[:1], 3 * torch.randn(600, AUDIO))
    root = geodesic_angle(turns(frames.params)[:, :, 0], turns(reference.params[:1])[:, None, 0].expand(1, 600, 3, 3))
    away = (frames.params.transl - reference.params.transl[:1, None]).norm(dim=-1)
    assert root.max() < ROOT_LIMIT + 0.01
    assert away.max() < TRANSLATION_LIMIT + 0.01
    assert torch.equal(frames.params.betas, reference.params.betas[:1, None].expand(1, 600, 10))
    assert root[0, -100:].mean() < root[0, :100].mean() + 0.1


def test_audio_window_repeats_the_ends():
    x = torch.arange(5.0)[:, None]
    assert audio_window(x, 0, 3, 2)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert audio_window(x, 3, 4, 1)[:, 0].tolist() == [2, 3, 4, 4, 4, 4]


def test_wrong_audio_or_seed_is_refused_with_both_shapes(untrained, reference):
    with pytest.raises(ValueError, match=rf"expected audio \[B, T \+ 8, {AUDIO}\], got \(2, 20, 5\)"):
        untrained(reference, torch.randn(2, 20, 5))
    with pytest.raises(ValueError, match=f"expected seed .*{MOTION}"):
        untrained(reference, window_audio(), torch.zeros(2, 3, 12))
    with pytest.raises(ValueError, match=r"expected audio \[2, L > 0, A\], got \(1, 50, 6\)"):
        untrained.generate(reference, torch.randn(50, AUDIO))


def test_bfloat16_autocast_holds_the_reference_pose(untrained, reference):
    with torch.autocast("cpu", torch.bfloat16):
        frames = untrained(reference, window_audio())
        cloud = untrained.render_cloud(reference, frames, 0)
    assert frames.params.transl.dtype == cloud.means.dtype == torch.float32
    assert_same_pose(frames.params, reference.params.map(lambda t: t[:, None]), 1e-3)


def test_a_few_steps_learn_a_jaw_that_follows_the_sound(stage1, reference):
    """Loudness in one audio channel opens the jaw: 60 steps find it, on sound not trained on."""
    torch.manual_seed(0)
    network = Stage2(CONFIG, stage1, AUDIO)
    learned = [p for n, p in network.named_parameters() if not n.startswith("stage1.")]
    optimiser = torch.optim.AdamW(learned, lr=3e-3)
    context = CONFIG.audio_context

    def jaws(audio):
        return network(reference, audio).params.jaw_pose[..., 0] - reference.params.jaw_pose[:, None, 0]

    for step in range(60):
        audio = window_audio(seed=step)
        error = (jaws(audio) - 0.2 * audio[:, context:-context, 0]).abs().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
    with torch.no_grad():
        audio = window_audio(seed=999)
        both = torch.stack([jaws(audio).flatten(), audio[:, context:-context, 0].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.6
