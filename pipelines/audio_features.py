"""A clip's sound becomes `features.npz`: `features` [T, A] at the frames' centres, `fps` [2], `encoder`, `dim`.

What the features are, and how they are placed in time: `model.audio_encoders`. For sound that is still arriving, with
the same values: `model.audio_stream`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.schema import AudioConfig, Config
from model.audio_encoders import AudioEncoder, make_audio_encoder
from pipelines import media
from pipelines.store import InputRejected, Record, Store, hash_file, hash_files, hash_json, writing

STAGE = "audio_features"
CODE_VERSION = "1"


@dataclass(frozen=True)
class ClipFeatures:
    features: NDArray[np.float32]  # [T, A]
    fps: Fraction
    encoder: str  # features of different encoders do not mix


def features_talk(config: Config, store: Store, talk_id: str) -> Record:
    """Features of every clip of a talk; clips whose sound and encoder are unchanged are left alone.

    Errors: ValueError where the configured encoder cannot be loaded. Rejected where the talk has no clip.
    """
    clips = store.clips(talk_id)
    encoder = cache(lambda: make_audio_encoder(config.audio))  # loaded once, and only if there is something to do
    settings = encoder_settings(config.audio)

    def work() -> dict[str, Any]:
        if not clips:
            raise InputRejected(f"talk {talk_id!r}: expected clips, it has none; clips.json and rejected.json say why")
        done = [_features_clip(store, talk_id, clip, settings, encoder) for clip in clips]
        encoded = sum(not skipped for _, skipped in done)
        first = {name: done[0][0].facts[name] for name in ("dim", "encoder")}
        frames = sum(record.facts["frames"] for record, _ in done)
        return {"clips": len(done), "encoded": encoded, "frames": frames, **first}

    inputs = [hash_files([clip / "audio.wav", clip / "clip.json"], store.root) for clip in clips]
    outputs = [clip / "features.npz" for clip in clips]
    return store.once(STAGE, talk_id, CODE_VERSION, hash_json([settings, inputs]), outputs, work)


def save_features(path: Path, features: ClipFeatures) -> None:
    rate = np.array([features.fps.numerator, features.fps.denominator])
    with writing(path) as temporary:
        np.savez_compressed(
            temporary,
            features=features.features.astype(np.float32),
            fps=rate,
            encoder=np.array(features.encoder),
            dim=np.array(features.features.shape[1]),
        )


def load_features(path: Path) -> ClipFeatures:
    """Read features.npz. Errors: ValueError where its arrays disagree."""
    with np.load(path, allow_pickle=False) as npz:
        array, rate, encoder, dim = npz["features"], npz["fps"], str(npz["encoder"]), int(npz["dim"])
    if array.ndim != 2 or array.shape[1] != dim:
        raise ValueError(f"{path}: expected features [frames, {dim}], got {list(array.shape)}")
    return ClipFeatures(array, Fraction(int(rate[0]), int(rate[1])), encoder)


def encoder_settings(config: AudioConfig) -> dict[str, Any]:
    """What the features depend on besides the sound; weights in a folder count by their content."""
    if config.encoder == "offline":
        return {"encoder": "offline"}
    folder = Path(config.model).expanduser()
    files = sorted(f for f in folder.glob("*") if f.suffix in (".json", ".safetensors", ".bin"))
    windows = [config.window_seconds, *config.context_seconds]
    return {"encoder": config.encoder, "model": config.model, "windows": windows, "files": hash_files(files, folder) if files else ""}


def _features_clip(store: Store, talk_id: str, clip: Path, settings: dict[str, Any], encoder: Any) -> tuple[Record, bool]:
    """The clip's record, and whether there was nothing to do."""
    about = json.loads((clip / "clip.json").read_text())
    target, unit = clip / "features.npz", f"{talk_id}/{clip.name}"
    key = hash_json([settings, hash_file(clip / "audio.wav"), about["fps"], about["frames"]])

    def work() -> dict[str, Any]:
        encode: AudioEncoder = encoder()
        features = encode(media.read_audio(clip / "audio.wav"), Fraction(about["fps"]), about["frames"])
        if not np.isfinite(features).all():
            raise ValueError(f"{unit}: encoder {encode.name} gave NaN or infinite features")
        save_features(target, ClipFeatures(features, Fraction(about["fps"]), encode.name))
        return {"frames": len(features), "dim": encode.dim, "encoder": encode.name}

    before = store.read_record(STAGE, unit)
    record = store.once(STAGE, unit, CODE_VERSION, key, [target], work)
    return record, record == before
