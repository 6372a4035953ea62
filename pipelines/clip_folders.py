"""What of a folder is a clip: its motion, the sound and pictures beside it, and whose it is, all told by names.

`x_output.npz`, `x.npz` and a folder `x` are one clip; sound lies beside the motion, in `audio`, or in the clip's folder.
"""

from __future__ import annotations

import re
import wave
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipelines import formats_lhm
from pipelines.formats_lhm import SOUNDS
from pipelines.media import SAMPLE_RATE, MediaError, read_audio
from pipelines.scoring_clips import Speech
from pipelines.store import InputRejected

OTHERS = ("features.npz", "mask.npz", "fit.npz")  # parts of a clip's folder
VIDEOS = (".mp4", ".mov", ".mkv", ".webm")


def clips_of(folder: Path) -> dict[str, Path]:
    """Clip name → file or folder of its motion, of what lies in `folder` (or in folders in it that are no clip themselves)."""
    if not folder.is_dir():
        raise InputRejected(f"{folder}: expected a folder of motion files, found {'a file' if folder.exists() else 'nothing'}")
    clips: dict[str, Path] = {}
    taken: set[Path] = set()
    for path in sorted(folder.rglob("*")):
        if not taken.isdisjoint(path.parents) or path.name.startswith("."):
            continue
        file = path.suffix in (".npz", ".npy", ".zip") and path.is_file() and path.name not in OTHERS
        folder_of_one = path.is_dir() and ((path / "fit.npz").is_file() or formats_lhm.is_lhm(path))
        if file or folder_of_one:
            name = _named(path.name if path.is_dir() else path.stem)
            if name in clips:
                raise InputRejected(f"{folder}: expected one motion a clip, got {clips[name].name} and {path.name} for {name!r}")
            clips[name] = path
            taken.add(path)
    if not clips:
        raise InputRejected(f"{folder}: expected motion files (npz, npy, zip, or folders of LHM json), found none")
    return clips


def _named(stem: str) -> str:
    """The clip's name, of what its motion is called."""
    return re.sub(r"_(output|fit)$", "", stem)


def speaker_of(name: str) -> str:
    """BEAT2's second word (`2_scott_0_1_1` → scott), else what stands before the first `_` or `-`."""
    beat = re.match(r"\d+_([a-zA-Z]+)_\d", name)
    return beat.group(1) if beat else re.split(r"[_-]", name)[0]


def sounds_of(names: Iterable[str], paths: dict[str, Path]) -> dict[str, Path]:  # clip name → its motion
    """Clip name → sound, of the clips that have one."""
    found = {}
    for name in names:
        path = paths[name]
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.suffix.lower() in SOUNDS or p.name == "clip.mp4"]
            if inside:
                found[name] = inside[0]
        folders = (path.parent, path.parent / "audio", path.parent.parent / "audio", path.parent.parent)
        tries = (f / f"{name}{suffix}" for f in folders for suffix in (*SOUNDS, *VIDEOS))
        sound = found.get(name) or next((p for p in tries if p.is_file()), None)
        if sound is not None:
            found[name] = sound
    return found


def video_of(path: Path) -> Path | None:
    """Pictures beside motion: `clip.mp4` in a clip's folder, else a video of the clip's name."""
    if path.is_dir():
        return path / "clip.mp4" if (path / "clip.mp4").is_file() else None
    tries = (path.parent / f"{_named(path.stem)}{suffix}" for suffix in VIDEOS)
    return next((p for p in tries if p.is_file()), None)


@lru_cache(maxsize=16)  # a clip's sound is also the control of a clip before it
def speech_of(path: Path | None) -> Speech | None:
    """What is scored of a sound file; none where there is none."""
    return None if path is None else Speech.of(samples_of(path))


def samples_of(path: Path) -> np.ndarray:
    """Sound [T] at 16 kHz, -1..1, of any audio or video file. InputRejected where it has none."""
    try:
        plain = _plain_wav(path) if path.suffix == ".wav" else None
        return read_audio(path).astype(np.float64) if plain is None else plain
    except MediaError as error:
        raise InputRejected(f"{path}: expected sound ({error})") from error


def _plain_wav(path: Path) -> np.ndarray | None:
    """The sound of a 16-bit mono file at 16 kHz, a tenth of the time that FFmpeg takes; none where it is another kind."""
    try:
        with wave.open(str(path)) as file:
            if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, SAMPLE_RATE):
                return None
            return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0
    except (wave.Error, EOFError):
        return None
