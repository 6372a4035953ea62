"""Draw a corpus of talks as motion and audio features alone: `python -m samples.build_motions --config FILE --hours 12`.

Writes the shards `motions` of the configuration's workspace. Talks are drawn by as many processes as there are cores
(about 13 s of talk a second and core), each kept as a file until all are packed, so a run that was stopped goes on where
it was. A share has long pauses, in which nobody gestures.
Needs espeak-ng (`apt-get install espeak-ng libespeak-ng1`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from configs.schema import Config, load_config
from pipelines.motion_shards import features_npz, motion_npz
from pipelines.progress import progress
from pipelines.shards import Sample, write_shards
from pipelines.store import Record, Store, writing

FIRST_SPEAKER = 200_000  # seeds of the corpus' speakers; benchmarks draw theirs elsewhere
TALKS_EACH = 2  # of a speaker
SECONDS = 60.0  # of a talk, about
HESITANT = 0.3  # share of talks with long pauses
PAUSES = (1.5, 8.0)  # seconds, of those
HELD_OUT_EVERY = 20  # speakers, of which one is held out


@dataclass(frozen=True)
class MotionPlan:
    """Which talk to draw; `seed` decides it whole."""

    speaker: int
    talk: int

    @property
    def id(self) -> str:
        return f"motion{self.speaker}_{self.talk}"

    @property
    def seed(self) -> int:
        return self.speaker * TALKS_EACH + self.talk


def plan_corpus(hours: float, first: int = FIRST_SPEAKER) -> list[MotionPlan]:
    """Talks of about that many hours together, of speakers from `first` on."""
    count = max(1, round(hours * 3600 / SECONDS))
    return [MotionPlan(first + i // TALKS_EACH, i % TALKS_EACH) for i in range(count)]


def draw_motion(config: Config, plan: MotionPlan) -> dict[str, bytes]:
    """The members of one talk's sample."""
    from model.audio_encoders import make_audio_encoder
    from samples.builders.talks import make_score, perform, plan_talk

    rng = np.random.default_rng([plan.seed, 71])
    hesitant = rng.random() < HESITANT
    talk = plan_talk(plan.seed, speaker=plan.speaker, seconds=SECONDS / (2 if hesitant else 1), fps=config.cut.fps)
    if hesitant:
        talk = dataclasses.replace(talk, pause=float(rng.uniform(*PAUSES)))
    score = make_score(talk)
    params = perform(score, betas=_betas(talk.look))
    encoder = make_audio_encoder(config.audio)
    features = encoder(score.audio, score.fps, score.frames)
    return {"motion.npz": motion_npz(params), "features.npz": features_npz(features, score.fps, encoder.name)}


def build_motions(
    config: Config, store: Store, hours: float, processes: int, first: int = FIRST_SPEAKER, seconds: float | None = None
) -> Record:
    """Draw what is missing, for `seconds` at most where they are given, then pack what there is."""
    plans, folder = plan_corpus(hours, first), store.inside("motions")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [p for p in plans if not (folder / f"{p.id}.npz").is_file()]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _one_thread) as pool:
        end = time.time() + seconds if seconds else None
        jobs = pool.map(_draw_to, [config] * len(missing), missing, [folder] * len(missing), [end] * len(missing), chunksize=1)
        for _ in progress(jobs, "drawing motion", len(missing)):
            pass
    plans = [p for p in plans if (folder / f"{p.id}.npz").is_file()]
    samples = [
        Sample(p.id, f"speaker{p.speaker}", _reader(folder / f"{p.id}.npz"), "test" if p.speaker % HELD_OUT_EVERY == 0 else "train")
        for p in plans
    ]
    return write_shards(config, store, "motions", samples, [], [p.id for p in plans])


def _draw_to(config: Config, plan: MotionPlan, folder: Path, end: float | None) -> None:
    if end is not None and time.time() > end:
        return
    members = draw_motion(config, plan)
    with writing(folder / f"{plan.id}.npz") as temporary:
        np.savez(temporary, **{n: np.frombuffer(m, np.uint8) for n, m in members.items()})  # type: ignore[arg-type]


def _reader(path: Path) -> Any:
    def read() -> dict[str, bytes]:
        with np.load(path, allow_pickle=False) as npz:
            return {name: npz[name].tobytes() for name in npz.files}

    return read


def _betas(look: int) -> np.ndarray:
    from samples.builders.people import embedded_wardrobe, random_betas

    return random_betas(look, embedded_wardrobe()).numpy()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw talks as motion and audio features, without pictures.")
    parser.add_argument("--config", required=True, help="configuration, YAML: its workspace, frame rate and audio encoder")
    parser.add_argument("--hours", type=float, default=12.0, help="of talk")
    parser.add_argument("--first", type=int, default=FIRST_SPEAKER, help="seed of the first speaker: others for training that goes on")
    parser.add_argument("--seconds", type=float, help="stop drawing after so long and pack what there is")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    try:
        config = load_config(options.config)
        record = build_motions(config, Store(config), options.hours, options.processes, options.first, options.seconds)
    except (RuntimeError, ValueError) as error:
        sys.exit(f"build_motions: {error}")
    print(json.dumps({k: record.facts.get(k) for k in ("samples", "bytes", "path")}))


if __name__ == "__main__":
    main()
