"""Talks of speakers that nothing was trained on: `python -m samples.build_held_out --out INBOX [--speakers 10]`.

Writes an inbox for the comparison: <talk>.mp4, talks.csv that states every speaker as held out, and truth/<talk>.npz with
phones and a second draw of the motion (`evaluation.truth` names that folder). A talk that is there is not made again.
Needs espeak-ng (`apt-get install espeak-ng libespeak-ng1`); about half a minute a talk and core.
"""

from __future__ import annotations

import argparse
import csv
import sys
from fractions import Fraction
from pathlib import Path

from pipelines.progress import progress
from pipelines.store import writing
from samples.builders.cast import LICENCE
from samples.builders.people import make_person
from samples.builders.plan import TalkPlan
from samples.builders.plans import plan_talk

FIRST_SPEAKER = 700_000  # seeds; corpora for training and benchmarks draw theirs elsewhere
SECONDS = 8.0  # of a talk, about
FPS = Fraction(25)


def plan_held_out(speakers: int, seconds: float = SECONDS) -> list[TalkPlan]:
    """One half-body talk of each."""
    return [plan_talk(s, s, seconds, fps=FPS, framing="half") for s in range(FIRST_SPEAKER, FIRST_SPEAKER + speakers)]


def build_held_out(folder: Path, speakers: int, seconds: float = SECONDS) -> None:
    """Film what is missing, then write the table."""
    from samples.builders.talks import make_score, render_talk

    plans = plan_held_out(speakers, seconds)
    (folder / "truth").mkdir(parents=True, exist_ok=True)
    for plan in progress(plans, "filming held-out speakers"):
        video, truth = folder / f"{plan.id}.mp4", folder / "truth" / f"{plan.id}.npz"
        if not (video.is_file() and truth.is_file()):
            with writing(video) as new:
                render_talk(make_score(plan), make_person(plan.look), new, truth=truth)
    with writing(folder / "talks.csv") as temporary, temporary.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["file", "speaker", "licence", "language", "split"])
        table.writerows([f"{p.id}.mp4", p.speaker, LICENCE, p.voice.language, "test"] for p in plans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="INBOX", help="folder for the talks")
    parser.add_argument("--speakers", type=int, default=10, help="who give a talk each")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a talk, about")
    options = parser.parse_args()
    try:
        build_held_out(options.out, options.speakers, options.seconds)
    except (ValueError, RuntimeError) as error:
        sys.exit(f"build_held_out: {error}")


if __name__ == "__main__":
    main()
