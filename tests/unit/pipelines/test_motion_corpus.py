"""Motion without pictures: as shards, as a corpus in memory, and drawn afresh."""

import copy
import dataclasses
import io
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from configs.schema import Config, Stage2Config
from model.flow import Generator
from model.motion_space import BODY, FACE_START, HAND
from model.motion_spline import NEW, PAST, SEED, TAIL
from model.stage2 import face_at_rest
from model.types import SmplxParams
from pipelines.calibration import calibrate, held_out_clips
from pipelines.datasets import Draw
from pipelines.motion_corpus import MotionCorpus, MotionWindows, adapt_generator, draw_windows, fit_generator
from pipelines.motion_shards import STEP, MotionClip, features_npz, motion_clips, motion_npz, read_motion_clip
from pipelines.shards import Sample, write_shards
from pipelines.store import Store

CONFIG = Stage2Config(width=32, layers=1, flow_width=32, flow_layers=1, window=32)


def clip(name="a", frames=120, seed=0):
    generator = torch.Generator().manual_seed(seed)
    curves = torch.randn(frames + 20, 178, generator=generator).unfold(0, 21, 1).mean(-1)
    params = SmplxParams.from_pose(curves[:, :165].unflatten(1, (55, 3)), torch.ones(frames, 10), curves[:, 165:175], curves[:, 175:])
    return MotionClip(name, name[0], params, torch.ones(frames), torch.randn(frames, 68, generator=generator), Fraction(25))


def test_a_motion_comes_back_from_its_sample():
    one = clip()
    sample = {
        "motion.npz": motion_npz(one.params), "features.npz": features_npz(one.features.numpy(), one.fps, "x"),
        "sample.json": json.dumps({"id": "a", "group": "b"}).encode(),
    }  # fmt: skip
    back = read_motion_clip(sample)
    assert (back.id, back.group, back.fps) == ("a", "b", Fraction(25))
    assert (back.params.full_pose - one.params.full_pose).abs().max() <= STEP / 2
    assert (back.params.transl - one.params.transl).abs().max() <= STEP / 2
    torch.testing.assert_close(back.features, one.features, atol=2e-3, rtol=1e-3)
    assert np.load(io.BytesIO(sample["motion.npz"]), allow_pickle=False)["pose"].dtype == np.int16


def test_motion_shards_are_read_by_split_and_none_are_no_error(tmp_path):
    config = Config.model_validate({"workspace": str(tmp_path)})
    store = Store(config)
    assert not list(motion_clips(store.shards("motions"), "train"))

    def members(one):
        return {"motion.npz": motion_npz(one.params), "features.npz": features_npz(one.features.numpy(), one.fps, "x")}

    samples = [Sample(n, n, lambda n=n: members(clip(n)), split) for n, split in (("a", "train"), ("b", "test"), ("c", "train"))]
    record = write_shards(config, store, "motions", samples, [], ["a", "b", "c"])
    assert record.facts["train_samples"] == 2
    assert [c.id for c in motion_clips(store.shards("motions"), "test")] == ["b"]


@pytest.fixture(scope="module")
def fitted():
    torch.manual_seed(0)
    clips = [clip("a1", 120, 1), clip("a2", 90, 2), clip("b1", 40, 3)]
    generator = Generator(CONFIG, 68)
    fit_generator(generator, clips)
    return clips, generator, MotionCorpus.of(clips, generator.space)


def test_windows_are_the_clips_own_frames(fitted):
    clips, generator, corpus = fitted
    drawn = draw_windows(corpus.count.numpy(), 32, np.random.default_rng(0), 64)
    drawn.chance[:, 6] = 1  # faces as they are
    windows = corpus.windows(drawn, generator, offline_audio=False)
    assert windows.motion.shape == (64, SEED + 32 + TAIL, generator.space.channels)
    assert windows.audio.shape == (64, generator.past_frames + 32 + CONFIG.look_ahead, 68)
    for row, (index, begin, reference) in enumerate(zip(*(x.tolist() for x in (drawn.clip, drawn.begin, drawn.reference)), strict=True)):
        motion, mouth = generator.space.encode(clips[index].params)
        assert begin + 32 <= len(motion)
        torch.testing.assert_close(windows.motion[row, SEED:-TAIL], motion[begin : begin + 32])
        torch.testing.assert_close(windows.mouth[row], mouth[begin : begin + 32])
        torch.testing.assert_close(windows.origin[row], motion[reference])
        heard = windows.audio[row, generator.past_frames : generator.past_frames + 32]
        torch.testing.assert_close(heard, clips[index].features[begin : begin + 32], atol=3e-3, rtol=1e-3)
        if reference == begin:  # as a talk begins: after standing still
            assert (windows.motion[row, :SEED] - windows.origin[row]).abs().max() == 0


