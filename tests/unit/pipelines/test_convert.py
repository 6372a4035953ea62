"""Every format read back: what it holds returns, what it cannot hold is said."""

from __future__ import annotations

import dataclasses
import itertools
import json
import struct
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipelines.convert import READERS, WRITERS, convert, detect, read_take
from pipelines.formats_hands import Context, HandSpace
from pipelines.formats_take import Take, implausible, make_camera, moved, resampled
from pipelines.store import InputRejected

BODY_FILE = Path(__file__).parents[3] / "samples" / "body" / "SMPLX_NEUTRAL.npz"
NAMES = {"fit": "a.npz", "emage": "a_output.npz", "lhm": "a", "talk": "talk", "talkshow": "a.npy", "huge100k": "h.npy"}
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def context(body):
    return Context(body, HandSpace.load(BODY_FILE))


def random_take(seed=0, frames=6, betas=10, expressions=10, size=1.0, fps=Fraction(30), distance=2.5):
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(frames, 55, 3))
    # any axis, angles up to nearly a half turn
    pose *= size * rng.uniform(0, 3.1, (frames, 55, 1)) / np.linalg.norm(pose, axis=-1, keepdims=True)
    camera = make_camera(
        torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])),
        torch.tensor([800.0, 810.0]),
        torch.tensor([255.0, 257.0]),
        torch.tensor([512, 514]),
    )
    camera.w2c[:3, 3] = torch.tensor([0.1, 0.3, distance])
    f = lambda *shape: torch.from_numpy(rng.normal(size=shape).astype(np.float32)).double()  # noqa: E731
    return Take(torch.from_numpy(pose), f(frames, 3), f(frames, expressions), f(betas), fps, camera, torch.rand(frames))


def turn_between(a, b):
    """Largest angle between rotations [..., 3], radians."""
    return roma.rotmat_geodesic_distance(roma.rotvec_to_rotmat(a), roma.rotvec_to_rotmat(b)).max().item()


@QUICK
@given(seed=st.integers(0, 10**6), frames=st.integers(1, 8), name=st.sampled_from(sorted(READERS)))
def test_what_a_format_holds_comes_back(context, tmp_path_factory, seed, frames, name):
    take = random_take(seed, 1 if name == "huge100k" else frames)
    path = tmp_path_factory.mktemp("trip") / NAMES[name]
    WRITERS[name](path, take, context)
    # LHM keeps no world and TalkSHOW no camera: the camera is an argument
    got = READERS[name](path, dataclasses.replace(context, camera=take.camera, rate=take.fps))
    assert turn_between(got.pose, take.pose) <= 1e-5
    if name != "talkshow":
        assert (got.transl - take.transl).abs().max() <= 1e-6
        assert torch.allclose(got.betas[:10], take.betas, atol=1e-6)
    assert torch.allclose(got.expression[:, :10], take.expression, atol=1e-6)


@pytest.mark.parametrize(("first", "second"), itertools.permutations(["fit", "emage", "lhm", "talkshow"], 2))
def test_any_format_to_any_other(context, tmp_path, first, second):
    take = random_take(3, size=0.3)
    paths = [tmp_path / f"{n}_{NAMES[n]}" for n in (first, second)]
    seen = dataclasses.replace(context, camera=take.camera)
    WRITERS[first](paths[0], take, context)
    done = convert(paths[0], paths[1], seen, seen, target_format=second)
    assert (done.source_format, done.target_format, done.warnings) == (first, second, [])
    got = read_take(paths[1], seen)
    assert turn_between(got.pose, take.pose) <= 1e-5
    if "talkshow" not in (first, second):
        assert (got.transl - take.transl).abs().max() <= 1e-6


def test_joints_are_seen_where_lhm_says(context, tmp_path):
    take = random_take(1)
    WRITERS["lhm"](tmp_path / "a.zip", take, context)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        row = json.loads(archive.read("smplx_params/00002.json"))
    assert (np.shape(row["lhand_pose"]), np.shape(row["body_pose"]), row["pad_ratio"]) == ((15, 3), (21, 3), 0)
    seen = moved(take, take.camera.w2c, context.body)
    wanted = context.body.joints(take.params()) @ take.camera.w2c[:3, :3].T + take.camera.w2c[:3, 3]
    torch.testing.assert_close(context.body.joints(seen.params()), wanted, atol=1e-5, rtol=0)
    np.testing.assert_allclose(row["trans"], seen.transl[2].tolist(), atol=1e-9)
    assert detect(tmp_path / "a.zip") == "lhm"


