"""Scoring in the graph: rows that need no network score what they must, paired differences, reference rows."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from configs import Config
from model import metrics
from model.types import SmplxParams
from pipelines import scoring
from pipelines.evaluate import borrowed, frozen
from pipelines.held_out import HeldOutClip, Performance, flicker
from pipelines.nearest import Stretch, nearest_stretches
from pipelines.scoring import score, upright
from pipelines.scoring_clips import Speech
from pipelines.scoring_rows import looped, sound_shape, still
from pipelines.scoring_summary import difference, fgd_ratio

FPS = 25


def moving(frames=120, seed=0):
    params = SmplxParams.zeros(frames)
    rng = np.random.default_rng(seed)
    loud = torch.from_numpy(np.repeat(rng.random(frames // 6) > 0.5, 6).astype(np.float32))
    params.global_orient[:, 0] = torch.pi  # upright in a camera's frame, y down
    params.jaw_pose[:, 0] = 0.25 * loud
    params.body_pose[:, 15, 2] = 0.3 * torch.sin(torch.arange(frames) / (9.0 + seed))
    sound = np.repeat(loud.numpy(), 16000 // FPS) * rng.normal(0, 0.1, 16000 // FPS * frames)
    return params, sound.astype(np.float32)


def clip(number=0, frames=120):
    params, audio = moving(frames, number)
    shown, picture = [5, 50], torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(number))
    fields = {"id": f"talk{number}/a", "name": f"talk{number}__a", "group": f"speaker{number}", "encoding": None, "camera": None}
    colour = np.array([40, 40, 40], np.uint8)
    colour[number] = 220
    video = [np.full((32, 32, 3), colour, np.uint8)] * frames
    fields |= {"alpha": torch.ones(2, 32, 32), "video": video, "features": None, "known": True}
    return HeldOutClip(truth=params, audio=audio, fps=FPS, frames=shown, pictures=picture, **fields)


@pytest.fixture(scope="module")
def scored(body):
    """Three speakers: the truth, a frozen pose, another's motion, and a system without pictures of the last clip."""
    clips = [clip(i) for i in range(3)]
    stage1 = SimpleNamespace(body=body)
    rows = {
        "ground_truth": [Performance(c.truth, c.pictures, flicker(c.video)) for c in clips],
        "frozen": [frozen(c) for c in clips],
        "other_clip": [borrowed(c, clips[(i + 1) % 3]) for i, c in enumerate(clips)],
        "some": [Performance(clips[0].truth), None, Performance(clips[2].truth)],
    }
    with pytest.MonkeyPatch.context() as patch:
        windows = torch.randn(8, 32, 330, generator=torch.Generator().manual_seed(0))
        # an embedding that sees colours: enough to tell these pictures apart
        patch.setattr(scoring, "embedding", lambda pictures: pictures.mean((1, 2)) - 0.25)
        patch.setattr(scoring, "autoencoder", lambda *_: metrics.fit_autoencoder(windows, steps=3))
        return [score(Config(), None, stage1, clips, rows) for _ in range(2)]


def test_energy_is_that_of_each_frames_interval():
    sound = np.concatenate([np.zeros(640), np.full(640, 0.5), np.full(320, 0.25)])
    speech = Speech(sound, np.zeros(0))
    np.testing.assert_allclose(speech.energy(FPS, 3), [0.0, 0.5, 0.25])
    assert speech.energy(FPS, 5)[3:].tolist() == [0, 0]


def test_rows_that_need_no_network_score_what_they_must(scored):
    table = scored[0].table()
    truth, still_row, other = (table[n] for n in ("ground_truth", "frozen", "other_clip"))
    assert truth["upper_mpjpe_mm"]["value"] == truth["fgd"]["value"] == 0
    assert truth["ssim"]["value"] == pytest.approx(1)
    assert "psnr" not in truth  # it has no bound
    assert truth["mouth_r"]["value"] > 0.9
    assert truth["mouth_r_gain"]["low"] > 0.3
    assert abs(truth["mouth_lag_ms"]["value"]) <= 40
    assert still_row["mouth_r"]["value"] == still_row["jerk"]["value"] == still_row["flicker"]["value"] == 0
    assert still_row["upper_mpjpe_mm"]["value"] > 5
    assert still_row["identity"]["value"] == pytest.approx(1)
    assert still_row["identity"]["value"] > still_row["identity_other"]["value"]
    assert other["mouth_r_gain"]["value"] < 0.3
    assert other["fgd"]["value"] == pytest.approx(0, abs=1e-6)  # the same motions in another order: FGD hears no speech
    assert "psnr" not in other  # nothing was drawn
    assert not set(scoring.LEGS) & set(truth)  # no legs are seen


