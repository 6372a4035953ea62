import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model.fixed_sums import FixedSums
from model.losses import (
    chamfer,
    coherence_penalty,
    joint_errors,
    l1_map,
    mask_l1,
    offset_penalty,
    scale_penalty,
    smplx_errors,
    ssim_map,
    token_errors,
    velocity_errors,
)
from model.types import SmplxParams


def test_maps_are_unreduced():
    a, b = torch.zeros(2, 4, 6, 3), torch.full((2, 4, 6, 3), 0.25)
    assert torch.equal(l1_map(a, b), b)
    assert mask_l1(a[..., :1], b[..., :1]).shape == (2, 4, 6, 1)


def test_ssim_of_equal_pictures_is_one_and_falls_with_noise():
    torch.manual_seed(0)
    x = torch.rand(2, 32, 40, 3)
    torch.testing.assert_close(ssim_map(x, x), torch.ones_like(x))
    values = [ssim_map(x, x + noise * torch.randn_like(x)).mean() for noise in (0.02, 0.1, 0.4)]
    assert values[0] > values[1] > values[2]


def test_ssim_agrees_with_the_formula_over_explicit_windows():
    rng = np.random.default_rng(1)
    x = rng.uniform(size=(24, 24))
    y = 0.7 * x + 0.3 * rng.uniform(size=(24, 24))
    line = np.exp(-0.5 * ((np.arange(11) - 5) / 1.5) ** 2)
    window = np.outer(line, line) / line.sum() ** 2
    ours = ssim_map(*(torch.from_numpy(t)[None, ..., None] for t in (x, y)))[0, ..., 0]
    for row, column in ((12, 12), (6, 17), (18, 5)):
        a, b = (t[row - 5 : row + 6, column - 5 : column + 6] for t in (x, y))
        ma, mb = (window * a).sum(), (window * b).sum()
        va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
        covariance = (window * (a - ma) * (b - mb)).sum()
        top = (2 * ma * mb + 0.01**2) * (2 * covariance + 0.03**2)
        expected = top / ((ma**2 + mb**2 + 0.01**2) * (va + vb + 0.03**2))
        assert math.isclose(ours[row, column].item(), expected, rel_tol=1e-3)


def test_ssim_of_flat_pictures_by_hand():
    x, y = torch.full((1, 16, 16, 1), 0.2), torch.full((1, 16, 16, 1), 0.6)
    expected = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    torch.testing.assert_close(ssim_map(x, y), torch.full_like(x, expected), atol=1e-3, rtol=0)


def test_ssim_has_any_leading_axes_and_gradients():
    x = torch.rand(2, 3, 16, 16, 3, requires_grad=True)
    value = ssim_map(x, torch.rand(2, 3, 16, 16, 3))
    assert value.shape == (2, 3, 16, 16, 3)
    value.sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() > 0


def test_smplx_errors_of_known_differences():
    a, b = SmplxParams.zeros(2), SmplxParams.zeros(2)
    b.jaw_pose[:, 0] = 0.3
    b.transl[1] = torch.tensor([0.0, 3.0, 4.0])
    b.expression[0, 2] = -2.0
    errors = smplx_errors(a, b)
    assert errors.pose.shape == (2, 55)
    expected = torch.zeros(2, 55)
    expected[:, 22] = 0.3  # the jaw's place in full_pose
    torch.testing.assert_close(errors.pose, expected, atol=1e-5, rtol=0)
    assert errors.transl.tolist() == [0.0, 5.0]
    assert errors.expression[0, 2] == 2
    assert errors.betas.sum() == 0


def test_rotation_vectors_a_full_turn_apart_are_equal():
    a, b = SmplxParams.zeros(1), SmplxParams.zeros(1)
    a.global_orient[0] = torch.tensor([math.pi - 0.01, 0, 0])
    b.global_orient[0] = torch.tensor([-math.pi + 0.01, 0, 0])
    assert math.isclose(smplx_errors(a, b).pose[0, 0].item(), 0.02, abs_tol=1e-3)


