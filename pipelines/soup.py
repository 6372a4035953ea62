"""The mean of weights of runs that began with the same weights: `python -m pipelines.soup A B [...] OUT`.

Runs that share their beginning lie in one basin, and what they differ by is mostly what each learned by heart (Wortsman et al.,
"Model soups", 2022). Constants of the corpus must be the same; the file says what `A` does, and the hashes of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from pipelines.checkpoints import read_about
from pipelines.export import CONSTANTS
from pipelines.store import hash_file, writing

SAME = 1e-4  # by how much constants may differ, of their size


def mean_weights(states: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors of the same names and shapes → their means; heats too. ValueError where constants or shapes differ."""
    first, out = states[0], {}
    for name, value in first.items():
        others = [state.get(name) for state in states]
        if any(o is None or o.shape != value.shape for o in others) or any(len(s) != len(first) for s in states):
            raise ValueError(f"soup: expected weights of one network, {name} is missing or has another shape in some")
        stacked = torch.stack([o.float() for o in others if o is not None])
        apart = float((stacked - stacked[0]).abs().max() / (1e-3 + stacked.abs().max()))
        if name.startswith(CONSTANTS) and name != "generator.heat" and apart > SAME:
            raise ValueError(f"soup: expected runs that began with the same constants, {name} differs; start_from keeps them")
        out[name] = stacked.mean(0).to(value.dtype) if value.is_floating_point() else value
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="two or more exported files")
    parser.add_argument("out", type=Path, help="the file to write")
    options = parser.parse_args()
    try:
        if len(options.weights) < 2:
            raise ValueError(f"soup: expected two files or more, got {len(options.weights)}")
        state = mean_weights([safetensors.torch.load_file(p) for p in options.weights])
        about = read_about(options.weights[0]) | {"mean_of": [hash_file(p) for p in options.weights]}
        with writing(options.out) as temporary:
            safetensors.torch.save_file(state, temporary, metadata={"about": json.dumps(about, sort_keys=True)})
    except ValueError as error:
        sys.exit(f"{error}")
    print(f"{options.out}: mean of {len(options.weights)} files")


if __name__ == "__main__":
    main()