def test_some_windows_begin_with_their_clip_as_a_talk_does(fitted):
    _, generator, corpus = fitted
    drawn = draw_windows(corpus.count.numpy(), 32, np.random.default_rng(0), 4000)
    starts = drawn.begin == 0
    assert 0.04 < starts.float().mean() < 0.09
    assert 0.3 < (drawn.reference == 0)[starts].float().mean() < 0.7
    windows = corpus.windows(drawn[starts], generator, offline_audio=False)
    before = windows.audio[:, : generator.past_frames + 1]
    assert torch.equal(before, before[:, :1].expand_as(before))


def test_half_of_the_references_have_their_face_at_rest_and_the_rest_of_the_body_as_it_was(fitted):
    clips, generator, corpus = fitted
    drawn = draw_windows(corpus.count.numpy(), 32, np.random.default_rng(0), 64)
    windows = corpus.windows(drawn, generator, offline_audio=False)
    resting = drawn.chance[:, 6] < 0.5
    assert 0.3 < resting.float().mean() < 0.7
    shown = torch.stack([generator.space.encode(clips[i].params)[0][r] for i, r in zip(drawn.clip, drawn.reference, strict=True)])
    torch.testing.assert_close(windows.origin[:, :FACE_START], shown[:, :FACE_START])
    torch.testing.assert_close(windows.origin[~resting], shown[~resting])
    assert not windows.still.mouth[resting].any()
    first, lasting = (x[resting][0] for x in (drawn.clip, drawn.reference)), generator.config.lasting
    clip, frame = (int(x) for x in first)
    rest = generator.space.still(face_at_rest(clips[clip].params[frame], lasting))
    torch.testing.assert_close(windows.origin[resting][0, FACE_START:], rest.channels[FACE_START:])
    smile = generator.space.expressions(lasting)
    torch.testing.assert_close(windows.origin[:, smile], shown[:, smile])
    assert shown[resting][:, smile].abs().max() > 1e-3


def test_noise_in_the_sound_spares_most_windows_and_pitch(fitted):
    _, generator, corpus = fitted
    drawn = draw_windows(corpus.count.numpy(), 32, np.random.default_rng(0), 64)
    drawn.chance[:, 3:] = 0.5  # in their own voices
    clean, noisy = (corpus.windows(drawn, generator, offline_audio=x).audio for x in (False, True))
    changed = ((noisy - clean)[..., :64].std((1, 2)) > 0.05).float().mean()
    assert 0.2 < changed < 0.7
    assert torch.equal(clean[..., 65:67], noisy[..., 65:67])


def test_another_voice_is_brighter_higher_or_longer_and_as_loud(fitted):
    _, generator, corpus = fitted
    drawn = draw_windows(corpus.count.numpy(), 32, np.random.default_rng(0), 64)
    drawn.chance[:, 0] = 1  # no noise
    clean = corpus.windows(drawn, generator, offline_audio=False).audio
    drawn.chance[:, 2:] = 0.5
    torch.testing.assert_close(corpus.windows(drawn, generator, offline_audio=True).audio, clean)
    drawn.chance[:, 4] = 1
    brighter = corpus.windows(drawn, generator, offline_audio=True).audio - clean
    assert brighter[..., 0].max() < 0 < brighter[..., 63].min()
    assert brighter[..., 64:].abs().max() < 1e-4
    drawn.chance[:, 4:6] = torch.tensor([0.5, 0.0])
    lower = corpus.windows(drawn, generator, offline_audio=True).audio - clean
    torch.testing.assert_close(lower[..., 65], -0.25 * clean[..., 66])
    assert lower[..., 66:].abs().max() < 1e-4
    drawn.chance[:, 3:6] = torch.tensor([1.0, 0.5, 0.5])
    longer = corpus.windows(drawn, generator, offline_audio=True).audio
    torch.testing.assert_close(longer[..., 50], clean[..., 54], atol=1e-4, rtol=1e-4)  # 50 · 1.08
    torch.testing.assert_close(longer[..., 0], clean[..., 0], atol=1e-4, rtol=1e-4)


