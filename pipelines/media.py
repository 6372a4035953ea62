"""Video and audio files through PyAV; what "time t" means in a file is said here.

Beside it: media_open.py (tracks), media_probe.py (what is in a file), media_write.py (writing).

Time 0 is the first video frame's time stamp (the first audio sample's, where there is no video). Pictures are uint8 RGB
[H, W, 3], upright (rotation flag honoured) and with square pixels; audio is float32 in -1..1, mono.
Frame i of a sequence at a constant rate stands for the interval [i, i + 1) / fps and shows what is on screen at its
centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipelines.media_open import (
    MediaError,
    Source,
    audio_stream,
    decode,
    displayed_size,
    name_of,
    no_picture,
    opened,
    origin_of,
    video_stream,
)
from pipelines.media_probe import MediaInfo, Survey, measure, probe, sounds, survey
from pipelines.media_write import SAMPLE_RATE, write_picture, write_video, write_wav

__all__ = [
    "SAMPLE_RATE", "Damage", "MediaError", "MediaInfo", "Picture", "Sound", "Survey", "frames", "measure", "probe", "read_audio",
    "sounds", "survey", "write_picture", "write_video", "write_wav",
]  # fmt: skip

Picture = NDArray[np.uint8]  # [H, W, 3]
Sound = NDArray[np.float32]  # [samples]

TIE_SECONDS = 0.002  # a frame centre this close after a new picture still shows the old one: stamps are rounded to ms
MIX = {"rematrix_maxval": "1.0"}  # else channels mixed as floats add up to more than full scale
RESYNC_SECONDS = 0.04  # audio whose time stamp is off by more than this is put where the stamp says
LONGEST_DAMAGE = 10.0  # seconds; encoders put key pictures at least so often
HD_HEIGHT = 720  # untagged pictures of this height and more are BT.709, smaller ones BT.601


def frames(
    path: str | Path, fps: Fraction | None = None, start: float = 0.0, end: float | None = None, damage: Damage | None = None
) -> Iterator[Picture]:
    """Pictures [H, W, 3] from `start` to `end` (seconds), one at a time.

    With `fps`, at that constant rate whatever the file's time stamps do: round((end - start) * fps) pictures, fewer
    only where the video ends before. Without `fps`, the file's own pictures. `damage` learns which of them the decoder
    had to guess. Errors: MediaError where nothing decodes.
    """
    with opened(path) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaError(f"{name_of(path)}: expected video, the file has none")
        size: tuple[int, int] | None = None
        converter = VideoReformatter()  # one for all: making one costs as much as decoding a picture
        shown = _shown(container, stream, start, damage or Damage())
        chosen = _own(shown, start, end) if fps is None else _constant(shown, Fraction(fps), start, end)
        for frame, repeat in chosen:
            size = size or displayed_size(frame, stream)
            picture = _rgb(converter, frame, size)
            for _ in range(repeat):
                yield picture
        if size is None and start == 0.0 and (end is None or end > 0):
            raise no_picture(path, stream)


@dataclass
class Damage:
    """Where pictures are damaged: data lost or broken, guessed by the decoder, and whatever is built on that.

    From a picture that the decoder marks, or data that it refuses, to the next whole key picture (`LONGEST_DAMAGE` at most:
    some streams have none, and mend themselves).
    """

    spans: list[tuple[float, float]] = field(default_factory=list)  # seconds, in order
    failed: list[Any] = field(default_factory=list)  # data refused since the last picture
    since: float | None = None
    last: float = 0.0  # when the newest fault was met

    def see(self, frame: Any, time: float, expected: float) -> None:
        """A picture shown from `time` on; the one before it ended at `expected`."""
        if frame.is_corrupt or self.failed:
            self.since = min(time, expected) if self.since is None else self.since
            self.last = time
        elif self.since is not None and (frame.key_frame or time > self.last + LONGEST_DAMAGE):
            self.spans.append((self.since, time))
            self.since = None
        self.failed.clear()

    def all(self, end: float) -> list[tuple[float, float]]:
        """The spans of a video that ends at `end`."""
        return self.spans if self.since is None else [*self.spans, (self.since, end)]


def read_audio(path: Source, sample_rate: int = SAMPLE_RATE) -> Sound:
    """The whole sound track [samples], mono, resampled; sample k is heard at k / sample_rate on the file's time axis.

    Gaps and a late start are zeros. Errors: MediaError for a file without (decodable) audio.
    """
    pieces: list[tuple[Any, list[Sound]]] = []  # (start seconds, chunks at sample_rate)
    with opened(path) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaError(f"{name_of(path)}: expected audio, the file has none")
        origin = origin_of(video_stream(container), stream)
        declared = _exact_end(container, stream, origin)
        resampler: av.AudioResampler | None = None
        layout: tuple[Any, ...] = ()
        expected = 0.0
        for frame in decode(container, stream):
            time = expected if frame.time is None else frame.time - origin
            new_layout = (frame.sample_rate, frame.format.name, frame.layout.name)
            if resampler is None or layout != new_layout or abs(time - expected) > RESYNC_SECONDS:
                if resampler is not None:
                    pieces[-1][1].extend(_chunks(resampler.resample(None)))
                resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate, options=MIX)
                layout, expected = new_layout, time
                pieces.append((time, []))
            frame.pts = None
            pieces[-1][1].extend(_chunks(resampler.resample(frame)))
            expected += frame.samples / frame.sample_rate
        if resampler is not None:
            pieces[-1][1].extend(_chunks(resampler.resample(None)))
    pieces = [(round(start * sample_rate), chunks) for start, chunks in pieces if chunks]
    if not pieces:
        raise MediaError(f"{name_of(path)}: no sound of its audio track can be decoded")
    audio = np.zeros(max(max(start + sum(map(len, chunks)) for start, chunks in pieces), 0), np.float32)
    for start, chunks in pieces:
        for chunk in chunks:
            heard = chunk[max(-start, 0) :]
            audio[max(start, 0) : max(start, 0) + len(heard)] = heard
            start += len(chunk)
    return audio if declared is None else audio[: round(declared * sample_rate)]


def _exact_end(container: Any, stream: Any, origin: float) -> float | None:
    """Where the sound ends by the header of mp4 and its kin: what the last AAC frame holds beyond it is filling."""
    if "mp4" not in container.format.name or not stream.duration:
        return None
    return float((stream.start_time + stream.duration) * stream.time_base) - origin


def _shown(container: Any, stream: Any, start: float, damage: Damage) -> Iterator[tuple[float, float, Any]]:
    """(time, duration, frame) in order, from the picture on screen at `start` or one before it."""
    origin = origin_of(stream, None)
    nominal = float(1 / (stream.average_rate or stream.guessed_rate or 25))
    if start > 1.0 and not _seek(container, stream, origin, start):
        container.seek(0)
    expected = 0.0
    for frame in decode(container, stream, damage.failed):
        time = expected if frame.time is None else frame.time - origin
        damage.see(frame, time, expected)
        duration = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else nominal
        expected = time + duration
        yield time, duration, frame


def _seek(container: Any, stream: Any, origin: float, start: float) -> bool:
    """Jump to a key picture before `start`; False where the container lands behind it (some can not seek)."""

    def jump() -> None:
        container.seek(int((start - 0.5 + origin) / stream.time_base), stream=stream, backward=True)

    try:
        jump()
        first = next(decode(container, stream), None)
        if first is None or first.time is None or first.time - origin > start:
            return False
        jump()
    except av.FFmpegError:
        return False
    return True


def _own(shown: Iterator[tuple[float, float, Any]], start: float, end: float | None) -> Iterator[tuple[Any, int]]:
    for time, _, frame in shown:
        if end is not None and time >= end - TIE_SECONDS:
            return
        if time >= start - TIE_SECONDS:
            yield frame, 1


def _constant(shown: Iterator[tuple[float, float, Any]], fps: Fraction, start: float, end: float | None) -> Iterator[tuple[Any, int]]:
    """(frame, how often it is shown): at every frame centre the last picture whose time has come."""
    limit = None if end is None else round((end - start) * fps)
    done = 0
    current: Any = None
    stop = start

    def due(until: float) -> int:
        count = done
        while (limit is None or count < limit) and start + (count + 0.5) / float(fps) - TIE_SECONDS < until:
            count += 1
        return count - done

    for time, duration, frame in shown:
        if current is not None and (repeat := due(time)):
            yield current, repeat
            done += repeat
        if limit is not None and done >= limit:
            return
        current, stop = frame, time + duration
    if current is not None and (repeat := due(stop)):
        yield current, repeat


def _rgb(converter: VideoReformatter, frame: Any, size: tuple[int, int]) -> Picture:
    unspecified_hd = frame.colorspace == 2 and frame.height >= HD_HEIGHT
    converted = converter.reformat(frame, *size, format="rgb24", src_colorspace=Colorspace.ITU709 if unspecified_hd else None)
    picture = np.rot90(converted.to_ndarray(), round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(picture)


def _chunks(resampled: list[Any]) -> list[Sound]:
    return [frame.to_ndarray().reshape(-1).astype(np.float32) for frame in resampled]
