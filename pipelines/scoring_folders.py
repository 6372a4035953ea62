"""Folders of motion, anybody's, scored against a reference folder: one row a folder, in any of the formats that are read.

The first folder is the truth. Clips go together by name (`x_output.npz`, `x.npz` and a folder `x` are one clip), sound lies
beside the truth's motion or in its `audio` folder. Every figure has a 95 % interval over speakers; figures of alignment with
speech are also computed with another clip's. Rows `truth`, `truth of another clip` and `frozen` say what a figure is worth.
"""

from __future__ import annotations

import json
import os
import re
import wave
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.schema import Config
from model import metrics
from pipelines import formats_lhm
from pipelines.body import body_hash
from pipelines.convert import context_of, read_take
from pipelines.formats_hands import Context
from pipelines.formats_lhm import SOUNDS
from pipelines.formats_take import Take, implausible
from pipelines.media import SAMPLE_RATE, MediaError, read_audio
from pipelines.progress import progress
from pipelines.scoring_clips import (
    DEFINITIONS,
    LEAST,
    Measured,
    Scorer,
    Speech,
    at_moments,
    clip_figures,
    mouth_features,
    phones_of,
    shape_of,
    side_by_side,
)
from pipelines.scoring_pictures import picture_figures
from pipelines.scoring_summary import Row, add_visemes, markdown, summary
from pipelines.store import InputRejected, write_json, writing

FITTING_CLIPS = 400  # of the truth, evenly spaced, from which the auto-encoder learns
REFERENCE_ROWS = ("truth of another clip", "frozen")
OTHERS = ("features.npz", "mask.npz", "fit.npz")  # parts of a clip's folder
VIDEOS = (".mp4", ".mov", ".mkv", ".webm")


def evaluate_folders(
    config: Config,
    folders: list[Path],
    context: Context | None = None,  # rate and camera of formats that have none; default: the configured body, nothing else
    out: Path | None = None,
    autoencoder: Path | None = None,
    speakers: dict[str, str] | None = None,
    reference_rows: bool = True,
) -> dict[str, Any]:
    """Score folders[1:] against folders[0]; with `out` also write metrics.json, metrics.md and the auto-encoder there.

    `autoencoder`: the one of an earlier run, so that FGD compares with it; else one is fitted to the truth. `speakers`:
    clip name → speaker; else read off the names. InputRejected where folders have nothing in common.
    """
    context = context or context_of(config)
    found = [clips_of(folder) for folder in folders]
    names = sorted(found[0])
    labels = _labels(folders[1:])
    if not labels and not reference_rows:
        raise InputRejected("evaluate: expected a folder of the truth and one to score")
    for folder, clips in zip(folders[1:], found[1:], strict=True):
        if not set(clips) & set(names):
            raise InputRejected(f"{folder}: no clip has a name of {folders[0]} ({_some(clips)} against {_some(names)})")
    who = {n: (speakers or {}).get(n) or speaker_of(n) for n in names}
    scorer = Scorer(config, context.body)
    sounds = _sounds(names, found[0])
    network = _load(autoencoder) if autoencoder else _fitted(config, context, scorer, found[0], names)
    rows = {name: Row(name) for name in ("truth", *labels, *(REFERENCE_ROWS if reference_rows else ()))}
    for name, clips in zip(labels, found[1:], strict=True):
        rows[name].notes += [f"{n}: absent" for n in names if n not in clips]

    def work(i: int) -> None:
        _score_clip(scorer, network, context, names, i, found, sounds, who, rows, labels)

    with ThreadPoolExecutor(max(1, min(os.cpu_count() or 1, 8))) as pool:
        for _ in progress(pool.map(work, range(len(names))), "scoring clips", total=len(names)):
            pass
    if not rows["truth"].clips:
        raise InputRejected(f"{folders[0]}: no clip has {LEAST} frames or more")
    add_visemes(rows)
    result: dict[str, Any] = {
        "rows": {name: summary(row, who) for name, row in rows.items() if row.clips},
        "definitions": DEFINITIONS,
        "clips": len(rows["truth"].clips),
        "speakers": len(set(who.values())),
        "with_sound": sum(n in sounds for n in names),
        "notes": {name: sorted(row.notes) for name, row in rows.items() if row.notes},
        "autoencoder": network.weights_hash(),
        "body": body_hash(config),
        "folders": {"truth": str(folders[0]), **{n: str(f) for n, f in zip(labels, folders[1:], strict=True)}},
    }
    result["definitions"] = {n: d for n, d in DEFINITIONS.items() if any(n in r for r in result["rows"].values())}
    if out is not None:
        write_json(out / "metrics.json", result)
        with writing(out / "metrics.md") as temporary:
            temporary.write_text(markdown(result))
        with writing(out / "autoencoder.safetensors") as temporary:
            save_file(network.state_dict(), temporary, {"about": json.dumps({"truth": str(folders[0]), "clips": len(names)})})
    return result


