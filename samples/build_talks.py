"""Make the embedded talks: `python -m samples.build_talks [--out FOLDER] [--talk ID ...]`.

Writes <talk>.mp4 (512 × 512, 25 frames/s, H.264 and AAC), truth/<talk>.npz and talks.csv. Needs espeak-ng
(`apt-get install espeak-ng libespeak-ng1`) and the embedded body; takes about a minute a talk.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from rich.progress import Progress, TaskID

from model.mesh_raster import render_mesh
from pipelines.media import write_video
from samples.builders.cast import LICENCE, TALKS, Talk
from samples.builders.people import embedded_body, make_person
from samples.builders.performance import perform
from samples.builders.scene import camera_of, develop, lights_of, wall
from samples.builders.speech import SAMPLE_RATE, speak
from samples.builders.truth import save_truth

FOLDER = Path(__file__).parent / "talks"
SIZE = 512  # pixels
FPS = 25
CRF = 22
ORACLE = 500  # added to the motion's seed for the second draw
BATCH = 20  # frames posed at once
THREADS = 2


def build_talk(talk: Talk, folder: Path, progress: Callable[[int, int], None]) -> None:
    """Write one talk's video and truth; `progress` is told (frames done, frames in all)."""
    speech = speak(talk.lines, talk.voice, talk.pause, talk.seed, FPS)
    frames = round(speech.seconds * FPS)
    person = make_person(talk.seed)
    params, oracle = (
        perform(speech.phones, frames, FPS, talk.style, embedded_body(), person.betas.numpy(), seed)
        for seed in (talk.motion_seed, talk.motion_seed + ORACLE)
    )
    standing = person.posing()
    top = float(person.vertices(standing)[0, :, 1].max())
    hips = float(embedded_body().joints(standing)[0, 0, 1])
    camera = camera_of(talk.shot, top, hips, SIZE)
    background, lights = wall(talk.shot, SIZE, talk.seed), lights_of(talk.shot)

    def picture(item: tuple[int, np.ndarray]) -> np.ndarray:
        index, vertices = item
        seen = render_mesh(
            vertices, person.faces, camera, texture=person.texture, uv=person.uv, uv_faces=person.uv_faces,
            background=background, lights=lights,
        )  # fmt: skip
        return develop(seen.rgb, np.random.default_rng([talk.seed, index]))

    def pictures() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(THREADS) as pool:
            for start in range(0, frames, BATCH):
                posed = person.vertices(params[start : start + BATCH])
                yield from pool.map(picture, enumerate(posed, start))
                progress(min(start + BATCH, frames), frames)

    write_video(folder / f"{talk.id}.mp4", pictures(), Fraction(FPS), speech.audio, SAMPLE_RATE, CRF)
    save_truth(folder / "truth" / f"{talk.id}.npz", params, oracle, camera, Fraction(FPS), speech.phones)


def write_table(folder: Path) -> None:
    with (folder / "talks.csv").open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file", "speaker", "licence", "language"])
        table.writerows([f"{t.id}.mp4", t.speaker, LICENCE, t.voice.language] for t in TALKS)


def _report(bars: Progress, bar: TaskID, done: int, total: int) -> None:
    bars.update(bar, completed=done, total=total)


def main() -> None:
    ids = [t.id for t in TALKS]
    parser = argparse.ArgumentParser(description="Make the embedded talks.")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the talks")
    parser.add_argument("--talk", action="append", choices=ids, help="only this talk; may be repeated")
    options = parser.parse_args()
    (options.out / "truth").mkdir(parents=True, exist_ok=True)
    with Progress() as bars:
        for talk in (t for t in TALKS if not options.talk or t.id in options.talk):
            bar = bars.add_task(talk.id, total=None)
            try:
                build_talk(talk, options.out, partial(_report, bars, bar))
            except RuntimeError as error:
                sys.exit(f"build_talks: {error}")
    write_table(options.out)


if __name__ == "__main__":
    main()
