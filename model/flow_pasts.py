"""Pasts that are a little wrong, as a generation's own are, and how motion goes on from them: exposure bias, met in training.

A past is off by a gap that is itself a motion: a share of another's, or what the network draws itself minus what was true.
The motion after it is the true one plus a gap that closes as a damped spring does, without a jump or a kink, so the way back is
learned and no shaking with it. Axes: B batch, K chunks, C channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from model.motion_spline import NEW, Surprises

DISTURBED = 0.1  # share of another's motion that the past is off by, at most, in half of the windows
RETURN = 3.0  # knots (80 ms each at 25 frames/s) in which a quarter of a gap closes, and most of it in thrice as long
OWN_FROM = (0.3, 0.95)  # how much is told of the truth when a chunk is drawn anew, as the flow's time
OWN_STEPS = 2


def off_by(past: Tensor, chance: Tensor) -> Tensor:
    """Gaps [B, K, PAST, C]: in half of the windows a share of the next window's own way from its reference; `chance` 0..1."""
    return DISTURBED * torch.relu(2 * chance - 1) * past.roll(1, 0)


def follow(gap: Tensor) -> Tensor:
    """Gaps of pasts [B, K, PAST, C] → of the knots after them [B, K, NEW, C]: a critically damped spring's."""
    place, speed = gap[:, :, -1:], gap[:, :, -1:] - gap[:, :, -2:-1]
    knots = torch.arange(1, NEW + 1, device=gap.device, dtype=gap.dtype)[:, None]
    return (place + (speed + place / RETURN) * knots) * torch.exp(-knots / RETURN)


def partly_own(
    flow: Callable[[Tensor, Tensor, Tensor], Tensor], surprises: Surprises, context: Tensor, past: Tensor, new: Tensor
) -> Tensor:
    """Chunks [B, K, NEW, C] drawn by the network from noise that tells a part of the true ones: its own, yet near them."""
    goal = surprises.whiten(new, past).flatten(2)
    low, high = OWN_FROM
    start = low + (high - low) * torch.rand(*goal.shape[:-1], 1, device=goal.device)
    x = torch.lerp(torch.randn_like(goal), goal, start)
    for step in range(OWN_STEPS):
        time = start + (1 - start) * step / OWN_STEPS
        x = x + flow(x, time, context).float() * (1 - start) / OWN_STEPS
    return surprises.colour(x.unflatten(-1, (NEW, -1)), past)
