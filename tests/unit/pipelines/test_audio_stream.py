"""A stream gives the frames that the encoder gives on the whole sound, in whatever pieces the sound arrives."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from configs.schema import AudioConfig
from model.audio_encoders import OfflineEncoder, make_audio_encoder
from model.audio_offline import TARGET_RMS, WINDOW, loudness_factor
from model.audio_stream import OfflineStream, RunningLevel, open_stream

BOUND = 1e-4  # largest difference of a value; features are scaled to about unit variance
RATES = [Fraction(25), Fraction(30000, 1001), Fraction(7), Fraction(60), Fraction(120)]
LIVE = {"window_seconds": 0.4, "context_seconds": (1.0, 0.2)}


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise whose loudness wanders, with silences."""
    rng = np.random.default_rng(seed)
    count = int(seconds * 16000)
    loud = np.interp(
        np.arange(count), np.arange(0, count + 4000, 4000), rng.choice([0, 0.02, 0.1, 0.3], len(np.arange(0, count + 4000, 4000)))
    )
    return (loud * rng.standard_normal(count)).astype(np.float32)


def pushed(stream, audio: np.ndarray, seed: int, longest: int = 3000) -> tuple[np.ndarray, list[int]]:
    """All frames of a stream fed with chunks of random lengths, and how many there were after each chunk."""
    rng, at, parts, counts = np.random.default_rng(seed), 0, [], []
    while at < len(audio):
        step = int(rng.integers(0, longest))
        parts.append(stream.push(audio[at : at + step]))
        at += step
        counts.append(sum(map(len, parts)))
    return np.concatenate([*parts, stream.finish()]), counts


@pytest.fixture(params=["offline", "wav2vec2"])
def settings(request, tiny_wav2vec2) -> AudioConfig:
    return AudioConfig(encoder=request.param, model=tiny_wav2vec2.folder, local_files_only=True, **LIVE)


@pytest.mark.parametrize("fps", RATES)
def test_streams_agree_with_the_file(settings, fps):
    for seed, seconds in enumerate((5.03, 0.7, 0.31, 0.01)):
        audio = sound(seconds, seed)
        level = loudness_factor(audio)
        got, _ = pushed(open_stream(settings, fps, level), audio, seed)
        expected = make_audio_encoder(settings)(audio, fps, len(got))
        assert len(got) == np.ceil(len(audio) * fps / 16000)
        assert np.abs(got - expected).max() <= BOUND


def test_one_sample_at_a_time_gives_the_same(settings):
    audio = sound(0.5)
    fine, _ = pushed(open_stream(settings, Fraction(25), 1.0), audio, 0, longest=3)
    coarse, _ = pushed(open_stream(settings, Fraction(25), 1.0), audio, 0, longest=9000)
    np.testing.assert_allclose(fine, coarse, atol=BOUND)


def test_frames_come_within_the_stated_latency(settings):
    stream, audio, fps = open_stream(settings, Fraction(25), 1.0), sound(4.0), Fraction(25)
    assert stream.latency < (0.1 if settings.encoder == "offline" else 0.7)
    for at in range(0, len(audio), 160):
        done = (0 if at == 0 else done) + len(stream.push(audio[at : at + 160]))  # noqa: F821
        heard = (at + 160) / 16000
        assert done >= int((heard - stream.latency) * fps), "a frame is out once its latency has gone by"


def test_a_stream_keeps_only_the_sound_it_needs(settings):
    stream = open_stream(settings, Fraction(25), 1.0)
    for _ in range(40):
        stream.push(sound(0.5))
    assert len(stream._buffer.sound) < 3 * 16000


def test_without_a_level_the_stream_comes_to_the_files():
    audio = np.tile(sound(4.0) * 0.2, 6)
    got, _ = pushed(OfflineStream(Fraction(25)), audio, 0)
    expected = OfflineEncoder()(audio, Fraction(25), len(got))
    late = slice(12 * 25, None)
    assert np.abs(got - expected)[late, :65].max() < 0.1
    assert np.abs(got - expected)[:, 65:67].max() < 0.05, "pitch and voicing do not depend on the level"


def test_noise_of_a_room_is_not_raised_to_speech():
    level = RunningLevel()
    level.hear(1e-3 * sound(1.0))
    assert level.factor < 1.5


def test_the_level_of_what_was_heard_is_the_files():
    audio, level = sound(30.0), RunningLevel()
    for start in range(0, len(audio), 640):
        level.hear(audio[start : start + 640])
    held = np.concatenate([np.full(10 * WINDOW, TARGET_RMS, np.float32), audio])
    assert level.factor == pytest.approx(loudness_factor(held), rel=0.02)


def test_wrong_sound_and_sound_after_the_end_are_refused(settings):
    stream = open_stream(settings, Fraction(25), 1.0)
    with pytest.raises(ValueError, match="mono float"):
        stream.push(np.zeros((2, 4), np.float32))
    assert stream.finish().shape == (0, stream.dim)
    with pytest.raises(ValueError, match="after finish"):
        stream.push(np.zeros(4, np.float32))


def test_a_stream_in_large_chunks_agrees_over_minutes():
    """Longer than the blocks in which the offline encoder works."""
    audio = sound(130.0)
    whole = OfflineEncoder()(audio, Fraction(25), 3250)
    part, _ = pushed(OfflineStream(Fraction(25), loudness_factor(audio)), audio, 1, longest=200_000)
    np.testing.assert_allclose(part, whole, atol=BOUND)