def test_equal_parameters_have_finite_gradients():
    a = SmplxParams.zeros(1).map(lambda t: t.requires_grad_())
    errors = smplx_errors(a, SmplxParams.zeros(1))
    sum(getattr(errors, n).sum() for n in ("pose", "betas", "expression", "transl")).backward()
    assert a.full_pose.isfinite().all()
    assert a.global_orient.grad.isfinite().all()
    assert a.transl.grad.isfinite().all()


def test_joint_and_velocity_errors_by_hand():
    truth = torch.zeros(1, 3, 2, 3)
    guess = truth.clone()
    guess[0, 1, 0] = torch.tensor([0.3, 0.4, 0.0])
    assert joint_errors(guess, truth)[0].tolist() == [[0, 0], [0.5, 0], [0, 0]]
    assert velocity_errors(guess, truth)[0].tolist() == [[0.5, 0], [0.5, 0]]
    assert velocity_errors(guess + 7, truth).shape == (1, 2, 2)
    torch.testing.assert_close(velocity_errors(truth + 7, truth), torch.zeros(1, 2, 2))


def test_token_errors_keep_tokens():
    assert token_errors(torch.ones(2, 5, 8), torch.zeros(2, 5, 8)).tolist() == [[1.0] * 5] * 2


def test_offset_penalty_grows_faster_beyond_what_is_free():
    offsets = torch.tensor([0.0, 0.01, 0.02, 0.04])[None, :, None] * torch.tensor([1.0, 0, 0])
    values = offset_penalty(offsets, free=0.02)[0]
    torch.testing.assert_close(values, torch.tensor([0.0, 0.025, 0.1, 1.4]))


def test_coherent_offsets_along_the_normal_are_free_and_lonely_ones_are_not():
    normals, spacing = torch.tensor([[0.0, 0.0, 1.0]]).expand(4, 3), torch.full((4,), 0.01)
    beside = FixedSums.means(torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]), 4)
    together = (0.03 * normals)[None]
    assert coherence_penalty(together, normals, beside, spacing).abs().max() < 1e-6
    sideways = coherence_penalty(together.roll(1, -1), normals, beside, spacing)
    torch.testing.assert_close(sideways, torch.full((1, 4), 0.1 * (3.25**0.5 - 1)))  # 30 mm in units of 20
    lonely = together.clone()
    lonely[0, 0, 2] += 0.01  # a spacing
    assert coherence_penalty(lonely, normals, beside, spacing)[0, 0].item() == pytest.approx(2**0.5 - 1, rel=1e-4)


def test_scale_penalty_spares_small_round_gaussians():
    spacing = torch.full((4,), 0.01)
    scales = torch.tensor([[0.01, 0.01, 0.004], [0.03, 0.01, 0.01], [0.01, 0.001, 0.001], [0.04, 0.04, 0.04]])[None]
    values = scale_penalty(scales, spacing)[0]
    assert values[0] == 0
    assert (values[1:] > 0).all()
    assert values[3] > values[1]


def test_chamfer_agrees_with_brute_force_and_moves_points_together():
    torch.manual_seed(0)
    a, b = torch.randn(2, 50, 3, requires_grad=True), torch.randn(2, 70, 3)
    forward, backward = chamfer(a, b)
    table = (a[:, :, None] - b[:, None]).square().sum(-1)
    torch.testing.assert_close(forward, table.amin(2), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(backward, table.amin(1), atol=1e-5, rtol=1e-4)
    (forward.mean() + backward.mean()).backward()
    closer, _ = chamfer(a - 0.1 * a.grad, b)
    assert closer.mean() < forward.mean()
    assert chamfer(b, b)[0].abs().max() == 0


def test_losses_work_under_bfloat16_autocast():
    x, y = torch.rand(1, 16, 16, 3), torch.rand(1, 16, 16, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert ssim_map(x, y).dtype == torch.float32
        assert F.mse_loss(ssim_map(x, x), torch.ones_like(x)) < 1e-6
