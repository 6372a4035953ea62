"""What a media file says of itself (`probe`) and what is really in it (`survey`). Use it through `pipelines.media`."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from pipelines.media_open import (
    MediaError,
    audio_stream,
    decode,
    displayed_size,
    name_of,
    no_picture,
    opened,
    origin_of,
    video_stream,
    video_streams,
)

LARGEST = 150e6  # pixels; larger pictures (16K has 133 million) are not even decoded
STEADY = 0.1  # pictures that come this much earlier or later than the usual step, as a share of it, are not steady


@dataclass(frozen=True)
class MediaInfo:
    """What a file says of itself; `survey` says what is really in it."""

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
    pixel_format: str = ""  # FFmpeg's name, as in yuv420p10le
    video_tracks: int = 0  # of which the main one is taken
    audio_tracks: int = 0


@dataclass(frozen=True)
class Survey:
    """What the packets of the main tracks hold, without decoding them."""

    video_seconds: float  # when the last picture ends; 0 without any
    audio_seconds: float
    pictures: int
    longest_gap: float  # seconds, between time stamps of pictures or sound that follow each other
    variable_rate: bool  # some pictures come early or late


def probe(path: str | Path) -> MediaInfo:
    """Read the header, one picture and one piece of sound. Errors: MediaError for a file without any that decodes."""
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        if video is None and audio is None:
            raise _no_track(path, container)
        seconds = _declared_seconds(container, video or audio)
        width = height = rotation = 0
        pixel_format = ""
        if video is not None:
            coded = video.codec_context.width, video.codec_context.height
            if coded[0] * coded[1] > LARGEST:
                raise MediaError(f"{name_of(path)}: expected pictures of at most {LARGEST / 1e6:g} megapixels, got {coded[0]} × {coded[1]}")
            first = next(decode(container, video), None)
            if first is None:
                raise no_picture(path, video)
            rotation, pixel_format = first.rotation % 360, first.format.name
            width, height = displayed_size(first, video)
            width, height = (height, width) if rotation % 180 else (width, height)
        info = {
            "sample_rate": audio.codec_context.sample_rate if audio is not None else 0,
            "video_codec": video.codec_context.name if video is not None else "",
            "audio_codec": audio.codec_context.name if audio is not None else "",
            "container": container.format.name,
            "video_tracks": len(video_streams(container)),
            "audio_tracks": len(container.streams.audio),
        }
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
        rotation=rotation,
        pixel_format=pixel_format,
        **info,
    )


def survey(path: str | Path) -> Survey:
    """Read every packet's time stamp. Errors: MediaError for a file that cannot be opened."""
    ends = {"video": 0.0, "audio": 0.0}
    count = {"video": 0, "audio": 0}
    starts: dict[str, list[float]] = {"video": [], "audio": []}
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        origin = origin_of(video, audio)
        chosen = [s for s in (video, audio) if s is not None]
        units = {s.index: float(s.time_base) for s in chosen}
        with contextlib.suppress(av.FFmpegError):
            for packet in container.demux(chosen):
                if not packet.size:
                    continue
                kind, unit = packet.stream.type, units[packet.stream.index]
                count[kind] += 1
                if packet.pts is not None:
                    start = packet.pts * unit - origin
                    starts[kind].append(start)
                    ends[kind] = max(ends[kind], start + (packet.duration or 0) * unit)
    steps = {kind: np.diff(np.sort(times)) for kind, times in starts.items()}
    usual = float(np.median(steps["video"])) if len(steps["video"]) else 0.0
    uneven = np.abs(steps["video"] - usual) > max(STEADY * usual, 0.002)  # stamps may be rounded to milliseconds
    return Survey(
        video_seconds=ends["video"],
        audio_seconds=ends["audio"],
        pictures=count["video"],
        longest_gap=max((float(s.max()) for s in steps.values() if len(s)), default=0.0),
        variable_rate=bool(uneven.any()),
    )


def measure(path: str | Path) -> tuple[float, float]:
    """Seconds of video and of audio that the file's packets really hold, without decoding (0 where there are none)."""
    found = survey(path)
    return found.video_seconds, found.audio_seconds


def sounds(path: str | Path) -> bool:
    """Whether any of the main audio track decodes."""
    with opened(path) as container:
        stream = audio_stream(container)
        return stream is not None and next(decode(container, stream), None) is not None


def _declared_seconds(container: Any, stream: Any) -> float | None:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration is not None else None


def _no_track(path: str | Path, container: Any) -> MediaError:
    if any(s.type in ("video", "audio") for s in container.streams):
        return MediaError(f"{name_of(path)}: expected a video, no track of it can be decoded (its codec is unknown); convert it to H.264")
    return MediaError(f"{name_of(path)}: expected a video, found neither video nor audio in it (truncated?)")
