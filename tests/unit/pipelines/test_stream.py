"""A speaking avatar as a stream: agreement with the whole, laziness, back-pressure, and sound that cannot be used."""

import math
import resource
import threading
import time

import numpy as np
import pytest
import torch

from configs import Config
from configs.schema import Stage2Config
from model.audio_offline import loudness_factor
from model.stage1 import Stage1
from model.stage2 import Stage2
from model.types import Camera
from pipelines.media import MediaError, write_wav
from pipelines.store import InputRejected
from pipelines.stream import Avatar, SoundQueue, sound_chunks
from tests.tiny import tiny_stage1

RATE, SIDE = 16000, 32


@pytest.fixture(scope="module")
def avatar(body):
    torch.manual_seed(0)
    stage1 = tiny_stage1(64, 256)
    stage2 = Stage2Config(width=32, layers=1, flow_width=32, flow_layers=1, window=16, memory=3, flow_steps=2, appearance_resolution=8)
    network = Stage2(stage2, Stage1(stage1, body), 68).eval()
    surprises = network.generator.surprises
    surprises.spread.copy_(0.01 * torch.eye(4))  # moves at random
    surprises.predictor.mul_(0.9)
    intrinsics = torch.tensor([[110.0, 0, 32], [0, 110, 32], [0, 0, 1]])
    camera = Camera(torch.eye(4), intrinsics, torch.tensor([64, 64]))
    with torch.no_grad():
        encoding = network.stage1.encode(torch.rand(1, 3, 64, 64), camera[None])
        return Avatar(Config(), network, encoding, network.identity(encoding), camera.resized(SIDE, SIDE))


def tone(seconds, seed=0):
    time_ = np.arange(round(seconds * RATE)) / RATE
    chord = sum(np.sin(2 * math.pi * f * time_ + seed) for f in (220, 277, 330))
    return (0.1 * chord).astype(np.float32)


def show(frames, shown):
    """Count frames into `shown` until they end."""
    for _ in frames:
        shown.append(1)


def pieces(sound, size):
    return [sound[i : i + size] for i in range(0, len(sound), size)]


@pytest.mark.parametrize("size", [160, 1000, 50000])
def test_a_stream_shows_what_the_whole_speech_does(avatar, size):
    sound = tone(1.1)
    whole = np.stack(list(avatar.speaking(sound, 28, seed=4)))
    live = np.stack(list(avatar.live(pieces(sound, size), seed=4, level=loudness_factor(sound))))
    assert whole.shape == live.shape == (28, SIDE, SIDE, 3)
    assert np.abs(whole.astype(int) - live).max() <= 1
    assert whole.std(0).max() > 0


SOUNDS = {
    "a fifth of a second": tone(0.2), "silence": np.zeros(RATE, np.float32), "music": tone(1.0),
    "noise": np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32), "too loud": 50 * tone(0.5),
    "one sample": np.zeros(1, np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", list(SOUNDS))
def test_odd_sound_is_spoken(avatar, name):
    sound = SOUNDS[name]
    motion = [m.params for m in avatar.motion(_features(avatar, sound))]
    assert sum(m.transl.shape[1] for m in motion) == math.ceil(len(sound) * 25 / RATE)
    assert all(m.full_pose.isfinite().all() for m in motion)


def _features(avatar, sound):
    from model.audio_stream import open_stream

    stream = open_stream(avatar.config.audio, avatar.fps)
    yield stream.push(sound)
    yield stream.finish()


BAD = {
    "NaN": (np.array([0.1, np.nan], np.float32), "NaN or infinite"),
    "stereo": (np.zeros((100, 2), np.float32), "mono float"),
    "integers": (np.zeros(100, np.int16), "mono float"),
}


@pytest.mark.parametrize("name", list(BAD))
def test_sound_that_cannot_be_used_is_refused_in_one_line_after_what_came_before(avatar, name):
    bad, said = BAD[name]
    shown = []
    with pytest.raises(ValueError, match=said) as caught:
        show(avatar.live([tone(1.0), bad]), shown)
    assert len(shown) == 16  # two chunks: 25 frames less their look-ahead
    assert "\n" not in str(caught.value)


def test_no_sound_no_frames(avatar):
    assert not list(avatar.live([]))


def test_sound_is_asked_for_only_when_frames_are(avatar):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield tone(0.04)

    frames = avatar.live(endless())
    next(frames)
    first = len(taken)
    assert 14 <= first <= 16
    for _ in range(7):  # the rest of the chunk is there already
        next(frames)
    assert len(taken) == first
    next(frames)
    assert len(taken) <= first + 8


def test_a_stalled_stream_ends_with_one_line(avatar):
    queue = SoundQueue(patience=0.2)
    queue.put(tone(0.6))
    shown, start = [], time.perf_counter()
    with pytest.raises(InputRejected, match=r"expected sound within 0\.2 s, got none; close\(\)"):
        show(avatar.live(queue), shown)
    assert len(shown) == 8
    assert time.perf_counter() - start < 5


def test_a_viewer_who_is_behind_holds_the_speaker_back(avatar):
    queue, handed = SoundQueue(seconds=1.0), []

    def speaker():
        for _ in range(100):
            queue.put(tone(0.1))
            handed.append(0.1)
        queue.close()

    thread = threading.Thread(target=speaker, daemon=True)
    thread.start()
    time.sleep(0.3)
    assert sum(handed) <= 2.2
    with pytest.raises(TimeoutError, match="is anybody reading"):
        queue.put(tone(0.1), timeout=0.05)
    assert sum(1 for _ in queue) > 100
    thread.join(5)
    assert len(handed) == 100


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_file_of_any_rate_is_read_piece_by_piece(tmp_path, rate):
    time_ = np.arange(rate) / rate
    write_wav(tmp_path / "tone.wav", (0.2 * np.sin(2 * math.pi * 440 * time_)).astype(np.float32), rate)
    chunks = list(sound_chunks(tmp_path / "tone.wav", 0.1))
    sound = np.concatenate(chunks)
    assert abs(len(sound) - RATE) <= 40
    assert {len(c) for c in chunks[:-1]} == {1600}
    spectrum = np.abs(np.fft.rfft(sound[:RATE]))
    assert abs(spectrum.argmax() - 440) <= 2


def test_a_file_without_sound_is_refused(tmp_path):
    (tmp_path / "text.wav").write_bytes(b"no sound" * 20)
    with pytest.raises(MediaError, match=r"text\.wav"):
        list(sound_chunks(tmp_path / "text.wav"))


@pytest.mark.parametrize("minutes", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_a_long_stream_takes_no_more_memory_and_no_more_time_a_second_than_a_short_one(avatar, minutes):
    block = np.random.default_rng(0).normal(0, 1, (250, 68)).astype(np.float32)
    made, peaks, times = 0, [], []
    for motion in avatar.motion(block for _ in range(6 * minutes)):
        made += motion.heard.shape[1]
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        times.append(time.thread_time())
    assert made == 1500 * minutes
    spent, tenth = np.diff(times), len(times) // 10
    assert np.median(spent[-5 * tenth :]) < 1.3 * np.median(spent[tenth : 6 * tenth])
    assert peaks[-1] - peaks[tenth] < 20_000  # kB
