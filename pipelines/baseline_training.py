"""The baseline's own first stage: codes of each body part are fitted to training motion, a transformer learns to fill them in.

It learns from the same shards as stage 2, motion without pictures among them. In the graph it is trained by `baseline_motion`
on the machine's processor; alone, on a GPU where there is one, by

    python -m pipelines.baseline_training --config FILE --out baseline.safetensors

whose file `baseline.weights` names. Axes: B batch, T frames, A audio features, M numbers of a motion vector.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from configs.schema import Config, load_config
from model.audio_to_motion import WINDOW, AudioToMotion, rest_of, standardised
from model.baseline_codes import STRIDE
from model.motion import motion_vector
from pipelines.checkpoints import from_project, read_about
from pipelines.manifests import read_manifest
from pipelines.motion_shards import MotionClip, motion_clips
from pipelines.progress import progress
from pipelines.store import InputRejected, Store, hash_file, hash_json, writing

SOURCES = ("motions", "talks")  # shards that stage 2 learns motion from


def training_clips(config: Config, store: Store) -> list[MotionClip]:
    """The clips that stage 2 learns motion from, those at another rate left out; where any lasts a window, shorter ones too."""
    found = [c for kind in SOURCES for c in motion_clips(store.shard_source(kind), "train")]  # type: ignore[arg-type]
    found = [c for c in found if c.fps == config.cut.fps and len(c.features) >= STRIDE]
    long = [c for c in found if len(c.features) >= WINDOW]
    return long or found


def data_version(config: Config, store: Store) -> str:
    """Hash of what the network comes from: the training shards, or the weights file that is used as it is."""
    if config.baseline.weights is not None:
        return hash_file(_existing(config.baseline.weights))
    return hash_json({kind: (read_manifest(store, kind) or {}).get("hash") for kind in SOURCES})  # type: ignore[arg-type]


def train(config: Config, clips: list[MotionClip], device: str = "cpu") -> tuple[AudioToMotion, list[float]]:
    """The network (on the CPU) and its losses, step by step; on one machine deterministic in `config.seed`."""
    settings = config.baseline
    rng = np.random.default_rng(config.seed)
    vectors = [motion_vector(clip.params, rest_of(clip.params)) for clip in clips]
    audio = [standardised(clip.features) for clip in clips]
    speakers = sorted({clip.group for clip in clips})
    style = [torch.full((len(v),), speakers.index(clip.group)) for v, clip in zip(vectors, clips, strict=True)]
    losses: list[float] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = AudioToMotion(audio[0].shape[1], settings.width, settings.layers, settings.codes, len(speakers))
        network.motion.fit(vectors, config.seed)
        network.to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.02)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps, pct_start=0.1)
        for _ in progress(range(settings.steps), "audio to motion"):
            heard, wanted, whose = (x.to(device) for x in _windows([audio, vectors, style], settings.batch, WINDOW, rng))
            loss = network.loss(heard, wanted, whose[:, 0])
            losses.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return network.to("cpu").eval(), losses


def learned_from(config: Config, clips: list[MotionClip]) -> dict[str, Any]:
    """What the network was trained on, in figures for the report."""
    settings, seconds = config.baseline, sum(len(c.features) / float(c.fps) for c in clips)
    return {
        "clips": len(clips), "speakers": len({c.group for c in clips}), "hours": round(seconds / 3600, 2), "steps": settings.steps,
        "hours_seen": round(settings.steps * settings.batch * WINDOW / float(config.cut.fps) / 3600, 1),
    }  # fmt: skip


def save_network(
    path: Path, network: AudioToMotion, config: Config, learned: dict[str, Any], made_by: dict[str, Any] | None = None
) -> None:
    """The weights, and beside them what is needed to build the network again."""
    about = {
        "stage": "baseline", "baseline": config.baseline.model_dump(), "audio_dim": network.hear[0].in_channels,
        "styles": network.style.num_embeddings, "learned_from": learned, "provenance": made_by or {},
    }  # fmt: skip
    with writing(path) as temporary:
        save_file(network.state_dict(), temporary, {"about": json.dumps(about, sort_keys=True, default=str)})


def load_network(path: Path | str) -> tuple[AudioToMotion, dict[str, Any]]:
    """The network in eval mode, its sizes read from the file, and what it learned from. ValueError where it is none."""
    about = read_about(_existing(path))
    if about.get("stage") != "baseline":
        made_by = "pipelines.baseline_training makes them"
        raise ValueError(f"{path}: expected weights of the baseline, got those of {about.get('stage')}; {made_by}")
    settings = about["baseline"]
    network = AudioToMotion(about["audio_dim"], settings["width"], settings["layers"], settings["codes"], about["styles"])
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(_existing(path)).items()})
    return network.eval(), about["learned_from"]


def _existing(path: Path | str) -> Path:
    found = from_project(str(path))
    if not found.is_file():
        raise InputRejected(f"baseline.weights: expected {path}, it does not exist; leave it out to train the network here")
    return found


def _windows(series: list[list[Tensor]], batch: int, longest: int, rng: np.random.Generator) -> list[Tensor]:
    """The same random windows [B, T, …] of several series of every clip; T a multiple of a code's frames."""
    length = min(longest, *map(len, series[0])) // STRIDE * STRIDE
    chosen = []
    for _ in range(batch):
        i = int(rng.integers(len(series[0])))
        start = int(rng.integers(len(series[0][i]) - length + 1))
        chosen.append((i, start))
    return [torch.stack([one[i][start : start + length] for i, start in chosen]) for one in series]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the baseline's audio-to-motion network alone.")
    parser.add_argument("--config", type=Path, required=True, help="its workspace's shards, its section `baseline`")
    parser.add_argument("--out", type=Path, required=True, help="weights file, safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    try:
        config = load_config(options.config)
        clips = training_clips(config, Store(config))
        if not clips:
            raise ValueError(f"expected clips in talk or motion shards under {Store(config).shards('motions').parent}, got none")
        network, losses = train(config, clips, options.device)
    except ValueError as error:
        sys.exit(f"baseline_training: {error}")
    learned = learned_from(config, clips)
    save_network(options.out, network, config, learned)
    print(json.dumps({**learned, "loss": round(float(np.mean(losses[-50:])), 4), "path": str(options.out)}))


if __name__ == "__main__":
    main()
