"""How warm each channel of stage 2's noise should be: `python -m pipelines.calibration WEIGHTS OUT --config FILE`.

A flow learned in finite time draws some channels too narrow and others too wide, the more so as a channel's motion adds up over
chunks. Talks are generated for the held-out speech of the motion shards (never for a benchmark's speakers), and each channel's
noise is warmed or cooled until its motion is spread over the talks as the truth's; blinks and brows, which are events and no
spreads, are left. Writes the weights with those `heat`s, and with the guidance and temperature they are for where those are given.
Axes: B talks, T frames, C channels.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from configs.schema import Config, load_config
from model.body import Body
from model.flow import SMALL, Generator
from model.motion_space import FACE_START
from model.talking import talk_whole
from model.types import SmplxParams
from pipelines.checkpoints import load_stage2, read_about
from pipelines.motion_shards import MotionClip, motion_clips
from pipelines.store import Store, writing

ROUNDS, TALKS, FRAMES = 6, 24, 500
STEP = 0.15  # power of the ratio of spreads by which a round moves a heat: a spread goes with about the fifth power of it
NARROWEST, WIDEST = 0.65, 1.35  # heats


@torch.no_grad()
def calibrate(generator: Generator, body: Body, clips: list[MotionClip], rounds: int = ROUNDS) -> list[float]:
    """Set `generator.heat`; returns each round's mean absolute log ratio of spreads, weighed as the channels vary."""
    device, space = generator.heat.device, generator.space
    frames = min(FRAMES, *(len(c.confidence) for c in clips))
    truth = SmplxParams.cat([c.params[:frames].map(lambda x: x[None]) for c in clips]).to(device)
    sound = torch.stack([c.features[:frames] for c in clips]).to(device)
    wanted, moves = _spread(space.encode(truth)[0]), space.scale > SMALL
    moves[FACE_START:] = False
    left = []
    for round_ in range(rounds):
        made = talk_whole(generator, body, truth[:, 0], sound, seed=1000 * round_).params
        ratio = torch.where(moves, wanted / _spread(space.encode(made)[0]), 1.0)
        left.append(float((ratio.log().abs() * moves).sum() / moves.sum()))
        generator.heat.mul_(ratio.pow(STEP)).clamp_(NARROWEST, WIDEST)
    return left


def _spread(channels: Tensor) -> Tensor:  # [B, T, C] → [C]
    return (channels - channels.mean(1, keepdim=True)).square().mean((0, 1)).sqrt().clamp(min=1e-6)


def held_out_clips(config: Config, store: Store, count: int = TALKS) -> list[MotionClip]:
    """Of the motion shards, else of drawn ones that no benchmark looks at. ValueError where there are none."""
    clips = [c for c in motion_clips(store.shard_source("motions"), "test") if c.fps == config.cut.fps]
    if not clips:
        raise ValueError("calibration: expected held-out talks in the motion shards, got none; draw them with samples.build_motions")
    return clips[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, help="stage 2 safetensors")
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument("--config", type=Path, required=True, help="configuration whose workspace holds the motion shards")
    parser.add_argument("--talks", type=int, default=TALKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="0: heats stay as they are")
    for name in ("guidance", "temperature"):
        parser.add_argument(f"--{name}", type=float, nargs=3, metavar=("BODY", "HANDS", "FACE"), help="instead of the weights'")
    parser.add_argument("--guided-until", type=float, help="instead of the weights'")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    try:
        config = load_config(options.config)
        stage2 = load_stage2(config, options.weights, options.device)
        named = {n: getattr(options, n) for n in ("guidance", "temperature", "guided_until")}
        given = {n: tuple(v) if isinstance(v, list) else v for n, v in named.items() if v is not None}
        stage2.generator.config = stage2.config.model_copy(update=given)
        clips = held_out_clips(config, Store(config), options.talks)
        left = calibrate(stage2.generator, stage2.stage1.body, clips, options.rounds)
        state = safetensors.torch.load_file(options.weights) | {"generator.heat": stage2.generator.heat.cpu()}
        about = read_about(options.weights)
        about["config"]["stage2"] |= given
        if options.rounds:
            about["calibrated_on"] = [c.id for c in clips]
        with writing(options.out) as temporary:
            safetensors.torch.save_file(state, temporary, metadata={"about": json.dumps(about, sort_keys=True)})
    except ValueError as error:
        sys.exit(f"calibration: {error}")
    print(f"{options.out}: spreads off by {np.round(left, 3).tolist()} (mean |log|, round by round)")


if __name__ == "__main__":
    main()