def test_what_is_dropped_is_said(context, tmp_path):
    take = random_take(0, betas=300, expressions=100, fps=Fraction(25))
    said = {n: " | ".join(write(tmp_path / f"{n}_{NAMES.get(n, n)}", take, context)) for n, write in WRITERS.items()}
    assert "betas: coefficients 11 to 300" in said["fit"]
    assert "expression: coefficients 11 to 100" in said["fit"]
    assert "betas" not in said["emage"]
    assert "25 frames/s resampled to 30" in said["emage"]
    assert "camera" in said["emage"]
    assert "rate: the files hold none" in said["lhm"]
    assert "expression" not in said["lhm"]
    assert "transl" in said["talkshow"]
    assert "betas" in said["talkshow"]
    assert "all 6 but number 0" in said["huge100k"]
    assert "expression" in said["bvh"]
    assert "pose correctives" in said["gltf"]
    assert "none beside the motion" in said["talk"]


@pytest.mark.parametrize("count", [10, 50, 100])
def test_expressions_of_any_count(context, tmp_path, count):
    take = random_take(2, expressions=count)
    for name in ("emage", "lhm", "talkshow"):
        path = tmp_path / f"{name}_{NAMES[name]}"
        WRITERS[name](path, take, context)
        got = read_take(path, context).expression
        torch.testing.assert_close(got[:, :count], take.expression, atol=1e-6, rtol=0)
        assert not got[:, count:].any()


def test_fingers_relative_to_the_mean_hand(context, tmp_path):
    flat = random_take(0).replace(pose=torch.zeros(6, 55, 3).double())
    WRITERS["emage"](tmp_path / "a_output.npz", flat, context)
    with np.load(tmp_path / "a_output.npz", allow_pickle=False) as npz:
        mean = np.load(BODY_FILE)["hands_meanl"]
        np.testing.assert_allclose(npz["poses"][0, 75:120], -mean, atol=1e-6)


def test_fingers_as_components(context, tmp_path):
    take = random_take(0, size=0.2)
    coefficients = torch.randn(6, 2, 12, generator=torch.Generator().manual_seed(0)).double()
    fingers = context.hands.fingers(coefficients)
    torch.testing.assert_close(context.hands.coefficients(torch.cat([take.pose[:, :25], fingers], 1), 12), coefficients)
    narrow = dataclasses.replace(context, hands_pca=12, camera=take.camera)
    for name, file in (("talkshow", "a.npy"), ("lhm", "b")):
        said = WRITERS[name](tmp_path / file, take.replace(pose=torch.cat([take.pose[:, :25], fingers], 1)), narrow)
        assert any("12 components a hand" in line for line in said)
        got = read_take(tmp_path / file, narrow)
        torch.testing.assert_close(got.pose[:, 25:], fingers, atol=1e-5, rtol=0)
    assert np.load(tmp_path / "a.npy").shape == (6, 199)


def test_resampling_stays_on_the_manifold():
    axis = torch.tensor([0.3, -0.8, 0.52]).double()
    angles = torch.linspace(-3, 3, 25).double()
    steady = random_take(0, 25).replace(pose=(angles[:, None] * axis / axis.norm())[:, None].expand(25, 55, 3), fps=Fraction(25))
    fast = resampled(steady, Fraction(60))
    assert fast.frames == 60
    turned = roma.rotvec_to_rotmat(fast.pose[:, 7])
    steps = roma.rotmat_geodesic_distance(turned[3:-4], turned[4:-3])
    torch.testing.assert_close(steps, torch.full_like(steps, 6 / 24 * 25 / 60), atol=1e-6, rtol=0)
    back = resampled(resampled(steady, Fraction(50)), Fraction(25))
    assert turn_between(back.pose[1:-1], steady.pose[1:-1]) < 1e-6


