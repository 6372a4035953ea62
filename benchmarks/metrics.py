"""Formats and metrics: what a round trip through every format loses, and how long a thousand clips take to score.

    python -m benchmarks.metrics [--clips 1000]

Round trips: random motion of 55 joints (angles up to 3.1 rad) and a camera, written and read in each format, the largest
error of any; places count where the format has one. Scoring: two folders of BEAT2-format npz (10 s at 30 frames/s, 100
expressions) with a wav beside each clip, reading, FGD's auto-encoder and intervals included, no reference rows. The wall
clock is the bar's; processor seconds are what other work on the machine disturbs less.
"""

from __future__ import annotations

import dataclasses
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import roma
import torch

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config
from pipelines.convert import READERS, WRITERS, context_of
from pipelines.formats_take import Take, default_camera
from pipelines.media import SAMPLE_RATE, write_wav
from pipelines.scoring_folders import evaluate_folders

CLIPS, SECONDS, RATE, DISTINCT, SPEAKERS = 1000, 10, Fraction(30), 40, 25
NAMES = {"emage": "a_output.npz", "talkshow": "a.npy", "huge100k": "h.npy", "fit": "a.npz"}  # the others are folders


def figures(clips: int = CLIPS) -> list[Figure]:
    """The figures; `clips` other than 1,000 leave the timing out, which nothing may be scaled to."""
    radians, metres = zip(*round_trips(), strict=True)
    found = [
        Figure("roundtrip_error_rad", max(radians), "rad", "<= 1e-5"),
        Figure("roundtrip_error_m", max(metres), "m", "<= 1e-6"),
    ]
    wall, processor = scoring_seconds(clips)
    bar = "<= 60" if clips == CLIPS else None
    found.append(Figure(f"metrics_seconds_{clips}_clips", round(wall, 1), "s", bar))
    return [*found, Figure(f"metrics_processor_seconds_{clips}_clips", round(processor, 1), "core s")]


def round_trips(seeds: int = 10) -> Iterator[tuple[float, float]]:
    """Largest error of angles (rad) and of places (m), of each format and seed."""
    context = context_of(Config())
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name, read in READERS.items():
                take = random_take(seed, 1 if name == "huge100k" else 20)
                path = Path(folder) / NAMES.get(name, name)
                WRITERS[name](path, take, context)
                # what no file of these formats holds is given again: the rate and where the camera stands
                got = read(path, dataclasses.replace(context, camera=take.camera, rate=take.fps))
                turned = (roma.rotvec_to_rotmat(x) for x in (got.pose, take.pose))
                away = 0.0 if name == "talkshow" else float((got.transl - take.transl).abs().max())
                yield float(roma.rotmat_geodesic_distance(*turned).max()), away


def random_take(seed: int, frames: int) -> Take:
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(frames, 55, 3))
    pose *= rng.uniform(0, 3.1, (frames, 55, 1)) / np.linalg.norm(pose, axis=-1, keepdims=True)
    values = [torch.from_numpy(rng.normal(size=shape)) for shape in ((frames, 3), (frames, 10), (10,))]
    camera = default_camera()
    camera.w2c[:3, 3] = torch.tensor([0.1, 0.4, 2.4])
    return Take(torch.from_numpy(pose), *values, RATE, camera)


def scoring_seconds(clips: int) -> tuple[float, float]:
    """Wall and processor seconds of scoring one folder of that many clips against another."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [write_folder(Path(folder) / name, clips, seed) for seed, name in enumerate(("truth", "other"))]
        start, processor = time.perf_counter(), _processor_seconds()
        result = evaluate_folders(Config(), sides, reference_rows=False)
        assert result["clips"] == clips
        return time.perf_counter() - start, _processor_seconds() - processor


def _processor_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def write_folder(folder: Path, clips: int, seed: int) -> Path:
    """Motion of a few sines a joint and bursts of noise; `DISTINCT` clips under as many names as asked for."""
    folder.mkdir()
    frames = int(SECONDS * RATE)
    for i in range(clips):
        name = f"{i}_speaker{i % SPEAKERS}_0_1_1"
        if i >= DISTINCT:
            twin = f"{i % DISTINCT}_speaker{i % DISTINCT % SPEAKERS}_0_1_1"
            for suffix in ("_output.npz", ".wav"):
                os.link(folder / (twin + suffix), folder / (name + suffix))
            continue
        rng = np.random.default_rng([seed, i])
        time_ = np.arange(frames)[:, None, None] / float(RATE)
        wave = np.sin(2 * np.pi * (rng.uniform(0.1, 1.5, (55, 3)) * time_ + rng.random((55, 3))))
        poses = (rng.uniform(0, 0.15, (55, 3)) * wave).astype(np.float32).reshape(frames, 165)
        np.savez(
            folder / f"{name}_output.npz", poses=poses, betas=rng.normal(0, 0.3, 300).astype(np.float32),
            expressions=rng.normal(0, 0.5, (frames, 100)).astype(np.float32), trans=np.zeros((frames, 3), np.float32),
            model="smplx2020", gender="neutral", mocap_frame_rate=30,
        )  # fmt: skip
        loud = np.repeat(rng.random(SECONDS * 4) ** 2, SAMPLE_RATE // 4)
        write_wav(folder / f"{name}.wav", (0.2 * loud * rng.normal(size=len(loud))).astype(np.float32))
    return folder


def main() -> None:
    parser = arguments("What round trips through motion formats lose, and how long metrics take.")
    parser.add_argument("--clips", type=int, default=CLIPS)
    options = parser.parse_args()
    start = time.perf_counter()
    found = figures(options.clips)
    config = {"clips": options.clips, "seconds_each": SECONDS, "rate": str(RATE), "torch_threads": torch.get_num_threads()}
    publish("metrics", found, device=device_name(), config=config, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
