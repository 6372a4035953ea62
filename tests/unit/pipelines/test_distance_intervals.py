"""Intervals of FGD and of ratios of it: by hand, about their value, and how often they hold what they should.

The simulated speakers have means and spreads of their own, their windows resemble their neighbours, and what is generated for a
speaker resembles that speaker. Axes: S speakers, K windows of each, L latents.
"""

import math

import numpy as np
import pytest
import torch

from model.fgd import Moments, frechet_distance, frechet_of
from model.metrics import Interval, speaker_jackknife
from model.metrics_intervals import speaker_draws
from pipelines.scoring_summary import Row, fgd_ratio, summary

K, L = 12, 8


def speakers(count, seed):
    """Clip → latents of the truth and of a row, for a row that moves too little and for one that is nearly right."""
    g = np.random.default_rng(seed)
    spread = 1 / np.sqrt(np.arange(1, L + 1))

    def windows(mean, gain):
        steps = g.standard_normal((K, L))
        for k in range(1, K):
            steps[k] = 0.9 * steps[k - 1] + math.sqrt(1 - 0.9**2) * steps[k]
        return torch.from_numpy(spread * (mean + gain * steps))

    first, second = {}, {}
    for i in range(count):
        mean, gain = g.standard_normal(L), math.exp(0.4 * g.standard_normal())
        truth = windows(mean, gain)
        first[f"c{i}"] = (truth, 0.5 * windows(0.9 * mean + 0.4 * g.standard_normal(L), gain) + 0.3)
        second[f"c{i}"] = (truth, 0.85 * windows(0.9 * mean + 0.4 * g.standard_normal(L), gain) + 0.05)
    return first, second, {clip: clip for clip in first}


def percentile(first, second):
    """What the bootstrap over speakers would say of the ratio."""

    def distances(latents, draws):
        sides = [Moments.stack([Moments.of(pair[side]) for pair in latents.values()]) for side in range(2)]
        return frechet_of(*(s.weighted(draws) for s in sides)).numpy()

    draws = torch.tensor(speaker_draws(len(first), 100))
    return np.quantile(distances(first, draws) / distances(second, draws), [0.025, 0.975])


def test_the_jackknife_by_hand():
    found = speaker_jackknife(3.0, [1.0, 2.0, 4.0])  # logarithms ln 2 apart, Student's t of 2: 4.3027
    factor = math.exp(4.302653 * math.sqrt(2 / 3 * 2) * math.log(2))
    assert (found.value, found.low, found.high) == pytest.approx((3, 3 / factor, 3 * factor), rel=1e-5)
    assert speaker_jackknife(0.0, [0.0, 0.0]) == Interval(0, 0, 0)
    assert speaker_jackknife(2.0, []) == speaker_jackknife(2.0, [1.0]) == Interval(2, None, None)
    assert speaker_jackknife(2.0, [1.0, 0.0, 2.0]) == speaker_jackknife(2.0, [1.0, math.nan]) == Interval(2, None, None)
    with pytest.raises(ValueError, match="at least 0, got nan"):
        speaker_jackknife(math.nan, [1.0, 2.0])


def test_speakers_are_left_out_with_all_their_clips():
    first, _, _ = speakers(4, 0)
    who = {"c0": "x", "c1": "x", "c2": "y", "c3": "z"}
    row = Row("r", clips={n: {} for n in first}, latents=first)
    without = [[n for n in first if who[n] != name] for name in "xyz"]
    distance = lambda names: frechet_distance(*(torch.cat([first[n][side] for n in names]) for side in range(2)))  # noqa: E731
    found, wanted = summary(row, who)["fgd"], speaker_jackknife(distance(list(first)), [distance(names) for names in without])
    assert (found["value"], found["low"], found["high"]) == pytest.approx((wanted.value, wanted.low, wanted.high), rel=1e-9)


def test_the_truth_against_itself_is_surely_0_and_two_windows_tell_no_interval():
    first, second, who = speakers(3, 0)
    truth = {n: (x, x) for n, (x, _) in first.items()}
    figure = summary(Row("truth", clips={n: {} for n in truth}, latents=truth), who)["fgd"]
    assert (figure["value"], figure["low"], figure["high"]) == (0, 0, 0)
    assert fgd_ratio(truth, second, who) == Interval(0, 0, 0)
    short = {n: (x[:1], y[:1]) for n, (x, y) in list(first.items())[:2]}  # without either speaker one window is left
    assert fgd_ratio(short, short, who) == Interval(1, None, None)


@pytest.mark.parametrize("count", [5, 16, 32])
def test_intervals_hold_their_value_and_what_so_many_speakers_give(count):
    runs = [speakers(count, seed) for seed in range(80)]
    found = [fgd_ratio(*run) for run in runs]
    assert all(i.low <= i.value <= i.high for i in found)
    average = math.exp(np.mean([math.log(i.value) for i in found]))
    held = np.mean([i.low <= average <= i.high for i in found])
    drawn = np.array([percentile(first, second) for first, second, _ in runs])
    print(f"{count} speakers: ratio {average:.2f} on average, held by {held:.2f};",
          f"bootstrap {np.mean((drawn[:, 0] <= average) & (average <= drawn[:, 1])):.2f},",
          f"its own value {np.mean([low <= i.value <= high for i, (low, high) in zip(found, drawn)]):.2f}")  # fmt: skip
    assert held >= 0.9
