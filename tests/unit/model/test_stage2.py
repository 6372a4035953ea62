import copy
import math
from dataclasses import replace

import pytest
import roma
import torch

from configs.schema import Config, Stage2Config
from model.feet import plant_feet
from model.flow import Generator, Windows
from model.flow_pasts import follow, partly_own
from model.geometry import geodesic_angle
from model.lips import LipOpening
from model.motion import MOTION, ROOT_LIMIT, TRANSLATION_LIMIT, motion_vector, params_from_motion
from model.motion_space import BODY, FACE_START, HAND, MotionSpace
from model.motion_spline import CHUNK, NEW, PAST, SEED, SPAN, TAIL, Surprises, chunked, knot_matrix, spline_matrix
from model.stage1 import Stage1
from model.stage2 import Stage2, at_rest, audio_window
from model.talking import Motion, Talk, talk_whole
from model.types import Camera, SmplxParams
from pipelines.body import body_hash, face_embedding
from tests.tiny import tiny_stage1

SIZE, AUDIO = 64, 6
STAGE1 = tiny_stage1(SIZE, 512)
CONFIG = Stage2Config(
    width=32, heads=4, layers=2, flow_width=32, flow_layers=1, window=32, memory=3, flow_steps=3, appearance_tokens=3,
    appearance_resolution=8,
)  # fmt: skip


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
    return Stage2(CONFIG, stage1, AUDIO).eval()


