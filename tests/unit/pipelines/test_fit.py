"""Landmark files, the embedding on other bodies, and a talk's clips fitted with a detector that knows the truth."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from configs.schema import Config
from model.body import Body
from model.fit_layout import BODY_PART, FACE_POINTS, LANDMARKS, UPPER_LIMBS
from model.fitting import FitResult
from model.types import SmplxParams
from pipelines import fit as fitting
from pipelines import media
from pipelines.body import body_hash, body_record, closest_on_faces, face_embedding, load_body, transfer_embedding
from pipelines.formats import load_fit
from pipelines.landmarks import Landmarks
from pipelines.media_write import write_video
from pipelines.store import Store

FRAMES, SIDE, FPS = 6, 96, Fraction(25)


def detected(frames: int = FRAMES, found: int | None = None) -> Landmarks:
    """A person in the middle of a picture of side `SIDE`; the body is found in the first `found` frames only."""
    rng = np.random.default_rng(0)
    torso = {
        11: (18, 0),
        12: (-18, 0),
        13: (24, 25),
        14: (-24, 25),
        15: (20, 40),
        16: (-20, 40),
        0: (0, -25),
        7: (7, -27),
    }
    pose = np.full((frames, 33, 3), 2.0 * SIDE)  # legs lie outside the picture
    for i, (x, y) in {**torso, 8: (-7, -27), 23: (10, 46), 24: (-10, 46)}.items():
        pose[:, i, :2] = (SIDE / 2 + x, SIDE / 2 + y)
    world = (pose - SIDE / 2) / 100
    face = np.concatenate([rng.uniform(-6, 6, (FACE_POINTS, 2)) + [SIDE / 2, 25], np.zeros((FACE_POINTS, 1))], 1)
    visibility = np.ones((frames, 33))
    for array in (pose, world, visibility):
        array[frames if found is None else found :] = 0 if array is visibility else np.nan
    hand = np.full((frames, 21, 3), np.nan)
    arrays = [pose, visibility, world, np.tile(face, (frames, 1, 1)), hand, hand]
    as_f32 = [a.astype(np.float32) for a in arrays]
    return Landmarks(*as_f32, size=np.array([SIDE, SIDE]), fps=np.array([25, 1]))


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """(config, store, write a clip, counter of detector runs): the detector is replaced, videos are grey."""
    config = Config.model_validate({"workspace": str(tmp_path), "fit": {"iterations": [3, 3, 3, 3]}})
    store = Store(config)
    runs: list[int] = []
    found: dict[int, Landmarks] = {}

    def detect(frames, fps):
        grey = int(next(iter(frames)).mean())
        runs.append(grey)
        return min(found.items(), key=lambda item: abs(item[0] - grey))[1]

    def write(name: str, grey: int, landmarks: Landmarks) -> None:
        folder = store.clip("talk", name)
        folder.mkdir(parents=True)
        write_video(folder / "clip.mp4", np.full((len(landmarks), SIDE, SIDE, 3), grey, np.uint8), FPS)
        (folder / "clip.json").write_text(json.dumps({"fps": "25", "frames": len(landmarks), "size": SIDE}))
        found[grey] = landmarks

    monkeypatch.setattr(fitting.detector, "detect", detect)
    return config, store, write, runs


def test_a_talk_is_fitted_once_and_a_clip_without_a_person_is_left_out_with_its_reason(talk):
    config, store, write, runs = talk
    write("a", 60, detected())
    write("b", 200, detected(found=1))
    record = fitting.fit_talk(config, store, "talk")
    assert record.status == "ok"
    assert record.facts["clips"] == 1
    assert record.facts["frames"] == FRAMES
    assert "expected a person in at least 50% of the frames, found one in 17%" in record.facts["rejected"]["b"]
    fit = load_fit(store.clip("talk", "a") / "fit.npz")
    assert len(fit.confidence) == FRAMES
    assert fit.fps == FPS
    assert torch.equal(fit.camera.w2c, torch.diag(torch.tensor([1.0, -1, -1, 1])))
    assert fit.camera.size.tolist() == [SIDE, SIDE]
    assert (store.clip("talk", "a") / "fit_preview.png").stat().st_size > 1000
    assert not (store.clip("talk", "b") / "fit.npz").exists()
    count = len(runs)
    assert fitting.fit_talk(config, store, "talk") == record
    assert len(runs) == count


def test_other_settings_fit_again_from_the_same_landmarks(talk):
    config, store, write, runs = talk
    write("a", 60, detected())
    first = fitting.fit_clip(config, store, "talk", "a")
    other = config.model_copy(update={"fit": config.fit.model_copy(update={"focal_prior": 2.5})})
    second = fitting.fit_clip(other, store, "talk", "a")
    assert second.facts["focal"] > 1.3 * first.facts["focal"]
    assert len(runs) == 1


def test_a_talk_without_clips_is_rejected(talk):
    config, store, _, _ = talk
    record = fitting.fit_talk(config, store, "talk")
    assert record.status == "rejected"
    assert "expected clips" in record.reason


def test_the_fit_of_a_known_camera_projects_onto_the_landmarks(talk, body):
    """The file's camera and parameters agree: shoulders land near the detected ones."""
    config, store, write, _ = talk
    config = config.model_copy(update={"fit": config.fit.model_copy(update={"iterations": (30, 40, 0, 30)})})
    landmarks = detected()
    write("a", 60, landmarks)
    fitting.fit_clip(config, store, "talk", "a")
    fit = load_fit(store.clip("talk", "a") / "fit.npz")
    pixels, depth = fit.camera.map(lambda t: t[None]).project(body.joints(fit.params))
    assert (depth > 0.3).all()
    shoulders = torch.from_numpy(landmarks.pose[:, [11, 12], :2])
    assert (pixels[:, [16, 17]] - shoulders).norm(dim=-1).mean() < 0.06 * SIDE


