import numpy as np
import pytest

from pipelines.nearest import STRIDE, Stretch, forth_and_back, nearest_stretches


def series(frames, seed):
    return np.random.default_rng(seed).normal(size=(frames, 3)).astype(np.float32)


def test_a_stretch_is_found_inside_a_longer_clip():
    long = {"x": series(200, 1), "y": series(90, 2)}
    wanted = {"a": long["x"][4 * STRIDE : 4 * STRIDE + 60] + 0.1, "b": long["y"][STRIDE : STRIDE + 60]}
    assert nearest_stretches(wanted, long) == {"a": Stretch("x", 4 * STRIDE), "b": Stretch("y", STRIDE)}


def test_it_is_what_a_search_by_hand_finds():
    candidates = {str(i): series(n, i) for i, n in enumerate((80, 40, 61, 100))}
    wanted = series(60, 9)
    gaps = {}
    for name, other in candidates.items():
        for start in range(0, max(1, len(other) - 59), STRIDE):
            gaps[Stretch(name, start)] = float(np.square(other[forth_and_back(start, 60, len(other))] - wanted).mean())
    assert nearest_stretches({"w": wanted}, candidates)["w"] == min(gaps, key=gaps.__getitem__)


def test_ones_own_clips_and_empty_ones_are_left_out():
    sound = series(50, 3)
    candidates = {"mine": sound, "other": series(50, 4), "empty": series(0, 5)}
    who = {"a": "x", "mine": "x", "other": "y", "empty": "z"}
    assert nearest_stretches({"a": sound}, candidates, who) == {"a": Stretch("other", 0)}
    assert nearest_stretches({"a": sound}, {"mine": sound}, who) == {}
    with pytest.raises(ValueError, match="one kind of features"):
        nearest_stretches({"a": sound}, {"b": sound[:, :2]})


def test_played_forth_and_back_there_is_no_jump():
    assert forth_and_back(0, 7, 3).tolist() == [0, 1, 2, 1, 0, 1, 2]
    assert forth_and_back(1, 4, 3).tolist() == [1, 2, 1, 0]
    assert forth_and_back(0, 3, 1).tolist() == [0, 0, 0]
    assert np.abs(np.diff(forth_and_back(5, 500, 17))).max() == 1
