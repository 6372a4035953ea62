"""Video and audio files through PyAV (writing: pipelines/media_write.py); what "time t" means in a file is said here.

Time 0 is the first video frame's time stamp (the first audio sample's, where there is no video). Pictures are uint8 RGB
[H, W, 3], upright (rotation flag honoured) and with square pixels; audio is float32 in -1..1, mono.
Frame i of a sequence at a constant rate stands for the interval [i, i + 1) / fps and shows what is on screen at its
centre.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from pipelines.media_write import SAMPLE_RATE, write_video, write_wav

__all__ = [
    "SAMPLE_RATE", "MediaError", "MediaInfo", "Picture", "Sound", "frames", "measure", "probe", "read_audio",
    "write_video", "write_wav",
]  # fmt: skip

Picture = NDArray[np.uint8]  # [H, W, 3]
Sound = NDArray[np.float32]  # [samples]
Source = str | Path | io.BytesIO  # a file, or its content

TIE_SECONDS = 0.002  # a frame centre this close after a new picture still shows the old one: stamps are rounded to ms
MIX = {"rematrix_maxval": "1.0"}  # else channels mixed as floats add up to more than full scale
RESYNC_SECONDS = 0.04  # audio whose time stamp is off by more than this is put where the stamp says
HD_HEIGHT = 720  # untagged pictures of this height and more are BT.709, smaller ones BT.601


class MediaError(ValueError):
    """A file that cannot be decoded; the message is one line that names the file and the fault."""


@dataclass(frozen=True)
class MediaInfo:
    """What a file says of itself; `measure` says what is really in it."""

    width: int  # pixels as displayed: rotated, square pixels; 0 without video
    height: int
    fps: Fraction  # average rate, frames per second; 0 without video
    seconds: float  # of the video, else of the audio
    frames: int
    has_video: bool
    has_audio: bool
    sample_rate: int  # Hz as stored; 0 without audio
    rotation: int  # degrees counterclockwise that players turn the picture: 0, 90, 180, 270
    video_codec: str
    audio_codec: str
    container: str


def probe(path: str | Path) -> MediaInfo:
    """Read the header and one picture. Errors: MediaError for a file without decodable video or audio."""
    with _open(path) as container:
        video, audio = _video_stream(container), _audio_stream(container)
        if video is None and audio is None:
            raise MediaError(f"{_name(path)}: expected a video, found neither video nor audio in it (truncated?)")
        seconds = _declared_seconds(container, video or audio)
        width = height = rotation = 0
        if video is not None:
            first = next(_decode(container, video), None)
            if first is None:
                raise _no_picture(path, video)
            rotation = first.rotation % 360
            width, height = _displayed_size(first, video)
            width, height = (height, width) if rotation % 180 else (width, height)
        container_name = container.format.name
    if seconds is None:
        seconds = measure(path)[0 if video is not None else 1]
    fps = Fraction(video.average_rate or video.guessed_rate or 25) if video is not None else Fraction(0)
    return MediaInfo(
        width=width,
        height=height,
        fps=fps,
        seconds=seconds,
        frames=(video.frames or round(seconds * fps)) if video is not None else 0,
        has_video=video is not None,
        has_audio=audio is not None,
        sample_rate=audio.codec_context.sample_rate if audio is not None else 0,
        rotation=rotation,
        video_codec=video.codec_context.name if video is not None else "",
        audio_codec=audio.codec_context.name if audio is not None else "",
        container=container_name,
    )


def measure(path: str | Path) -> tuple[float, float]:
    """Seconds of video and of audio that the file's packets really hold, without decoding (0 where there are none)."""
    ends = {"video": 0.0, "audio": 0.0}
    with _open(path) as container:
        video, audio = _video_stream(container), _audio_stream(container)
        chosen = [s for s in (video, audio) if s is not None]
        origin = _origin(video, audio)
        with contextlib.suppress(av.FFmpegError):
            for packet in container.demux(chosen):
                if packet.pts is not None and packet.size:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base) - origin
                    ends[packet.stream.type] = max(ends[packet.stream.type], end)
    return ends["video"], ends["audio"]


def frames(
    path: str | Path, fps: Fraction | None = None, start: float = 0.0, end: float | None = None
) -> Iterator[Picture]:
    """Pictures [H, W, 3] from `start` to `end` (seconds), one at a time.

    With `fps`, at that constant rate whatever the file's time stamps do: round((end - start) * fps) pictures, fewer
    only where the video ends before. Without `fps`, the file's own pictures. Errors: MediaError where nothing decodes.
    """
    with _open(path) as container:
        stream = _video_stream(container)
        if stream is None:
            raise MediaError(f"{_name(path)}: expected video, the file has none")
        size: tuple[int, int] | None = None
        shown = _shown(container, stream, start)
        chosen = _own(shown, start, end) if fps is None else _constant(shown, Fraction(fps), start, end)
        for frame, repeat in chosen:
            size = size or _displayed_size(frame, stream)
            picture = _rgb(frame, size)
            for _ in range(repeat):
                yield picture
        if size is None and start == 0.0 and (end is None or end > 0):
            raise _no_picture(path, stream)


