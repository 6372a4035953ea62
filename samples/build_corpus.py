"""`python -m samples.build_corpus small --out FOLDER`: embedded people and talks in any amount, ready to train on.

FOLDER becomes a workspace: `workspace: FOLDER` in a configuration trains on its `shards/`. A build that was stopped goes
on when the same command is given. Speech needs espeak-ng; `--speech` makes that alone, and a machine without a TTS draws
the rest from the folder's `speech/` with `--draw`.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

from samples.builders.corpus import PRESETS, Corpus, CorpusSpec

EXPLAINED = {
    "people": "people to photograph", "views": "pictures of each", "stances": "in which each is photographed",
    "half_bodies": "one in so many pictures shows the upper half of a body; 0: none", "talks": "talks",
    "speakers": "who give them, in turn", "seconds": "length of a talk, about", "size": "side of all pictures, pixels",
    "seed": "of everything",
    "held_out": "share of speakers and of people kept for testing",
    "skirts": "share of people chosen for wearing a skirt, beside those who do by chance",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", choices=sorted(PRESETS), help="what to start from; the options below change it")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the corpus is or comes to be")
    for field in fields(CorpusSpec):
        name, kind = f"--{field.name.replace('_', '-')}", type(getattr(PRESETS["small"], field.name))
        parser.add_argument(name, type=kind, help=f"{EXPLAINED[field.name]} (small: {getattr(PRESETS['small'], field.name)})")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--speech", action="store_true", help="make the speech alone")
    only.add_argument("--draw", action="store_true", help="draw and pack from the speech that is there")
    options = parser.parse_args()
    given = {f.name: getattr(options, f.name) for f in fields(CorpusSpec) if getattr(options, f.name) is not None}
    try:
        corpus = Corpus(options.out, replace(PRESETS[options.preset], **given))
        if not options.draw:
            corpus.speak(options.workers)
        if not options.speech:
            corpus.draw(options.workers)
            for kind, record in corpus.pack().items():
                counts = f"{record.facts['train_samples']} to train, {record.facts['test_samples']} held out"
                print(f"{kind}: {counts}, {record.facts['bytes'] / 1e6:.1f} MB in {record.facts['path']}")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"build_corpus: {error}")


if __name__ == "__main__":
    main()
