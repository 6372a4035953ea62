import pytest
import torch
from torch import nn

from pipelines.weight_average import SLOW_START, WeightAverage


def linear(value):
    network = nn.Linear(2, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    return network


def set_to(network, value):
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_the_mean_moves_by_what_the_decay_leaves():
    network = linear(0.0)
    average = WeightAverage(network, 0.9)
    set_to(network, 1.0)
    average.update(10_000)
    torch.testing.assert_close(average.means[0], torch.full((2, 2), 0.1))


def test_early_steps_forget_the_first_weights():
    network = linear(0.0)
    average = WeightAverage(network, 0.999)
    set_to(network, 1.0)
    average.update(1)
    torch.testing.assert_close(average.means[0], torch.full((2, 2), 1 - 2 / (SLOW_START + 1)))


def test_the_network_shows_the_mean_and_goes_on_with_its_own():
    network = linear(0.0)
    average = WeightAverage(network, 0.5)
    set_to(network, 4.0)
    average.update(10_000)
    with average.shown():
        assert network.weight[0, 0] == 2
    assert network.weight[0, 0] == 4
    with pytest.raises(KeyboardInterrupt), average.shown():
        raise KeyboardInterrupt
    assert network.weight[0, 0] == 4, "whatever happens while it is shown"


def test_a_mean_is_taken_up_where_it_was_left():
    first, second = WeightAverage(linear(3.0), 0.9), WeightAverage(linear(0.0), 0.9)
    second.load(first.state())
    torch.testing.assert_close(second.means, first.means)


def test_without_decay_the_last_weights_are_shown():
    network = linear(0.0)
    average = WeightAverage(network, 0.0)
    set_to(network, 4.0)
    average.update(1)
    with average.shown():
        assert network.weight[0, 0] == 4
    assert average.state() == []
