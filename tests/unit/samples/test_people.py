"""The embedded people: layers follow the body, scans match their SMPL-X parameters, face points lie on the face."""

from __future__ import annotations

import importlib.resources
import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree
from smplx.vertex_ids import vertex_ids

from model.body import JOINT_NAMES, Body
from model.mesh_raster import vertex_normals
from model.types import SmplxParams
from pipelines.scans import ScanMesh, load_scan, unpack
from samples.builders.fabric import PATTERNS
from samples.builders.garments import FOOTWEAR, LOWERS, OVERS, UPPERS
from samples.builders.glasses import FRAMES
from samples.builders.hairstyles import BEARD_STYLES, HAIR_STYLES
from samples.builders.looks import Glasses, random_look
from samples.builders.people import PARTS, Person, dress, embedded_body, embedded_wardrobe, make_person
from samples.builders.poke import covered, outside, poke_through, talk_poses
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


def test_parts_name_every_triangle(person: Person) -> None:
    assert person.part_ids.dtype == np.uint8
    assert person.part_ids.shape == (len(person.faces),)
    seen = {PARTS[k] for k in np.unique(person.part_ids)}
    assert {"skin", "eyes", "teeth", "tongue", "hair", "top", "lower", "feet"} <= seen
    middle = person.points.rest.numpy()[person.faces].mean(1)
    part = lambda name: middle[person.part_ids == PARTS.index(name)]  # noqa: E731
    assert part("feet")[:, 1].max() < part("top")[:, 1].min() < part("eyes")[:, 1].min()


def test_a_hundred_seeds_are_a_hundred_looks() -> None:
    looks = [random_look(seed) for seed in range(100)]
    assert all(look.woman == bool(seed % 2) for seed, look in enumerate(looks))
    assert len({(k.hair_style, k.beard_style, k.top.kind, k.top.fabric.main) for k in looks}) == 100
    skins = np.array([k.skin for k in looks])
    assert skins[:, 0].min() < 0.35
    assert skins[:, 0].max() > 0.9
    assert np.diff(np.sort(skins[:, 0])).max() < 0.06  # a continuous range, not a few swatches


def test_every_row_of_the_tables_appears_in_the_first_people() -> None:
    looks = [random_look(seed) for seed in range(200)]
    assert {k.top.kind for k in looks} == set(UPPERS)
    assert {k.jacket.kind for k in looks if k.jacket} == set(OVERS)
    assert {w.kind for k in looks for w in (k.lower, k.skirt) if w} == {*LOWERS, "dress"}
    assert {k.feet.kind for k in looks} == set(FOOTWEAR)
    assert {k.hair_style for k in looks} == set(HAIR_STYLES)
    assert {k.beard_style for k in looks} == set(BEARD_STYLES)
    assert {k.glasses.frame for k in looks if k.glasses} == set(FRAMES)
    assert {k.top.fabric.pattern for k in looks} == set(PATTERNS)
    assert any(k.scarf for k in looks)
    assert any(k.tie for k in looks)


@pytest.mark.parametrize("seed", [2, 11, 50])
def test_skin_stays_under_clothes(seed: int) -> None:
    person = make_person(seed, texture_size=128)
    names, params = talk_poses(person)
    shares = poke_through(person, params)
    assert shares.mean() < 0.008
    assert shares.max() < 0.05, names[int(shares.argmax())]


def test_a_hole_in_the_measure_would_show(person: Person) -> None:
    """Skin pushed 2 cm out comes through."""
    vertices, found = person.vertices(person.posing())[0].astype(np.float64), covered(person)
    assert (outside(vertices, person.faces, found) < 0).all()
    vertices[found.vertex] += 0.02 * vertex_normals(vertices, person.faces)[found.vertex]
    assert (outside(vertices, person.faces, found) > 0.001).mean() > 0.5


def test_clothes_follow_the_pose_directions_of_the_skin_below() -> None:
    """A planted corrective that lifts everything 1 cm at a bent elbow moves skin, clothes and hair alike, glasses not."""
    with np.load(SAMPLES / "body" / "SMPLX_NEUTRAL.npz", allow_pickle=False) as npz:
        arrays = {name: npz[name] for name in ("v_template", "shapedirs", "J_regressor", "weights", "f", "kintree_table")}
    directions = np.zeros((len(arrays["v_template"]), 3, 486), np.float32)
    bare = Body({**arrays, "posedirs": directions[..., :1].repeat(486, -1)})
    directions[:, 1, 9 * (JOINT_NAMES.index("left_elbow") - 1) + 1] = 0.01
    lifting = Body({**arrays, "posedirs": directions})
    look = replace(random_look(3), glasses=Glasses("round", (0.1, 0.1, 0.1)))
    person = dress(3, look, torch.zeros(10), bare, embedded_wardrobe(), 64)
    pose = torch.zeros(1, 21, 3)
    pose[0, JOINT_NAMES.index("left_elbow") - 1, 2] = -0.5
    params = person.posing(body_pose=pose)
    moved = (person.vertices(params, lifting) - person.vertices(params, bare))[0]
    glasses = np.unique(person.faces[person.part_ids == PARTS.index("glasses")])
    others = np.setdiff1d(np.arange(len(moved)), glasses)
    expected = 0.01 * np.sin(0.5)
    np.testing.assert_allclose(np.linalg.norm(moved[others], axis=1), expected, atol=2e-4)
    np.testing.assert_allclose(moved[glasses], 0, atol=1e-6)


def test_layout_is_a_valid_texture_map(person: Person) -> None:
    assert person.uv_faces.shape == person.faces.shape
    assert person.faces.max() == len(person.points.rest) - 1
    assert person.uv.min() >= 0
    assert person.uv.max() <= 1


def test_archive_holds_the_named_people_in_plain_arrays() -> None:
    assert (SAMPLES / "people.zip").stat().st_size < 6e6
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
    """Bare skin coincides with the body; under clothes the body is within 3.5 cm (hair, soles and skirts reach further)."""
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
    assert np.percentile(distance[torso], 95) < 0.035
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
