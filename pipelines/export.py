"""`python -m pipelines.export WEIGHTS OUT`: trained weights in half precision, half the size, with all that made them.

What is stored below float32 is read back into float32 parameters; the metadata say that it was rounded. Of stage 2 the
stage-1 weights are left out: they are read from the `stage1.safetensors` that must lie beside the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import safetensors.torch
import torch

from pipelines.checkpoints import STAGE1, fingerprint, read_about
from pipelines.store import writing

# of the corpus: half precision lacks their range
CONSTANTS = ("motion.", "generator.space.", "generator.surprises.", "generator.audio_", "generator.heat")


def export_half(source: Path, target: Path) -> int:
    """Write `source` in float16 to `target`; returns its bytes. ValueError where `source` is no weights file of ours, or
    a value leaves float16's range."""
    about = read_about(source) | {"precision": "float16"}
    given, state = safetensors.torch.load_file(source), {}
    if about["stage"] == "stage2":
        about["stage1_beside"] = fingerprint({k.removeprefix(STAGE1): v for k, v in given.items() if k.startswith(STAGE1)})
        given = {k: v for k, v in given.items() if not k.startswith(STAGE1)}
    for name, value in given.items():
        half = value.half() if value.is_floating_point() and not name.startswith(CONSTANTS) else value
        if value.is_floating_point() and not torch.isfinite(half).all():
            raise ValueError(f"{source}: {name} has values beyond float16's range, up to {value.abs().max():.3g}; keep float32")
        state[name] = half.contiguous()
    with writing(target) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"about": json.dumps(about, sort_keys=True)})
    return target.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="a stage's safetensors")
    parser.add_argument("out", type=Path, help="the file to write")
    options = parser.parse_args()
    try:
        print(f"{options.out}: {export_half(options.weights, options.out) / 1e6:.1f} MB")
    except ValueError as error:
        sys.exit(f"export: {error}")


if __name__ == "__main__":
    main()
