import pytest
import torch
import torch.nn.functional as F

from model.fixed_sums import FixedSums
from model.triplane import PLANES, PlaneSampler, Triplane


@pytest.fixture
def sums():
    """Sums 0 and 2 of five points; nothing is added to sum 1, and point 3 twice to sum 2."""
    return FixedSums(torch.tensor([0, 0, 2, 2, 2]), torch.tensor([1, 4, 3, 0, 3]), torch.tensor([1.0, 2.0, 0.5, -1.0, 0.25]), (3, 5))


def dense(sums):
    return sums(torch.eye(sums.shape[1])[None])[0]


def test_sums_are_a_product_with_the_matrix(sums):
    expected = torch.tensor([[0, 1.0, 0, 0, 2.0], [0, 0, 0, 0, 0], [-1.0, 0, 0, 0.75, 0]])
    assert torch.equal(dense(sums), expected)
    values = torch.randn(2, 5, 4)
    torch.testing.assert_close(sums(values), expected @ values)


def test_gradients_are_the_transposed_product(sums):
    values = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sums, values)


def test_half_precision_comes_back_as_it_went_in(sums):
    values = torch.randn(1, 5, 2)
    half = sums.bfloat16()(values.bfloat16())
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), sums(values), atol=0.05, rtol=0.02)
    assert sums.weights.dtype == torch.float32


def test_means_of_rows():
    means = FixedSums.means(torch.tensor([[0, 1], [2, 2]]), 3)
    assert means(torch.tensor([[[1.0], [2.0], [7.0]]])).flatten().tolist() == [1.5, 7.0]


def test_planes_are_sampled_as_grid_sample_does():
    torch.manual_seed(0)
    coordinates, planes = 2.2 * torch.rand(50, 3) - 1.1, torch.randn(2, 3, 4, 8, 8, requires_grad=True)
    got = PlaneSampler(coordinates, 8)(planes)
    grids = [coordinates[:, axes].expand(2, 1, -1, 2) for axes in PLANES]
    expected = [F.grid_sample(p, g, padding_mode="border", align_corners=False)[:, :, 0].mT for p, g in zip(planes.unbind(1), grids)]
    torch.testing.assert_close(got, torch.stack(expected, 2), atol=1e-5, rtol=1e-5)
    told = torch.randn_like(got)
    ours, theirs = (torch.autograd.grad(x, planes, told)[0] for x in (got, torch.stack(expected, 2)))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_tokens_are_a_convolution_of_the_planes():
    torch.manual_seed(0)
    triplane = Triplane(2 * torch.rand(50, 3) - 1, 5, 12, 4, 8, 2)
    planes = triplane.scatter(torch.randn(2, 50, 5), torch.rand(2, 50))
    expected = F.conv2d(planes[:, :, :5].flatten(0, 1), triplane.embed.weight, triplane.embed.bias, 4).flatten(2).mT
    torch.testing.assert_close(triplane.to_tokens(planes), (expected.unflatten(0, (2, 3)) + triplane.position).flatten(1, 2))
