"""Opening of media files and choice of their tracks, for `pipelines.media` and `pipelines.media_probe`."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

Source = str | Path | io.BytesIO  # a file, or its content


class MediaError(ValueError):
    """A file that cannot be decoded; the message is one line that names the file and the fault."""


@contextlib.contextmanager
def opened(path: Source) -> Iterator[Any]:
    """The container of a file or of its content. Errors: MediaError where there is none."""
    if not isinstance(path, io.BytesIO):
        if not Path(path).is_file():
            raise MediaError(f"{name_of(path)}: expected a file, it does not exist")
        if Path(path).stat().st_size == 0:
            raise MediaError(f"{name_of(path)}: the file is empty (0 bytes); copy it again")
    try:
        container = av.open(path if isinstance(path, io.BytesIO) else f"file:{path}", metadata_errors="replace")
    except av.FFmpegError as error:
        kind = f"({error.strerror}); truncated or of another kind: copy it again, or convert it"
        raise MediaError(f"{name_of(path)}: cannot be opened as video or audio {kind}") from error
    with container:
        for stream in container.streams.video:
            if stream.codec_context is not None:
                stream.thread_type = "AUTO"
        yield container


def name_of(path: Source) -> str:
    return "video in memory" if isinstance(path, io.BytesIO) else repr(Path(path).name)


def no_picture(path: Source, stream: Any) -> MediaError:
    return MediaError(f"{name_of(path)}: no picture of its {stream.codec_context.name} video can be decoded (truncated?); copy it again")


def video_stream(container: Any) -> Any | None:
    """The main video track; cover pictures of audio files do not count."""
    streams = [s for s in video_streams(container) if s.codec_context is not None]
    best = container.streams.best("video")
    return best if best in streams else next(iter(streams), None)


def video_streams(container: Any) -> list[Any]:
    """All video tracks, those that cannot be decoded too, without cover pictures."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def audio_stream(container: Any) -> Any | None:
    """The main audio track: the one marked as default, else the one of most channels and bits."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    return best if best in streams else next(iter(streams), None)


def origin_of(video: Any | None, audio: Any | None) -> float:
    """The container's time, seconds, that is time 0."""
    stream = video if video is not None else audio
    return float(stream.start_time * stream.time_base) if stream is not None and stream.start_time is not None else 0.0


def decode(container: Any, stream: Any, failed: list[Any] | None = None) -> Iterator[Any]:
    """Frames of one stream; packets that do not decode are passed over, and come into `failed`."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):
            return
        try:
            decoded = packet.decode()
        except av.FFmpegError:
            if failed is not None:
                failed.append(packet)
            continue
        yield from decoded


def displayed_size(frame: Any, stream: Any) -> tuple[int, int]:
    """(width, height) with square pixels, before rotation."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    width = frame.width if not ratio or ratio == 1 else max(round(frame.width * ratio), 1)
    return int(width), int(frame.height)
