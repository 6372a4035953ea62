"""Velocity differences, feet, identity, visemes, intervals and the face alone: by hand, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from model import fgd, metrics
from model.body import PoseDirs, SurfacePoints
from model.face_motion import FaceMotion
from model.fgd import Moments, frechet_distance, frechet_of
from model.types import SmplxParams


def test_the_three_velocity_differences_differ():
    truth = np.zeros((3, 2, 3))
    moved = truth.copy()
    moved[1, 0] = [0.0, 0.3, 0.4]  # there and back: speeds 0.5, 0.5
    assert metrics.lvd_emage(moved, truth) == pytest.approx(0.7 / 18)
    assert metrics.lvd_evaltools(moved, truth) == pytest.approx(2 * 0.7 / 18)
    assert metrics.lvd_talkshow(moved, truth) == pytest.approx(0.5)
    mirrored = -moved  # another direction at the same speed: only evaltools' sees it
    assert metrics.lvd_talkshow(moved, mirrored) == 0
    assert metrics.lvd_evaltools(moved, mirrored) == pytest.approx(4 * 0.7 / 18)


def test_feet_slide_only_while_they_stand():
    joints = np.zeros((11, 55, 3))
    joints[:, 10, 0] = 0.02 * np.arange(11)  # 0.5 m/s at 25 frames/s, on the floor
    joints[:, 11, 1] = 1.0  # in the air, fast
    joints[:, 11, 2] = np.arange(11)
    assert metrics.foot_sliding(joints, 25) == pytest.approx(0.5)
    # wherever the floor is and whichever way the person faces
    turned = joints[..., [2, 1, 0]] + [3.0, -7.0, 1.0]
    assert metrics.foot_sliding(turned, 25) == pytest.approx(0.5)
    joints[:, 10, 1] = 0.2 * (np.arange(11) % 2)  # hops: never two frames on the floor
    assert math.isnan(metrics.foot_sliding(joints, 25))


def test_identity_is_a_cosine():
    frames = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    assert metrics.identity(frames, [5.0, 0.0]) == pytest.approx((1 + 0 + 1 / math.sqrt(2)) / 3)
    with pytest.raises(ValueError, match="embeddings"):
        metrics.identity(frames, [1.0])


def test_vertices_are_scored_as_joints_are():
    a, b = np.random.default_rng(0).normal(size=(2, 4, 30, 3))
    assert metrics.pve(a, a + [0.3, 0, 0.4]) == pytest.approx(0.5)
    turned, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turned *= np.sign(np.linalg.det(turned))
    assert metrics.pa_pve(2 * a @ turned + 1, b) == pytest.approx(metrics.pa_pve(a, b))


def test_visemes_by_hand():
    learned = metrics.Visemes([[0.0], [0.2], [1.0], [1.2]], ["closed", "closed", "open", "open"])
    assert learned.accuracy([[0.1], [0.4], [0.9], [0.2]], ["closed", "closed", "open", "open"]) == pytest.approx(0.75)
    # one kind spoken often does not hide another that is never right
    assert learned.accuracy([[0.1]] * 10, ["closed"] * 9 + ["open"]) == pytest.approx(0.5)
    assert learned.accuracy([[0.1], [0.1]], ["closed", "unheard of"]) == 1
    assert math.isnan(learned.accuracy([[0.1]], ["unheard of"]))
    wanted = {"sil": "silence", "p": "closed", "f": "lip-teeth", "uː": "round", "aɪ": "open", "ˈiː": "spread", "ə": "mid", "t": "tongue"}
    assert {p: metrics.viseme_of(p) for p in wanted} == wanted


def test_intervals_come_from_speakers_and_not_from_clips():
    values = [1.0] * 50 + [3.0] * 50
    two = metrics.speaker_bootstrap(values, ["a"] * 50 + ["b"] * 50)
    assert (two.value, two.low, two.high) == (2, 1, 3)  # two speakers: anything in between
    many = metrics.speaker_bootstrap(values, [str(i) for i in range(100)])
    assert 1.75 < many.low < 2 < many.high < 2.25
    assert metrics.speaker_bootstrap(values, ["a"] * 100) == metrics.Interval(2, None, None)
    assert metrics.speaker_bootstrap([*values, math.nan], [*map(str, range(100)), "x"]).value == 2
    with pytest.raises(ValueError, match="finite"):
        metrics.speaker_bootstrap([math.nan], ["a"])


def test_moments_of_parts_add_up():
    g = torch.Generator().manual_seed(0)
    first, second = torch.randn(60, 5, generator=g) + 100, 2 * torch.randn(60, 5, generator=g) + 101
    whole = frechet_distance(first, second)
    centre = first.mean(0)
    parts = [Moments.stack([Moments.of(x[i : i + 20], centre) for i in (0, 20, 40)]) for x in (first, second)]
    assert float(frechet_of(*(p.weighted(torch.ones(1, 3)) for p in parts))) == pytest.approx(whole, rel=1e-9)
    twice = torch.tensor([[2.0, 1.0, 0.0]])
    drawn = [torch.cat([x[:20], x[:20], x[20:40]]) for x in (first, second)]
    assert float(frechet_of(*(p.weighted(twice) for p in parts))) == pytest.approx(frechet_distance(*drawn), rel=1e-9)
    assert frechet_distance(first, first) == pytest.approx(0, abs=1e-9)


def test_the_face_alone_is_the_bodys_face(body):
    g = torch.Generator().manual_seed(0)
    faces = torch.randint(len(body.faces), (40,), generator=g)
    points = body.surface(faces, torch.full((40, 3), 1 / 3))
    # with correctives of jaw and neck at some points: those of the jaw must count
    dense = torch.zeros(486, 40, 3)
    dense[9 * 21 + 5, 3:9], dense[9 * 11 + 1, 5:20] = 0.01, 0.02
    points = SurfacePoints(points.rest, points.shape_dirs, PoseDirs.pack(dense.flatten(1)), points.weights)
    params = SmplxParams.zeros(6)
    params.jaw_pose[:] = 0.3 * torch.randn(6, 3, generator=g)
    params.expression[:] = torch.randn(6, 10, generator=g)
    params.betas[:] = torch.randn(10, generator=g)
    got = FaceMotion(body, points)(params.jaw_pose, params.betas[0], params.expression)
    torch.testing.assert_close(got, body.posed_points(points, params), atol=1e-6, rtol=0)


def test_all_errors_of_a_face_in_one_pass():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(37, 9, 3)).astype(np.float32)  # two blocks and a part of one
    got = truth + rng.normal(size=truth.shape).astype(np.float32)
    found, away = metrics.face_errors(got, truth), got.astype(np.float64) - truth
    speeds = [np.linalg.norm(np.diff(x.astype(np.float64), axis=0), axis=-1) for x in (got, truth)]
    assert found.face_mse == pytest.approx(np.square(away).mean(), rel=1e-12)
    assert found.lvd_emage == pytest.approx(np.abs(away).mean(), rel=1e-12)
    assert found.lvd_evaltools == pytest.approx(np.abs(np.diff(away, axis=0)).sum() / away.size, rel=1e-12)
    assert found.lvd_talkshow == pytest.approx(np.abs(speeds[0] - speeds[1]).sum(-1).mean(), rel=1e-12)
    assert metrics.face_mse(got, truth) == found.face_mse
    with pytest.raises(ValueError, match="of one shape"):
        metrics.face_errors(got, truth[:9])


def test_the_autoencoders_gradient_is_that_of_plain_layers(monkeypatch):
    windows = torch.randn(60, 32, 330, generator=torch.Generator().manual_seed(0))
    found = []
    for linear in (fgd._linear, lambda x, layer: F.linear(x, layer.weight[..., 0], layer.bias)):
        monkeypatch.setattr(fgd, "_linear", linear)
        torch.manual_seed(1)
        network = metrics.MotionAutoencoder()
        network.decode(network.encode(windows)).square().mean().backward()
        found.append([p.grad for p in network.parameters()])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-8)