def test_intervals_are_over_speakers_and_rows_may_lack_clips(scored):
    table = scored[0].table()
    assert table["frozen"]["upper_mpjpe_mm"]["clips"] == 3
    assert table["some"]["upper_mpjpe_mm"] == {"value": 0, "low": 0, "high": 0, "clips": 2}
    for row in table.values():
        for figure in row.values():
            assert figure["low"] is None or figure["low"] <= figure["high"]


def test_the_same_twice_gives_the_same_numbers(scored):
    assert scored[0].table() == scored[1].table()
    assert scored[0].curves == scored[1].curves


def test_curves_are_those_of_every_clip_and_row(scored):
    curves = scored[0].curves["talk1/a"]
    assert set(curves) == {"speech", "ground_truth", "frozen", "other_clip"}
    assert len(curves["frozen"]["mouth"]) == len(curves["frozen"]["time"]) == 120
    assert max(curves["frozen"]["wrist"]) == 0 < max(curves["ground_truth"]["wrist"])
    assert max(curves["speech"]["loudness"]) == 1


def test_a_paired_difference_by_hand():
    first = {"a": {"psnr": 20.0}, "b": {"psnr": 23.0}, "c": {"ssim": 1.0}, "d": {"psnr": 1.0}}
    second = {"a": {"psnr": 18.0}, "b": {"psnr": 22.0}, "c": {"psnr": 5.0}}
    found = difference(first, second, {"a": "x", "b": "y", "c": "x", "d": "x"}, "psnr")
    assert (found.value, found.low, found.high) == (1.5, 1.0, 2.0)  # differences 2 and 1, one speaker each
    assert difference(first, second, {}, "bc") is None


def test_the_ratio_of_distances_by_hand():
    g = torch.Generator().manual_seed(0)
    truth = {n: torch.randn(40, 4, generator=g) for n in "ab"}
    near, far = ({n: (x, x + shift) for n, x in truth.items()} for shift in (1.0, 2.0))
    found = fgd_ratio(near, far, {"a": "x", "b": "y"})
    # the same spread, means 1 and 2 off in each of four dimensions: 4 over 16
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match="clips in common"):
        fgd_ratio(near, {}, {})


def test_the_nearest_clip_is_another_speakers_that_sounds_alike():
    sounds = {n: moving(seed=i)[1].astype(float) for n, i in (("a", 0), ("b", 1), ("c", 2))}
    # a again by the same and by another speaker, louder and a little longer
    sounds |= {"same": sounds["a"], "alike": np.concatenate([3 * sounds["a"], sounds["b"][:6400]])}
    who = {"a": "x", "same": "x", "b": "y", "c": "z", "alike": "z"}
    shapes = {n: sound_shape(s) for n, s in sounds.items()}
    assert nearest_stretches({"a": shapes["a"]}, shapes, who) == {"a": Stretch("alike", 0)}


def test_reference_motion_is_as_long_as_the_clip(body):
    params, _ = moving()
    whole, short = (upright(body, p, FPS) for p in (params, params[:50]))
    longer = looped(short, whole)
    assert longer.frames == 120
    assert torch.equal(longer.pose[49:52], short.pose[[49, 48, 47]])  # back again, no jump
    assert float(still(whole).pose.diff(dim=0).abs().max()) == 0
    assert len(borrowed(clip(), clip(1, 60)).params.transl) == 120


def test_a_flash_flickers_and_a_fade_does_not():
    steady = [np.full((4, 4, 3), 10 * i, np.uint8) for i in range(5)]
    flash = [np.full((4, 4, 3), 255 * (i == 2), np.uint8) for i in range(5)]
    assert flicker(steady) == 0
    assert flicker(flash) == pytest.approx((1 + 2 + 1) / 3)
    assert flicker(flash[:2]) is None
