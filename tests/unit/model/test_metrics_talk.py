"""Figures of talk: values known by hand, and faults that they must see."""

import numpy as np
import pytest

from model import metrics_talk as talk

RNG = np.random.default_rng(0)
FPS = 25.0


def smooth(frames=200, count=6, seed=0):
    noise = np.random.default_rng(seed).normal(size=(frames + 24, count))
    return np.stack([np.convolve(noise[:, k], np.hanning(25), "valid") for k in range(count)], 1)


def test_jitter_is_the_mean_second_difference_and_sees_noise():
    ramp = np.arange(10.0)[:, None, None] * np.ones((1, 2, 6))
    assert talk.jitter(ramp) == pytest.approx(0, abs=1e-12)
    assert talk.jitter(ramp**2) == pytest.approx(2)
    x = smooth()[:, None]
    assert talk.jitter(x + 0.1 * RNG.normal(size=x.shape)) > 2 * talk.jitter(x)


def test_a_seam_is_a_jump_at_the_borders_of_chunks():
    x = smooth(400)[:, None]
    assert talk.seam(x) == pytest.approx(1, abs=0.15)
    jumps = np.repeat(RNG.normal(size=50), 8)[:, None, None]
    assert talk.seam(x + jumps) > 3


def test_correlation_and_lag():
    truth = smooth(300, 3)
    assert talk.series_correlation(truth, truth) == pytest.approx(1)
    still = truth.copy()
    still[:, 0] = 0  # not moved where the truth moves: counts 0
    assert talk.series_correlation(still, truth) == pytest.approx(2 / 3)
    late = talk.lag_profile(truth[:-2, 0], truth[2:, 0])
    assert talk.lag_of(late, FPS) == pytest.approx(2 / FPS, abs=0.002)
    assert talk.lag_of(talk.lag_profile(truth[:, 0], truth[:, 0]), FPS) == pytest.approx(0, abs=1e-4)


def test_closures_are_judged_by_what_the_truth_does():
    truth = np.ones(100)
    phones = [(1.0, 1.12, "p"), (2.0, 2.12, "a"), (3.0, 3.12, "m"), (3.95, 4.1, "b")]  # the last reaches beyond the clip
    truth[25:28] = truth[75:78] = 0.1
    assert talk.closures(truth, truth, phones, FPS) == (2, 2, 0, 1)
    assert talk.closures(np.ones(100), truth, phones, FPS) == (0, 2, 0, 1)
    assert talk.closures(np.zeros(100), truth, phones, FPS) == (2, 2, 1, 1)


def test_blinks_are_counted_once_each():
    lids = np.zeros(250)
    for start in (20, 90, 200):
        lids[start : start + 5] = 2
    assert talk.blink_rate(lids, FPS, 1.0) == pytest.approx(0.3)


def test_strokes_rise_before_their_accents():
    joints = np.zeros((200, 55, 3))
    accents = [2.0, 4.0, 6.0]
    for a in accents:
        frame = int(a * FPS)
        joints[frame - 6 : frame, 20:22, 1] = np.arange(6)[:, None] * 0.01
        joints[frame:, 20:22, 1] += 0.05
    speed = talk.wrist_speed(joints, FPS)
    right, wrong = (talk.stroke_response(speed, x, FPS).mean() for x in (accents, [1.0, 3.0, 5.0]))
    assert right > 0.1
    assert wrong < 0
    assert len(talk.stroke_response(speed, [0.1, 50.0], FPS)) == 0
