"""`python -m samples.train_small --out FOLDER --seconds 1500`: the small stage 1, trained further on people drawn meanwhile.

Three legs, each from the weights of the one before: on the people that are drawn first, on the many that are drawn beside it,
and what `configs/small_whole.yaml` names alone on whole bodies. The clock ends them; then FOLDER/stage1.safetensors holds the
weights in half precision. Until then `so_far.safetensors` lies beside each leg's checkpoints. What is drawn is kept: the same
command again draws only what is missing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs.places import PROJECT
from configs.schema import Config, load_config
from pipelines.checkpoints import weights_file
from pipelines.export import export_half
from pipelines.launch import run_training
from pipelines.processes import ProcessFailed
from pipelines.store import Store
from samples.builders.corpus import PRESETS, Corpus, CorpusSpec

STEPS = 1_000_000  # of a leg: the clock ends it before
LAST = 0.06  # of all seconds are the last leg's
START = 25  # seconds that training needs beside its steps, before the first leg has shown how many
EXPORT = 15  # seconds to write the weights
NICE = 5  # of drawing beside training
SKIRTS = 0.3  # of the people of the first two legs are chosen for their skirts: the hardest to learn, and one in five by chance


@dataclass(frozen=True)
class Leg:
    """People, and how they are learned."""

    name: str
    spec: CorpusSpec
    config: Config


def small_legs(folder: Path, people: Sequence[int], seed: int) -> list[Leg]:
    """Three legs as those that ended the shipped weights, in folders of their own; seeds of the people are `seed` and the two after."""
    every = replace(PRESETS["small"], talks=0, speakers=0, views=14, skirts=SKIRTS, held_out=0.02)
    whole = replace(every, views=16, skirts=0.0, half_bodies=0)
    kinds = {"first": (every, "small.yaml"), "many": (every, "small.yaml"), "whole": (whole, "small_whole.yaml")}
    legs = []
    for number, ((name, (spec, config)), count) in enumerate(zip(kinds.items(), people, strict=True)):
        given = load_config(PROJECT / "configs" / config)
        legs.append(Leg(name, replace(spec, people=count, seed=seed + number), given.model_copy(update={"workspace": str(folder / name)})))
    return legs


def train_legs(legs: Sequence[Leg], weights: str, end: float, workers: int, on_line: Callable[[str], None] = print) -> Path:
    """Train one leg after the other from `weights` on; the last one's weights are there at `end` (`time.time()`).

    Errors: ProcessFailed where drawing or training fails.
    """
    start, lost = time.time(), float(START)
    drawing, file = _Drawing(legs[0], workers), Path(weights)
    try:
        for number, leg in enumerate(legs):
            drawn = drawing.wait()
            on_line(f"{leg.name}: {leg.spec.people} people drawn")
            after, begin = legs[number + 1 :], time.time()
            if after:
                drawing = _Drawing(after[0], workers, NICE)
            seconds = end - begin - (LAST * (end - start) + lost if after else 0)
            if len(after) > 1:  # no longer than the next are being drawn
                seconds = min(seconds / 2, drawn / leg.spec.people * after[0].spec.people)
            seconds = max(1.0, seconds - lost)
            file = train_leg(leg, file, seconds, on_line)
            lost = max(lost, time.time() - begin - seconds)
    finally:
        drawing.end()
    return file


def train_leg(leg: Leg, weights: Path, seconds: float, on_line: Callable[[str], None]) -> Path:
    """Train from `weights` for so many seconds; returns the file of the trained weights."""
    changes = {"start_from": str(weights), "steps": STEPS, "seconds": seconds}
    training = leg.config.stage1_training.model_copy(update=changes)
    config = leg.config.model_copy(update={"stage1_training": training})
    store = Store(config)
    run_training(config, store, "stage1", on_line)
    return weights_file(store, "stage1")


class _Drawing:
    """A leg's people being drawn by other processes."""

    def __init__(self, leg: Leg, workers: int, nice: int = 0):
        self.folder, self.start = Path(leg.config.workspace), time.time()
        Corpus(self.folder, leg.spec)  # complains here where the folder holds something else
        options = [word for name in vars(leg.spec) for word in (f"--{name.replace('_', '-')}", str(getattr(leg.spec, name)))]
        command = [sys.executable, "-m", "samples.build_corpus", "small", "--out", str(self.folder), "--workers", str(workers), *options]
        with (self.folder / "draw.log").open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        if nice:
            os.setpriority(os.PRIO_PROCESS, self.process.pid, nice)

    def wait(self) -> float:
        """Until all are drawn; returns the seconds since drawing began."""
        code = self.process.wait()
        if code:
            raise ProcessFailed(f"drawing people ended with code {code}; {self.folder / 'draw.log'} says why")
        return time.time() - self.start

    def end(self) -> None:
        self.process.terminate()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the people and all of training lie")
    parser.add_argument("--seconds", type=float, default=1500, help="until the weights are there, drawing included (default: 1500)")
    parser.add_argument("--people", type=int, nargs=3, default=[600, 2600, 350], help="of the three legs (default: 600 2600 350)")
    parser.add_argument("--seed", type=int, default=91, help="of the first leg's people; the others' are the next two (default: 91)")
    parser.add_argument("--start", default="samples/weights/stage1.safetensors", help="weights to go on from (default: the shipped ones)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw (default: one a core)")
    options = parser.parse_args()
    end = time.time() + options.seconds - EXPORT
    try:
        legs = small_legs(options.out.resolve(), options.people, options.seed)
        trained = train_legs(legs, options.start, end, options.workers)
        out = options.out / "stage1.safetensors"
        print(f"{out}: {export_half(trained, out) / 1e6:.1f} MB")
    except (ValueError, ProcessFailed) as error:
        sys.exit(f"train_small: {error}")


if __name__ == "__main__":
    main()
