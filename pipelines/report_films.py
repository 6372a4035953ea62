"""Films and pictures of the comparison, ready to be embedded in its page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipelines import media
from pipelines.media import Picture
from pipelines.store import Store

PANEL, STRIP = 256, 28  # side of one panel of the side-by-side video and height of the strip with its name, pixels
LABELS = ("truth", "two-stage", "end to end")
PICTURE_SIDE = 1600  # longest side of an embedded picture, pixels


def shared_clips(store: Store) -> list[str]:
    """Clips of which both systems' videos exist."""
    ours = {p.stem for p in (store.evaluation("stage2") / "videos").glob("*.mp4")}
    return sorted(ours & {p.stem for p in store.baseline("video").glob("*.mp4")})


def side_by_side(store: Store, clip: str, target: Path) -> None:
    """Truth | two-stage | end to end in one mp4 with the clip's speech."""
    ours, theirs = store.evaluation("stage2") / "videos" / f"{clip}.mp4", store.baseline("video") / f"{clip}.mp4"
    truth = store.evaluation("stage2") / "truth" / f"{clip}.mp4"

    def panels() -> Iterator[Picture]:
        for pictures in zip_longest(*(media.frames(p) for p in (truth, theirs, ours))):
            if any(p is None for p in pictures):
                return  # the shortest ends the video
            yield np.concatenate([_labelled(p, text) for p, text in zip(pictures, LABELS, strict=True)], 1)

    media.write_video(target, panels(), Fraction(media.probe(ours).fps), media.read_audio(ours), crf=23)


def film(path: Path, caption: str) -> dict[str, str]:
    """A video and the picture that stands for it on paper: the one in its middle."""
    count = max(1, media.probe(path).frames)
    poster = next((f for i, f in enumerate(media.frames(path)) if i >= count // 2), None)
    stream = io.BytesIO()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8) if poster is None else poster).save(stream, "jpeg", quality=88)
    return {"data": encoded(path.read_bytes()), "poster": encoded(stream.getvalue()), "caption": caption}


def picture(path: Path, caption: str) -> dict[str, str]:
    """A picture, as JPEG and no larger than a page needs."""
    with Image.open(path) as image:
        small = image.convert("RGB")
        small.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    stream = io.BytesIO()
    small.save(stream, "jpeg", quality=88)
    return {"data": encoded(stream.getvalue()), "kind": "jpeg", "caption": caption}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _labelled(shown: Picture, text: str) -> Picture:
    panel = cv2.resize(shown, (PANEL, PANEL), interpolation=cv2.INTER_AREA)
    strip = np.full((STRIP, PANEL, 3), 245, np.uint8)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
    cv2.putText(strip, text, ((PANEL - width) // 2, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (40, 50, 64), 1, cv2.LINE_AA)
    return np.concatenate([strip, np.asarray(panel, np.uint8)])
