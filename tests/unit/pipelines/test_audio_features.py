"""Audio features: placed by time, honest about which encoder made them, and made once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from fractions import Fraction

import numpy as np
import pytest
import safetensors.numpy

from configs.schema import AudioConfig, Config
from model.audio_encoders import OfflineEncoder, Wav2Vec2Encoder, Windows, make_audio_encoder
from model.audio_offline import PITCH_CENTRE, offline_features
from pipelines import media
from pipelines.audio_features import STAGE, features_talk, load_features
from pipelines.store import Store

RATE = Fraction(25)
ENERGY, PITCH, VOICING, ONSET = 64, 65, 66, 67


def harmonic(pitch: float, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(int(seconds * 16000)) / 16000
    return 0.1 * sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 9)).astype(np.float32)


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(seconds * 16000)).astype(np.float32)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001), Fraction(24), Fraction(60)])
def test_a_burst_shows_in_the_frame_of_its_time(fps):
    for at in (0.313, 1.1, 2.777):
        audio = np.zeros(48000, np.float32)
        audio[int(at * 16000) : int(at * 16000) + 160] = noise(0.01)
        features = OfflineEncoder()(audio, fps, int(3 * fps))
        loudest = np.flatnonzero(features[:, ENERGY] > features[:, ENERGY].max() - 0.1).mean()
        assert abs((loudest + 0.5) / fps - (at + 0.005)) <= 0.5 / fps + 0.001
        first_rise = int(np.argmax(features[:, ONSET] > 0.5 * features[:, ONSET].max()))
        assert abs((first_rise + 0.5) / fps - at) <= 0.5 / fps + 0.02


@pytest.mark.parametrize("pitch", [75.0, 110.0, 180.0, 260.0, 390.0])
def test_pitch_and_voicing(pitch):
    features = OfflineEncoder()(harmonic(pitch), RATE, 25)[2:-2]
    np.testing.assert_allclose(features[:, VOICING], 1.0)
    np.testing.assert_allclose(PITCH_CENTRE * 2 ** features[:, PITCH], pitch, rtol=0.01)
    unvoiced = OfflineEncoder()(noise(1.0), RATE, 25)
    assert unvoiced[:, VOICING].mean() < 0.1
    assert OfflineEncoder()(np.zeros(16000, np.float32), RATE, 25)[:, VOICING].max() == 0


def test_mel_bands_follow_frequency():
    peaks = [int(OfflineEncoder()(harmonic(f) * 0 + np.sin(2 * np.pi * f * np.arange(16000) / 16000).astype(np.float32),
                                  RATE, 25)[12, :64].argmax()) for f in (200, 500, 1000, 2000, 4000, 7000)]  # fmt: skip
    assert peaks == sorted(set(peaks))


def test_loudness_of_the_recording_does_not_matter():
    audio = np.concatenate([noise(1.0) * 0.01, harmonic(120), noise(1.0) * 0.3])
    quiet, loud = (OfflineEncoder()(audio * factor, RATE, 75) for factor in (0.1, 1.0))
    np.testing.assert_allclose(quiet, loud, atol=1e-3)


def test_a_stream_gives_the_features_of_the_file():
    """With the level fixed, frames far enough from the edges depend on nothing but the sound around them."""
    audio = np.concatenate([harmonic(120), noise(2.0), harmonic(210)])
    whole = offline_features(audio, RATE, 100, level=1.0)
    part = offline_features(audio[16000:48000], RATE, 50, level=1.0)
    np.testing.assert_allclose(part[2:-2], whole[25 + 2 : 75 - 2], atol=1e-5)


def test_features_are_scaled_finite_and_cover_more_than_the_sound():
    features = OfflineEncoder()(noise(0.5), RATE, 50)  # the second half: silence that is not there
    assert features.shape == (50, OfflineEncoder.dim)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert np.abs(features).max() < 20
    assert features[30:, :65].max() < features[:10, :65].min()


@pytest.mark.parametrize(
    ("audio", "frames", "reason"),
    [
        (np.zeros((100, 2), np.float32), 3, "mono"),
        (np.zeros(100, np.int16), 3, "mono float"),
        (np.zeros(0, np.float32), 3, "0 samples"),
        (np.full(100, np.nan, np.float32), 3, "NaN"),
    ],
)
def test_wrong_sound_is_said(audio, frames, reason):
    with pytest.raises(ValueError, match=reason):
        OfflineEncoder()(audio, RATE, frames)


def test_wav2vec2_gives_the_models_states_at_frame_centres(tiny_wav2vec2):
    import torch
    from transformers import Wav2Vec2FeatureExtractor

    encoder = make_audio_encoder(AudioConfig(encoder="wav2vec2", model=tiny_wav2vec2.folder, local_files_only=True))
    assert encoder.dim == 24
    assert encoder.name.startswith("wav2vec2:")
    audio = np.concatenate([noise(1.0), harmonic(150)]) + 0.2
    features = encoder(audio, Fraction(50), 99)
    inputs = Wav2Vec2FeatureExtractor(do_normalize=True)(audio, sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        states = tiny_wav2vec2.model(inputs.input_values).last_hidden_state[0].numpy()
    # state k is centred at 12.5 ms + k · 20 ms, frame i at 10 ms + i · 20 ms: seven eighths of the way to state i
    expected = states[:-1] * 0.125 + states[1:] * 0.875
    np.testing.assert_allclose(features[1:98], expected[:97], atol=1e-4)
    np.testing.assert_allclose(features[0], states[0], atol=1e-4)


def test_long_sound_goes_through_wav2vec2_in_windows_that_agree(tiny_wav2vec2):
    audio = np.concatenate([noise(4.0), harmonic(150, 3.0), noise(3.0, 1)])
    whole = Wav2Vec2Encoder(tiny_wav2vec2.folder)(audio, RATE, 250)
    windows = Wav2Vec2Encoder(tiny_wav2vec2.folder, windows=Windows(2, 1, 1))(audio, RATE, 250)
    assert windows.shape == whole.shape
    correlation = [np.corrcoef(a, b)[0, 1] for a, b in zip(whole, windows, strict=True)]
    assert np.median(correlation) > 0.98
    assert min(correlation) > 0.8


def test_windows_see_true_context(tiny_wav2vec2):
    """A window gives what the model gives on the samples of the window with its context, cut by hand."""
    import torch

    encoder = Wav2Vec2Encoder(tiny_wav2vec2.folder, windows=Windows(2, 1, 0.5))
    audio = noise(8.0)
    spans = list(encoder.spans(0, encoder.count(len(audio)), True))
    assert [(s.start, s.end) for s in spans] == [(0, 100), (100, 200), (200, 300), (300, 399)], "each state once"
    piece = audio[50 * 320 : 224 * 320 + 400]  # states 50 … 224: one second before, half a second after
    piece = (piece - piece.mean()) / piece.std()
    with torch.inference_mode():
        states = tiny_wav2vec2.model(torch.from_numpy(piece)[None]).last_hidden_state[0].numpy()
    got = encoder(audio, Fraction(50), 400)[101:200]  # seven eighths of the way to states 101 … 199
    np.testing.assert_allclose(got, states[50:149] * 0.125 + states[51:150] * 0.875, atol=1e-4)


def test_resampling_is_by_time(tiny_wav2vec2):
    """Any frame rate reads the same curve of states: rate 2 r at odd frames' neighbours brackets rate r."""
    encoder = Wav2Vec2Encoder(tiny_wav2vec2.folder)
    audio = np.concatenate([noise(1.0), harmonic(150)])
    fine = encoder(audio, Fraction(400), 800)
    centre = (np.arange(800) + 0.5) / 400
    for fps in (Fraction(30000, 1001), Fraction(24), Fraction(60)):
        count = int(2 * fps)
        times = (np.arange(count) + 0.5) / float(fps)
        by_time = np.stack([np.interp(times, centre, channel) for channel in fine.T], 1)
        np.testing.assert_allclose(encoder(audio, fps, count), by_time, atol=0.05 * np.abs(fine).max())


