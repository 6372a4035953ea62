"""Talks from seeds, step by step: `plan_talk` → `make_score` (needs espeak-ng) → `perform` → `render_talk`.

    score = make_score(plan_talk(7))                        # the same on every machine that has espeak-ng
    score.save("talk7.npz")
    score = Score.load("talk7.npz")                         # from here on no speech engine is needed
    render_talk(score, make_person(score.plan.look), Path("talk7.mp4"))

`plan_talk(seed, speaker=s)` is another talk of speaker s: same voice, pace, style and looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from model.mesh_raster import render_mesh
from samples.builders.backdrops import backdrop
from samples.builders.people import Person
from samples.builders.performance import perform
from samples.builders.plan import TalkPlan
from samples.builders.plans import plan_talk
from samples.builders.scene import Sensor, Stand, camera_of, lights_of, tint_of
from samples.builders.score import Score, hands_of, make_score
from samples.builders.speech import SAMPLE_RATE
from samples.builders.truth import save_truth

__all__ = ["Score", "TalkPlan", "make_score", "perform", "plan_talk", "render_talk"]

SIZE = 512  # pixels
ORACLE = 500  # added to the take for the second draw
BATCH = 20  # frames posed at once
THREADS = 2


@dataclass(frozen=True)
class Film:
    """How a video is packed."""

    crf: int = 22  # of H.264
    sound_rate: int = 48_000  # Hz, a multiple of the speech's
    sound_bits: int | None = None  # a second, of AAC; none: transparent


def render_talk(
    score: Score,
    person: Person,
    out_mp4: str | Path,
    size: int = SIZE,
    masks: bool = False,
    *,
    take: int | None = None,
    truth: str | Path | None = None,
    threads: int = THREADS,
    film: Film = Film(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Film the score: write the mp4 (H.264, AAC) and the ground truth (samples.builders.truth), whose path is returned.

    `size`: pixels a side. `masks`: keep the silhouettes in the truth. `take`: the draw of the motion (none: the plan's).
    `truth`: where the truth goes (none: beside the video, `.npz`). `film`: how the video is packed.
    `progress` is told (frames done, frames in all).
    """
    from pipelines.media_write import write_video  # PyAV: motion alone is drawn without

    plan, video = score.plan, Path(out_mp4)
    beside = video.with_suffix(".npz") if truth is None else Path(truth)
    take = plan.take if take is None else take
    betas = person.betas.numpy()
    params, oracle = (perform(score, t, betas) for t in (take, take + ORACLE))
    stand = Stand.of(person)
    camera = camera_of(plan.shot, stand, size)
    background = backdrop(plan.shot, size, plan.seed, camera, stand.floor)
    lights, sensor = lights_of(plan.shot), Sensor(size, plan.seed, tint_of(plan.shot))
    silhouettes: list[np.ndarray] = []

    def picture(item: tuple[int, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        index, vertices = item
        seen = render_mesh(
            vertices, person.faces, camera, texture=person.texture, uv=person.uv, uv_faces=person.uv_faces,
            background=background, lights=lights,
        )  # fmt: skip
        return sensor.develop(seen.rgb, index), np.packbits(seen.alpha > 0.5, axis=-1) if masks else np.empty(0)

    def pictures() -> Iterator[np.ndarray]:
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, score.frames, BATCH):
                posed = person.vertices(params[start : start + BATCH])
                for image, silhouette in pool.map(picture, enumerate(posed, start)):
                    if masks:
                        silhouettes.append(silhouette)
                    yield image
                progress(min(start + BATCH, score.frames), score.frames)

    sound = resample_poly(score.audio, film.sound_rate // SAMPLE_RATE, 1).astype(np.float32)
    write_video(video, pictures(), score.fps, np.clip(sound, -1, 1), film.sound_rate, film.crf, film.sound_bits)
    save_truth(beside, score, params, oracle, camera, hands_of(score, take)[1], np.stack(silhouettes) if masks else None)
    return beside