def clips_of(folder: Path) -> dict[str, Path]:
    """Clip name → file or folder of its motion, of what lies in `folder` (or in folders in it that are no clip themselves)."""
    if not folder.is_dir():
        raise InputRejected(f"{folder}: expected a folder of motion files, found {'a file' if folder.exists() else 'nothing'}")
    clips: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if any(p in path.parents for p in clips.values()) or path.name.startswith("."):
            continue
        file = path.suffix in (".npz", ".npy", ".zip") and path.is_file() and path.name not in OTHERS
        folder_of_one = path.is_dir() and ((path / "fit.npz").is_file() or formats_lhm.is_lhm(path))
        if file or folder_of_one:
            name = re.sub(r"_(output|fit)$", "", path.name if path.is_dir() else path.stem)
            if name in clips:
                raise InputRejected(f"{folder}: expected one motion a clip, got {clips[name].name} and {path.name} for {name!r}")
            clips[name] = path
    if not clips:
        raise InputRejected(f"{folder}: expected motion files (npz, npy, zip, or folders of LHM json), found none")
    return clips


def speaker_of(name: str) -> str:
    """BEAT2's second word (`2_scott_0_1_1` → scott), else what stands before the first `_` or `-`."""
    beat = re.match(r"\d+_([a-zA-Z]+)_\d", name)
    return beat.group(1) if beat else re.split(r"[_-]", name)[0]


def _score_clip(
    scorer: Scorer,
    network: metrics.MotionAutoencoder,
    context: Context,
    names: list[str],
    i: int,
    found: list[dict[str, Path]],
    sounds: dict[str, Path],
    who: dict[str, str],
    rows: dict[str, Row],
    labels: list[str],
) -> None:
    name = names[i]
    truth = _read(found[0][name], context)
    if truth.frames < LEAST:
        rows["truth"].notes.append(f"{name}: {truth.frames} frames, fewer than {LEAST}; not scored")
        return
    # another speaker's clip where there is one, the same one in every run
    order = [names[(i + k) % len(names)] for k in range(1, len(names))]
    other = next((n for n in order if who[n] != who[name]), order[0] if order else None)
    speech, control = _speech(sounds.get(name)), _speech(sounds.get(other or ""))
    phones = phones_of(found[0][name])
    betas, fps = shape_of(truth), float(truth.fps)
    whole = scorer.measured(truth, betas)
    latents = _encoded(network, whole)

    def add(row: Row, got: Take, path: Path | None) -> None:
        a, b, said = side_by_side(truth, got)
        row.notes += [f"{name}: {line}" for line in said if row.name not in REFERENCE_ROWS]
        if a.frames < LEAST:
            row.notes.append(f"{name}: only {a.frames} frames in common; not scored")
            return
        mine = whole if got is truth else scorer.measured(b, betas)
        wanted = whole if a.frames == truth.frames else _first(whole, a.frames, len(mine.vertices))
        figures = clip_figures(wanted, mine, fps, speech, control)
        if path is not None:
            figures |= picture_figures(video_of(found[0][name]), video_of(path))
        if phones is not None:
            kept, moments = zip(*[(k, t) for k, t in zip(*phones, strict=True) if t * fps < a.frames], strict=True)
            sides = [at_moments(mouth_features(m.face), np.asarray(moments), fps)[0] for m in (wanted, mine)]
            row.mouths[name] = (np.array(kept), np.stack(sides))
        if a.frames >= metrics.WINDOW:
            real = latents[: (a.frames - metrics.WINDOW) // metrics.STRIDE + 1]
            row.latents[name] = (real, real if mine is whole else _encoded(network, mine))
        row.clips[name] = figures

    add(rows["truth"], truth, None)
    for label, clips in zip(labels, found[1:], strict=True):
        if name in clips:
            add(rows[label], _read(clips[name], context), clips[name])
    if REFERENCE_ROWS[0] in rows:
        if other is not None:
            add(rows[REFERENCE_ROWS[0]], _looped(_read(found[0][other], context), truth), None)
        still = {n: getattr(truth, n)[:1].expand_as(getattr(truth, n)) for n in ("pose", "transl", "expression")}
        add(rows[REFERENCE_ROWS[1]], truth.replace(**still), None)


def _encoded(network: metrics.MotionAutoencoder, measured: Measured) -> Tensor:  # [K, L]
    with torch.no_grad():
        return network.encode(metrics.motion_windows([measured.features]))


def _read(path: Path, context: Context) -> Take:
    take = read_take(path, context)
    wrong = implausible(take)
    if wrong:
        raise InputRejected(f"{path}: {wrong}")
    return take


def _looped(take: Take, like: Take) -> Take:
    """Played forth and back until it is as long as `like`, at its own rate."""
    count = max(1, round(like.frames * take.fps / like.fps))
    ahead = np.arange(take.frames)
    index = np.resize(np.concatenate([ahead, ahead[-2:0:-1]]) if take.frames > 2 else ahead, count)
    return take.replace(pose=take.pose[index], transl=take.transl[index], expression=take.expression[index], confidence=None)


def _first(measured: Measured, frames: int, vertices: int) -> Measured:
    return replace(
        measured, joints=measured.joints[:frames], face=measured.face[:frames],
        vertices=measured.vertices[:vertices], features=measured.features[:frames],
    )  # fmt: skip


def _sounds(names: Iterable[str], paths: dict[str, Path]) -> dict[str, Path]:
    """Clip name → sound, of the clips that have one."""
    found = {}
    for name in names:
        path = paths[name]
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SOUNDS or p.name == "clip.mp4"]
            if inside:
                found[name] = inside[0]
        folders = (path.parent, path.parent / "audio", path.parent.parent / "audio", path.parent.parent)
        tries = (f / f"{name}{suffix}" for f in folders for suffix in (*SOUNDS, *VIDEOS))
        sound = found.get(name) or next((p for p in tries if p.is_file()), None)
        if sound is not None:
            found[name] = sound
    return found


