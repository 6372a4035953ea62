import pytest

from pipelines.splits import split_of
from samples.ids import SPEAKERS, SUBJECTS


@pytest.mark.parametrize("identities", [SPEAKERS, SUBJECTS])
@pytest.mark.parametrize("held_out", [0.2, 0.3, 0.4])
def test_two_of_the_embedded_identities_are_held_out(identities, held_out):
    assert sum(split_of(i, held_out) == "test" for i in identities) == 2


def test_share_of_held_out_identities_is_about_the_one_asked_for():
    names = [f"person {i}" for i in range(2000)]
    share = sum(split_of(n, 0.3) == "test" for n in names) / len(names)
    assert 0.27 < share < 0.33


def test_a_larger_share_keeps_those_already_held_out():
    names = [f"person {i}" for i in range(200)]
    small = {n for n in names if split_of(n, 0.2) == "test"}
    assert small < {n for n in names if split_of(n, 0.4) == "test"}


def test_ends_of_the_range():
    assert split_of("anyone", 0.0) == "train"
    assert split_of("anyone", 1.0) == "test"
    with pytest.raises(ValueError, match=r"between 0 and 1, got 30"):
        split_of("anyone", 30)
