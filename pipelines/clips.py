"""A clip's folder: `clip.mp4` (square, constant rate, sound), `audio.wav` (16 kHz), `mask.npz`, `clip.json`.

`mask.npz` holds `mask`, packed bits [T, H*W/8], and `shape` [T, H, W]. Fits and features come to lie beside them later.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import CutConfig
from pipelines import media
from pipelines.cut_plan import Crop, PlannedClip
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.person import Mask, Masker, smooth_masks
from pipelines.progress import progress
from pipelines.store import hash_files, write_json

OWN_FILES = ("clip.mp4", "audio.wav", "mask.npz", "clip.json")
LEAST_MASK = 0.02  # share of a clip's pixels; with less, there is no person to learn from
CRF = 18


@dataclass(frozen=True)
class Source:
    """The talk that clips are cut from."""

    talk: dict[str, Any]  # talk.json
    video: Path
    audio: Sound  # [samples] 16 kHz, the whole talk's
    size: tuple[int, int]  # width, height, pixels


@dataclass
class MaskTrack:
    """The masks of a clip, gathered while its pictures go by."""

    middle: int  # frame to keep for the preview
    packed: list[NDArray[np.uint8]] = field(default_factory=list)  # [H*W/8] each
    total: float = 0.0
    preview: Picture | None = None  # the middle frame, what is outside the mask darkened

    @property
    def share(self) -> float:
        """Share of the clip's pixels inside the mask."""
        return self.total / max(len(self.packed), 1)

    def follow(self, pictures: Iterator[Picture], masker: Masker) -> Iterator[Picture]:
        """Pass pictures [H, W, 3] on and keep their masks; each comes one late: its mask needs the picture after it."""
        waiting: list[Picture] = []

        def probabilities() -> Iterator[NDArray[np.float32]]:
            for picture in pictures:
                waiting.append(picture)
                yield masker(picture)

        for mask in smooth_masks(probabilities()):
            picture = waiting.pop(0)
            if len(self.packed) == self.middle:
                self.preview = np.where(mask[..., None], picture, picture // np.uint8(3)).astype(np.uint8)
            self.packed.append(np.packbits(mask))
            self.total += float(mask.mean())
            yield picture


def write_clip(
    target: Path, source: Source, clip: PlannedClip, config: CutConfig, masker: Masker
) -> tuple[dict[str, Any], MaskTrack] | None:
    """Write a clip's folder `target`, named by its id; returns clip.json and the masks, None where nobody is masked.

    A folder that already holds the same clip is left alone, with what later stages put beside it.
    """
    start, end = clip.start / config.fps, clip.end / config.fps
    temporary = target.parents[1] / f".{target.name}"  # not among the clips: it may be left by a crash
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    first, count = round(start * SAMPLE_RATE), round(len(clip) * SAMPLE_RATE / config.fps)
    sound = source.audio[first : first + count]
    sound = np.pad(sound, (0, count - len(sound)))
    track = MaskTrack(len(clip) // 2)
    pictures = media.frames(source.video, config.fps, float(start), float(end))
    cropped = (crop_picture(p, clip.crop, config.size) for p in progress(pictures, f"cutting {target.name}", len(clip)))
    written = media.write_video(temporary / "clip.mp4", track.follow(cropped, masker), config.fps, sound, crf=CRF)
    assert written == len(clip), f"{target.name}: planned {len(clip)} frames, the second reading gave {written}"
    if track.share < LEAST_MASK:
        shutil.rmtree(temporary)
        return None
    about = {
        **{k: source.talk[k] for k in ("talk", "speaker", "licence", "language")},
        "clip": target.name,
        "start": float(start),
        "end": float(end),
        "fps": str(config.fps),
        "frames": written,
        "size": config.size,
        "crop": asdict(clip.crop),
        "source": {"file": source.talk["file"], "sha": source.talk["sha"], "size": list(source.size)},
        "sample_rate": SAMPLE_RATE,
        "masker": masker.name,
        "mask_share": round(track.share, 4),
    }
    media.write_wav(temporary / "audio.wav", sound)
    shape = np.array([written, config.size, config.size])
    np.savez_compressed(temporary / "mask.npz", mask=np.stack(track.packed), shape=shape)
    write_json(temporary / "clip.json", about)
    if complete(target) and _own_hash(target) == _own_hash(temporary):
        shutil.rmtree(temporary)
    else:
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        temporary.rename(target)
    return about, track


def read_masks(path: Path) -> Mask:
    """The masks [T, H, W] bool of a mask.npz."""
    with np.load(path, allow_pickle=False) as npz:
        count, height, width = npz["shape"].tolist()
        return np.unpackbits(npz["mask"], axis=1)[:, : height * width].reshape(count, height, width).astype(bool)


def complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in OWN_FILES)


def crop_picture(picture: Picture, crop: Crop, size: int) -> Picture:
    """The square [size, size, 3] under `crop`; what lies outside the picture takes the colour of its edge."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = crop.x, crop.y, crop.x + crop.side, crop.y + crop.side
    part: Any = picture[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    over = max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0)
    if any(over):
        part = cv2.copyMakeBorder(part, *over, cv2.BORDER_REPLICATE)
    if crop.side != size:
        part = cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA if crop.side > size else cv2.INTER_CUBIC)
    return np.ascontiguousarray(part)


def _own_hash(folder: Path) -> str:
    return hash_files([folder / name for name in OWN_FILES], folder)
