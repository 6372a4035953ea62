"""The pictures and masks of a packed clip, one frame at a time: nothing of a whole clip at full size is held.

Axes: T frames, H × W the clip's pixels.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

Bytes = NDArray[np.uint8]


class PackedMasks:
    """The masks of a mask.npz, unpacked when asked for."""

    def __init__(self, npz: bytes):
        with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
            self._packed, shape = arrays["mask"], arrays["shape"].tolist()
        self.count, self.height, self.width = shape
        if self._packed.shape != (self.count, -(-self.height * self.width // 8)):
            raise ValueError(f"mask.npz: expected packed bits of {shape}, got {list(self._packed.shape)}")

    def __len__(self) -> int:
        return int(self.count)

    def __getitem__(self, index: int) -> Bytes:  # [H, W] 0 or 255
        return self._unpacked(self._packed[index])

    @property
    def union(self) -> Bytes:
        """[H, W], 255 where any frame has the person."""
        return self._unpacked(np.bitwise_or.reduce(self._packed, 0))

    def _unpacked(self, bits: Bytes) -> Bytes:
        flat = np.unpackbits(bits)[: self.height * self.width]
        return np.negative(flat).reshape(self.height, self.width)  # 1 → 255


def clip_pictures(mp4: bytes) -> Iterator[Bytes]:
    """The pictures [H, W, 3] RGB of a clip.mp4. Errors: ValueError where it cannot be decoded."""
    import av  # here: training on scans alone does without it
    from av.video.reformatter import VideoReformatter

    try:
        container: Any = av.open(io.BytesIO(mp4))
        with container:
            # data loaders have a process for every core already
            container.streams.video[0].thread_type = "AUTO" if get_worker_info() is None else "NONE"
            converter = VideoReformatter()  # one for all: making one costs as much as decoding a picture
            for frame in container.decode(video=0):
                picture: Any = converter.reformat(frame, format="rgb24").to_ndarray()
                yield picture
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"clip.mp4: expected a video, it cannot be decoded ({error}); write the shards again") from error