def test_confidence_falls_with_what_is_hidden_and_with_what_is_off():
    seen = fitting.observations(detected(found=FRAMES - 1))
    residual = torch.full((FRAMES, LANDMARKS), 0.01)
    residual[1, BODY_PART] = fitting.RESIDUAL_SCALE
    seen.weights[2, list(UPPER_LIMBS)[3:]] = 0  # three of six upper limbs hidden
    result = FitResult(SmplxParams.zeros(FRAMES), 100.0, residual, torch.zeros(1))
    sure = fitting.confidence(result, seen)
    assert sure[0] == pytest.approx(1 / (1 + (0.01 / fitting.RESIDUAL_SCALE) ** 2), abs=1e-4)
    assert sure[1] == pytest.approx(0.5, abs=1e-4)
    assert sure[2] == pytest.approx(0.5 * sure[0].item(), abs=1e-4)
    assert sure[-1] == 0


def test_a_hand_that_was_not_seen_or_is_far_off_is_not_trusted():
    seen = fitting.observations(detected())
    (left, scale), (face, _) = fitting.PARTS["left_hand"], fitting.PARTS["face"]
    seen.weights[:, left] = 1
    residual = torch.zeros(FRAMES, LANDMARKS)
    residual[1, left] = scale
    seen.weights[2, left.start : left.start + 7] = 0  # a third of its points
    seen.weights[3, face] = 0
    sure = fitting.part_confidence(FitResult(SmplxParams.zeros(FRAMES), 100.0, residual, torch.zeros(1)), seen)
    assert sure["left_hand"][:3].tolist() == pytest.approx([1, 0.5, 2 / 3], abs=1e-4)
    assert sure["right_hand"].max() == 0  # never detected
    assert sure["face"][2:4].tolist() == [1, 0]


def test_other_data_of_the_fit_or_another_way_to_find_landmarks_makes_fits_anew(tmp_path, monkeypatch):
    before = fitting._settings(Config())
    changed = tmp_path / "lift.npz"
    changed.write_bytes(b"other")
    monkeypatch.setattr(fitting, "LIFT", changed)
    other = fitting._settings(Config())
    monkeypatch.setattr(fitting, "LANDMARK_VERSION", "x")
    assert before != other != fitting._settings(Config())


def test_landmarks_survive_the_disk_and_can_be_cut(tmp_path):
    landmarks = detected(found=3)
    landmarks.save(tmp_path / "l.npz")
    back = Landmarks.load(tmp_path / "l.npz")
    assert np.array_equal(back.pose, landmarks.pose, equal_nan=True)
    assert back.found() == {"body": 0.5, "face": 1.0, "left_hand": 0.0, "right_hand": 0.0}
    assert len(back.frames(2, 5)) == 3
    assert back.frames(0, 3).found()["body"] == 1.0
    with pytest.raises(ValueError, match=r"Landmarks\.face: expected"):
        Landmarks(**{**vars(landmarks), "face": landmarks.face[:, :468]})