def test_bad_files_get_one_clear_line(context, tmp_path):
    take = random_take(0)

    def refused(path, *words):
        with pytest.raises(InputRejected) as caught:
            read_take(path, context)
        assert "\n" not in str(caught.value)
        assert all(w in str(caught.value) for w in words), str(caught.value)

    good = {"poses": np.zeros((5, 165)), "betas": np.zeros(300), "expressions": np.zeros((5, 100)), "trans": np.zeros((5, 3))}
    bad = np.zeros((5, 165))
    bad[3, 7] = np.nan
    for i, (change, words) in enumerate([
        ({"poses": bad}, ("finite", "frame 3", "right_hip")), ({"poses": np.zeros((5, 156))}, ("(T,165)", "(5, 156)")),
        ({"expressions": np.zeros((4, 100))}, ("(4, 100)",)), ({"poses": np.zeros((0, 165)), "expressions": np.zeros((0, 100)),
         "trans": np.zeros((0, 3))}, ("at least one frame",)), ({"trans": np.array([{}], dtype=object)}, ("plain arrays",)),
    ]):  # fmt: skip
        np.savez(tmp_path / f"{i}.npz", **{**good, **change})
        refused(tmp_path / f"{i}.npz", *words)
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputRejected, match="not pickled objects"):
        READERS["talkshow"](tmp_path / "o.npy", context)
    np.save(tmp_path / "w.npy", np.zeros((5, 264), np.float32))
    refused(tmp_path / "w.npy", "(T,265)", "(5, 264)")
    (tmp_path / "noise.npz").write_bytes(b"PK nothing")
    refused(tmp_path / "noise.npz", "expected an npz")
    refused(tmp_path / "absent.npz", "found nothing")
    (tmp_path / "l").mkdir()
    refused(tmp_path / "l", "expected a fit file")
    (tmp_path / "l" / "00000.json").write_text(json.dumps({"root_pose": [0, 0, 0]}))
    refused(tmp_path / "l", "body_pose", "63")
    (tmp_path / "l" / "00000.json").write_text("{")
    refused(tmp_path / "l", "not JSON")
    swapped = take.replace(pose=torch.zeros(6, 55, 3).double())
    swapped.pose[:, 22, 0] = 1.7
    assert "smplx's order" in implausible(swapped)
    with pytest.raises(InputRejected, match="name that ends"):
        convert(tmp_path / "w.npy", tmp_path / "a.fbx", context, context)


def test_a_clip_becomes_the_reference_layout_and_returns(context, tmp_path):
    from pipelines.media import write_video, write_wav

    clip = tmp_path / "clip"
    clip.mkdir()
    take = random_take(0, size=0.2, fps=Fraction(25))
    WRITERS["fit"](clip / "fit.npz", take, context)
    write_wav(clip / "audio.wav", np.zeros(3840, np.float32))
    write_video(clip / "clip.mp4", np.zeros((6, 32, 32, 3), np.uint8), Fraction(25), np.zeros(3840, np.float32))
    np.savez(clip / "mask.npz", mask=np.full((6, 128), 255, np.uint8), shape=np.array([6, 32, 32]))
    done = convert(clip, tmp_path / "talk", context, context, target_format="talk")
    assert not any("none beside" in line for line in done.dropped)
    assert {p.name for p in (tmp_path / "talk").iterdir()} == {"imgs_png", "samurai_seg", "smplx_params", "talk.wav"}
    assert len(list((tmp_path / "talk" / "samurai_seg").glob("*.png"))) == len(list((tmp_path / "talk" / "imgs_png").glob("*.png"))) == 6
    got = read_take(tmp_path / "talk", dataclasses.replace(context, camera=take.camera))
    assert (got.fps, got.audio.name) == (24, "talk.wav")
    assert turn_between(got.pose, take.pose) <= 1e-5


def test_bvh_has_the_bodys_joints(context, tmp_path):
    take = random_take(4, size=0.5).replace(expression=torch.zeros(6, 10).double())
    WRITERS["bvh"](tmp_path / "a.bvh", take, context)
    joints, rate = read_bvh(tmp_path / "a.bvh")
    wanted = context.body.joints(take.params()).numpy()
    assert rate == pytest.approx(1 / 30)
    for index, name in enumerate(("pelvis", "left_hip")):
        np.testing.assert_allclose(joints[name], 100 * wanted[:, index], atol=1e-2)
    np.testing.assert_allclose(joints["left_thumb3"], 100 * wanted[:, 39], atol=1e-2)
    np.testing.assert_allclose(joints["right_wrist"], 100 * wanted[:, 21], atol=1e-2)


def read_bvh(path):
    """Joint places [T, 3] by name, and the frame time, by the format's own rules."""
    head, motion = path.read_text().split("MOTION")
    names, parents, offsets, stack, skip = [], [], [], [], False
    for line in head.splitlines():
        word = line.split()
        if word[0] in ("ROOT", "JOINT"):
            parents.append(stack[-1] if stack else -1)
            names.append(word[1])
        elif word[0] == "End":
            skip = True
        elif word[0] == "{":
            stack.append(-2 if skip else len(names) - 1)
        elif word[0] == "}":
            skip = False
            stack.pop()
        elif word[0] == "OFFSET" and not skip:
            offsets.append([float(x) for x in word[1:]])
    lines = motion.strip().splitlines()
    rows = np.array([[float(x) for x in line.split()] for line in lines[2:]])
    turns = Rotation.from_euler("ZXY", rows[:, 3:].reshape(-1, 3), degrees=True).as_matrix().reshape(len(rows), -1, 3, 3)
    places, world = [], []
    for i, parent in enumerate(parents):
        world.append(turns[:, i] if parent < 0 else world[parent] @ turns[:, i])
        places.append(rows[:, :3] if parent < 0 else places[parent] + world[parent] @ np.array(offsets[i]))
    return dict(zip(names, places)), float(lines[1].split()[-1])


