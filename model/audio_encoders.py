"""Speech → one feature vector a video frame. Two encoders behind one interface, each named as what it is.

Audio is mono float32 at 16000 Hz. Features are placed by time: row i belongs to the centre of frame i,
t = (i + 0.5) / fps, whatever the encoder's own rate. Axis legend: T frames, S samples, A feature channels.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from configs.schema import AudioConfig
from model.audio_offline import offline_features

SAMPLE_RATE = 16000  # Hz
Sound = NDArray[np.float32]  # [S]
Features = NDArray[np.float32]  # [T, A]

STRIDE, FIELD = 320, 400  # samples between wav2vec2's outputs, and seen by each of its first layers' outputs
WINDOW_SECONDS, CONTEXT_SECONDS = 20, 2  # long audio goes through wav2vec2 in windows that see this much on either side


class AudioEncoder(Protocol):
    dim: int
    name: str  # says what the features are; features of different names do not mix

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        """`audio` [S] 16000 Hz mono → features [frames, dim] at the frames' centres."""
        ...


def make_audio_encoder(config: AudioConfig) -> AudioEncoder:
    """The configured encoder. Errors: ValueError, one line, where wav2vec2's files cannot be had."""
    if config.encoder == "offline":
        return OfflineEncoder()
    return Wav2Vec2Encoder(config.model, config.local_files_only)


class OfflineEncoder:
    """64 log-mel bands, log-energy, pitch, voicing, onset: no weights, no download; see `model.audio_offline`."""

    dim = 68
    name = "offline-logmel"

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        return offline_features(_checked(audio, frames), Fraction(fps), frames)


class Wav2Vec2Encoder:
    """The last hidden states of a transformers `Wav2Vec2Model`, interpolated at the frames' centres."""

    def __init__(self, model_id_or_path: str, local_files_only: bool = False):
        """`model_id_or_path`: hub id, or folder of config.json and weights. Errors: ValueError where they lack."""
        import torch

        self._torch: Any = torch
        self._model, self._normalize = _load_wav2vec2(model_id_or_path, local_files_only)
        self.dim = int(self._model.config.hidden_size)
        folder = Path(model_id_or_path).expanduser()
        self.name = f"wav2vec2:{folder.resolve().name if folder.is_dir() else model_id_or_path}"

    def __call__(self, audio: Sound, fps: Fraction, frames: int) -> Features:
        audio = _checked(audio, frames)
        if self._normalize:  # over the whole clip, as the feature extractor does: zero mean, unit variance
            audio = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
        states = self._states(audio.astype(np.float32))
        centres = (np.arange(frames) + 0.5) / float(fps)
        position = (centres * SAMPLE_RATE - FIELD / 2) / STRIDE  # state k is centred at k * STRIDE + FIELD / 2
        position = position.clip(0, len(states) - 1)
        low = np.floor(position).astype(int)
        high = np.minimum(low + 1, len(states) - 1)
        share = (position - low)[:, None]
        return (states[low] * (1 - share) + states[high] * share).astype(np.float32)

    def _states(self, audio: Sound) -> Features:
        """Hidden states [K, dim], 50 a second; windows start on multiples of the stride so that they meet exactly."""
        total = max((len(audio) - FIELD) // STRIDE + 1, 1)
        window, context = (seconds * SAMPLE_RATE // STRIDE for seconds in (WINDOW_SECONDS, CONTEXT_SECONDS))
        if total <= window + 2 * context:
            window = total
        device = next(self._model.parameters()).device
        parts = []
        for start in range(0, total, window):
            count = min(window, total - start)
            first, last = max(start - context, 0), min(start + count + context, total)
            piece = audio[first * STRIDE : (last - 1) * STRIDE + FIELD if last < total else None]
            piece = np.pad(piece, (0, max(FIELD - len(piece), 0)))
            with self._torch.inference_mode():
                states = self._model(self._torch.from_numpy(piece)[None].to(device)).last_hidden_state[0]
            parts.append(states[start - first : start - first + count].float().cpu().numpy())
        return np.concatenate(parts)


def _load_wav2vec2(source: str, local_files_only: bool) -> tuple[Any, bool]:
    """(model, whether its input is normalised): from the disk if it is there, then from the hub if that is allowed."""
    from transformers import Wav2Vec2Model
    from transformers.utils import logging

    folder = Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_like_path and not (folder / "config.json").is_file():
        raise ValueError(f"audio.model: expected a folder with a wav2vec2 model, {folder} has no config.json")
    offline = local_files_only or _set("HF_HUB_OFFLINE") or _set("TRANSFORMERS_OFFLINE")
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    failure: Exception | None = None
    try:
        for local in [True] if offline or folder.is_dir() else [True, False]:
            try:
                place = folder if folder.is_dir() else _snapshot(source, local)
                model = Wav2Vec2Model.from_pretrained(str(place), local_files_only=True)
                return model.eval().requires_grad_(False), _normalizes(place)
            except (OSError, ValueError) as error:
                failure = error
    finally:
        if bars:
            logging.enable_progress_bar()
    if folder.is_dir():
        why = f"cannot be loaded from {folder} ({_first_line(failure)})"
    elif offline:
        why = "is not on this machine, and the hub may not be asked (local_files_only or HF_HUB_OFFLINE is set)"
    else:
        why = f"is not on this machine, and the hub did not give it ({_first_line(failure)})"
    advice = "download it, name a local folder in audio.model, or set audio.encoder to 'offline'"
    raise ValueError(f"audio.model: wav2vec2 model {source!r} {why}; {advice}") from failure


def _snapshot(source: str, local: bool) -> Path:
    """The folder of a hub model's files; the first request shows whether the hub can be reached."""
    from huggingface_hub import snapshot_download

    place = Path()
    for weights in ("model.safetensors", "pytorch_model.bin"):
        patterns = ["config.json", "preprocessor_config.json", weights]
        place = Path(snapshot_download(source, allow_patterns=patterns, local_files_only=local))
        if (place / weights).is_file():
            break
    return place


def _first_line(error: Exception | None) -> str:
    return str(error).strip().splitlines()[0][:160] if error and str(error).strip() else type(error).__name__


def _normalizes(folder: Path) -> bool:
    """What the model's feature extractor says of normalisation; true where it says nothing, as in transformers."""
    from transformers import Wav2Vec2FeatureExtractor

    if not (folder / "preprocessor_config.json").is_file():
        return True
    return bool(Wav2Vec2FeatureExtractor.from_pretrained(str(folder)).do_normalize)


def _set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")


def _checked(audio: Sound, frames: int) -> Sound:
    audio = np.asarray(audio)
    if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"audio must be mono float [samples] at 16000 Hz, got {audio.dtype} {list(audio.shape)}")
    if frames < 1 or not len(audio):
        raise ValueError(f"expected sound and at least one frame, got {len(audio)} samples and {frames} frames")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return audio.astype(np.float32)
