"""What talk shards say of motion and sound, without decoding a picture: for the baseline's training and for scoring."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipelines.formats import FitFile, load_fit
from pipelines.media import Sound, read_audio
from pipelines.shard_folder import ShardFolder


@dataclass(frozen=True)
class Motion:
    """One clip's fit, audio features and speech."""

    id: str  # talk/clip
    group: str  # speaker
    fit: FitFile
    features: Tensor  # [T, A]
    audio: Sound  # [samples] 16 kHz mono
    sample: dict[str, bytes]  # the shard's members

    @property
    def name(self) -> str:
        """The id as a file name."""
        return self.id.replace("/", "__")


def iterate_motions(source: str | Path, split: str) -> Iterator[Motion]:
    """Every clip of a split of the talk shards at `source`."""
    folder = ShardFolder(source)
    for shard in folder.names(split):
        for sample in folder.samples(shard):
            about = json.loads(sample["sample.json"])
            with np.load(io.BytesIO(sample["features.npz"]), allow_pickle=False) as npz:
                features = torch.from_numpy(npz["features"]).float()
            audio = read_audio(io.BytesIO(sample["clip.mp4"]))
            fit = load_fit(io.BytesIO(sample["fit.npz"]))
            frames = min(len(features), len(fit.confidence))
            cut = FitFile(fit.params[:frames], fit.camera, fit.confidence[:frames], fit.fps)
            yield Motion(about["id"], about["group"], cut, features[:frames], audio, sample)
