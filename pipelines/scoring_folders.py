"""Folders of motion, anybody's, scored against a reference folder: one row a folder, in any of the formats that are read.

The first folder is the truth. Clips go together by name (`x_output.npz`, `x.npz` and a folder `x` are one clip), sound lies
beside the truth's motion or in its `audio` folder. Every figure has a 95 % interval over speakers; figures of alignment with
speech are also computed with another clip's. What a figure is worth is said by the rows `truth`, `truth of another clip`,
`nearest clip` (the truth of the other speaker's clip that sounds most like it), `frozen`, and `oracle draw` where the truth's
files hold another draw of the same speech (`oracle_*`, as those of the embedded talks do).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from threadpoolctl import threadpool_limits

from configs.schema import Config
from model import metrics
from pipelines.body import body_hash
from pipelines.clip_folders import clips_of, samples_of, sounds_of, speaker_of, speech_of, video_of
from pipelines.convert import context_of, read_take
from pipelines.formats_hands import Context
from pipelines.formats_take import Take, implausible
from pipelines.nearest import Stretch, nearest_stretches
from pipelines.progress import progress
from pipelines.scoring_clips import DEFINITIONS, LEAST, Scorer
from pipelines.scoring_pictures import encoder_version, picture_figures
from pipelines.scoring_rows import BAND_RATE, ClipScorer, looped, phones_of, second_draw, sound_shape, still
from pipelines.scoring_summary import Row, add_visemes, markdown, summary
from pipelines.store import InputRejected, write_json, writing

FITTING_CLIPS = 400  # of the truth, evenly spaced, from which the auto-encoder learns
ORACLE, OTHER, NEAREST, FROZEN = REFERENCE_ROWS = ("oracle draw", "truth of another clip", "nearest clip", "frozen")
PER_PROCESS, CHUNK = 100, 16  # clips that pay for starting another process; that it is given at a time


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
    sounds = sounds_of(names, found[0])
    rows = {name: Row(name) for name in ("truth", *labels, *(REFERENCE_ROWS if reference_rows else ()))}
    for name, clips in zip(labels, found[1:], strict=True):
        rows[name].notes += [f"{n}: absent" for n in names if n not in clips]

    like: dict[str, Stretch] = {}
    if reference_rows:
        shapes = {n: sound_shape(samples_of(path)) for n, path in progress(sounds.items(), "hearing clips", total=len(sounds))}
        like = nearest_stretches(shapes, shapes, who)
    job = _Job(scorer, context, names, found, sounds, who, like, labels, reference_rows)
    with _processes(job) as pool:
        network = _load(autoencoder) if autoencoder else _fitted(config, context, found[0], names)
        for part in progress(_scored(job, network, pool), "scoring clips", total=len(names)):
            for name, row in part.items():
                rows[name].take(row)
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
    if "identity" in result["definitions"]:
        result["picture_encoder"] = encoder_version()
    if out is not None:
        write_json(out / "metrics.json", result)
        with writing(out / "metrics.md") as temporary:
            temporary.write_text(markdown(result))
        with writing(out / "autoencoder.safetensors") as temporary:
            save_file(network.state_dict(), temporary, {"about": json.dumps({"truth": str(folders[0]), "clips": len(names)})})
    return result


_job: _Job  # of a process that scores a share of the clips


@dataclass(frozen=True)
class _Job:
    """What the scoring of every clip shares."""

    scorer: Scorer
    context: Context
    names: list[str]
    found: list[dict[str, Path]]  # of the truth, then of each folder: clip → motion
    sounds: dict[str, Path]
    who: dict[str, str]
    nearest: dict[str, Stretch]
    labels: list[str]
    reference_rows: bool


@contextmanager
def _processes(job: _Job) -> Iterator[ProcessPoolExecutor | None]:
    """Those that share many clips, started at once: they import while the auto-encoder is fitted. None: few clips."""
    processes = min(os.cpu_count() or 1, len(job.names) // PER_PROCESS)
    if processes < 2:
        yield None
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin, (job,)) as pool:
        for _ in range(processes):
            pool.submit(int)  # a process starts with its first task
        yield pool


def _scored(job: _Job, network: metrics.MotionAutoencoder, pool: ProcessPoolExecutor | None) -> Iterator[dict[str, Row]]:
    """Rows of one clip after the other."""
    clips = range(len(job.names))
    if pool is None:
        yield from (_score_clip(job, network, i) for i in clips)
    else:
        yield from map(pickle.loads, pool.map(partial(_packed, pickle.dumps(network)), clips, chunksize=CHUNK))


def _begin(job: _Job) -> None:
    global _job
    _job = job
    torch.set_num_threads(1)
    threadpool_limits(1, "blas")  # for good: threads of two processes would wait for one another


def _packed(network: bytes, i: int) -> bytes:
    """As bytes, both: tensors by themselves would each hold an open file."""
    return pickle.dumps(_score_clip(_job, _network(network), i))


@lru_cache(maxsize=1)
def _network(packed: bytes) -> metrics.MotionAutoencoder:
    network: metrics.MotionAutoencoder = pickle.loads(packed)
    return network


def _score_clip(job: _Job, network: metrics.MotionAutoencoder, i: int) -> dict[str, Row]:
    rows: dict[str, Row] = defaultdict(lambda: Row(""))
    name, names = job.names[i], job.names
    path = job.found[0][name]
    truth = _read(path, job.context)
    if truth.frames < LEAST:
        rows["truth"].notes.append(f"{name}: {truth.frames} frames, fewer than {LEAST}; not scored")
        return dict(rows)
    # another speaker's clip where there is one, the same one in every run
    order = [names[(i + k) % len(names)] for k in range(1, len(names))]
    other = next((n for n in order if job.who[n] != job.who[name]), order[0] if order else None)
    speech, control = speech_of(job.sounds.get(name)), speech_of(job.sounds.get(other or ""))
    clip = ClipScorer(job.scorer, network, name, truth, speech, control, phones_of(path))
    clip.add(rows["truth"], truth)
    for label, clips in zip(job.labels, job.found[1:], strict=True):
        if name in clips:
            beside = other is not None and job.who[other] != job.who[name]
            stranger = video_of(job.found[0][other]) if beside and other is not None else None
            pictures = picture_figures(video_of(path), video_of(clips[name]), stranger)
            clip.add(rows[label], _read(clips[name], job.context), pictures)
    if not job.reference_rows:
        return dict(rows)
    drawn = second_draw(path, truth)
    like = job.nearest.get(name)
    borrowed = {OTHER: (other, 0.0)} | ({NEAREST: (like.clip, like.start / BAND_RATE)} if like else {})
    takes = {OTHER: None, NEAREST: None, FROZEN: still(truth), ORACLE: drawn}
    takes |= {row: looped(_read(job.found[0][n], job.context), truth, s) for row, (n, s) in borrowed.items() if n is not None}
    for row, take in takes.items():
        if take is not None:
            clip.add(rows[row], take, said=False)
    return dict(rows)


def _read(path: Path, context: Context) -> Take:
    take = read_take(path, context)
    wrong = implausible(take)
    if wrong:
        raise InputRejected(f"{path}: {wrong}")
    return take


def _fitted(config: Config, context: Context, paths: dict[str, Path], names: list[str]) -> metrics.MotionAutoencoder:
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
