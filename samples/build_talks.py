"""Make the embedded talks: `python -m samples.build_talks [--out FOLDER] [--talk ID ...]`.

Writes <talk>.mp4 (512 × 512, 25 frames/s, H.264 and AAC), truth/<talk>.npz and talks.csv. Needs espeak-ng
(`apt-get install espeak-ng libespeak-ng1`) and the embedded body; takes about half a minute a talk.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.progress import Progress, TaskID

from samples.builders.cast import LICENCE, TALKS
from samples.builders.people import make_person
from samples.builders.plan import TalkPlan
from samples.builders.talks import make_score, render_talk

FOLDER = Path(__file__).parent / "talks"


def build_talk(talk: TalkPlan, folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Write one talk's video and truth; `progress` is told (frames done, frames in all)."""
    truth = folder / "truth" / f"{talk.id}.npz"
    render_talk(make_score(talk), make_person(talk.look), folder / f"{talk.id}.mp4", truth=truth, progress=progress)


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
