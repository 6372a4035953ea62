"""`speech-avatar fit`: any path, complete results, nothing done twice; detector, cutter and fit are stand-ins."""

from __future__ import annotations

import json
import os
from fractions import Fraction

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from configs.schema import Config
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines import cli, fit_video, media
from pipelines.fit import FitBody, clip_camera, load_fit_body
from pipelines.fit_quality import reprojection
from pipelines.formats import NO_MEAN, FitFile, load_emage, load_fit, load_lhm, save_fit
from pipelines.overlay import overlaid
from pipelines.store import InputRejected, Record, write_json

FRAMES, SIDE, RATE = 5, 64, Fraction(25)


@pytest.fixture(scope="module")
def fitted() -> FitBody:
    return load_fit_body(Config())


def standing(frames: int = FRAMES, confidence: float = 0.9) -> FitFile:
    """A person 2 m before a camera that sees head and chest."""
    fields = {name: torch.zeros(frames, *shape) for name, shape in SMPLX_SHAPES.items()}
    fields["transl"] = torch.tensor([0.0, -0.2, -2.0]).expand(frames, 3)
    return FitFile(SmplxParams(**fields), clip_camera(1.6 * SIDE, (SIDE, SIDE)), torch.full((frames,), confidence), RATE)


@pytest.fixture
def stages(monkeypatch):
    """Stand-ins for cut and fit that write what the real ones do; the list of the stages that did work."""
    done: list[str] = []

    def cut_talk(config, store, talk):
        clip = store.clip(talk, f"{talk}_00000000")

        def work():
            done.append("cut")
            sound = np.sin(np.arange(round(FRAMES / RATE * 16000)) / 20).astype(np.float32)
            clip.mkdir(parents=True, exist_ok=True)
            media.write_video(clip / "clip.mp4", np.full((FRAMES, SIDE, SIDE, 3), 90, np.uint8), RATE, sound)
            media.write_wav(clip / "audio.wav", sound)
            write_json(clip.parents[1] / "rejected.json", [{"start": 0.2, "end": 1.2, "reason": "no speech", "picture": 0}])
            write_json(clip / "clip.json", {"start": 0.0, "end": 0.2, "fps": str(RATE), "frames": FRAMES})
            return {"clips": 1, "clip_seconds": 0.2, "rejected_seconds": 1.0, "rejected": {"no speech": 1.0}}

        return store.once("cut", talk, "1", str(config.cut), [clip / "clip.json"], work)

    def fit_talk(config, store, talk):
        clip = store.clip(talk, f"{talk}_00000000")

        def work():
            done.append("fit")
            found = standing()
            save_fit(clip / "fit.npz", found.params, found.camera, found.confidence, found.fps)
            return {"clips": 1, "frames": FRAMES, "confidence": 0.9, "body_mm": 12.0, "face_mm": 1.0}

        store.once("clip_fits", f"{talk}/{clip.name}", "1", str(config.fit), [clip / "fit.npz"], work)
        return Record("clip_fits", talk, "1", "", "ok", facts={"clips": 1, "frames": FRAMES})

    def write_overlay(*given):
        done.append("overlay")
        return written(*given)

    written = fit_video.write_overlay
    monkeypatch.setattr(fit_video, "cut_talk", cut_talk)
    monkeypatch.setattr(fit_video.fit, "fit_talk", fit_talk)
    monkeypatch.setattr(fit_video, "write_overlay", write_overlay)
    monkeypatch.setattr(fit_video, "clip_quality", lambda fitted, clip: fit_video_quality())
    return done


def fit_video_quality():
    from pipelines.fit_quality import Quality

    return Quality(np.array([0.01, 0.02, np.nan]), np.ones(3))


def film(path, grey=90):
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, 16000).astype(np.float32)
    media.write_video(path, np.full((25, 96, 96, 3), grey, np.uint8), RATE, sound)
    return path


def test_any_path_gives_every_file_and_a_second_call_does_nothing(tmp_path, stages):
    folder = tmp_path / 'it\'s a "folder"'
    folder.mkdir()
    video = film(folder / "my talk.mp4").rename(folder / ".my 'talk' no suffix")
    config, out = Config(workspace=str(tmp_path / "other")), tmp_path / "out put"
    result = fit_video.fit_video(config, video, out)
    assert stages == ["cut", "fit", "overlay"]
    (name,) = result.facts["clips"]
    clip = result.folder / name
    fit = load_fit(clip / "fit.npz")
    assert media.probe(clip / "overlay.mp4").frames == len(fit.params.transl) == FRAMES
    assert media.probe(clip / "overlay.mp4").has_audio
    assert len(load_emage(clip / "emage.npz", NO_MEAN)[0].transl) == FRAMES * 30 // 25
    assert len(load_lhm(clip / "lhm")[0].transl) == FRAMES
    assert json.loads((result.folder / "summary.json").read_text()) == result.facts
    assert result.facts["rejected_seconds"] == {"no speech": 1.0}
    assert json.loads((result.folder / "rejected.json").read_text())[0]["reason"] == "no speech"
    assert result.facts["clips"][name]["reprojection_percent"] == 1.5
    assert not (tmp_path / "other").exists()

    again = fit_video.fit_video(config, video, out)
    assert stages == ["cut", "fit", "overlay"]
    assert again.facts == result.facts
    (clip / "overlay.mp4").unlink()
    fit_video.fit_video(config, video, out)
    assert stages == ["cut", "fit", "overlay", "overlay"], "only what was deleted is made again"
    film(video, grey=200)
    assert fit_video.fit_video(config, video, out).facts["sha"] != result.facts["sha"], "a changed video is seen"