def read_audio(path: Source, sample_rate: int = SAMPLE_RATE) -> Sound:
    """The whole sound track [samples], mono, resampled; sample k is heard at k / sample_rate on the file's time axis.

    Gaps and a late start are zeros. Errors: MediaError for a file without (decodable) audio.
    """
    pieces: list[tuple[float, list[Sound]]] = []  # (start seconds, chunks at sample_rate)
    with _open(path) as container:
        stream = _audio_stream(container)
        if stream is None:
            raise MediaError(f"{_name(path)}: expected audio, the file has none")
        origin = _origin(_video_stream(container), stream)
        declared = _exact_end(container, stream, origin)
        resampler: av.AudioResampler | None = None
        layout: tuple[Any, ...] = ()
        expected = 0.0
        for frame in _decode(container, stream):
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
    placed = [(round(start * sample_rate), np.concatenate(chunks)) for start, chunks in pieces if chunks]
    if not placed:
        raise MediaError(f"{_name(path)}: no sound of its audio track can be decoded")
    audio = np.zeros(max(max(start + len(sound) for start, sound in placed), 0), np.float32)
    for start, sound in placed:
        sound = sound[max(-start, 0) :]
        audio[max(start, 0) : max(start, 0) + len(sound)] = sound
    return audio if declared is None else audio[: round(declared * sample_rate)]


@contextlib.contextmanager
def _open(path: Source) -> Iterator[Any]:
    if not isinstance(path, io.BytesIO):
        if not Path(path).is_file():
            raise MediaError(f"{_name(path)}: expected a file, it does not exist")
        if Path(path).stat().st_size == 0:
            raise MediaError(f"{_name(path)}: the file is empty (0 bytes)")
    try:
        container = av.open(path if isinstance(path, io.BytesIO) else f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(
            f"{_name(path)}: cannot be opened as video or audio ({error.strerror}); truncated or of another kind"
        ) from error
    with container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.thread_type = "AUTO"
        yield container


def _name(path: Source) -> str:
    return "video in memory" if isinstance(path, io.BytesIO) else repr(Path(path).name)


def _no_picture(path: str | Path, stream: Any) -> MediaError:
    return MediaError(f"{_name(path)}: no picture of its {stream.codec_context.name} video can be decoded (truncated?)")


def _video_stream(container: Any) -> Any | None:
    """The main video track; cover pictures of audio files do not count."""
    cover = av.stream.Disposition.attached_pic
    streams = [s for s in container.streams.video if s.codec_context is not None and not s.disposition & cover]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def _audio_stream(container: Any) -> Any | None:
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    return best if best in streams else next(iter(streams), None)


def _origin(video: Any | None, audio: Any | None) -> float:
    stream = video if video is not None else audio
    return float(stream.start_time * stream.time_base) if stream is not None and stream.start_time is not None else 0.0


def _declared_seconds(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def _exact_end(container: Any, stream: Any, origin: float) -> float | None:
    """Where the sound ends by the header of mp4 and its kin: what the last AAC frame holds beyond it is filling."""
    if "mp4" not in container.format.name or not stream.duration:
        return None
    return float((stream.start_time + stream.duration) * stream.time_base) - origin


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    """Frames of one stream; packets that do not decode are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        with contextlib.suppress(av.FFmpegError):
            yield from packet.decode()


def _shown(container: Any, stream: Any, start: float) -> Iterator[tuple[float, float, Any]]:
    """(time, duration, frame) in order, from the picture on screen at `start` or one before it."""
    origin = _origin(stream, None)
    nominal = float(1 / (stream.average_rate or stream.guessed_rate or 25))
    if start > 1.0 and not _seek(container, stream, origin, start):
        container.seek(0)
    expected = 0.0
    for frame in _decode(container, stream):
        time = expected if frame.time is None else frame.time - origin
        duration = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else nominal
        expected = time + duration
        yield time, duration, frame


def _seek(container: Any, stream: Any, origin: float, start: float) -> bool:
    """Jump to a key picture before `start`; False where the container lands behind it (some can not seek)."""

    def jump() -> None:
        container.seek(int((start - 0.5 + origin) / stream.time_base), stream=stream, backward=True)

    try:
        jump()
        first = next(_decode(container, stream), None)
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


def _constant(
    shown: Iterator[tuple[float, float, Any]], fps: Fraction, start: float, end: float | None
) -> Iterator[tuple[Any, int]]:
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


def _displayed_size(frame: Any, stream: Any) -> tuple[int, int]:
    """(width, height) with square pixels, before rotation."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width = frame.width if not ratio or ratio == 1 else round(frame.width * ratio)
    return int(width), int(frame.height)


def _rgb(frame: Any, size: tuple[int, int]) -> Picture:
    unspecified_hd = frame.colorspace == 2 and frame.height >= HD_HEIGHT
    converted = frame.reformat(*size, format="rgb24", src_colorspace="ITU709" if unspecified_hd else None)
    picture = np.rot90(converted.to_ndarray(), round(frame.rotation / 90) % 4)
    return np.ascontiguousarray(picture)


def _chunks(resampled: list[Any]) -> list[Sound]:
    return [frame.to_ndarray().reshape(-1).astype(np.float32) for frame in resampled]
