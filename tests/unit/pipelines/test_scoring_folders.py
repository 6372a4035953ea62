"""Folders of motion made elsewhere, scored against a truth: what must come out, and what is refused in one line."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from configs import Config
from model import metrics
from pipelines import scoring_folders
from pipelines.clip_folders import clips_of, speaker_of
from pipelines.convert import WRITERS, context_of, read_take
from pipelines.formats_take import resampled
from pipelines.media import write_wav
from pipelines.scoring_folders import evaluate_folders
from pipelines.store import InputRejected

FRAMES, RATE = 180, 30
NAMES = ("1_wayne_0_1_1", "2_scott_0_1_1", "2_scott_0_2_2", "3_solomon_0_1_1")


def beat2(seed, frames=FRAMES):
    """What a BEAT2 file holds: mouth and arms move with bursts of sound."""
    rng = np.random.default_rng(seed)
    loud = np.repeat(rng.random(frames // 6) > 0.5, 6).astype(np.float32)
    t = np.arange(frames)[:, None] / RATE
    poses = (0.1 * np.sin(2 * np.pi * (rng.uniform(0.2, 2, 165) * t + rng.random(165)))).astype(np.float32)
    poses[:, 66:75] = 0
    poses[:, 66] = 0.3 * loud
    sound = (0.2 * np.repeat(loud, 16000 // RATE) * rng.normal(size=frames * (16000 // RATE))).astype(np.float32)
    arrays = {
        "poses": poses,
        "expressions": rng.normal(0, 0.3, (frames, 100)).astype(np.float32),
        "trans": np.zeros((frames, 3), np.float32),
    }
    about = {"betas": rng.normal(0, 0.3, 300).astype(np.float32), "model": "smplx2020", "gender": "neutral", "mocap_frame_rate": 30}
    return arrays | about, sound


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of the truth with sound, one of other motion, and the truth once more as LHM and TalkSHOW files at other rates."""
    root = tmp_path_factory.mktemp("folders")
    context = context_of(Config())
    for name in ("truth", "other", "again", "mixed"):
        (root / name).mkdir()
    for i, name in enumerate(NAMES):
        arrays, sound = beat2(i)
        np.savez(root / "truth" / f"{name}.npz", **arrays)
        np.savez(root / "again" / f"{name}_output.npz", **arrays)
        write_wav(root / "truth" / f"{name}.wav", sound)
        np.savez(root / "other" / f"{name}_output.npz", **beat2(i + 50, FRAMES - 18 * i)[0])
        take = read_take(root / "truth" / f"{name}.npz", context)
        if i % 2:
            WRITERS["talkshow"](root / "mixed" / f"{name}.npy", take, context)
        else:
            WRITERS["fit"](root / "mixed" / f"{name}.npz", resampled(take, Fraction(60)), context)
    return root


@pytest.fixture(scope="module")
def scored(folders):
    sides = [folders / n for n in ("truth", "again", "other", "mixed")]
    with pytest.MonkeyPatch.context() as patch:  # FGD's auto-encoder, fitted in a second
        patch.setattr(metrics, "fit_autoencoder", partial(metrics.fit_autoencoder, steps=20))
        return evaluate_folders(Config(), sides, out=folders / "out")


def test_truth_against_itself(scored):
    truth, again = scored["rows"]["truth"], scored["rows"]["again"]
    assert again["fgd"]["value"] < 1e-6
    for figure in ("mpjpe_mm", "pve_mm", "pa_mpjpe_mm", "face_mse", "lvd_emage", "lvd_talkshow", "lvd_evaltools", "acceleration_error"):
        assert again[figure]["value"] == pytest.approx(0, abs=1e-9), figure
    for figure in ("bc", "l1div", "jerk", "mouth_r", "foot_sliding"):
        assert again[figure]["value"] == truth[figure]["value"], figure
    assert truth["mouth_r"]["value"] > 0.9
    assert truth["mouth_r_gain"]["low"] > 0.3  # right speech against wrong speech
    assert (scored["clips"], scored["speakers"], scored["with_sound"]) == (4, 3, 4)


def test_other_motion_is_found_out(scored):
    rows = scored["rows"]
    assert rows["other"]["fgd"]["value"] > 100 * max(rows["again"]["fgd"]["value"], 1e-6)
    assert rows["other"]["mpjpe_mm"]["low"] > 10
    assert rows["other"]["mouth_r_gain"]["value"] < 0.3 < rows["truth"]["mouth_r_gain"]["value"]
    assert rows["frozen"]["jerk"]["value"] == rows["frozen"]["l1div"]["value"] == rows["frozen"]["mouth_r"]["value"] == 0
    assert rows["truth of another clip"]["mpjpe_mm"]["value"] > 10
    for row in rows.values():
        for figure in row.values():
            assert figure["low"] is None or figure["low"] <= figure["high"]


