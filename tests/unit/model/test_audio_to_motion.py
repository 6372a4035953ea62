"""How the baseline draws codes from what it has learned."""

from itertools import pairwise

import pytest
import torch

from model.audio_to_motion import SMOOTHED, WINDOW, AudioToMotion
from model.baseline_codes import COLUMNS, LEVELS, PARTS, STRIDE
from model.motion import MOTION

COUNT = 16


def network_that_thinks(chance):
    """A network that gives each code this probability [C], whatever it hears."""
    network = AudioToMotion(2, 32, 1, COUNT, 3).eval()
    for head in network.heads:
        torch.nn.init.zeros_(head.weight)
        head.bias.data = chance.log()
    return network


def drawn(network, seed):
    """All codes [L, K] of a window."""
    hidden = torch.full((1, WINDOW // STRIDE, len(COLUMNS)), COUNT)
    style = torch.zeros(1, dtype=torch.long)
    with torch.no_grad():
        return network._filled(torch.rand(1, WINDOW, 2), hidden, style, torch.Generator().manual_seed(seed))[0][0]


def test_no_code_is_drawn_only_because_training_spreads_probability():
    chance = torch.full((COUNT,), SMOOTHED / COUNT)
    chance[[3, 5]] += (1 - SMOOTHED) / 2
    network = network_that_thinks(chance)
    body = torch.cat([drawn(network, seed)[:, LEVELS:] for seed in range(4)])
    assert set(body.flatten().tolist()) == {3, 5}


@pytest.mark.parametrize("part", PARTS[1:])
def test_fine_codes_fit_what_was_before(part):
    torch.manual_seed(0)
    network = network_that_thinks(torch.full((COUNT,), 1 / COUNT))
    time = torch.arange(96) / 25
    network.motion.fit([0.2 * torch.sin(time[:, None] * 3 + torch.arange(MOTION) % 7 + k) for k in range(4)])
    column, space, kept, others = LEVELS * PARTS.index(part), network.motion[part], [], []
    for codes in (drawn(network, seed)[:, column : column + LEVELS] for seed in range(4)):
        for before, after in pairwise(codes):
            misfits = space.coherence(space.latents(before), space.codebooks[0][after[0]])
            kept.append(misfits[after[1]])
            others.append(misfits.mean())
    assert sum(kept) < 0.9 * sum(others)
