"""The optimiser of training: Muon's matrices and AdamW's rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from configs.schema import Config, TrainConfig
from pipelines.optimizer import ADAM_SIZE, Muon, inner_matrices, make_optimizer, orthogonal
from pipelines.train import _engine

MUON = TrainConfig(optimizer="muon", learning_rate=1e-2, weight_decay=0.0)


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 32, 3), nn.Flatten(), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 3)
    )


def learn(network: nn.Module, optimizer: torch.optim.Optimizer, first: int, steps: int) -> None:
    for step in range(first, first + steps):
        x = torch.randn(256, 4, 3, 3, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        (network(x) - 1).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(3, 20, 50), (2, 50, 20), (1, 16, 16)])
def test_directions_become_equally_long(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    left, lengths, right = torch.linalg.svd(matrices, full_matrices=False)
    made = orthogonal(matrices).float()
    found = (left.mT @ made @ right.mT).diagonal(dim1=1, dim2=2)
    assert made.shape == shape
    sure = lengths > 0.05 * lengths.amax(1, keepdim=True)
    assert found[sure].min() > 0.6
    assert found.max() < 1.3


def test_matrices_inside_are_muons_and_the_rest_adamws(network):
    weights = inner_matrices(network)
    assert [tuple(w.shape) for w in weights] == [(32, 4, 3, 3), (64, 32), (64, 64)]  # neither norms nor the last three numbers
    plain = copy.deepcopy(network)
    before = [w.detach().clone() for w in weights]
    optimizer = make_optimizer(network, MUON)
    learn(network, optimizer, 0, 1)
    for old, new in zip(before, weights, strict=True):
        size = (new - old).square().mean().sqrt() / MUON.learning_rate
        assert 0.3 * ADAM_SIZE < size < 1.2 * ADAM_SIZE  # few directions have a gradient here
    adam = make_optimizer(plain, MUON.model_copy(update={"optimizer": "adamw"}))
    assert type(adam) is torch.optim.AdamW
    assert type(optimizer) is Muon
    learn(plain, adam, 0, 1)
    for name, value in network.named_parameters():
        if not any(value is w for w in weights):
            torch.testing.assert_close(value, plain.get_parameter(name))


def test_saved_state_goes_on_as_if_never_stopped(network):
    whole = copy.deepcopy(network)
    learn(whole, make_optimizer(whole, MUON), 0, 6)
    first = make_optimizer(network, MUON)
    learn(network, first, 0, 3)
    second = make_optimizer(network, MUON)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    learn(network, second, 3, 3)
    for a, b in zip(whole.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_it_learns(network):
    x = torch.randn(64, 4, 3, 3)
    start = (network(x) - 1).square().mean().item()
    learn(network, make_optimizer(network, MUON), 0, 60)
    assert (network(x) - 1).square().mean().item() < 0.05 * start


def test_matrices_that_zero_would_cut_up_are_refused(network):
    with pytest.raises(ValueError, match=r"expected ZeRO stage 0.*got 1 in configs/deepspeed/zero1\.json"):
        _engine(network, MUON.model_copy(update={"deepspeed": "configs/deepspeed/zero1.json"}), torch.device("cpu"))


def test_only_two_are_known():
    with pytest.raises(ValueError, match="optimizer"):
        Config(stage1_training={"optimizer": "sgd"})
