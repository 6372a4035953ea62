"""Codes of body parts: which numbers they are, what the codebooks do, and what comes back."""

import pytest
import torch

from model.baseline_codes import COLUMNS, PARTS, STRIDE, MotionCodes, k_means, numbers_of
from model.motion import MOTION


def swaying(clips=4, frames=96):
    time = torch.arange(frames) / 25
    return [0.2 * torch.sin(time[:, None] * 3 + torch.arange(MOTION) % 7 + k) for k in range(clips)]


@pytest.fixture(scope="module")
def codes():
    found = MotionCodes(32)
    found.fit(swaying())
    return found


def test_the_parts_share_no_number_and_leave_none_out():
    assert torch.cat([numbers_of(p) for p in PARTS]).sort().values.tolist() == list(range(MOTION))


def test_k_means_finds_two_heaps():
    points = torch.cat([torch.randn(50, 3) * 0.1 + 5, torch.randn(50, 3) * 0.1 - 5])
    centres = k_means(points, 2, torch.Generator().manual_seed(1)).sort(0).values
    torch.testing.assert_close(centres, torch.tensor([[-5.0] * 3, [5.0] * 3]), atol=0.1, rtol=0)


def test_windows_laid_over_each_other_give_the_motion_back(codes):
    vectors = swaying(1)[0][None]
    parts = codes.split(vectors)
    for part in PARTS:  # without codes only the components are lost, and a sway has few
        back = codes[part].decode(codes[part].encode(parts[part]))
        torch.testing.assert_close(back, parts[part], atol=2e-2, rtol=0)


def test_motion_comes_back_through_its_codes(codes):
    vectors = torch.stack(swaying())
    found = codes.codes(vectors)
    assert found.shape == (4, 96 // STRIDE, len(COLUMNS))
    back = codes.joined(codes.latents(found))
    assert (back - vectors).abs().mean() < 0.2 * (vectors - codes.mean).abs().mean()


def test_a_code_that_follows_fits_and_another_does_not(codes):
    chain = codes.codes(torch.stack(swaying()))[0]
    space, own = codes["upper"], chain[:, 2:4]
    latents = space.latents(own)
    fits = [float(space.coherence(latents[t], space.codebooks[0][own[t + 1, 0]])[own[t + 1, 1]]) for t in range(len(own) - 1)]
    others = [float(space.coherence(latents[t], None).mean()) for t in range(len(own) - 1)]
    assert sum(fits) / len(fits) < 3 < sum(others) / len(others)


def test_the_same_clips_give_the_same_codes(codes):
    again = MotionCodes(32)
    again.fit(swaying())
    assert all(torch.equal(a, b) for a, b in zip(codes.state_dict().values(), again.state_dict().values(), strict=True))