def test_very_short_sound_still_has_features(tiny_wav2vec2):
    for encoder in (OfflineEncoder(), Wav2Vec2Encoder(tiny_wav2vec2.folder)):
        assert np.isfinite(encoder(noise(0.01), RATE, 1)).all()


@pytest.mark.parametrize("how", ["local_files_only", "HF_HUB_OFFLINE", "no such folder", "no weights", "other model"])
def test_missing_weights_are_one_clear_line_at_once(how, monkeypatch, tmp_path, tiny_wav2vec2):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    source, local = "nobody/no-such-wav2vec2", how == "local_files_only"
    if how == "HF_HUB_OFFLINE":
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if how == "no such folder":
        source = str(tmp_path / "absent")
    if how == "no weights":
        source = str(tmp_path)
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "wav2vec2"}))
    if how == "other model":  # transformers would fill what lacks with random numbers
        source = str(tmp_path / "other")
        shutil.copytree(tiny_wav2vec2.folder, source)
        tensors = safetensors.numpy.load_file(f"{source}/model.safetensors")
        safetensors.numpy.save_file({f"hubert_like.{k}": v for k, v in tensors.items()}, f"{source}/model.safetensors")
    begun = time.perf_counter()
    with pytest.raises(ValueError, match=r"audio\.model") as caught:
        Wav2Vec2Encoder(source, local)
    assert time.perf_counter() - begun < 3.0
    assert "\n" not in str(caught.value)
    assert source.split("/")[-1] in str(caught.value)