def test_formats_rates_and_lengths_may_differ(scored):
    mixed, notes = scored["rows"]["mixed"], scored["notes"]
    # betas are the truth's, rates are the truth's, and resampling there and back costs little
    assert mixed["mpjpe_mm"]["value"] < 3
    assert mixed["fgd"]["value"] < 0.05 * scored["rows"]["other"]["fgd"]["value"]
    assert "1_wayne_0_1_1: 60 frames/s resampled to 30" in notes["mixed"]
    assert "2_scott_0_1_1: 162 frames where the truth has 180: the first 162 are compared" in notes["other"]


def test_what_is_written_says_what_it_is(folders, scored):
    written = json.loads((folders / "out" / "metrics.json").read_text())
    assert written["rows"] == scored["rows"]
    text = (folders / "out" / "metrics.md").read_text()
    assert scored["autoencoder"] in text
    assert "| fgd |" in text
    assert all(f"**{figure}**" in text for figure in scored["rows"]["other"])
    kept = evaluate_folders(
        Config(), [folders / "truth", folders / "other"], autoencoder=folders / "out" / "autoencoder.safetensors", reference_rows=False
    )
    assert kept["autoencoder"] == scored["autoencoder"]
    assert kept["rows"]["other"] == scored["rows"]["other"]


def test_processes_score_what_one_does(folders, scored, monkeypatch):
    monkeypatch.setattr(scoring_folders, "PER_PROCESS", 1)
    monkeypatch.setattr(scoring_folders.os, "cpu_count", lambda: 2)
    sides = [folders / n for n in ("truth", "again", "other", "mixed")]
    again = evaluate_folders(Config(), sides, autoencoder=folders / "out" / "autoencoder.safetensors")
    assert again["rows"] == scored["rows"]
    assert again["notes"] == scored["notes"]


def test_missing_sound_and_clips_leave_the_rest(folders, scored, tmp_path):
    truth, got = tmp_path / "truth", tmp_path / "got"
    truth.mkdir()
    got.mkdir()
    for name in NAMES[:2]:
        (truth / f"{name}.npz").write_bytes((folders / "truth" / f"{name}.npz").read_bytes())
    (got / f"{NAMES[0]}.npz").write_bytes((folders / "truth" / f"{NAMES[0]}.npz").read_bytes())
    result = evaluate_folders(Config(), [truth, got], autoencoder=folders / "out" / "autoencoder.safetensors", reference_rows=False)
    assert "bc" not in result["definitions"]
    assert result["with_sound"] == 0
    assert result["notes"]["got"] == [f"{NAMES[1]}: absent"]
    assert result["rows"]["got"]["mpjpe_mm"] == {"value": 0, "low": None, "high": None, "clips": 1}


def test_expressions_of_10_50_and_100_are_scored_alike(folders, scored, tmp_path):
    sides = [tmp_path / str(count) for count in (10, 50, 100)]
    for side in sides:
        side.mkdir()
        arrays = dict(np.load(folders / "truth" / f"{NAMES[0]}.npz"))
        np.savez(side / f"{NAMES[0]}.npz", **{**arrays, "expressions": arrays["expressions"][:, : int(side.name)]})
    fitted = folders / "out" / "autoencoder.safetensors"
    rows = evaluate_folders(Config(), [folders / "truth", *sides], autoencoder=fitted, reference_rows=False)["rows"]
    assert [rows[side.name]["face_mse"]["value"] for side in sides] == [0, 0, 0]
    assert rows["10"]["mouth_r"] == rows["100"]["mouth_r"]