def test_channels_adapt_to_how_far_the_data_move_them(fitted):
    clips, generator, _ = fitted
    still = lambda pose: pose.mean(0) + 0.4 * (pose - pose.mean(0))  # noqa: E731
    damped = []
    for c in clips:
        hands = {n: still(getattr(c.params, n)) for n in ("left_hand_pose", "right_hand_pose")}
        damped.append(dataclasses.replace(c, params=dataclasses.replace(c.params, **hands)))
    for calm, wanted in ((clips, 1.0), (damped, 0.4)):
        adapted = copy.deepcopy(generator)
        gain = adapt_generator(adapted, calm)
        assert gain[HAND].median() == pytest.approx(wanted, rel=0.1)
        assert gain[BODY].median() == pytest.approx(1.0, rel=0.1)
        past, surprise = 0.03 * torch.randn(2, PAST, len(gain)), 0.3 * torch.randn(2, NEW, len(gain))
        drawn = generator.surprises.colour(surprise, past)
        torch.testing.assert_close(adapted.surprises.colour(surprise, gain * past), gain * drawn, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(adapted.surprises.whiten(gain * drawn, gain * past), surprise, atol=2e-2, rtol=2e-2)


def test_a_style_is_that_of_the_speakers_other_clips(fitted):
    _, _, corpus = fitted
    assert not torch.equal(corpus.style[0], corpus.style[1])
    own = MotionCorpus.of([fitted[0][1]], fitted[1].space)
    torch.testing.assert_close(corpus.style[0], own.style[0])


def test_batches_of_a_step_do_not_depend_on_where_a_run_began(fitted):
    _, _, corpus = fitted
    first = list(MotionWindows(corpus, 32, Draw(3, 8, end=5)))[4]
    later = next(iter(MotionWindows(corpus, 32, Draw(3, 8, start=4, end=5))))
    assert torch.equal(first.begin, later.begin)
    assert torch.equal(first.chance, later.chance)


@pytest.mark.needs_voice
def test_drawn_talks_are_packed_once(tmp_path, monkeypatch):
    from samples import build_motions

    config = Config.model_validate({"workspace": str(tmp_path)})
    monkeypatch.setattr(build_motions, "SECONDS", 3.0)
    drawn = {p.id: build_motions.draw_motion(config, p) for p in build_motions.plan_corpus(0.001)}
    assert list(drawn) == ["motion200000_0"]
    found = read_motion_clip({**drawn["motion200000_0"], "sample.json": b'{"id": "x", "group": "y"}'})
    assert found.features.shape[1] == 68
    assert found.params.body_pose.diff(dim=0).abs().max() > 1e-3


@pytest.mark.needs_voice
def test_drawing_stops_in_time_and_packs_what_there_is(tmp_path, monkeypatch):
    from pipelines.store import Store
    from samples import build_motions

    config = Config.model_validate({"workspace": str(tmp_path)})
    store, plan = Store(config), build_motions.plan_corpus(1)[3]
    folder = store.inside("motions")
    folder.mkdir(parents=True)
    monkeypatch.setattr(build_motions, "SECONDS", 3.0)
    build_motions._draw_to(config, plan, folder, None)
    build_motions._draw_to(config, build_motions.plan_corpus(1)[4], folder, 1.0)  # long ago
    monkeypatch.undo()
    record = build_motions.build_motions(config, store, 1.0, 1, seconds=1e-3)
    assert record.facts["samples"] == 1


def test_calibration_warms_what_is_drawn_too_narrow_and_cools_what_is_too_wide(fitted, body):
    _, generator, _ = fitted
    clips, heats = [clip(f"v{i}", 100, 20 + i) for i in range(4)], []
    for factor in (0.7, 1.5):
        wrong = copy.deepcopy(generator)  # untrained: surprises are the noise that they are drawn from
        wrong.surprises.spread.mul_(factor)
        wrong.surprises.predictor.mul_(0.9)
        calibrate(wrong, body, clips, rounds=2)
        heats.append(wrong.heat)
    warmed, cooled = heats
    assert (warmed[6:30] > cooled[6:30] + 0.03).float().mean() > 0.9
    assert torch.equal(warmed[FACE_START:], torch.ones_like(warmed[FACE_START:]))
    with pytest.raises(ValueError, match="expected held-out talks in the motion shards, got none"):
        held_out_clips(Config.model_validate({"workspace": "/nowhere"}), Store(Config.model_validate({"workspace": "/nowhere"})))
