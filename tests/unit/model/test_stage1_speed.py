"""Counted FLOPs and the stand-in for Sapiens of stage 1's speed benchmark."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.sapiens_stand_in import TINY, write_stand_in
from benchmarks.stage1_speed import counted
from model.fixed_sums import FixedSums
from model.image_encoders import SapiensEncoder


def test_counts_products_forward_and_backward() -> None:
    x, w = torch.randn(5, 7), torch.randn(7, 3, requires_grad=True)
    forward = 2 * 5 * 7 * 3 / 1e12
    assert counted(lambda: x @ w) == forward
    assert counted(lambda: (x @ w).sum().backward()) == 2 * forward  # x asks for no gradient


def test_sums_over_fixed_points_are_no_matrix_products() -> None:
    sums, values = FixedSums(torch.tensor([0, 0, 1]), torch.arange(3), 1.0, (2, 3)), torch.randn(4, 3, 5, requires_grad=True)
    assert counted(lambda: sums(values).sum().backward()) == 0


def test_counts_attention_once_for_each_of_its_two_products() -> None:
    q = torch.randn(2, 3, 11, 4)
    assert counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q)) == 2 * 2 * (2 * 3) * 11 * 11 * 4 / 1e12


def test_stand_in_is_read_as_sapiens_is(tmp_path: Path) -> None:
    parameters = write_stand_in(tmp_path / "stand_in.pt", TINY, "cpu")
    encoder = SapiensEncoder(tmp_path / "stand_in.pt", 32, 16, 8)
    grid = encoder.frozen_features(torch.rand(2, 3, 32, 32))
    assert grid.shape == (2, TINY.width, 16, 16)
    assert grid.dtype == torch.float32
    layers = TINY.layers * 12 * TINY.width**2
    assert layers < parameters * 1e9 < layers + 1e6
    pictures = torch.rand(1, 3, 32, 32)
    products = 2 * 256 * (layers + 3 * 64 * 64 * TINY.width) + TINY.layers * 4 * 256**2 * TINY.width
    assert counted(lambda: encoder.frozen_features(pictures)) == products / 1e12
