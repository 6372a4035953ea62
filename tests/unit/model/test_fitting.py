"""The fit on landmarks whose truth is known: projections of the embedded body itself."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from configs.schema import Config
from model import fit_priors
from model.body import UPPER_BODY, Body
from model.fit_energy import CHUNK, Energy, State, every, geman_mcclure
from model.fit_energy import project as to_pixels
from model.fit_layout import BODY_NAMES, BODY_PART, FACE_PART, HANDS_PART, LANDMARKS, Layout, Observations, make_layout, observe
from model.fit_points import Carrier
from model.fit_shape import log_lengths, shape_prior
from model.fit_solver import NormalEquations, Smoothness, solve
from model.fit_windows import OVERLAP, fit_long, join, plan_windows, sampled
from model.fitting import FitOptions, FitResult, fit, moving_coordinates, refined
from model.types import SmplxParams
from pipelines.body import body_hash, face_embedding

FRAMES, SIDE, FOCAL, FPS = 12, 512, 820.0, 25.0
QUICK = FitOptions()
EVERY_ANGLE = moving_coordinates(legs=True, hands=True)


@pytest.fixture(scope="module")
def layout(body) -> Layout:
    return make_layout(body, face_embedding(body, body_hash(Config())))


@pytest.fixture(scope="module")
def truth() -> SmplxParams:
    """A half-body speaker, 2.2 m away: one arm gestures, the head turns, the mouth opens and closes."""
    time = torch.arange(FRAMES) / FPS
    mean, _ = fit_priors.pose_prior()
    pose = mean.expand(FRAMES, -1, -1).clone()
    pose[:, 16, 1] -= 0.3 + 0.3 * torch.sin(3 * time)
    pose[:, 19, 1] += 0.5 * torch.sin(4 * time)
    pose[:, 15, 1] = 0.2 * torch.sin(2 * time)
    pose[:, 22, 0] = 0.15 + 0.12 * torch.sin(18 * time)
    transl = torch.tensor([0.05, 0.0, -2.2]).expand(FRAMES, 3)
    return SmplxParams.from_pose(pose, torch.zeros(FRAMES, 10), torch.zeros(FRAMES, 10), transl)


@pytest.fixture(scope="module")
def seen(body, layout, truth) -> Observations:
    return project(body, layout, truth)


@pytest.fixture(scope="module")
def fitted(body, layout, seen) -> FitResult:
    return fit(body, layout, seen, QUICK)


def project(body: Body, layout: Layout, params: SmplxParams) -> Observations:
    """What a perfect detector would see of `params`; what is outside the picture is unseen."""
    frames = len(params.transl)
    empty = Observations(
        torch.zeros(frames, LANDMARKS, 2), torch.ones(frames, LANDMARKS), torch.zeros(frames, len(layout.limb), 3),
        torch.ones(frames, len(layout.limb)),
        torch.zeros(frames, 7, 2), torch.ones(frames, 7, 2), (SIDE, SIDE), FPS,
    )  # fmt: skip
    # the torso is only where the search starts: any plausible scale will do
    torso = torch.tensor([[0.18, 0], [-0.18, 0], [0.3, 0.3], [-0.3, 0.3], [0, -0.2], [0.07, -0.22], [-0.07, -0.22]])
    start = dataclasses.replace(empty, torso_metres=torso.expand(frames, 7, 2), torso_pixels=torso * 370 + SIDE / 2)
    start = dataclasses.replace(start, torso_pixels=start.torso_pixels.expand(frames, 7, 2))
    joints, marks = body.joints(params), body.posed_points(layout.points, params)
    points, _ = to_pixels(marks, FOCAL, (SIDE, SIDE))
    unit = lambda x: x / x.norm(dim=-1, keepdim=True).clamp(min=1e-9)  # noqa: E731
    limbs = unit(joints[:, layout.limb[:, 1]] - joints[:, layout.limb[:, 0]])
    inside = ((points > 0) & (points < SIDE)).all(-1).float()
    weights = inside * torch.tensor([1.0] * FACE_PART.start + [0.19] * (LANDMARKS - FACE_PART.start))
    return dataclasses.replace(start, points=points, weights=weights, limbs=limbs)


def state_of(params: SmplxParams) -> State:
    return State(params.full_pose, params.transl, params.expression, params.betas[0], torch.zeros(1))


def from_neck(body: Body, params: SmplxParams) -> torch.Tensor:  # [T, upper body, 3]
    joints = body.joints(params)
    return joints[:, list(UPPER_BODY)] - joints[:, 12:13]


def test_recovers_a_speaker_from_perfect_landmarks(body, truth, fitted):
    error = (from_neck(body, fitted.params) - from_neck(body, truth)).norm(dim=-1).mean()
    assert error < 0.02
    jaw = torch.stack([fitted.params.jaw_pose[:, 0], truth.jaw_pose[:, 0]])
    assert torch.corrcoef(jaw)[0, 1] > 0.95
    assert fitted.residual[:, FACE_PART].nanmedian() < 0.002
    assert fitted.energy[-1] <= fitted.energy[-3]


def test_faces_the_camera_upright(fitted, truth):
    assert fitted.params.global_orient.norm(dim=-1).max() < 0.3
    depth = -fitted.params.transl[:, 2] / fitted.focal
    assert torch.allclose(depth, -truth.transl[:, 2] / FOCAL, rtol=0.1)


def test_a_picture_twice_as_large_gives_the_same_body_and_twice_the_focal_length(body, layout, seen, fitted):
    scaled = dataclasses.replace(seen, points=2 * seen.points, torso_pixels=2 * seen.torso_pixels, size=(2 * SIDE, 2 * SIDE))
    large = fit(body, layout, scaled, QUICK)
    assert large.focal == pytest.approx(2 * fitted.focal, rel=0.01)
    assert (from_neck(body, large.params) - from_neck(body, fitted.params)).norm(dim=-1).max() < 0.005


def test_unseen_landmarks_do_not_matter(body, layout, seen, truth):
    moved = torch.where(seen.weights[..., None] > 0, seen.points, seen.points + 1000)
    assert (seen.weights == 0).any()
    plain, other = (
        Energy(body, layout, x, EVERY_ANGLE, FOCAL, True).value(state_of(truth), 3.0)
        for x in (seen, dataclasses.replace(seen, points=moved))
    )
    assert plain == other


def test_the_truth_has_less_energy_than_its_neighbours(body, layout, seen, truth):
    energy = Energy(body, layout, seen, EVERY_ANGLE, FOCAL, True)
    at = lambda params: energy.value(state_of(params), 3.0)  # noqa: E731
    for part, change in (("global_orient", 0.1), ("transl", 0.1), ("jaw_pose", 0.1), ("left_hand_pose", 0.3)):
        assert at(dataclasses.replace(truth, **{part: getattr(truth, part) + change})) > at(truth)


def test_a_wrist_seen_elsewhere_for_one_frame_is_passed_over(body, layout, seen, fitted):
    points = seen.points.clone()
    points[8, 4] += 150
    wild = fit(body, layout, dataclasses.replace(seen, points=points), QUICK)
    wrist = list(UPPER_BODY).index(20)
    moved = (from_neck(body, wild.params) - from_neck(body, fitted.params))[8, wrist].norm()
    assert moved < 0.03  # a plain squared error would pull it by a large part of the 0.4 m


def test_landmarks_that_are_off_in_all_frames_alike_hardly_change_lengths_that_were_told(body, layout, seen):
    """Elbows and wrists are seen a tenth too far from the neck throughout."""
    arms = [BODY_NAMES.index(f"{side}_{joint}") for side in ("left", "right") for joint in ("elbow", "wrist")]
    neck = seen.points[:, :2].mean(1, keepdim=True)
    points, weights = seen.points.clone(), seen.weights.clone()
    points[:, arms] += 0.1 * (points[:, arms] - neck)
    weights[:, HANDS_PART] = 0
    off = dataclasses.replace(seen, points=points, weights=weights)
    usual = log_lengths(body, torch.zeros(10).double())[0]
    told = shape_prior(body, usual.numpy(), 0.06**2 * np.eye(len(usual)))
    drift = lambda shape: log_lengths(body, fit(body, layout, off, QUICK, shape=shape).params.betas[0].double())[0] - usual  # noqa: E731
    free, held = drift(None)[:2].abs().max(), drift(told)[:2].abs().max()
    assert held < 0.015
    assert held < 0.4 * free


def test_nobody_in_any_frame_is_an_error(body, layout, seen):
    nobody = dataclasses.replace(seen, torso_pixels=torch.full_like(seen.torso_pixels, torch.nan))
    with pytest.raises(ValueError, match="expected a body in at least one of 12 frames"):
        fit(body, layout, nobody, QUICK)


def test_one_frame_can_be_fitted(body, layout, truth):
    result = fit(body, layout, project(body, layout, truth[:1]), FitOptions((1, 1, 1, 1)))
    assert result.params.transl.shape == (1, 3)
    assert torch.isfinite(result.params.full_pose).all()


@pytest.mark.parametrize(("frames", "window"), [(100, 500), (500, 500), (501, 500), (1480, 500), (2000, 60)])
def test_windows_cover_every_frame_and_share_the_overlap(frames, window):
    spans = plan_windows(frames, window)
    assert spans[0][0] == 0
    assert spans[-1][1] == frames
    assert all(b - a <= window for a, b in spans)
    assert all(before[1] - after[0] == OVERLAP for before, after in pairwise(spans))


def test_windows_are_joined_without_a_step(body, layout, truth):
    long = SmplxParams.cat([truth, truth, truth, truth])
    seen = project(body, layout, long)
    steps = []
    result = fit_long(body, layout, seen, FitOptions((2, 2, 1, 1)), 41, lambda *x: steps.append(x))
    assert result.params.transl.shape == (4 * FRAMES, 3)
    assert result.residual.shape == (4 * FRAMES, LANDMARKS)
    assert torch.allclose(result.params.betas, result.params.betas[:1].expand(4 * FRAMES, -1))
    assert steps[-1] == (18, 18)  # of the sample and of two windows


def test_a_sample_is_spread_over_the_frames_in_which_somebody_is_seen(seen):
    weights = seen.weights.clone()
    weights[4:] = 0
    weights[10] = 1
    sample = sampled(dataclasses.replace(seen, weights=weights), 3)
    assert torch.equal(sample.points, seen.points[[0, 2, 10]])
    assert sample.fps == pytest.approx(FPS * 3 / FRAMES)


def test_joining_two_equal_stretches_changes_nothing(truth):
    residual = torch.rand(FRAMES, LANDMARKS)
    part = lambda a, b: FitResult(truth[a:b], 1.0, residual[a:b], torch.zeros(1))  # noqa: E731
    whole = join(part(0, 10), part(6, FRAMES), 4)
    assert torch.allclose(whole.params.full_pose, truth.full_pose, atol=1e-5)
    assert torch.equal(whole.residual, residual)


def test_prior_and_limits_treat_both_sides_alike():
    mean, sigma = fit_priors.pose_prior()
    assert torch.equal(sigma[16], sigma[17])
    pose = mean + 0.7 * torch.randn(3, 55, 3, generator=torch.Generator().manual_seed(0))
    mirrored = mirror(pose)
    energy = lambda x: ((x - mean) / sigma).square().sum((1, 2))  # noqa: E731
    assert torch.allclose(energy(pose), energy(mirrored), rtol=1e-4)
    assert torch.allclose(excess(pose), excess(mirrored), rtol=1e-4)


def excess(pose: torch.Tensor) -> torch.Tensor:  # [..., J, 3] → [...]
    low, high = fit_priors.joint_limits()
    return (torch.relu(pose - high) + torch.relu(low - pose)).square().sum((-1, -2))


def mirror(pose: torch.Tensor) -> torch.Tensor:
    """The pose of the mirror image: sides change places, rotations about y and z change sign."""
    from model.body import JOINT_NAMES

    swap = {"left": "right", "right": "left"}
    other = lambda n: n.replace(n.split("_")[0], swap[n.split("_")[0]], 1) if n.split("_")[0] in swap else n  # noqa: E731
    order = [JOINT_NAMES.index(other(name)) for name in JOINT_NAMES]
    return pose[:, order] * torch.tensor([1.0, -1.0, -1.0])


def test_joint_limits_count_only_what_goes_too_far():
    pose = fit_priors.pose_prior()[0].clone()
    assert excess(pose).item() == 0
    pose[22, 0] = 0.7  # the jaw opens 0.2 rad more than it can
    assert excess(pose).item() == pytest.approx(0.04)


def test_smoothness_does_not_depend_on_the_frame_rate():
    """Half the rate, four times the second difference of the same motion."""
    at_25, at_50 = (fit_priors.acceleration_sigma(fps) for fps in (25.0, 50.0))
    assert torch.allclose(at_25, 4 * at_50)


def test_derivatives_of_points_are_those_of_finite_differences(body, layout, truth):
    torch.manual_seed(0)
    exact, points = copy.deepcopy(body).double(), copy.deepcopy(layout.points).double()
    carrier = Carrier(exact, points, torch.cartesian_prod(torch.arange(55), torch.arange(3)))
    pose = (truth.full_pose[:1] + 0.2 * torch.randn(1, 55, 3)).double()
    betas, face, transl = torch.randn(1, 10).double(), torch.rand(1, 10).double(), truth.transl[:1].double()
    place = lambda p, b, e: carrier.place(SmplxParams.from_pose(p, b, e, transl)).points  # noqa: E731
    posed = carrier.place(SmplxParams.from_pose(pose, betas, face, transl))
    by_pose = carrier.by_pose(carrier.slopes(posed), torch.eye(3).double().expand(*posed.points.shape[:2], 3, 3))
    bend, shape = 1e-5 * torch.randn(1, 55, 3).double(), 1e-5 * torch.randn(2, 1, 10).double()
    turned = (place(pose + bend, betas, face) - place(pose - bend, betas, face)) / 2
    assert torch.allclose(turned, by_pose @ bend.flatten(), atol=5e-9)  # pose correctives are left out of the derivative
    grown = (place(pose, betas + shape[0], face + shape[1]) - place(pose, betas - shape[0], face - shape[1])) / 2
    assert torch.allclose(grown, carrier.by_shape(posed) @ torch.cat([*shape], -1)[0], atol=1e-11)


def test_gradient_is_that_of_the_energy(body, layout, seen, truth):
    energy = Energy(body, layout, seen, EVERY_ANGLE, FOCAL, True)
    generator = torch.Generator().manual_seed(0)
    state = state_of(truth)
    step = 0.05 * torch.randn(FRAMES, len(EVERY_ANGLE) + 13, generator=generator)
    shared = 0.3 * torch.randn(11, generator=generator)
    state = energy.moved(state, step, shared)
    equations = energy.equations(state, 9.0)
    gradient = equations.gradient + energy.smoothness.gradient(energy.unknowns(state))
    slope = (gradient * step).sum() + (equations.shared_gradient * shared).sum()
    around = [energy.value(energy.moved(state, k * step, k * shared), 9.0) for k in (1e-2, -1e-2)]
    assert slope.item() == pytest.approx((around[0] - around[1]) / 2e-2, rel=0.03)


def test_banded_step_is_that_of_the_whole_matrix():
    frames, count, common = 7, 4, 3
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(frames, 9, count + common, generator=generator, dtype=torch.float64)
    square, values = rows.mT @ rows, torch.randn(frames, count + common, generator=generator, dtype=torch.float64)
    own, shared = slice(0, count), slice(count, None)
    equations = NormalEquations(
        square[:, own, own], values[:, own], square[:, own, shared], square[:, shared, shared].sum(0), values[:, shared].sum(0)
    )  # fmt: skip
    smooth, x = Smoothness(frames, torch.tensor([0.5, 1.0, 2.0, 3.0])), torch.randn(frames, count, generator=generator)
    step, last = solve(equations, smooth, x, torch.full((count,), 0.1), torch.zeros(common))
    size = frames * count
    whole = torch.zeros(size + common, size + common, dtype=torch.float64)
    whole[:size, :size] = torch.block_diag(*equations.matrix) + 0.1 * torch.eye(size)
    for d in range(count):
        whole[d:size:count, d:size:count] += smooth.square * smooth.precision[d]
    whole[:size, size:] = equations.border.flatten(0, 1)
    whole[size:, :size] = whole[:size, size:].T
    whole[size:, size:] = equations.shared_matrix
    right = torch.cat([(equations.gradient + smooth.gradient(x)).flatten(), equations.shared_gradient])
    expected = -torch.linalg.solve(whole, right)
    assert torch.allclose(torch.cat([step.flatten(), last]).double(), expected, rtol=1e-4, atol=1e-5)


def test_frames_between_the_coarse_ones_are_filled_in(truth):
    """A motion that is linear in time comes back exactly, the last frame held."""
    line = torch.arange(10.0)[:, None, None].expand(10, 55, 3)
    state = State(line[::3], line[::3, 0], torch.zeros(4, 10), torch.zeros(10), torch.zeros(1))
    assert torch.allclose(refined(state, 3, 10).pose, line)
    assert refined(state, 3, 11).pose[10, 0, 0] == pytest.approx(9 + 0.0)


def test_thinned_frames_keep_their_time(seen):
    thin = every(seen, 3)
    assert len(thin) == 4
    assert thin.fps == pytest.approx(FPS / 3)


def test_robust_loss_is_quadratic_near_zero_and_bounded():
    assert geman_mcclure(torch.tensor(0.01), 3.0).item() == pytest.approx(0.01, rel=2e-3)
    assert geman_mcclure(torch.tensor(1e9), 3.0).item() == pytest.approx(9.0)


def test_observe_ignores_what_is_outside_hidden_or_missing():
    frames = 2
    pose = np.full((frames, 33, 3), 100.0)
    pose[0, 15, :2] = 600, 100  # left wrist beyond the right edge
    visibility = np.ones((frames, 33))
    visibility[1, 16] = 0.2  # right wrist hardly visible
    world = np.random.default_rng(0).normal(size=(frames, 33, 3))
    world[0, 27] = world[0, 25] + [0, 0.3, 0]  # left shank hangs down (camera axes: y down)
    hand = np.full((frames, 21, 3), np.nan)
    seen = observe(pose, visibility, world, np.full((frames, 478, 3), 50.0), hand, hand + 0.0, (512, 512), 25.0)
    assert seen.weights.shape == (frames, LANDMARKS)
    assert seen.weights[:, 4].tolist() == [0.0, 1.0]
    assert seen.weights[:, 5].tolist() == [1.0, 0.0]
    assert seen.weights[:, BODY_PART.stop : FACE_PART.start].sum() == 0
    assert seen.weights[0, FACE_PART].sum().item() == pytest.approx(25.0, rel=1e-4)
    assert torch.isfinite(seen.points).all()
    assert torch.allclose(seen.limbs[0, 1], torch.tensor([0.0, -1.0, 0.0]), atol=1e-6)


def test_offsets_move_landmarks_with_their_joint(body, layout, truth):
    """An offset of the left wrist keeps its length and stays with the hand however the arm turns."""
    offsets = torch.zeros(FACE_PART.start, 3)
    offsets[4, 0] = 0.05
    shifted = make_layout(body, face_embedding(body, body_hash(Config())), offsets)
    plain, moved = (body.posed_points(x.points, truth) for x in (layout, shifted))
    assert torch.allclose((moved - plain)[:, 4].norm(dim=-1), torch.full((FRAMES,), 0.05), atol=1e-5)
    assert torch.equal(plain[:, :4], moved[:, :4])


def test_threads_are_as_before_when_the_fit_has_ended(body, layout, seen):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    during: list[int] = []
    try:
        fit(body, layout, seen, FitOptions((1, 1, 1, 1)), on_step=lambda *_: during.append(torch.get_num_threads()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert set(during) == {1}


def test_a_clip_longer_than_a_chunk_is_linearised_as_its_frames_are(body, layout, truth):
    long = SmplxParams.cat([truth] * 3)
    seen, single = project(body, layout, long), project(body, layout, truth)
    whole = Energy(body, layout, seen, EVERY_ANGLE, FOCAL, True).equations(state_of(long), 3.0)
    part = Energy(body, layout, single, EVERY_ANGLE, FOCAL, True).equations(state_of(truth), 3.0)
    assert len(long.transl) > CHUNK
    assert torch.allclose(whole.matrix, torch.cat([part.matrix] * 3), rtol=1e-4, atol=1e-2)
    assert torch.allclose(whole.shared_matrix, 3 * part.shared_matrix, rtol=1e-4, atol=1e-2)