def test_a_hub_out_of_reach_is_told_in_about_a_second(tmp_path):
    """One that refuses, and one that takes the call and says nothing; in fresh processes, as the address is read once."""
    with socket.socket() as silent, socket.socket() as closed:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        for listener in (closed, silent):
            code = """if True:
                import time, huggingface_hub
                from model.audio_hub import find_files
                begun = time.perf_counter()
                try: find_files("nobody/no-such-wav2vec2", False)
                except ValueError as error: print(time.perf_counter() - begun, error, sep="|")
            """
            about = {"HF_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}", "HF_HOME": str(tmp_path)}
            environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | about
            done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
            seconds, line = done.stdout.strip().split("|")
            assert float(seconds) < 2.0
            assert "the hub did not give it" in line
            assert about["HF_ENDPOINT"] in line


@pytest.fixture
def config(tmp_path) -> Config:
    return Config.model_validate({"workspace": str(tmp_path), "talks": {"include_samples": False}})


def put_clip(store: Store, name: str, seconds: float, seed: int = 0) -> None:
    folder = store.clip("a", name)
    folder.mkdir(parents=True, exist_ok=True)
    media.write_wav(folder / "audio.wav", noise(seconds, seed))
    (folder / "clip.json").write_text(json.dumps({"fps": "25", "frames": round(seconds * 25)}))


def test_every_clip_gets_features_once(config):
    store = Store(config)
    put_clip(store, "a_0", 2.0)
    put_clip(store, "a_1", 3.0)
    record = features_talk(config, store, "a")
    expected = {"clips": 2, "encoded": 2, "frames": 125, "dim": 68, "encoder": "offline-logmel"}
    assert record.facts == expected
    got = load_features(store.clip("a", "a_1") / "features.npz")
    assert (got.features.shape, got.fps, got.encoder) == ((75, 68), RATE, "offline-logmel")
    assert features_talk(config, store, "a") == record
    put_clip(store, "a_1", 3.0, seed=1)
    again = features_talk(config, store, "a")
    assert again.facts == {**expected, "encoded": 1}
    assert again.output_hash != record.output_hash


def test_another_encoder_replaces_the_features(config, tiny_wav2vec2):
    store = Store(config)
    put_clip(store, "a_0", 2.0)
    offline = features_talk(config, store, "a")
    audio = AudioConfig(encoder="wav2vec2", model=tiny_wav2vec2.folder, local_files_only=True)
    other = features_talk(config.model_copy(update={"audio": audio}), store, "a")
    assert other.facts["dim"] == 24
    assert other.output_hash != offline.output_hash
    assert load_features(store.clip("a", "a_0") / "features.npz").features.shape == (50, 24)


def test_a_talk_without_clips_is_rejected_on_record(config):
    store = Store(config)
    record = features_talk(config, store, "a")
    assert record.status == "rejected"
    assert "has none" in record.reason
    assert store.read_record(STAGE, "a") == record