def test_sound_that_cannot_be_read_is_told(folders, scored, tmp_path):
    (tmp_path / f"{NAMES[0]}.npz").write_bytes((folders / "truth" / f"{NAMES[0]}.npz").read_bytes())
    (tmp_path / f"{NAMES[0]}.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(InputRejected, match=r"wav: expected sound") as caught:
        evaluate_folders(Config(), [tmp_path], autoencoder=folders / "out" / "autoencoder.safetensors")
    assert "\n" not in str(caught.value)


def test_bad_folders_get_one_clear_line(folders, scored, tmp_path):
    def refused(words, *sides):
        with pytest.raises(InputRejected, match=words):
            evaluate_folders(Config(), list(sides), autoencoder=folders / "out" / "autoencoder.safetensors", reference_rows=False)

    truth = folders / "truth"
    refused("found nothing", tmp_path / "absent", truth)
    (tmp_path / "empty").mkdir()
    refused("expected motion files", truth, tmp_path / "empty")
    (tmp_path / "names").mkdir()
    arrays, _ = beat2(0)
    np.savez(tmp_path / "names" / "x.npz", **arrays)
    refused("no clip has a name of", truth, tmp_path / "names")
    for kind, words in (("nan", "finite numbers"), ("order", "smplx's order")):
        (tmp_path / kind).mkdir()
        bad = arrays | {"poses": arrays["poses"].copy()}
        if kind == "nan":
            bad["poses"][7, 3] = np.nan
        else:
            bad["poses"][:, 66:75] = 2.0  # a hand where jaw and eyes belong
        np.savez(tmp_path / kind / f"{NAMES[0]}.npz", **bad)
        refused(words, truth, tmp_path / kind)
    np.savez(tmp_path / "names" / f"{NAMES[0]}.npz", **arrays)
    np.savez(tmp_path / "names" / f"{NAMES[0]}_output.npz", **arrays)
    refused("one motion a clip", truth, tmp_path / "names")


def test_clips_and_speakers_are_told_from_names(folders):
    assert sorted(clips_of(folders / "again")) == sorted(NAMES)
    assert [speaker_of(n) for n in ("2_scott_0_1_1", "speaker15_radio", "oliver-talk-3")] == ["scott", "speaker15", "oliver"]


def test_pictures_beside_the_motion_are_compared(folders, tmp_path):
    from pipelines.media import write_video
    from pipelines.scoring_pictures import picture_figures

    rng = np.random.default_rng(0)
    still = np.repeat(rng.integers(60, 190, (1, 8, 8, 3)), 4, 1).repeat(4, 2).repeat(12, 0).astype(np.uint8)
    for name, pictures in (("a", still), ("b", still + 20), ("small", still[:, :16])):
        write_video(tmp_path / f"{name}.mp4", pictures, Fraction(25), None)
    found = picture_figures(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert found["psnr"] == pytest.approx(22.1, abs=1)  # 20 of 255
    assert found["flicker"] < 0.02
    assert picture_figures(None, tmp_path / "b.mp4") == {}
    with pytest.raises(InputRejected, match="32×32"):
        picture_figures(tmp_path / "a.mp4", tmp_path / "small.mp4")


def test_who_is_seen_in_a_video_is_told_from_another(tmp_path):
    """A person's later frames are theirs and not another's, whatever is behind them."""
    from pathlib import Path

    from pipelines.media import frames, write_video
    from pipelines.scoring_pictures import encoder_version, people, picture_figures

    talks = Path(__file__).parents[3] / "samples" / "talks"
    for name in ("speaker15_radio", "speaker18_maps"):
        pictures = np.stack(list(itertools.islice(frames(talks / f"{name}.mp4"), 40)))
        write_video(tmp_path / f"{name}.mp4", pictures[:16], Fraction(25), None)
        write_video(tmp_path / f"{name}_later.mp4", pictures[24:], Fraction(25), None)
    one, other = (tmp_path / f"{n}.mp4" for n in ("speaker15_radio", "speaker18_maps"))
    found = picture_figures(one, tmp_path / "speaker15_radio_later.mp4", other)
    assert found["identity"] > found["identity_other"] + 0.1
    assert len(encoder_version()) == 16
    clip = tmp_path / "clip.mp4"
    write_video(clip, np.zeros((3, 16, 32, 3), np.uint8), Fraction(25), None)
    left = np.zeros((3, 16, 32), bool)
    left[..., :16] = True
    np.savez(tmp_path / "mask.npz", mask=np.packbits(left.reshape(3, -1), axis=1), shape=np.array(left.shape))
    seen = people(clip, list(frames(clip)), 1, 16)
    assert seen.shape == (3, 16, 16, 3)
    assert seen.min() < 0.2 < 0.99 < seen.max()  # the black half, and white beside it


def test_the_embedded_truth_has_phones_and_a_second_draw(folders, scored, tmp_path):
    from pathlib import Path

    from pipelines.scoring_clips import at_moments
    from pipelines.scoring_rows import phones_of

    embedded = Path(__file__).parents[3] / "samples" / "talks" / "truth"
    kinds, moments = phones_of(embedded / "speaker15_radio.npz")
    assert {"closed", "open", "silence"} <= set(kinds)
    values, inside = at_moments(np.arange(100)[:, None], np.array([0.0, 1.02, 50.0]), 25)
    assert (values[:, 0].tolist(), inside) == ([0, 25], [0, 1])
    assert len(kinds) == len(moments)
    for name in ("speaker15_radio", "speaker18_maps"):
        (tmp_path / f"{name}.npz").write_bytes((embedded / f"{name}.npz").read_bytes())
    rows = evaluate_folders(Config(), [tmp_path], autoencoder=folders / "out" / "autoencoder.safetensors")["rows"]
    assert set(rows) == {"truth", "oracle draw", "truth of another clip", "frozen"}
    # the same words are mouthed alike by another draw, and not by another clip
    draws, other = rows["oracle draw"], rows["truth of another clip"]
    assert draws["viseme_accuracy"]["value"] > other["viseme_accuracy"]["value"] + 0.1
    assert draws["lvd_talkshow"]["value"] < other["lvd_talkshow"]["value"]
    assert draws["upper_mpjpe_mm"]["value"] > 20  # the arms are free


def test_the_nearest_clip_is_a_row_where_there_is_sound(scored):
    assert scored["rows"]["nearest clip"]["mpjpe_mm"]["value"] > 10
    assert scored["rows"]["nearest clip"]["mpjpe_mm"]["clips"] == 4
