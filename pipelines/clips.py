"""A clip's folder: `clip.mp4` (square, constant rate, sound), `audio.wav` (16 kHz), `mask.npz`, `clip.json`.

`mask.npz` holds `mask`, packed bits [T, H*W/8], `shape` [T, H, W] and `box` [T, 4], the box round each mask smoothed over
time (x0 y0 x1 y1, pixels of the clip). Fits and features come to lie beside them later.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from configs.schema import CutConfig
from pipelines import media
from pipelines.ahead import ahead
from pipelines.cut_crops import Crop
from pipelines.cut_plan import PlannedClip
from pipelines.masks import Mask, Masker, smooth_masks
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.progress import progress
from pipelines.store import hash_files, write_json

LABELS = ("speaker", "licence", "language", "split")  # of the person; they change nothing in pictures and sound
NO_MASK, UNSTEADY = "person could not be masked", "pictures that do not decode twice alike"
OWN_FILES = ("clip.mp4", "audio.wav", "mask.npz", "clip.json")
LEAST_MASK = 0.02  # share of a clip's pixels; with less, there is no person to learn from
CRF = 18
BOX_FRAMES = 9  # over which the masks' boxes are smoothed


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
    boxes: list[NDArray[np.float32]] = field(default_factory=list)  # [4] each, NaN where nothing is masked
    total: float = 0.0
    preview: Picture | None = None  # the middle frame, what is outside the mask darkened

    @property
    def share(self) -> float:
        """Share of the clip's pixels inside the mask."""
        return self.total / max(len(self.packed), 1)

    def follow(self, pictures: Iterator[Picture], masker: Masker) -> Iterator[Picture]:
        """Pass pictures [H, W, 3] on and keep their masks; they come some late: a mask needs the pictures after it."""
        waiting: deque[Picture] = deque()

        def kept() -> Iterator[Picture]:
            for picture in pictures:
                waiting.append(picture)
                yield picture

        for mask in smooth_masks(masker.follow(kept())):
            picture = waiting.popleft()
            if len(self.packed) == self.middle:
                self.preview = np.where(mask[..., None], picture, picture // np.uint8(3)).astype(np.uint8)
            self.packed.append(np.packbits(mask))
            self.boxes.append(_box(mask))
            self.total += float(mask.mean())
            yield picture


def write_clip(
    target: Path, source: Source, clip: PlannedClip, config: CutConfig, masker: Masker
) -> tuple[dict[str, Any], MaskTrack] | str:
    """Write a clip's folder `target`, named by its id; returns clip.json and the masks, or why there is no clip.

    A folder that already holds the same clip is left alone, with what later stages put beside it.
    """
    with writing_apart(target) as temporary:
        made = _fill(temporary, target.name, source, clip, config, masker)
        if isinstance(made, str):
            return made
        if not (complete(target) and _own_hash(target) == _own_hash(temporary)):
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            temporary.rename(target)
        return made


@contextlib.contextmanager
def writing_apart(target: Path) -> Iterator[Path]:
    """A folder to fill in, not among the clips: it may be left by a crash (`remove_left_over`)."""
    temporary = target.parents[1] / f".{target.name}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_left_over(talk: Path) -> None:
    """What a killed run left in a talk's folder."""
    for path in talk.glob(".*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def relabel(folder: Path, labels: dict[str, str]) -> None:
    """Write other `LABELS` into a clip.json."""
    about = json.loads((folder / "clip.json").read_text())
    write_json(folder / "clip.json", {k: v for k, v in about.items() if k not in LABELS} | labels)


def labels_of(talk: dict[str, Any]) -> dict[str, str]:
    """What a talk.json says of the person, for its clips; changed without cutting anew."""
    return {name: talk[name] for name in LABELS if talk.get(name)}


def _fill(
    folder: Path, clip_id: str, source: Source, clip: PlannedClip, config: CutConfig, masker: Masker
) -> tuple[dict[str, Any], MaskTrack] | str:
    start, end = clip.start / config.fps, clip.end / config.fps
    first, count = round(start * SAMPLE_RATE), round(len(clip) * SAMPLE_RATE / config.fps)
    sound = source.audio[first : first + count]
    sound = np.pad(sound, (0, count - len(sound)))
    track = MaskTrack(len(clip) // 2)
    pictures = media.frames(source.video, config.fps, float(start), float(end))
    first_picture = next(pictures, None)
    if first_picture is None:
        return UNSTEADY
    cropped = ahead(crop_picture(p, clip.crop, config.size) for p in itertools.chain([first_picture], pictures))
    masked = progress(ahead(track.follow(cropped, masker)), f"cutting {clip_id}", len(clip))
    written = media.write_video(folder / "clip.mp4", masked, config.fps, sound, crf=CRF)
    if written != len(clip):
        return UNSTEADY
    if track.share < LEAST_MASK:
        return NO_MASK
    about = {
        **labels_of(source.talk),
        "talk": source.talk["talk"],
        "clip": clip_id,
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
    media.write_wav(folder / "audio.wav", sound)
    shape = np.array([written, config.size, config.size])
    np.savez_compressed(folder / "mask.npz", mask=np.stack(track.packed), shape=shape, box=smooth_boxes(np.stack(track.boxes)))
    write_json(folder / "clip.json", about)
    return about, track


def read_masks(path: Path) -> Mask:
    """The masks [T, H, W] bool of a mask.npz."""
    with np.load(path, allow_pickle=False) as npz:
        count, height, width = npz["shape"].tolist()
        return np.unpackbits(npz["mask"], axis=1)[:, : height * width].reshape(count, height, width).astype(bool)


def smooth_boxes(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Boxes [T, 4] without outliers and jitter: the median, then the mean, of `BOX_FRAMES`; gaps (NaN) are bridged."""
    times, out = np.arange(len(boxes)), np.empty_like(boxes)
    known = ~np.isnan(boxes[:, 0])
    if not known.any():
        return boxes
    pad = BOX_FRAMES // 2
    for side in range(4):
        edge = np.interp(times, times[known], boxes[known, side])
        for settle in (np.median, np.mean):
            edge = settle(np.lib.stride_tricks.sliding_window_view(np.pad(edge, pad, mode="edge"), BOX_FRAMES), axis=-1)
        out[:, side] = edge
    return out


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


def _box(mask: Mask) -> NDArray[np.float32]:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return np.full(4, np.nan, np.float32)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float32)


def _own_hash(folder: Path) -> str:
    return hash_files([folder / name for name in OWN_FILES], folder)