def test_face_points_lie_on_the_face(body):
    embedding = face_embedding(body, body_hash(Config()))
    points = (body.template.numpy()[body.faces[embedding.faces]] * embedding.barycentric[..., None]).sum(1)
    points = points + embedding.offset
    left_eye, right_eye, jaw = (body.joint_template[i].numpy() for i in (23, 24, 22))
    assert np.linalg.norm(points[468:473].mean(0) - right_eye) < 0.025  # irises; 468 is the person's right one
    assert np.linalg.norm(points[473:478].mean(0) - left_eye) < 0.025
    assert points[152, 1] < points[13, 1] < points[1, 1] < points[10, 1]  # chin, lip, nose, forehead
    assert np.linalg.norm(points - jaw, axis=1).max() < 0.25


def test_embedding_carries_over_to_a_larger_turned_body(body):
    """Another body that is this one scaled and shifted gets the same points, scaled and shifted."""
    embedding = face_embedding(body, body_hash(Config()))
    points = (body.template.numpy()[body.faces[embedding.faces]] * embedding.barycentric[..., None]).sum(1)
    other = resized(body, 1.1, [0.02, -0.1, 0.03])
    carried = transfer_embedding(points, body, other)
    there = (other.template.numpy()[other.faces[carried.faces]] * carried.barycentric[..., None]).sum(1)
    error = np.linalg.norm(there - (1.1 * points + [0.02, -0.1, 0.03]), axis=1)
    assert np.median(error) < 1e-4
    assert error.max() < 0.003


def resized(body: Body, scale: float, shift: list[float]) -> Body:
    other = Body.load(fitting.body_files.body_file(Config()))
    for name in ("template", "joint_template"):
        setattr(other, name, scale * getattr(body, name) + torch.tensor(shift))
    return other


def test_closest_point_of_a_triangle():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5.0]])
    faces = np.array([[0, 1, 3], [0, 1, 2]])
    index, bary = closest_on_faces(np.array([[0.25, 0.25, 0.4], [-1.0, -1.0, 0.0]]), vertices, faces, np.array([1]))
    assert index.tolist() == [1, 1]
    assert np.allclose(bary[0], [0.5, 0.25, 0.25])
    assert np.allclose(bary[1], [1, 0, 0])


def test_body_record_states_the_file_and_draws_it(tmp_path):
    config = Config(workspace=str(tmp_path))
    record = body_record(config, Store(config))
    assert record.facts["embedded"] is True
    assert record.facts["vertices"] > 9929
    assert (tmp_path / "body" / "preview.png").is_file()
    assert body_record(config, Store(config)) == record


@pytest.mark.parametrize(("content", "message"), [(None, "is not a file"), (b"junk", "expected an SMPL-X model file")])
def test_a_wrong_body_path_is_one_clear_line(tmp_path, content, message):
    path = tmp_path / "body.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_body(Config.model_validate({"body": {"model_path": str(path)}}))
    assert "\n" not in str(error.value)


def test_a_body_whose_weights_do_not_sum_to_one_is_refused(tmp_path):
    with np.load(fitting.body_files.body_file(Config())) as npz:
        arrays = {name: npz[name] for name in npz.files}
    np.savez(tmp_path / "body.npz", **{**arrays, "weights": 0.5 * arrays["weights"]})
    with pytest.raises(ValueError, match="skinning weights that sum to 1"):
        load_body(Config.model_validate({"body": {"model_path": str(tmp_path / "body.npz")}}))


@pytest.mark.realdata
@pytest.mark.slow
def test_a_real_face_is_found_and_fitted(realdata):
    video = realdata / "talk_grid_bbaf2n.mpg"
    from pipelines.landmarks import PersonFinder, detect

    frames = list(media.frames(video, FPS, 0.0, 0.4))
    with PersonFinder() as finder:
        assert len(finder.faces(frames[0])) == 1
    found = detect(frames, FPS)
    assert found.found()["face"] == 1.0
    config = Config.model_validate({"fit": {"iterations": [30, 60, 0, 60]}})
    result = fitting.fit_landmarks(config, fitting.load_fit_body(config), found)
    assert torch.nanmedian(result.residual[:, BODY_PART.stop + 42 :]) < 0.005
