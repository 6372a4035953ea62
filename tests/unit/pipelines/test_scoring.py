import numpy as np
import pytest
import torch

from configs import Config
from model.types import SmplxParams
from pipelines.evaluate import borrowed, frozen
from pipelines.held_out import HeldOutClip, Performance
from pipelines.scoring import _clip_scores, energy, face_points, mouth_opening

FPS = 25


def moving(frames=120):
    params = SmplxParams.zeros(frames)
    loud = (torch.sin(torch.arange(frames) / 3.0) > 0).float()
    params.jaw_pose[:, 0] = 0.25 * loud
    params.body_pose[:, 15, 2] = 0.3 * torch.sin(torch.arange(frames) / 9.0)
    sound = np.repeat(loud.numpy(), 16000 // FPS) * np.random.default_rng(0).normal(0, 0.1, 16000 // FPS * frames)
    return params, sound.astype(np.float32)


def clip(params, audio):
    frames, picture = [5, 50], torch.rand(2, 32, 32, 3)
    fields = {"id": "a/b", "name": "a__b", "group": "someone", "encoding": None, "camera": None, "features": None}
    video = [np.zeros((32, 32, 3), np.uint8)] * len(params.transl)
    fields |= {"alpha": torch.ones(2, 32, 32), "video": video}
    return HeldOutClip(truth=params, audio=audio, fps=FPS, frames=frames, pictures=picture, **fields)


def test_energy_is_that_of_each_frames_interval():
    sound = np.concatenate([np.zeros(640), np.full(640, 0.5), np.full(320, 0.25)]).astype(np.float32)
    torch.testing.assert_close(energy(sound, FPS, 3), torch.tensor([0.0, 0.5, 0.25]))
    assert energy(sound, FPS, 5)[3:].tolist() == [0, 0]


def test_an_open_jaw_opens_the_mouth_by_millimetres(body):
    params, _ = moving(12)
    opening = mouth_opening(Config(), body, params)
    still = params.jaw_pose[:, 0] == 0
    assert opening[~still].min() - opening[still].max() > 0.004
    assert face_points(Config(), body, params).shape == (12, 478, 3)


def test_rows_that_need_no_network_score_what_they_must(body):
    params, audio = moving()
    shown = clip(params, audio)
    other = np.roll(audio, 16000 * 2)
    score = lambda played: _clip_scores(Config(), body, shown, played, other)  # noqa: E731
    truth = score(Performance(params, shown.pictures))
    assert truth["mpjpe_mm"] == 0
    assert truth["ssim"] == pytest.approx(1)
    assert "psnr" not in truth  # it has no bound
    assert truth["mouth_r"] > 0.9
    assert abs(truth["mouth_lag_ms"]) <= 40
    still = score(frozen(shown))
    assert still["mouth_r"] == 0
    assert still["jerk"] == 0
    assert still["mpjpe_mm"] > 5


def test_a_borrowed_motion_is_as_long_as_the_clip():
    params, audio = moving()
    short = clip(params[:50], audio)
    assert len(borrowed(clip(params, audio), short).params.transl) == 120
