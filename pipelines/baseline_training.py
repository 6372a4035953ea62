"""The baseline's own first stage: codes of each body part are fitted to training motion, a transformer learns to fill them in.

It learns from the same shards as stage 2, motion without pictures among them. In the graph it is trained by `baseline_motion`
on the machine's processor; alone, on a GPU where there is one, by

    python -m pipelines.baseline_training --config FILE --out baseline.safetensors

whose file `baseline.start_from` names. Axes: B batch, T frames, A audio features, M numbers of a motion vector.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from configs.places import from_project
from configs.schema import Config, load_config
from model.audio_to_motion import WINDOW, AudioToMotion, rest_of, standardised
from model.baseline_codes import STRIDE
from model.motion import motion_vector
from pipelines.checkpoints import device_name, read_about
from pipelines.manifests import read_manifest
from pipelines.motion_shards import MotionClip, motion_clips
from pipelines.progress import progress
from pipelines.store import InputRejected, Store, hash_file, hash_json, writing

SOURCES = ("motions", "talks")  # shards that stage 2 learns motion from
WARM = 0.1  # share of training in which the step size grows
LOG_EVERY, JUDGED = 200, 128  # steps between lines of the log, windows of held-out speakers
log = logging.getLogger(__name__)


def training_clips(config: Config, store: Store, split: str = "train") -> list[MotionClip]:
    """The clips that stage 2 learns motion from, those at another rate left out; where any lasts a window, shorter ones too."""
    found = [c for kind in SOURCES for c in motion_clips(store.shard_source(kind), split)]  # type: ignore[arg-type]
    found = [c for c in found if c.fps == config.cut.fps and len(c.features) >= STRIDE]
    long = [c for c in found if len(c.features) >= WINDOW]
    return long or found


def data_version(config: Config, store: Store) -> str:
    """Hash of what the network comes from: the weights that it begins with and, where it is trained, the shards."""
    settings = config.baseline
    shards = {kind: (read_manifest(store, kind) or {}).get("hash") for kind in SOURCES if settings.steps}  # type: ignore[arg-type]
    return hash_json([shards, settings.start_from and hash_file(_existing(settings.start_from))])


@dataclass(frozen=True)
class Corpus:
    """All training motion one clip after the other, where the network learns: windows are gathered there, not copied to it."""

    audio: Tensor  # [N, A] standardised
    motion: Tensor  # [N, M]
    style: Tensor  # [P] whose each clip is
    start: Tensor  # [P] first frame
    count: Tensor  # [P] frames

    @classmethod
    def of(cls, clips: list[MotionClip], device: str) -> Corpus:
        speakers = {group: i for i, group in enumerate(sorted({clip.group for clip in clips}))}
        count = torch.tensor([len(clip.features) for clip in clips])
        tensors = (
            torch.cat([standardised(clip.features) for clip in clips]),
            torch.cat([motion_vector(clip.params, rest_of(clip.params)) for clip in clips]),
            torch.tensor([speakers[clip.group] for clip in clips]), count.cumsum(0) - count, count,
        )  # fmt: skip
        return cls(*(x.to(device) for x in tensors))

    @property
    def length(self) -> int:
        """Frames of a window, a multiple of a code's."""
        return min(WINDOW, int(self.count.min())) // STRIDE * STRIDE

    def windows(self, chance: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Of numbers [B, 2] in 0..1, which clip and from where: audio [B, T, A], motion [B, T, M], style [B]."""
        length, (which, where) = self.length, torch.from_numpy(chance).to(self.count.device).unbind(1)
        clip = (which * len(self.count)).long()
        begin = self.start[clip] + (where * (self.count[clip] - length + 1)).long()
        rows = begin[:, None] + torch.arange(length, device=begin.device)
        return self.audio[rows], self.motion[rows], self.style[clip]

    def vectors(self) -> list[Tensor]:
        """Motion [T, M] of each clip, in the processor's memory."""
        return list(self.motion.cpu().split(self.count.tolist()))


def train(
    config: Config,
    clips: list[MotionClip],
    device: str = "cpu",
    held_out: Sequence[MotionClip] = (),  # whose loss is logged beside
    seconds: float = math.inf,  # the schedule ends then, if the steps have not
) -> tuple[AudioToMotion, list[float]]:
    """The network (on the CPU) and its losses, step by step; on one machine deterministic in `config.seed`."""
    settings = config.baseline
    rng = np.random.default_rng(config.seed)
    corpus = Corpus.of(clips, device)
    judge = Corpus.of(list(held_out), device) if held_out else None
    losses: list[Tensor] = []
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = _begun(config, corpus).train().to(device)
        optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.02)
        start, done = time.perf_counter(), 0.0
        for step in progress(range(1, settings.steps + 1), "audio to motion"):
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * one_cycle(done)
            of_codes, of_face = network.loss(*corpus.windows(rng.random((settings.batch, 2))))
            loss = of_codes + of_face
            losses.append(loss.detach())
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            done = max(step / settings.steps, (time.perf_counter() - start) / seconds)
            if judge is not None and (done >= 1 or step % LOG_EVERY == 0):
                codes, face = judged(network, judge, config.seed)
                log.info("step %d: loss %.4f; held-out speakers: codes %.4f, face %.4f", step, float(loss.detach()), codes, face)
            if done >= 1:
                break
    return network.to("cpu").eval(), torch.stack(losses).tolist()


