"""The real EMAGE and LHM, as far as they can be had here: stand-in check-outs with their command lines and files."""

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from configs import Config
from model.stage1 import Stage1
from pipelines import media
from pipelines.baseline import motion, retarget, video
from pipelines.baseline_checkouts import Checkout, CheckoutFailed, Home, at_rate, emage_motion
from pipelines.body import body_hash
from pipelines.checkpoints import save_weights, weights_file
from pipelines.convert import context_of
from pipelines.store import Store

_spec = importlib.util.spec_from_file_location("checkouts", Path(__file__).with_name("checkouts.py"))
checkouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checkouts)


@pytest.fixture
def installed(tmp_path):
    return checkouts.write_checkouts(tmp_path / "baseline")


@pytest.fixture(scope="session")
def context():
    return context_of(Config())


def speech(seconds=1.5):
    time_ = np.arange(int(16000 * seconds)) / 16000
    return (0.3 * np.sin(900 * time_) * np.sin(6 * time_)).astype(np.float32)


def emage(installed, target, context, lines=None, **changes):
    settings = Config.model_validate({"baseline": {**installed, **changes}}).baseline
    home = Home((lines if lines is not None else []).append)
    return emage_motion(settings, {"a.b__c": speech(), "d": speech(2.0)}, target, context, home)


@pytest.mark.parametrize("option", ["--save_folder", "--save_path"])
def test_emage_is_run_by_its_own_command_line_and_its_files_come_home(tmp_path, context, option):
    installed = checkouts.write_checkouts(tmp_path / "baseline", option)
    lines = []
    emage(installed, tmp_path / "out", context, lines)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.b__c_output.npz", "d_output.npz"]
    assert "loading weights no environment of ours" in lines
    assert any("50%" in line for line in lines)  # what tqdm overwrites on a terminal, too


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("fails", r"EMAGE ended with code 1: RuntimeError: CUDA out of memory\. Tried to allocate 2\.00 GiB"),
        ("keys", r"expected the keys .*, it lacks expressions"),
        ("rate", r"expected 30 frames/s, got 15"),
        ("smplh", r"expected poses \(T, 165\), got \(43, 156\)"),
        ("nan", r"a\.b__c.*expected finite numbers, got nan at frame 3, joint left_knee|pose: expected finite numbers"),
        ("long", r"expected motion as long as the speech, 1\.50 s, got 4\.50 s"),
        ("silent", r"expected a\.b__c_output\.npz from it, found none"),
    ],
)
def test_what_goes_wrong_in_emage_is_one_clear_line(tmp_path, installed, context, fault, said):
    checkouts.break_it(installed["pantomatrix"], fault)
    with pytest.raises(CheckoutFailed, match=said) as caught:
        emage(installed, tmp_path / "out", context)
    assert "\n" not in str(caught.value)


def test_a_program_that_hangs_is_ended_at_its_time_limit_with_all_its_processes(tmp_path, installed, context):
    checkouts.break_it(installed["pantomatrix"], "hangs")
    start = time.monotonic()
    with pytest.raises(CheckoutFailed, match=r"EMAGE was still running after its time limit of 2 s"):
        emage(installed, tmp_path / "out", context, time_limit=2)
    assert time.monotonic() - start < 15
    words = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not any(str(tmp_path) in w for w in words)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pantomatrix": None}, "expected the folder of a check-out of https://github.com/PantoMatrix/PantoMatrix, got none"),
        ({"pantomatrix": "/nowhere"}, "got /nowhere, which does not exist; git clone it there"),
        ({"pantomatrix": "/tmp"}, "which has no test_emage_audio.py"),
        ({"pantomatrix_python": None}, r"expected the interpreter of its environment, .*/\.venv/bin/python is not there"),
        ({"pantomatrix_python": "/etc/passwd"}, "/etc/passwd is not one"),
    ],
)
def test_a_check_out_that_is_not_there_is_told(installed, changes, said):
    settings = Config.model_validate({"baseline": {**installed, **changes}}).baseline
    with pytest.raises(CheckoutFailed, match=said):
        Checkout.find(settings, "pantomatrix")


def test_pictures_at_another_rate_are_those_shown_at_each_frames_middle():
    pictures = [np.full((1, 1, 3), i, np.uint8) for i in range(30)]
    assert [int(p[0, 0, 0]) for p in at_rate(pictures, 15, 3)] == [1, 3, 5]
    assert int(at_rate(pictures, 15, 40)[-1][0, 0, 0]) == 29  # the last is held


def give_stage1(config: Config, store: Store, body) -> None:
    torch.manual_seed(0)
    about = {"stage": "stage1", "body": body_hash(config), "config": config.model_dump(mode="json")}
    save_weights(weights_file(store, "stage1"), Stage1(config.stage1, body), about)


def test_the_two_stage_system_of_the_neighbours_runs_to_its_scores(corpus, installed, body):
    config, store = corpus
    installed = {**installed, "avatar_steps": 2}
    config = config.model_copy(update={"baseline": config.baseline.model_validate(installed)})
    give_stage1(config, store, body)
    records = [work(config, store) for work in (motion, retarget, video)]
    assert [r.status for r in records] == ["ok"] * 3, [r.reason for r in records]
    assert records[0].facts["by"].startswith("EMAGE test_emage_audio.py ")
    clip = next(iter(store.baseline("retargeted").iterdir()))
    frames = len(list(clip.glob("smplx_params/*.json")))
    assert frames == round(24 * 30 / 25)  # LHM plays 30 frames/s
    film = media.probe(store.baseline("video") / f"{clip.name}.mp4")
    assert (film.frames, film.fps) == (24, 25)  # and the comparison the clip's
    assert "two_stage" in json.loads((store.baseline("video") / "metrics.json").read_text())["rows"]
    assert records[2].facts["by"].startswith("LHM inference.sh ")
    # a fault of LHM's is no verdict on the input: the next run tries again
    for fault, said in (("fails", "pretrained_models/sapiens not found"), ("half", "expected 29 frames, one for each JSON file, got 14")):
        checkouts.break_it(installed["lhm"], fault)
        store.record_path("baseline_video", "all").unlink(missing_ok=True)
        with pytest.raises(CheckoutFailed, match=said):
            video(config, store)
    (Path(installed["lhm"]) / "fault").unlink()
    assert video(config, store).status == "ok"