def test_a_glb_skins_to_the_bodys_vertices(context, tmp_path):
    take = random_take(5, frames=3, size=0.3)
    WRITERS["gltf"](tmp_path / "a.glb", take, context)
    points = context.body.all_vertices()
    points.pose_basis = points.pose_basis[:0]  # glTF has no pose correctives
    # nor does an expression move glTF's joints; in this body it moves them by microns
    wanted = context.body.posed_points(points, take.params()).numpy()
    for frame in range(3):
        np.testing.assert_allclose(skin_glb(tmp_path / "a.glb", frame), wanted[frame], atol=2e-4)


def skin_glb(path, frame):
    """The mesh of a .glb at a key frame, by the glTF 2.0 specification alone."""
    data = path.read_bytes()
    assert data[:4] == b"glTF"
    assert struct.unpack("<II", data[4:12]) == (2, len(data))
    length = struct.unpack("<I", data[12:16])[0]
    content, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4, "MAT4": 16}

    def values(index):
        accessor = content["accessors"][index]
        view = content["bufferViews"][accessor["bufferView"]]
        kind = {5126: np.float32, 5123: np.uint16, 5125: np.uint32}[accessor["componentType"]]
        shape = (accessor["count"], width[accessor["type"]])
        return np.frombuffer(binary, kind, shape[0] * shape[1], view["byteOffset"]).reshape(shape)

    nodes, animation = content["nodes"], content["animations"][0]
    local = [np.eye(4) for _ in nodes]
    for matrix, node in zip(local, nodes, strict=True):
        matrix[:3, 3] = node.get("translation", [0, 0, 0])
    weights = None
    for channel in animation["channels"]:
        output = values(animation["samplers"][channel["sampler"]]["output"])
        node, kind = channel["target"]["node"], channel["target"]["path"]
        if kind == "rotation":
            local[node][:3, :3] = Rotation.from_quat(output[frame]).as_matrix()
        elif kind == "translation":
            local[node][:3, 3] = output[frame]
        else:
            weights = output.reshape(-1, 10)[frame]
    world = {}

    def place(node, parent):
        world[node] = parent @ local[node]
        for child in nodes[node].get("children", ()):
            place(child, world[node])

    for root in content["scenes"][0]["nodes"]:
        place(root, np.eye(4))
    primitive, skin = content["meshes"][0]["primitives"][0], content["skins"][0]
    attributes = primitive["attributes"]
    vertices = values(attributes["POSITION"]) + sum(w * values(t["POSITION"]) for w, t in zip(weights, primitive["targets"], strict=True))
    inverse = values(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
    joints = np.stack([world[n] for n in skin["joints"]]) @ inverse
    total = np.zeros((len(vertices), 4, 4))
    for k in range(2):
        total += np.einsum("vk,vkij->vij", values(attributes[f"WEIGHTS_{k}"]), joints[values(attributes[f"JOINTS_{k}"])])
    return np.einsum("vij,vj->vi", total, np.concatenate([vertices, np.ones((len(vertices), 1))], 1))[:, :3]


def test_the_command_says_what_is_lost(context, tmp_path):
    import typer
    from typer.testing import CliRunner

    from pipelines.cli_formats import register

    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    WRITERS["fit"](tmp_path / "a.npz", random_take(0, size=0.3), context)
    run = lambda *words: CliRunner().invoke(app, ["convert", *map(str, words)])  # noqa: E731
    result = run(tmp_path / "a.npz", tmp_path / "a_output.npz")
    assert result.exit_code == 0, result.output
    assert "fit → emage, 6 frames" in result.output
    assert "not kept: camera" in result.output
    assert run(tmp_path / "a.npz", tmp_path / "b.zip", "--camera", "1,2,3").exit_code == 2
    assert run(tmp_path / "a.npz", tmp_path / "b", "--rate", "0").exit_code == 2
    assert run(tmp_path / "none.npz", tmp_path / "b").exit_code == 2