def video_of(path: Path) -> Path | None:
    """Pictures beside motion: `clip.mp4` in a clip's folder, else a video of the clip's name."""
    if path.is_dir():
        return path / "clip.mp4" if (path / "clip.mp4").is_file() else None
    stem = re.sub(r"_(output|fit)$", "", path.stem)
    return next((path.parent / f"{stem}{s}" for s in VIDEOS if (path.parent / f"{stem}{s}").is_file()), None)


@lru_cache(maxsize=16)  # a clip's sound is also the control of a clip before it
def _speech(path: Path | None) -> Speech | None:
    if path is None:
        return None
    try:
        plain = _plain_wav(path) if path.suffix == ".wav" else None
        return Speech.of(read_audio(path).astype(np.float64) if plain is None else plain)
    except MediaError as error:
        raise InputRejected(f"{path}: expected sound ({error})") from error


def _plain_wav(path: Path) -> np.ndarray | None:
    """The sound of a 16-bit mono file at 16 kHz, a tenth of the time that FFmpeg takes; none where it is another kind."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, SAMPLE_RATE):
                return None
            return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
    except (wave.Error, EOFError):
        return None


def _fitted(config: Config, context: Context, scorer: Scorer, paths: dict[str, Path], names: list[str]) -> metrics.MotionAutoencoder:
    """FGD's auto-encoder, fitted to the truth: the same folder and seed give the same weights on one machine."""
    from model.motion import pose_features

    chosen = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, FITTING_CLIPS).round().astype(int))]
    windows = metrics.motion_windows([pose_features(_read(paths[n], context).params())[:, :330] for n in chosen])
    if len(windows) < 2:
        raise InputRejected(f"evaluate: the truth holds too few frames for FGD; expected two windows of 32 frames, got {len(windows)}")
    return metrics.fit_autoencoder(windows, seed=config.seed)


def _load(path: Path) -> metrics.MotionAutoencoder:
    network = metrics.MotionAutoencoder()
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise InputRejected(f"{path}: expected an auto-encoder that `evaluate` wrote ({type(error).__name__}: {error})") from error
    return network.eval()


def _labels(folders: list[Path]) -> list[str]:
    """Each folder's name; with its parent's where two rows would be called alike."""
    names = [f.resolve().name for f in folders]
    taken = ["truth", *REFERENCE_ROWS, *names]
    return [n if taken.count(n) == 1 else f"{f.resolve().parent.name}/{n}" for n, f in zip(names, folders, strict=True)]


def _some(names: Iterable[str]) -> str:
    few = sorted(names)[:3]
    return ", ".join(few) + (", …" if len(list(names)) > 3 else "")
