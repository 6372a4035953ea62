"""What moves the weights: AdamW, or Muon for the matrices inside the network and AdamW for all else.

Muon (Jordan et al. 2024) makes the directions of a matrix's momentum equally long, so that rare ones are learned as fast as
common ones. Its steps are scaled to the size of AdamW's (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4): one
learning rate and one weight decay serve both. `torch.optim.Muon` takes one matrix at a time and no other parameters; this
takes all matrices of a shape at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from configs.schema import TrainConfig

BETAS = (0.9, 0.95)
MOMENTUM = 0.95
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration, Jordan et al. 2024
ADAM_SIZE = 0.2  # root mean square of AdamW's steps, in learning rates
LEAST = 16  # rows and columns of a matrix that Muon takes
HEADS = ("smplx_decoder.", "map.out.")  # last layers: their rows are numbers with meanings of their own


def make_optimizer(task: nn.Module, settings: TrainConfig) -> torch.optim.Optimizer:
    """Of the task's parameters that are learned."""
    learned = [p for p in task.parameters() if p.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(learned, settings.learning_rate, BETAS, weight_decay=settings.weight_decay)
    matrices = inner_matrices(task)
    inside = set(map(id, matrices))
    groups = [{"params": matrices, "matrices": True}, {"params": [p for p in learned if id(p) not in inside], "matrices": False}]
    return Muon([g for g in groups if g["params"]], settings.learning_rate, BETAS, weight_decay=settings.weight_decay)


def inner_matrices(network: nn.Module) -> list[Tensor]:
    """Weights of linear and convolution layers, but for small ones and the last."""
    layers = [(f"{n}.", m) for n, m in network.named_modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    weights = [m.weight for n, m in layers if not any(head in n for head in HEADS)]
    return [w for w in weights if w.requires_grad and min(w.flatten(1).shape) >= LEAST]


class Muon(torch.optim.AdamW):
    """AdamW whose parameter groups with `matrices` are moved by Muon."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As of any optimiser; gradients of matrices are gone after it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["matrices"]:
                self._move(group)
        super().step()
        return loss

    def _move(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                by_shape.setdefault(weight.flatten(1).shape, []).append(weight)
        for shape, weights in by_shape.items():
            for weight in weights:
                if weight not in self.state:  # AdamW reads a step from every saved state
                    self.state[weight] = {"momentum": torch.zeros_like(weight), "step": torch.zeros(())}
            momenta, gradients = [self.state[w]["momentum"] for w in weights], [w.grad for w in weights if w.grad is not None]
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's
            steps = orthogonal(torch.stack([x.flatten(1) for x in ahead])) * (ADAM_SIZE * max(shape) ** 0.5)
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, [s.view_as(w).to(w) for s, w in zip(steps, weights, strict=True)], alpha=-group["lr"])
            for weight in weights:
                weight.grad = None  # AdamW passes over it


def orthogonal(matrices: Tensor) -> Tensor:  # [K, R, C] → the same, bfloat16
    """Matrices with singular values of about 1 (.7 to 1.2) and the directions of the given ones, by Newton-Schulz iteration."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = (matrices if wide else matrices.mT).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