def smooth_clip(frames=300, seed=0, scale=0.15):
    """Motion [T] whose every number wanders smoothly."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames + 40, 55 * 3 + 13, generator=generator)
    kernel = torch.hann_window(41)
    curves = torch.einsum("tdk,k->td", noise.unfold(0, 41, 1), kernel / kernel.square().sum().sqrt()) * scale
    betas = torch.zeros(len(curves), 10)
    return SmplxParams.from_pose(curves[:, :165].unflatten(1, (55, 3)), betas, curves[:, 165:175], 0.1 * curves[:, 175:])[:frames]


@pytest.fixture(scope="module")
def moving(stage1):
    """A network with constants of some motion and random heads, as if trained: it moves a lot."""
    torch.manual_seed(2)
    network = Stage2(CONFIG, stage1, AUDIO)
    clips = [smooth_clip(seed=i) for i in range(4)]
    network.generator.space.fit(clips)
    network.generator.fit([(network.generator.space.encode(c)[0], torch.randn(300, AUDIO)) for c in clips])
    for layer in (network.generator.flow.out, network.generator.mouth[-1], network.context, network.appearance):
        torch.nn.init.normal_(layer.weight, std=0.3 / math.sqrt(layer.in_features))
    return network.eval()


@pytest.fixture(scope="module")
def body_of(stage1):
    return stage1.body


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


# motion as channels, splines and surprises


def test_channels_bring_back_the_motion_whatever_the_reference():
    space, clip = MotionSpace(CONFIG.mouth), smooth_clip(60)
    clip.global_orient.mul_(0.2)
    space.fit([smooth_clip(seed=5), smooth_clip(seed=6)])
    told = [i for i in range(55) if i not in (1, 2, 4, 5, 7, 8, 10, 11) and not 25 <= i < 55]  # hands: the first axes alone
    for index in (0, 30):
        still = space.still(clip[index])
        channels, mouth = space.encode(clip)
        back = space.decode(channels - channels[index], mouth - still.mouth, clip[index], still)
        away = geodesic_angle(turns(back), turns(clip))[:, told]
        assert away[:, 1:].max() < 2e-3
        assert away[:, 0].max() < 0.06  # the root is told in the reference's frame, and bounded
        torch.testing.assert_close(back.expression, clip.expression, atol=1e-4, rtol=0)


def test_no_residual_is_the_reference_exactly_in_any_pose():
    space = MotionSpace(CONFIG.mouth)
    space.fit([smooth_clip()])
    reference = random_params(3)
    back = space.decode(torch.zeros(3, 5, space.channels), torch.zeros(3, 5, space.mouth_channels), reference)
    assert_same_pose(back, reference.map(lambda t: t[:, None]))


def test_splines_follow_smooth_motion_and_settle_before_the_window_ends():
    frames = 64
    path = torch.sin(torch.arange(frames)[:, None] / 4 + torch.arange(3)).double()
    knots = knot_matrix(frames) @ path
    torch.testing.assert_close(spline_matrix(frames) @ knots, path, atol=2e-3, rtol=0)
    longer = knot_matrix(frames + 20) @ torch.sin(torch.arange(frames + 20)[:, None] / 4 + torch.arange(3)).double()
    last = (frames - TAIL) // 2 + 2
    torch.testing.assert_close(knots[:last], longer[:last], atol=2e-3, rtol=0)


def test_chunks_share_knots_so_frames_are_those_of_one_spline():
    torch.manual_seed(0)
    count = 3
    knots = torch.randn(1, PAST + NEW * count, 2)
    surprises, (past, new) = Surprises(2), chunked(knots)
    pieces = surprises.frames(torch.cat([past, new], 2)[:, :, -SPAN:]).flatten(1, 2)
    whole = spline_matrix(CHUNK * count).float() @ knots[:, PAST - SPAN + NEW :]
    torch.testing.assert_close(pieces, whole)


def test_surprises_have_unit_spread_go_back_to_their_knots_and_drawn_at_random_move_like_the_motion():
    space = MotionSpace(CONFIG.mouth)
    clips = [smooth_clip(seed=i) for i in range(6)]
    space.fit(clips)
    motion = torch.stack([space.encode(c)[0] for c in clips])[:, :152]
    knots = (knot_matrix(152).float() @ (motion - motion.mean(1, keepdim=True)))[:, 3:-4]
    surprises = Surprises(space.channels)
    surprises.fit(knots)
    past, new = chunked(knots)
    z = surprises.whiten(new, past)
    assert (z[..., 6:20].std((0, 1, 2)) - 1).abs().max() < 0.05
    torch.testing.assert_close(surprises.colour(z, past), new, atol=1e-4, rtol=0)
    made = torch.zeros(8, PAST, space.channels)
    torch.manual_seed(0)
    for _ in range(30):
        made = torch.cat([made, surprises.colour(torch.randn(8, NEW, space.channels), made[:, -PAST:])], 1)
    frames = spline_matrix(2 * (made.shape[1] - 3)).float() @ made
    rough = lambda x: x[..., 6:20].diff(dim=1).diff(dim=1).abs().mean()  # noqa: E731
    assert 0.5 < rough(frames) / rough(motion) < 2


# feet


def test_feet_stay_while_the_pelvis_moves(body_of):
    torch.manual_seed(0)
    reference = SmplxParams.zeros(2)
    pose = reference.full_pose.clone()
    pose[:, [4, 5], 0] = 0.3  # knees a little bent
    pose[:, [1, 2], 0] = -0.15
    reference = SmplxParams.from_pose(pose, 0.5 * torch.randn(2, 10), reference.expression, reference.transl)
    moved = reference.map(lambda t: t[:, None].expand(2, 9, *t.shape[1:]).clone())
    moved.global_orient.add_(0.1 * torch.randn(2, 9, 3))
    moved.transl.add_(torch.randn(2, 9, 3) * torch.tensor([0.02, 0.01, 0.02]) - torch.tensor([0.0, 0.02, 0.0]))
    planted = plant_feet(body_of, moved, reference)
    joints = body_of.joints(planted.map(lambda t: t.flatten(0, 1))).unflatten(0, (2, 9))
    feet = body_of.joints(reference)[:, None, [7, 8, 10, 11]]
    assert (joints[:, :, [7, 8, 10, 11]] - feet).norm(dim=-1).max() < 1e-3
    slid = body_of.joints(moved.map(lambda t: t.flatten(0, 1))).unflatten(0, (2, 9))[:, :, [7, 8, 10, 11]] - feet
    assert slid.norm(dim=-1).max() > 0.02


def test_legs_are_the_references_where_the_pelvis_is(body_of):
    reference = random_params(3, scale=0.3)
    still = reference.map(lambda t: t[:, None].expand(3, 2, *t.shape[1:]))
    assert_same_pose(plant_feet(body_of, still, reference), still)


# the network


def test_untrained_network_holds_the_reference_pose(untrained, reference):
    frames = untrained.generate(reference, torch.randn(2, 20, AUDIO))
    assert_same_pose(frames.params, reference.params.map(lambda t: t[:, None]))
    assert untrained.smplx_tokens(reference, frames).shape == (2, 20, 32, 32)
    assert frames.appearance.abs().max() == 0


def test_better_reference_params_are_what_is_moved(untrained, reference):
    """A fit may replace the predicted parameters: generation then starts from the fit."""
    fit = reference.params.map(lambda t: t + 0.1)
    given = type(reference)(**{**reference.__dict__, "params": fit})
    assert_same_pose(untrained.generate(given, torch.randn(2, 9, AUDIO)).params, fit.map(lambda t: t[:, None]))


def test_untrained_frames_render_as_stage_one_poses_the_reference(untrained, stage1, reference):
    frames = untrained.generate(reference, torch.randn(2, 8, AUDIO))
    cloud = untrained.render_cloud(reference, frames, 5)
    expected = stage1.pose(stage1.gaussians(stage1.canonical(reference)), reference.params)
    torch.testing.assert_close(cloud.means, expected.means, atol=1e-3, rtol=0)
    torch.testing.assert_close(cloud.colors, expected.colors, atol=1e-6, rtol=0)


def test_each_sample_may_ask_for_its_own_frame(moving, reference):
    frames = moving.generate(reference, torch.randn(2, 16, AUDIO))
    mixed = moving.render_cloud(reference, frames, torch.tensor([2, 9]), moving.identity(reference))
    torch.testing.assert_close(mixed.means[1], moving.render_cloud(reference, frames, 9).means[1])
    torch.testing.assert_close(mixed.colors[0], moving.render_cloud(reference, frames, 2).colors[0])
    assert (mixed.colors[0] - moving.render_cloud(reference, frames, 9).colors[0]).abs().max() > 1e-4


def test_stage_one_reads_the_frames_from_their_tokens(moving, reference):
    """A reference whose parameters are what its tokens say: then those of its frames say what the frames are."""
    frames = moving.generate(reference, torch.randn(2, 12, AUDIO))
    tokens = moving.smplx_tokens(reference, frames)
    focal, principal = reference.focal_over_size[:, None], reference.principal[:, None]
    read = moving.stage1.smplx_decoder(tokens, focal, principal)
    away = geodesic_angle(turns(read), turns(frames.params))[..., :25]  # so narrow a network cannot tell all fingers apart
    assert away.max() < 0.03  # what the reference's tokens say need not be orthonormal
    torch.testing.assert_close(read.transl, frames.params.transl, atol=5e-3, rtol=0)
    assert (read.transl - reference.params.transl[:, None]).norm(dim=-1).max() > 1e-4


def windows_of(network, frames=None, batch=3, seed=0):
    generator = network.generator
    frames = frames or CONFIG.window
    motion = torch.stack([generator.space.encode(smooth_clip(SEED + frames + TAIL, seed + i))[0] for i in range(batch)])
    mouth = torch.stack([generator.space.encode(smooth_clip(frames, seed + i))[1] for i in range(batch)])
    still = generator.space.still(SmplxParams.zeros(batch))
    audio = torch.randn(batch, generator.past_frames + frames + CONFIG.look_ahead, AUDIO)
    style = torch.zeros(batch, 3 * generator.space.channels)
    return Windows(audio, motion, mouth, still, motion[:, 0], style, torch.ones(batch, frames))


def test_gradients_reach_both_stages(moving, stage1, reference):
    torch.manual_seed(0)
    drawn = moving.learn(windows_of(moving, batch=2), 2)
    assert all(len(x) == 2 for x in drawn.losses.values())
    frames = moving.estimated(reference.params, drawn)
    cloud = moving.render_cloud(reference, frames, 3)
    (cloud.colors.sum() + cloud.means.square().sum() + frames.params.expression.sum()).backward()
    for name in ("generator.flow.out.weight", "generator.hearing.read.weight", "appearance.weight"):
        grad = dict(moving.named_parameters())[name].grad
        assert grad.isfinite().all()
        assert grad.abs().max() > 0
    assert stage1.head.out.weight.grad.abs().max() > 0
    moving.zero_grad()


def test_what_is_heard_of_a_frame_ends_with_its_look_ahead(moving):
    generator, before = moving.generator, moving.generator.past_frames
    audio = torch.randn(1, before + 24 + CONFIG.look_ahead, AUDIO)
    changed = audio.clone()
    changed[:, before + 12] += 5  # the sound of frame 12
    moved = (generator.hear(audio) - generator.hear(changed)).abs().amax((0, 2)) > 1e-5
    assert moved.nonzero()[0, 0] == 12 - CONFIG.look_ahead


def test_training_reads_all_chunks_at_once_as_generation_does_one_by_one(moving, reference, monkeypatch):
    generator, params = moving.generator, reference.params[:1]
    seen = []
    monkeypatch.setattr(generator, "config", CONFIG.model_copy(update={"guidance": (1.0, 1.0, 1.0)}))
    draw = generator._draw
    monkeypatch.setattr(generator, "_draw", lambda context, noise: seen.append(context) or draw(context, noise))
    features = torch.randn(1, 6 * CHUNK, AUDIO)
    talk = Talk(generator, moving.stage1.body, params)
    states = []
    proceed = generator.proceed
    monkeypatch.setattr(generator, "proceed", lambda state, heard: states.append(state.knots) or proceed(state, heard))
    talk.push(features)
    talk.finish()
    audio = audio_window(features, 0, 6 * CHUNK, generator.past_frames, CONFIG.look_ahead)
    described = generator.describe(generator.space.still(params), None)
    tokens = generator._tokens(generator.hear(audio), torch.stack(states, 1), described)
    chunks = torch.arange(6)
    near = (chunks[:, None] >= chunks) & (chunks[:, None] - chunks < CONFIG.memory)
    for block in generator.blocks:
        tokens = block(tokens, tokens, (chunks, chunks), near)
    torch.testing.assert_close(generator.norm(tokens)[0], torch.cat(seen), atol=1e-4, rtol=1e-4)


# talks


def test_a_reference_that_a_picture_misread_by_far_is_described_as_one_at_the_bound(moving, reference):
    generator = moving.generator
    still = generator.space.still(reference.params[:1])
    off = torch.zeros_like(still.channels)
    channel = int(generator.space.scale[BODY].argmin()) + BODY.start  # what people hardly move
    off[:, channel] = 30 * generator.space.scale[channel].clamp(min=0.005)
    far, further = (generator.describe(replace(still, channels=still.channels + k * off), None) for k in (1, 5))
    torch.testing.assert_close(far, further)
    near = generator.describe(replace(still, channels=still.channels * 0), None)
    assert (far - near).abs().max() > 1e-3


def test_guidance_and_temperature_are_told_for_body_hands_and_face(moving, monkeypatch):
    generator, width = copy.deepcopy(moving.generator), moving.generator.config.width
    torch.nn.init.normal_(generator.flow.blocks[0]["turn"].weight)
    told, silent = torch.randn(2, 1, width)

    def draw(**settings):
        monkeypatch.setattr(generator, "config", CONFIG.model_copy(update={"flow_steps": 1, **settings}))
        with torch.no_grad():
            context = torch.cat([told, silent]) if generator.guided else told
            return generator._draw(context, [torch.Generator().manual_seed(3)])[0].unflatten(0, (NEW, -1))

    plain, hands = draw(guidance=(1, 1, 1)), draw(guidance=(1, 2, 1))
    torch.testing.assert_close(hands[:, : HAND.start], plain[:, : HAND.start])
    torch.testing.assert_close(hands[:, FACE_START:], plain[:, FACE_START:])
    assert (hands[:, HAND] - plain[:, HAND]).abs().max() > 1e-3
    calm = draw(guidance=(1, 1, 1), temperature=(1, 1, 0))
    assert calm[:, FACE_START:].abs().max() < plain[:, FACE_START:].abs().max()
    assert Stage2Config(guidance=1.5).guidance == (1.5, 1.5, 1.5)
    assert Stage2Config(guidance=[2, 1, 1]).guidance == (2, 1, 1)


@pytest.mark.parametrize("length", [1, 3, 8, 14, 15, 29, 60])
def test_any_length_is_generated(moving, reference, length):
    frames = moving.generate(reference[:1], torch.randn(length, AUDIO))
    assert frames.params.transl.shape[:2] == frames.appearance.shape[:2] == (1, length)
    assert frames.params.full_pose.isfinite().all()


@pytest.mark.parametrize("piece", [1, 5, 8, 33])
def test_a_stream_gives_the_frames_of_the_whole_speech(moving, reference, piece):
    audio = torch.randn(2, 75, AUDIO)
    whole = talk_whole(moving.generator, moving.stage1.body, reference.params, audio, seed=3)
    talk = moving.begin(reference, seed=3)
    parts = [*(talk.push(x) for x in audio.split(piece, 1)), talk.finish()]
    stream = Motion.cat([p for p in parts if p is not None], 1)
    torch.testing.assert_close(stream.params.full_pose, whole.params.full_pose, atol=2e-5, rtol=0)
    torch.testing.assert_close(stream.params.transl, whole.params.transl, atol=1e-5, rtol=0)


def test_a_stream_is_late_by_a_chunk_and_its_look_ahead_and_keeps_no_more_with_time(moving, reference):
    talk = moving.begin(reference[:1])
    for come in range(1, CHUNK + CONFIG.look_ahead):
        assert talk.push(torch.randn(1, 1, AUDIO)) is None, come
    assert talk.push(torch.randn(1, 1, AUDIO)).heard.shape[1] == CHUNK
    sizes = set()
    for _ in range(12):
        talk.push(torch.randn(1, 5 * CHUNK, AUDIO))
        sizes.add(talk.waiting.numel() + talk.state.knots.numel() + sum(m.numel() for m in talk.state.memory))
    assert len(sizes) == 1


def test_same_seed_same_talk_and_another_seed_another(moving, reference):
    audio = torch.randn(2, 40, AUDIO)
    first, again, other = (moving.generate(reference, audio, seed=s).params.body_pose for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01
    alone = moving.generate(reference[1:], audio[1:], seed=2).params.body_pose  # row i of a batch draws from seed + i
    torch.testing.assert_close(alone[0], first[1], atol=1e-5, rtol=0)


def test_the_end_of_a_speech_does_not_change_its_beginning(moving, reference):
    audio = torch.randn(60, AUDIO)
    whole, cut = moving.generate(reference[:1], audio), moving.generate(reference[:1], audio[:45])
    torch.testing.assert_close(whole.params.body_pose[:, :32], cut.params.body_pose[:, :32], atol=1e-5, rtol=0)


def test_long_generation_does_not_drift(moving, reference):
    frames = moving.generate(reference[:1], 3 * torch.randn(600, AUDIO))
    root = geodesic_angle(turns(frames.params)[:, :, 0], turns(reference.params[:1])[:, None, 0].expand(1, 600, 3, 3))
    away = (frames.params.transl - reference.params.transl[:1, None]).norm(dim=-1)
    assert root.max() < ROOT_LIMIT + 0.01
    assert away.max() < TRANSLATION_LIMIT + 0.01
    assert torch.equal(frames.params.betas, reference.params.betas[:1, None].expand(1, 600, 10))


def test_audio_window_repeats_the_ends():
    x = torch.arange(5.0)[:, None]
    assert audio_window(x, 0, 3, 2, 2)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert audio_window(x, 3, 4, 1, 1)[:, 0].tolist() == [2, 3, 4, 4, 4, 4]


def test_wrong_audio_or_settings_are_refused_with_both_shapes(untrained, reference):
    with pytest.raises(ValueError, match=rf"expected audio \[2, L > 0, A\], got \(1, 50, {AUDIO}\)"):
        untrained.generate(reference, torch.randn(50, AUDIO))
    with pytest.raises(ValueError, match=rf"expected audio features \[2, n, {AUDIO}\], got \(2, 20, 5\)"):
        untrained.generate(reference, torch.randn(2, 20, 5))
    with pytest.raises(ValueError, match="window must be a multiple of 8 frames, got 12"):
        Generator(CONFIG.model_copy(update={"window": 12}), AUDIO)
    with pytest.raises(ValueError, match="look_ahead must be 36 frames or less, got 50"):
        Generator(CONFIG.model_copy(update={"look_ahead": 50}), AUDIO)


def test_bfloat16_autocast_holds_the_reference_pose(untrained, reference):
    with torch.autocast("cpu", torch.bfloat16):
        frames = untrained.generate(reference, torch.randn(2, 20, AUDIO))
        cloud = untrained.render_cloud(reference, frames, 0)
    assert frames.params.transl.dtype == cloud.means.dtype == torch.float32
    assert_same_pose(frames.params, reference.params.map(lambda t: t[:, None]), 1e-3)


def test_a_few_steps_learn_a_jaw_that_follows_the_sound(moving):
    """Loudness in one audio channel opens the jaw: 40 steps find it, on sound not trained on."""
    torch.manual_seed(0)
    generator = Generator(CONFIG, AUDIO)
    generator.space.mouth_scale[0] = 0.2
    optimiser = torch.optim.AdamW(generator.parameters(), lr=3e-3)

    def jaws(seed):
        windows = windows_of(moving, batch=4, seed=seed)
        wanted = windows.mouth.clone()
        wanted[..., 0] = 0.2 * windows.audio[:, generator.past_frames : generator.past_frames + CONFIG.window, 0]
        return Windows(**{**windows.__dict__, "mouth": wanted})

    for step in range(40):
        loss = generator.learn(jaws(step % 7), 1).losses["smplx_mouth"][..., 0].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        windows = jaws(99)
        both = torch.stack([generator.learn(windows, 1).mouth[..., 0].flatten(), windows.mouth[..., 0].flatten()])
    assert torch.corrcoef(both)[0, 1] > 0.6


# end poses, pasts that are off, lips


@pytest.mark.parametrize("length", [5, 24, 61])
def test_a_talk_ends_in_the_pose_that_is_given(moving, reference, length):
    wanted = smooth_clip(40, seed=9)[[10, 30]]
    pose = reference.params.full_pose.clone()
    pose[:, 3:22] += 0.3 * wanted.full_pose[:, 3:22]
    pose[:, 0] += 0.05
    end = SmplxParams.from_pose(pose, reference.params.betas, reference.params.expression, reference.params.transl + 0.02)
    audio = torch.randn(2, length, AUDIO)
    free, led = moving.generate(reference, audio, seed=1), moving.generate(reference, audio, seed=1, end=end)
    told = [0, 3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    away = lambda made: geodesic_angle(turns(made.params)[:, -1], turns(end))[:, told].mean()  # noqa: E731
    assert away(led) < 0.03
    assert away(led) < 0.5 * away(free)
    assert led.params.transl.shape[1] == length


def test_an_end_pose_for_other_people_is_refused(moving, reference):
    with pytest.raises(ValueError, match="expected as its end 2 poses for a talk of 1 frame or more, got 1 for 16"):
        moving.generate(reference, torch.randn(2, 16, AUDIO), end=reference.params[:1])


def test_motion_goes_on_from_a_past_that_is_off_without_a_kink_and_comes_back():
    along = torch.arange(PAST, dtype=torch.float32)[:, None]
    gap = (0.3 + 0.05 * along)[None, None]  # off more and more
    after = follow(gap)[0, 0]
    path = torch.cat([gap[0, 0], after])[:, 0]
    assert path.diff().diff().abs().max() < 0.12
    assert path[-1] < path[PAST]
    later = follow(path[-PAST:].reshape(1, 1, PAST, 1))
    for _ in range(6):
        path = torch.cat([path, later.flatten()])
        later = follow(path[-PAST:].reshape(1, 1, PAST, 1))
    assert path[-1].abs() < 0.06


def test_own_draws_near_the_truth_are_its_own_and_the_nearer_the_more_is_told(moving):
    generator = moving.generator
    windows = windows_of(moving, batch=8)
    knots = generator.knot_matrix @ (windows.motion - windows.origin[:, None])
    past, new = chunked(knots[:, 3 : 3 + PAST + NEW * (CONFIG.window // CHUNK)])
    context = torch.randn(*new.shape[:2], CONFIG.width)
    still = lambda x, *_: torch.zeros_like(x)  # noqa: E731
    torch.manual_seed(0)
    drawn = partly_own(generator.flow, generator.surprises, context, past, new)
    kept = partly_own(still, generator.surprises, context, past, new)
    assert drawn.shape == new.shape
    assert (drawn - kept).abs().max() > 1e-3
    spread = (kept - new)[..., 6:20].std()
    fresh = generator.surprises.colour(torch.randn_like(new), past)
    assert 1e-4 < spread < 0.8 * (fresh - new)[..., 6:20].std()


def test_learning_from_own_draws_leaves_every_weight_its_gradient_in_half_precision(moving):
    torch.manual_seed(0)
    generator, windows = copy.deepcopy(moving.generator), windows_of(moving)
    for block in generator.flow.blocks:
        torch.nn.init.normal_(block["turn"].weight, std=0.1)  # zero at first: then contexts do not matter
    with torch.autocast("cpu", torch.bfloat16):
        losses = generator.learn(windows, 2, own=1.0).losses
        sum(x.mean() for x in losses.values()).backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0 or name.startswith(("style_in", "no_style", "silent", "ending")), name


def test_lips_weigh_most_where_they_meet(body_of, moving):
    config = Config()
    embedding = face_embedding(body_of, body_hash(config))
    lips = LipOpening(body_of, body_of.surface(embedding.faces[[0, 17]], embedding.barycentric[[0, 17]]), CONFIG.mouth)
    assert 0.015 < lips.rest < 0.02
    mouth = torch.zeros(1, 2, moving.generator.space.mouth_channels)
    mouth[0, 1, 0] = 0.2  # radians of the jaw
    assert lips(mouth)[0, 1] > lips.rest + 0.003
    pressed = torch.zeros(1, 1, mouth.shape[-1])
    pressed[..., 3:] = max(
        (torch.eye(mouth.shape[-1] - 3) * 2).unbind(), key=lambda c: -float(lips(torch.cat([torch.zeros(3), c])[None, None]))
    )
    assert lips(pressed) < lips.rest - 0.003
    opened = pressed + 0.05 * torch.eye(mouth.shape[-1])[0]
    wrong = lips.errors(opened, pressed) / lips.errors(mouth[:, 1:] + 0.05 * torch.eye(mouth.shape[-1])[0], mouth[:, 1:])
    assert wrong > 3


def test_a_talk_may_begin_with_the_face_at_rest(reference):
    """What a picture shows of the face is gone, the body stays, and what lasts: a smile."""
    params = SmplxParams.zeros(2).map(lambda x: x + 0.2)
    rested = at_rest(replace(reference, params=params), (0,)).params
    assert not any(getattr(rested, n).any() for n in ("jaw_pose", "leye_pose", "reye_pose"))
    assert torch.equal(rested.expression, params.expression * (torch.arange(10) == 0))
    torch.testing.assert_close(rested.body_pose, params.body_pose)


def read_from(true, joint, off):
    """The pose with one joint turned by `off` radians about x, as a picture may misread it."""
    pose = true.full_pose.clone()
    pose[..., joint, :] = pose[..., joint, :] + torch.tensor([off, 0.0, 0.0])
    return SmplxParams.from_pose(pose, true.betas, true.expression, true.transl)


def test_of_a_pose_found_in_a_picture_what_people_hardly_do_is_not_believed():
    """Joints that move much in the corpus stay where they were found, those that hardly move go to the mean; the rest is kept."""
    clip, elbow, still = smooth_clip(200), 18, 9
    pose = clip.full_pose.clone()
    pose[:, still] = 0.01 * pose[:, still]
    pose[:, elbow] = 6 * pose[:, elbow]
    clip = SmplxParams.from_pose(pose, clip.betas, clip.expression, clip.transl)
    space = MotionSpace(CONFIG.mouth)
    space.fit([clip])
    true = clip[:1]
    believed = lambda joint, off: geodesic_angle(  # noqa: E731
        turns(space.steadied(read_from(true, joint, off)))[:, joint], turns(true)[:, joint]
    )
    assert believed(still, 0.3) < 0.03
    assert believed(elbow, 0.3) > 0.2
    steadied = space.steadied(true)
    kept = [0, 1, 2, 4, 5, 7, 8, 10, 11, 22, 23, 24]
    torch.testing.assert_close(steadied.full_pose[:, kept], true.full_pose[:, kept])
    for name in ("betas", "expression", "transl"):
        torch.testing.assert_close(getattr(steadied, name), getattr(true, name))


def test_a_talk_from_a_picture_begins_in_its_pose_and_leaves_what_was_misread(untrained, moving, reference):
    """The network that draws no motion stays in the picture's pose; what moves is told relative to the steadied one."""
    audio = torch.randn(2, 24, AUDIO)
    rested = at_rest(reference, CONFIG.lasting).params.map(lambda t: t[:, None])
    held = untrained.generate(reference, audio, pictured=True).params
    others = list(range(25))  # of fingers the first axes alone are channels
    assert geodesic_angle(turns(held), turns(rested).expand(-1, 24, -1, -1, -1))[..., others].max() < 2e-3
    space = moving.generator.space
    made, truly = (moving.generate(reference, audio, seed=1, pictured=p).params for p in (True, False))
    assert not torch.allclose(made.body_pose, truly.body_pose, atol=1e-3)
    first, start = moving.from_picture(reference.params)
    assert torch.equal(start.jaw_pose, torch.zeros_like(start.jaw_pose))
    knots = moving.begin(reference, seed=1, pictured=True).state.knots
    back = space.decode(knots, torch.zeros(2, PAST, space.mouth_channels), first)
    told = [0, 3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21]
    assert geodesic_angle(turns(back), turns(start)[:, None].expand_as(turns(back)))[..., told].max() < 2e-3
    whole = moving.begin(reference, seed=1, pictured=True)
    parts = [p for p in (*(whole.push(a) for a in audio.split(5, 1)), whole.finish()) if p is not None]
    torch.testing.assert_close(Motion.cat(parts, 1).params.body_pose, made.body_pose, atol=1e-4, rtol=0)
