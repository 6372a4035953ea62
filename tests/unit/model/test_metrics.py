"""Metrics: values computed by hand, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model import metrics


def walk(frames=60, joints=55, seed=0) -> np.ndarray:
    """Smooth random motion of joints [T, J, 3]."""
    rng = np.random.default_rng(seed)
    phase, rate = rng.uniform(0, 6, (joints, 3)), rng.uniform(1, 4, (joints, 3))
    return rng.normal(size=(joints, 3)) + 0.1 * np.sin(rate * np.arange(frames)[:, None, None] / 25 + phase)


def clicks(times, seconds=8.0, rate=16000) -> np.ndarray:
    """Short decaying tones at the given seconds."""
    audio = np.zeros(int(seconds * rate))
    t = np.arange(int(0.25 * rate)) / rate  # faded out by then: an abrupt end is an onset too
    for start in times:
        at = int(start * rate)
        audio[at : at + len(t)] += np.exp(-t / 0.02) * np.sin(2 * np.pi * 900 * t)
    return audio


def turning(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


# --- pictures


def test_psnr_by_hand():
    a, b = torch.zeros(2, 4, 4, 3), torch.zeros(2, 4, 4, 3)
    b[0] += 0.1  # 20 dB
    b[1] += 0.01  # 40 dB
    assert metrics.psnr(a[0], b[0]) == pytest.approx(20, abs=1e-4)
    assert metrics.psnr(a, b) == pytest.approx(30, abs=1e-4)
    assert metrics.psnr(a, a) == math.inf


def test_box_limits_what_is_compared():
    a, b = torch.rand(1, 40, 50, 3), torch.rand(1, 40, 50, 3)
    b[:, 10:30, 5:25] = a[:, 10:30, 5:25] + 0.1
    box = (5, 10, 25, 30)
    assert metrics.psnr(a, b, box) == pytest.approx(20, abs=1e-3)
    assert metrics.ssim(a, a, box) == pytest.approx(1)
    b[:, 10:30, 5:25] = a[:, 10:30, 5:25]
    assert metrics.ssim(a, b, box) == pytest.approx(1)
    assert metrics.ssim(a, b) < 0.5
    with pytest.raises(ValueError, match="inside 50×40"):
        metrics.psnr(a, b, (0, 0, 60, 10))


def test_ssim_of_constant_pictures_by_hand():
    a, b = torch.full((16, 16, 3), 0.2), torch.full((16, 16, 3), 0.6)
    luminance = (2 * 0.2 * 0.6 + 0.01**2) / (0.2**2 + 0.6**2 + 0.01**2)  # contrast and structure are 1
    assert metrics.ssim(a, b) == pytest.approx(luminance, abs=1e-4)
    with pytest.raises(ValueError, match="at least 11 pixels"):
        metrics.ssim(a[:8], b[:8])


def test_ssim_is_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    g = torch.Generator().manual_seed(0)
    a = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 60, 40, generator=g), 3, 1, 1)
    b = (a + 0.1 * torch.rand(a.shape, generator=g)).clamp(0, 1)
    wanted = structural_similarity_index_measure(a, b, data_range=1.0)
    assert metrics.ssim(a.movedim(1, -1), b.movedim(1, -1)) == pytest.approx(float(wanted), abs=2e-5)


def test_person_box_grows_by_its_margin_inside_the_picture():
    mask = torch.zeros(2, 40, 50)
    mask[0, 10:30, 5:15] = 1
    assert metrics.person_box(mask) == [(5, 10, 15, 30), (0, 0, 50, 40)]
    assert metrics.person_box(mask, 0.3)[0] == (0, 4, 21, 36)


def test_flicker_ignores_a_steady_fade_and_sees_a_flash():
    fade = torch.linspace(0, 1, 9)[:, None, None, None].expand(9, 4, 4, 3).clone()
    assert metrics.flicker(fade) == pytest.approx(0, abs=1e-6)
    fade[4] += 0.7
    assert metrics.flicker(fade) == pytest.approx((0.7 + 1.4 + 0.7) / 7, rel=1e-4)


# --- poses


def test_joint_errors_by_hand():
    truth = np.zeros((2, 3, 3))
    predicted = truth.copy()
    predicted[0, 0] = (0.03, 0.04, 0)
    assert metrics.mpjpe(predicted, truth) == pytest.approx(0.05 / 6)
    assert metrics.mpjpe(torch.from_numpy(predicted), truth) == pytest.approx(0.05 / 6)
    with pytest.raises(ValueError, match="one shape"):
        metrics.mpjpe(predicted[:, :2], truth)


def test_procrustes_removes_a_similarity_and_no_mirror():
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(4, 20, 3))
    moved = np.stack([1.7 * frame @ turning(rng).T + rng.normal(size=3) for frame in truth])
    assert metrics.pa_mpjpe(moved, truth) < 1e-9
    assert metrics.pa_mpjpe(truth * np.array([-1, 1, 1]), truth) > 0.1
    noisy = truth + 0.05 * rng.normal(size=truth.shape)
    assert metrics.pa_mpjpe(noisy, truth) < metrics.mpjpe(noisy, truth)
    assert metrics.pa_mpjpe(0.3 * noisy @ turning(rng).T, truth) == pytest.approx(metrics.pa_mpjpe(noisy, truth))


def test_jerk_and_acceleration_by_hand():
    t = np.arange(10) / 25
    cubic = np.stack([t**3, 0 * t, 2 * t], -1)[:, None]
    assert metrics.jerk(cubic, 25) == pytest.approx(6)  # d³/dt³ of t³
    assert metrics.jerk(walk() + 5.0, 25) == pytest.approx(metrics.jerk(walk(), 25))
    square = np.stack([0 * t, t**2, 0 * t], -1)[:, None]
    assert metrics.acceleration_error(square, np.zeros_like(square), 25) == pytest.approx(2)


# --- motion


def test_l1div_by_hand_and_leaves_its_input():
    x = np.zeros((2, 2, 3))
    x[0, 0, 0], x[1, 0, 0] = 1.0, 3.0  # mean 2, both 1 away
    kept = x.copy()
    assert metrics.l1div(x) == pytest.approx(1.0)
    assert metrics.l1div(x + 7) == pytest.approx(1.0)
    assert np.array_equal(x, kept)


def test_face_figures_by_hand():
    truth = np.zeros((3, 2, 3))
    predicted = truth.copy()
    predicted[1, 0, 0] = 0.6
    assert metrics.face_mse(predicted, truth) == pytest.approx(0.36 / 18)
    assert metrics.lvd_emage(predicted, truth) == pytest.approx(0.6 / 18)
    assert metrics.lvd_talkshow(predicted, truth) == pytest.approx((0.6 + 0.6) / 2)
    # a constant offset has no velocity: the two variants disagree on purpose
    assert metrics.lvd_talkshow(truth + 1, truth) == 0
    assert metrics.lvd_emage(truth + 1, truth) == pytest.approx(1)


# --- speech


def test_onsets_are_found_where_sounds_begin():
    times = np.array([0.5, 1.25, 2.0, 3.1, 6.4])
    found = metrics.onset_times(clicks(times) + 1e-4 * np.random.default_rng(0).normal(size=128000))
    assert len(found) == len(times)
    assert np.abs(found - times).max() < 0.03
    assert len(metrics.onset_times(np.zeros(16000))) == 0
    with pytest.raises(ValueError, match="mono"):
        metrics.onset_times(np.zeros((16000, 2)))


def stopping_at(times, fps=25.0, seconds=8.0) -> np.ndarray:
    """All joints move along x and slow down to half their speed at the given times."""
    t = (np.arange(int(seconds * fps)) + 0.01) / fps  # off the frames: two equal speeds are no minimum
    slow = sum(np.exp(-0.5 * ((t - x) / 0.08) ** 2) for x in times)
    place = np.cumsum(1 - 0.5 * slow) / fps
    joints = np.zeros((len(t), 55, 3))
    joints[..., 0] = place[:, None]
    return joints


def test_beat_consistency_by_hand():
    audio = clicks([3.0, 5.0])
    onsets = metrics.onset_times(audio)
    together = metrics.beat_consistency(stopping_at([3.0, 5.0]), audio, 25)
    assert together > 0.98
    late = metrics.beat_consistency(stopping_at([3.3]), audio, 25)
    expected = np.mean([math.exp(-((a - 3.3) ** 2) / (2 * 0.3**2)) for a in onsets])
    assert late == pytest.approx(expected, abs=0.03)
    assert metrics.beat_consistency(np.zeros((200, 55, 3)), audio, 25) == 0
    # what lies in the first and the last two seconds does not count
    assert metrics.beat_consistency(stopping_at([3.0, 5.0]), clicks([0.5, 3.0, 5.0, 7.5]), 25) == pytest.approx(
        together
    )
    assert math.isnan(metrics.beat_consistency(stopping_at([1.0], seconds=3.0), clicks([1.0]), 25))


def test_a_rest_is_no_beat():
    joints = stopping_at([3.0])
    fast = np.full(55, 10.0)  # against a corpus that moves at 10 m/s, 0.5 m/s is a rest
    assert metrics.beat_consistency(joints, clicks([3.0]), 25) > 0.95
    assert metrics.beat_consistency(joints, clicks([3.0]), 25, mean_speed=fast) == 0


def test_mouth_correlation_finds_the_lag():
    rng = np.random.default_rng(2)
    energy = np.convolve(rng.normal(size=230), np.hanning(7), "same")
    opening = 0.01 * energy[5:205] + 0.02  # what the energy of 5 frames later looks like: the mouth leads
    found = metrics.mouth_audio_correlation(opening, energy[:200], 25)
    assert found.best_r == pytest.approx(1)
    assert found.lag == pytest.approx(-0.2)
    assert found.r < 0.5
    behind = metrics.mouth_audio_correlation(torch.from_numpy(energy[:200]), energy[3:203], 25)
    assert behind.lag == pytest.approx(3 / 25)
    frozen = metrics.mouth_audio_correlation(np.full(200, 0.013), energy[:200], 25)
    assert (frozen.r, frozen.best_r, frozen.lag) == (0, 0, 0)
    with pytest.raises(ValueError, match="expected"):
        metrics.mouth_audio_correlation(opening[:20], energy[:20], 25)


def test_pearson_by_hand():
    assert metrics.pearson([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)
    assert metrics.pearson([1e-6, 2e-6, 4e-6], [-1, -2, -4]) == pytest.approx(-1)
    assert metrics.pearson([0.1] * 50, list(range(50))) == 0


# --- FGD


def test_frechet_distance_of_known_gaussians():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 3, generator=g, dtype=torch.float64)
    x = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov()).T)  # exactly standard
    deviations = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    y = x * deviations + torch.tensor([1.0, 0.0, 2.0])
    assert metrics.frechet_distance(x, y) == pytest.approx(5 + (deviations - 1).square().sum().item())
    assert metrics.frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=g, dtype=torch.float64))[0]
    assert metrics.frechet_distance(x @ turn, y @ turn) == pytest.approx(metrics.frechet_distance(x, y))
    assert metrics.frechet_distance(y, x) == pytest.approx(metrics.frechet_distance(x, y))
    few = torch.randn(4, 32, generator=g)
    assert metrics.frechet_distance(few, few) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 samples"):
        metrics.frechet_distance(few[:1], few)


def test_windows_of_motions():
    motions = [torch.arange(48.0)[:, None].expand(48, 330), torch.zeros(31, 330), torch.zeros(32, 330)]
    windows = metrics.motion_windows(motions, stride=8)
    assert windows.shape == (4, 32, 330)
    assert windows[1, :, 0].tolist() == list(range(8, 40))
    assert metrics.motion_windows([torch.zeros(5, 330)]).shape == (0, 32, 330)


def test_autoencoder_is_reproducible_and_ranks_motions():
    g = torch.Generator().manual_seed(1)
    basis = 0.2 * torch.randn(4, 330, generator=g)

    def motion(speed: float, seed: int) -> torch.Tensor:
        h = torch.Generator().manual_seed(seed)
        t = torch.arange(200)[:, None] / 25
        return torch.sin(speed * t * torch.tensor([1.0, 1.7, 2.3, 3.1]) + 6 * torch.rand(4, generator=h)) @ basis

    train = metrics.motion_windows([motion(2, s) for s in range(8)])
    network = metrics.fit_autoencoder(train, seed=3, steps=200, batch=32)
    hashes = [metrics.fit_autoencoder(train, seed, steps=3).weights_hash() for seed in (3, 3, 4)]
    assert hashes[0] == hashes[1]
    assert len({*hashes, network.weights_hash()}) == 3
    assert (network.decode(network.encode(train)) - train).std() < 0.5 * train.std()

    seen = network.encode(metrics.motion_windows([motion(2, 9)]))
    torch.testing.assert_close(network.encode_motion(motion(2, 9)), seen, atol=1e-5, rtol=1e-5)
    assert network.encode_motion(motion(2, 9)[:20]).shape == (0, 32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))  # 1 or 2, and not as above
        assert metrics.fit_autoencoder(train, 3, steps=3).weights_hash() == hashes[0]
    finally:
        torch.set_num_threads(threads)

    real = metrics.motion_windows([motion(2, s) for s in (20, 21, 22, 23)])
    same = metrics.motion_windows([motion(2, s) for s in (30, 31, 32, 33)])
    other = metrics.motion_windows([motion(6, s) for s in (30, 31, 32, 33)])
    frozen = real[:, :1].expand(-1, 32, -1)
    near = metrics.fgd(real, same, network)
    assert metrics.fgd(real, real, network) < 1e-3 * near
    assert near < metrics.fgd(real, other, network)
    assert near < metrics.fgd(real, frozen, network)
    with pytest.raises(ValueError, match="expected"):
        network.encode(real[:, :16])
