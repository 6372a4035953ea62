"""The two-stage baseline on stage 2's own data: `python -m benchmarks.stage2_two_stage --config FILE --out FILE [--steps N]`.

Trains its first stage (pipelines.baseline_training) on the clips of the motion shards that stage 2 learns from and writes its
weights; `python -m benchmarks.stage2 --baseline FILE` adds it as a row. It has no renderer here: motion is what is compared.
"""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.talk_scores import Clip
from configs.schema import BaselineConfig, load_config
from model.audio_to_motion import AudioToMotion, rest_of
from model.motion import params_from_motion
from model.types import SmplxParams
from pipelines.baseline_training import train
from pipelines.checkpoints import PROJECT
from pipelines.motion_shards import motion_clips
from pipelines.store import Store, writing


def load_baseline(path: Path) -> AudioToMotion:
    """Its first stage. ValueError where the file is none."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            settings = BaselineConfig.model_validate_json((file.metadata() or {})["config"])
        state = load_file(path)
        audio_dim, speakers = state["lips.read.weight"].shape[1], len(state["style.weight"])
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"--baseline: expected audio_to_motion.safetensors of the baseline, got {path} ({error})") from error
    network = AudioToMotion(audio_dim, settings.width, settings.layers, settings.codes, speakers)
    network.load_state_dict(state)
    return network.eval()


def two_stage(network: AudioToMotion, clips: list[Clip], seed: int = 0) -> list[SmplxParams]:
    """Its motion [T] for each clip, placed where the truth's first frame stands, with its shape."""
    made = [network.generate(torch.from_numpy(clip.features).float(), seed + i) for i, clip in enumerate(clips)]
    return [params_from_motion(vector, rest_of(clip.truth[:1])) for vector, clip in zip(made, clips, strict=True)]


def main() -> None:
    parser = arguments("The two-stage baseline on stage 2's data")
    parser.add_argument("--config", type=Path, default=PROJECT / "configs" / "small_stage2.yaml")
    parser.add_argument("--out", type=Path, required=True, help="weights to write, safetensors")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--clips", type=int, help="at most so many; default: all")
    options = parser.parse_args()
    start, config = time.perf_counter(), load_config(options.config)
    if options.steps is not None:
        config = config.model_copy(update={"baseline": config.baseline.model_copy(update={"steps": options.steps})})
    wanted = Fraction(config.cut.fps)
    clips: list[Any] = [c for c in motion_clips(Store(config).shard_source("motions"), "train") if c.fps == wanted][: options.clips]
    if not clips:
        raise SystemExit("stage2_two_stage: expected motion shards, got none; draw them with python -m samples.build_motions")
    talks: list[Any] = [SimpleNamespace(fit=SimpleNamespace(params=c.params), features=c.features, group=c.group) for c in clips]
    network, losses = train(config, talks)
    with writing(options.out) as temporary:
        save_file(network.state_dict(), temporary, {"config": config.baseline.model_dump_json(), "clips": json.dumps(len(clips))})
    found = [Figure("loss", round(sum(losses[-20:]) / len(losses[-20:]), 4), "")]
    about = {"clips": len(clips), "steps": config.baseline.steps}
    publish("stage2_two_stage", found, device=device_name(), config=about, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
