"""Planted shifts between a clip's pictures and its sound are measured to a millisecond."""

from fractions import Fraction

import numpy as np
import pytest

from pipelines import media
from pipelines.store import write_json
from pipelines.sync import clip_sync

RATE, FRAMES = Fraction(25), 20


@pytest.mark.parametrize(
    ("shift", "longer", "dropped", "worst"), [(0, 0, 0, 0.0), (640, 0, 0, 40.0), (-320, 0, 0, 20.0), (0, 480, 0, 30.0), (0, 0, 1, 40.0)]
)
def test_a_planted_shift_is_measured(tmp_path, shift, longer, dropped, worst):
    count = int(FRAMES / RATE * 16000)
    sound = np.random.default_rng(0).normal(size=count + 2000).astype(np.float32) * 0.1
    pictures = np.zeros((FRAMES - dropped, 32, 32, 3), np.uint8)
    media.write_video(tmp_path / "clip.mp4", pictures, RATE, sound[1000 - shift : 1000 - shift + count])
    media.write_wav(tmp_path / "audio.wav", sound[1000 : 1000 + count + longer])
    write_json(tmp_path / "clip.json", {"fps": "25", "frames": FRAMES})
    found = clip_sync(tmp_path)
    assert found.worst == pytest.approx(worst, abs=1.0)
    assert found.shift == pytest.approx(shift / 16, abs=0.2)


def test_silence_has_no_shift(tmp_path):
    sound = np.zeros(int(FRAMES / RATE * 16000), np.float32)
    media.write_video(tmp_path / "clip.mp4", np.zeros((FRAMES, 32, 32, 3), np.uint8), RATE, sound)
    media.write_wav(tmp_path / "audio.wav", sound)
    write_json(tmp_path / "clip.json", {"fps": "25", "frames": FRAMES})
    assert clip_sync(tmp_path).shift is None
    assert clip_sync(tmp_path).worst == 0.0