def _begun(config: Config, corpus: Corpus) -> AudioToMotion:
    """A new network with codes of this motion, or the one that training goes on from, in the manners of these speakers."""
    settings, speakers = config.baseline, int(corpus.style.max()) + 1
    if settings.start_from is None:
        network = AudioToMotion(corpus.audio.shape[1], settings.width, settings.layers, settings.codes, speakers)
        network.motion.fit(corpus.vectors(), config.seed)
        return network
    network, _ = load_network(settings.start_from)
    usual = network.style.weight.detach().mean(0)
    network.style = nn.Embedding.from_pretrained(usual.repeat(speakers, 1), freeze=False)
    return network


def one_cycle(done: float) -> float:
    """Of the largest step size after that share of training: up in a tenth of it, then down to nothing by a cosine."""
    return max(0.04, done / WARM) if done < WARM else 0.5 + 0.5 * math.cos(math.pi * (done - WARM) / (1 - WARM))


@torch.no_grad()
def judged(network: AudioToMotion, corpus: Corpus, seed: int) -> tuple[float, float]:
    """Losses of the same windows with the same codes hidden, whenever it is asked, in the mean of the manners that it knows.

    In somebody else's manner codes cost the more, the better manners are told apart: that would look like learning by heart.
    """
    network.eval()
    chance = np.random.default_rng(seed).random((JUDGED, 2))
    manners = network.style.weight.clone()
    network.style.weight.copy_(manners.mean(0).expand_as(manners))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        audio, motion, _ = corpus.windows(chance)
        codes, face = network.loss(audio, motion, torch.zeros(len(audio), dtype=torch.long, device=audio.device))
    network.style.weight.copy_(manners)
    network.train()
    return float(codes), float(face)


def learned_from(config: Config, clips: list[MotionClip], steps: int) -> dict[str, Any]:
    """What the network was trained on, in figures for the report; `before`: the same of the weights that it began with."""
    seconds, start = sum(len(c.features) / float(c.fps) for c in clips), config.baseline.start_from
    before = {} if start is None else {"before": load_network(start)[1]}
    return before | {
        "clips": len(clips), "speakers": len({c.group for c in clips}), "hours": round(seconds / 3600, 2), "steps": steps,
        "hours_seen": round(steps * config.baseline.batch * WINDOW / float(config.cut.fps) / 3600, 1),
    }  # fmt: skip


def save_network(
    path: Path, network: AudioToMotion, config: Config, learned: dict[str, Any], made_by: dict[str, Any] | None = None
) -> None:
    """The weights, and beside them what is needed to build the network again."""
    sizes = {"audio_dim": network.hear[0].in_channels, "width": network.style.embedding_dim, "layers": len(network.blocks)}
    sizes |= {"codes": network.count, "styles": network.style.num_embeddings}
    settings = config.baseline.model_dump()
    about = {"stage": "baseline", "sizes": sizes, "baseline": settings, "learned_from": learned, "provenance": made_by or {}}
    with writing(path) as temporary:
        save_file(network.state_dict(), temporary, {"about": json.dumps(about, sort_keys=True, default=str)})


def load_network(path: Path | str) -> tuple[AudioToMotion, dict[str, Any]]:
    """The network in eval mode, its sizes read from the file, and what it learned from. ValueError where it is none."""
    about = read_about(_existing(path))
    if about.get("stage") != "baseline":
        made_by = "pipelines.baseline_training makes them"
        raise ValueError(f"{path}: expected weights of the baseline, got those of {about.get('stage')}; {made_by}")
    network = AudioToMotion(**about["sizes"])
    network.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in load_file(_existing(path)).items()})
    return network.eval(), about["learned_from"]


def _existing(path: Path | str) -> Path:
    found = from_project(str(path))
    if not found.is_file():
        raise InputRejected(f"baseline.start_from: expected {path}, it does not exist; leave it out to train the network here")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the baseline's audio-to-motion network alone.")
    parser.add_argument("--config", type=Path, required=True, help="its workspace's shards, its section `baseline`")
    parser.add_argument("--out", type=Path, required=True, help="weights file, safetensors")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seconds", type=float, default=math.inf, help="the schedule ends then, if its steps have not")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_float32_matmul_precision("high")
    try:
        config = load_config(options.config)
        clips = training_clips(config, Store(config))
        if not clips:
            raise ValueError(f"expected clips in talk or motion shards under {Store(config).shards('motions').parent}, got none")
        start = time.perf_counter()
        network, losses = train(config, clips, options.device, training_clips(config, Store(config), "test"), options.seconds)
    except ValueError as error:
        sys.exit(f"baseline_training: {error}")
    about = {"seconds": round(time.perf_counter() - start, 1), "loss": round(float(np.mean(losses[-50:])), 4)}
    learned = learned_from(config, clips, len(losses))
    save_network(options.out, network, config, learned, {"device": device_name(), **about})
    print(json.dumps({**learned, **about, "path": str(options.out)}))


if __name__ == "__main__":
    main()