def test_a_video_of_the_same_name_does_not_replace_another_ones_results(tmp_path, stages):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first, second = film(tmp_path / "a" / "talk.mp4"), film(tmp_path / "b" / "talk.mp4", grey=30)
    fit_video.fit_video(Config(), first, tmp_path / "out")
    with pytest.raises(InputRejected, match="choose another --out"):
        fit_video.fit_video(Config(), second, tmp_path / "out")
    os.replace(first, tmp_path / "a" / "moved.mp4")
    assert fit_video.fit_video(Config(), tmp_path / "a" / "moved.mp4", tmp_path / "out").folder.name == "moved"


def test_faults_are_one_line_and_exit_code_2(tmp_path, stages):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "notes.txt").write_text("not a video either")
    good, file = film(tmp_path / "good.mp4"), tmp_path / "file"
    file.write_text("")
    for given, out, told in (
        (["nothing.mp4"], "out", "nothing there"),
        ([str(tmp_path)], "out", "a folder"),
        ([str(tmp_path / "text.mp4")], "out", "text.mp4"),
        ([str(tmp_path / "notes.txt")], "out", "'notes.txt': cannot be opened as video"),
        ([str(good)], "file", "expected a folder to write to"),
    ):
        done = CliRunner().invoke(cli.app, ["fit", *given, "--out", str(tmp_path / out)])
        assert done.exit_code == 2, done.output
        assert told in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    done = CliRunner().invoke(cli.app, ["fit", "nothing.mp4", str(good), "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert (tmp_path / "out" / "good" / "summary.json").is_file(), "one bad video does not stop the others"


def test_the_mesh_lies_where_the_camera_sees_it_and_doubtful_frames_are_amber(fitted):
    pictures = [np.full((SIDE, SIDE, 3), 90, np.uint8)] * FRAMES
    sure = list(overlaid(iter(pictures), standing(), fitted.body, threads=1))
    doubtful = list(overlaid(iter(pictures), standing(confidence=0.1), fitted.body, threads=1))
    assert len(sure) == FRAMES
    changed = (sure[0] != pictures[0]).any(-1)
    assert changed[SIDE // 2, SIDE // 2]
    assert not changed[:4, :4].any()
    blue, amber = (p[0][changed].astype(int).mean(0) for p in (sure, doubtful))
    assert blue[2] > blue[0]
    assert amber[0] > amber[2]


def test_reprojection_is_a_share_of_the_person(fitted):
    from types import SimpleNamespace

    fit = standing()
    world = fitted.body.posed_points(fitted.layout.points, fit.params)
    camera = fit.camera
    seen = (world @ camera.w2c[:3, :3].mT + camera.w2c[:3, 3]) @ camera.intrinsics.mT
    points = seen[..., :2] / seen[..., 2:]
    weights = torch.ones(points.shape[:2])
    weights[1] = 0
    off = reprojection(fitted.body, fitted.layout, fit, SimpleNamespace(points=points, weights=weights))
    assert off[0] < 1e-5
    assert off[1].isnan(), "nobody was seen there"
    side = (points[0].amax(0) - points[0].amin(0)).max()
    moved = SimpleNamespace(points=points + torch.tensor([0.1 * side, 0.0]), weights=weights)
    assert torch.allclose(reprojection(fitted.body, fitted.layout, fit, moved)[[0, 2]], torch.tensor(0.1), atol=1e-4)


def test_a_height_reaches_the_fit(tmp_path, monkeypatch):
    asked = []

    def stop(config, video, out, tell):
        asked.append(config.fit.height)
        raise ValueError("enough")

    monkeypatch.setattr(fit_video, "fit_video", stop)
    for given in ([], ["--height", "1.82"]):
        CliRunner().invoke(cli.app, ["fit", "a.mp4", "--out", str(tmp_path), *given])
    assert asked == [None, 1.82]
    refused = CliRunner().invoke(cli.app, ["fit", "a.mp4", "--out", str(tmp_path), "--height", "182"])
    assert refused.exit_code == 2
    assert len(asked) == 2
