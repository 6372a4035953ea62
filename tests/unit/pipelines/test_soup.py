import pytest
import torch

from pipelines.soup import mean_weights


def test_weights_are_meant_and_constants_kept():
    one = {"generator.flow.out.weight": torch.full((2, 2), 1.0).half(), "generator.space.scale": torch.ones(3), "count": torch.tensor(3)}
    two = one | {"generator.flow.out.weight": torch.full((2, 2), 3.0).half()}
    mean = mean_weights([one, two])
    assert mean["generator.flow.out.weight"].dtype == torch.float16
    assert (mean["generator.flow.out.weight"] == 2).all()
    assert torch.equal(mean["generator.space.scale"], one["generator.space.scale"])
    assert mean["count"] == 3


OTHERS = [{"generator.space.scale": 2 * torch.ones(3)}, {"generator.space.scale": torch.ones(4)}, {"extra": torch.ones(1)}]


@pytest.mark.parametrize("other", OTHERS)
def test_runs_that_do_not_share_their_beginning_are_refused(other):
    one = {"generator.space.scale": torch.ones(3)}
    with pytest.raises(ValueError, match="soup: expected"):
        mean_weights([one, one | other])
