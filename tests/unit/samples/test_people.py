"""The embedded people: layers follow the body, scans match their SMPL-X parameters, face points lie on the face."""

from __future__ import annotations

import importlib.resources
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from smplx.vertex_ids import vertex_ids

from model.body import Body
from model.types import SmplxParams
from pipelines.scans import ScanMesh, load_scan, unpack
from samples.builders.people import Person, embedded_body, make_person
from samples.ids import SUBJECTS

SAMPLES = Path(str(importlib.resources.files("samples")))
HEAD, HANDS = [12, 15, 22], list(range(20, 22)) + list(range(25, 55))


@pytest.fixture(scope="module")
def person() -> Person:
    return make_person(3, texture_size=128)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[ScanMesh, SmplxParams]:
    root = tmp_path_factory.mktemp("people") / "scans"
    unpack(SAMPLES / "people.zip", root)
    with np.load(SAMPLES / "body" / "SMPLX_NEUTRAL.npz", allow_pickle=False) as npz:
        mean = np.concatenate([npz["hands_meanl"], npz["hands_meanr"]])
    return load_scan(root / SUBJECTS[1] / f"{SUBJECTS[1]}.obj", root / "smplx" / SUBJECTS[1] / "smplx_param.pkl", mean)


def test_a_seed_is_always_the_same_person_and_another_is_not(person: Person) -> None:
    again, other = make_person(3, texture_size=128), make_person(2, texture_size=128)
    np.testing.assert_array_equal(person.texture, again.texture)
    np.testing.assert_array_equal(person.vertices(person.posing()), again.vertices(again.posing()))
    assert not torch.equal(person.betas, other.betas)
    assert person.look != other.look


def test_all_layers_move_with_the_body(person: Person) -> None:
    turn = torch.tensor([[0.3, -0.5, 0.2], [0.0, 0.0, 0.0]])
    params = person.posing(global_orient=turn, transl=torch.tensor([[0.0, 0.0, 0.0], [0.4, -0.2, 1.0]]))
    rest = person.vertices(person.posing())[0]
    posed = person.vertices(params)
    np.testing.assert_allclose(posed[1], rest + [0.4, -0.2, 1.0], atol=1e-5)
    gaps = lambda v: np.linalg.norm(v[::97][:, None] - v[::89][None], axis=-1)  # noqa: E731
    np.testing.assert_allclose(gaps(posed[0]), gaps(rest), atol=1e-4)


def test_many_frames_equal_single_frames(person: Person) -> None:
    pose = 0.2 * torch.randn(30, 21, 3, generator=torch.Generator().manual_seed(0))
    many = person.vertices(person.posing(body_pose=pose))
    np.testing.assert_allclose(many[27], person.vertices(person.posing(body_pose=pose[27:28]))[0], atol=1e-5)


def test_layout_is_a_valid_texture_map(person: Person) -> None:
    assert person.uv_faces.shape == person.faces.shape
    assert person.faces.max() == len(person.points.rest) - 1
    assert person.uv.min() >= 0
    assert person.uv.max() <= 1


def test_archive_holds_the_named_people_in_plain_arrays() -> None:
    assert (SAMPLES / "people.zip").stat().st_size < 4.5e6
    with zipfile.ZipFile(SAMPLES / "people.zip") as archive:
        names = archive.namelist()
        fit = pickle.load(io.BytesIO(archive.read(f"smplx/{SUBJECTS[0]}/smplx_param.pkl")))
    assert {n.split("/")[0] for n in names if not n.startswith("smplx/")} == set(SUBJECTS)
    shapes = {name: value.shape for name, value in fit.items()}
    assert shapes["betas"] == (1, 10)
    assert shapes["body_pose"] == (1, 63)
    assert shapes["left_hand_pose"] == (1, 45)
    assert all(type(value) is np.ndarray for value in fit.values())


def test_scan_and_parameters_agree(scan: tuple[ScanMesh, SmplxParams]) -> None:
    """Bare skin coincides with the body; under clothes the body is within 2 cm (hair, soles and jackets reach further)."""
    mesh, params = scan
    body: Body = embedded_body()
    vertices = body.vertices(params[None])[0].numpy()
    corners = mesh.vertices[mesh.faces]
    surface = np.concatenate([mesh.vertices, corners.mean(1), (corners[:, [0, 1, 2]] + corners[:, [1, 2, 0]]).reshape(-1, 3) / 2])
    distance, _ = cKDTree(surface).query(vertices)
    owner = body.skin_weights.argmax(1).numpy()
    skin = np.isin(owner, HANDS)
    assert np.percentile(distance[skin], 99) < 1e-3
    torso = ~np.isin(owner, [*HANDS, *HEAD])
    assert np.percentile(distance[torso], 95) < 0.02
    assert abs(mesh.vertices[:, 1].min()) < 1e-3  # stands on the ground


def test_face_points_lie_on_the_face() -> None:
    body = embedded_body()
    with np.load(SAMPLES / "body" / "face_landmarks.npz", allow_pickle=False) as npz:
        faces, barycentric, offset = npz["faces"], npz["barycentric"], npz["offset"]
    assert faces.shape == (478,)
    np.testing.assert_allclose(barycentric.sum(1), 1, atol=1e-5)
    template = body.template.numpy()
    points = np.einsum("mk,mkc->mc", barycentric, template[body.faces[faces]]) + offset
    assert np.linalg.norm(points[4] - template[vertex_ids["smplx"]["nose"]]) < 0.012
    for iris, eye in ((468, 24), (473, 23)):  # mediapipe's first iris is the person's right
        assert np.linalg.norm(points[iris, :2] - body.joint_template[eye, :2].numpy()) < 0.006
    mirrored = {61: 291, 33: 263, 133: 362, 70: 300}
    for right, left in mirrored.items():
        assert np.linalg.norm(points[right] * [-1, 1, 1] - points[left]) < 0.006
    assert np.linalg.norm(points[13] - points[14]) < 0.008  # closed lips
