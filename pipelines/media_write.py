"""Writing of mp4, wav and picture files: same input, same bytes; a file appears complete or not at all.

Use it through `pipelines.media`, which also states the conventions of time, pictures and sound.
"""

from __future__ import annotations

import contextlib
import heapq
import wave
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import NDArray

from pipelines.media_open import MediaError, audio_stream, opened, video_stream
from pipelines.store import writing

SAMPLE_RATE = 16000  # Hz
ENCODER_THREADS = 2  # fixed: x264's output depends on it


def write_video(
    path: str | Path,
    pictures: Iterable[NDArray[np.uint8]] | NDArray[np.uint8],
    fps: Fraction,
    audio: NDArray[np.float32] | None = None,
    sample_rate: int = SAMPLE_RATE,
    crf: int = 18,
    sound_bits: int | None = None,
) -> int:
    """Write an mp4 (H.264 yuv420p + AAC, fast start) and return the number of pictures; same input, same bytes.

    `pictures`: [H, W, 3] uint8 RGB each, all of one size; an odd side gets one more row or column (a copy of the edge).
    `audio`: [samples] float32 -1..1, its sample 0 in sync with the first picture's start. `sound_bits`: a second,
    of the AAC track (none: transparent for speech). The file appears complete or not at all.
    """
    fps = Fraction(fps)
    count = 0
    flags = {"movflags": "+faststart", "fflags": "+bitexact"}
    with writing(Path(path)) as temporary, av.open(f"file:{temporary}", "w", format="mp4", options=flags) as container:
        video: Any = None
        shape: tuple[int, ...] = ()
        converter = VideoReformatter()
        sound = _SoundWriter(container, audio, sample_rate, sound_bits) if audio is not None else None
        for picture in pictures:
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(f"pictures must be uint8 [H, W, 3], got {picture.dtype} {list(picture.shape)}")
            if video is None:
                shape = picture.shape
                video = _h264_stream(container, fps, shape, crf)
            if picture.shape != shape:
                raise ValueError(f"all pictures must be of one size, got {list(shape)} and then {list(picture.shape)}")
            if shape[0] % 2 or shape[1] % 2:
                picture = np.pad(picture, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = converter.reformat(frame, format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base = count, 1 / fps
            container.mux(video.encode(frame))
            count += 1
            if sound is not None:
                sound.write_until(count / fps)
        if video is None:
            raise ValueError(f"{Path(path).name!r}: expected at least one picture to write, got none")
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()
    return count


def write_wav(path: str | Path, audio: NDArray[np.float32], sample_rate: int = SAMPLE_RATE) -> None:
    """Write mono 16-bit PCM; `audio` [samples] float32, clipped to -1..1."""
    with writing(Path(path)) as temporary, wave.open(str(temporary), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.round(np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes())


def write_picture(path: str | Path, picture: NDArray[np.uint8], quality: int = 90) -> None:
    """Write [H, W, 3] uint8 RGB in the format of the name's ending; `quality` 0..100 counts for JPEG."""
    target = Path(path)
    done, packed = cv2.imencode(target.suffix, picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, f"{target.name}: could not be packed"
    with writing(target) as temporary:
        temporary.write_bytes(packed.tobytes())


def join_tracks(sources: Sequence[Path], target: Path) -> None:
    """Write the main track of each source (one with pictures, one with sound) into one mkv, as they are stored.

    Errors: MediaError for a source without such a track.
    """
    with contextlib.ExitStack() as stack:
        tracks = []
        for path in sources:
            container = stack.enter_context(opened(path))
            stream = next((s for s in (video_stream(container), audio_stream(container)) if s is not None), None)
            if stream is None:
                raise MediaError(f"{path.name!r}: expected pictures or sound, found neither")
            tracks.append((container, stream))
        temporary = stack.enter_context(writing(target))
        options = {"fflags": "+bitexact"}
        joined = stack.enter_context(av.open(f"file:{temporary}", "w", format="matroska", options=options))

        def packets(container: Any, stream: Any, to: Any) -> Iterator[tuple[float, Any]]:
            for packet in container.demux(stream):
                if packet.dts is not None:
                    time = float(packet.dts * packet.time_base)
                    packet.stream = to
                    yield time, packet

        added = [joined.add_stream_from_template(stream) for _, stream in tracks]
        for _, packet in heapq.merge(*map(packets, *zip(*tracks, strict=True), added), key=lambda p: p[0]):
            joined.mux(packet)


class _SoundWriter:
    """Feeds the audio track as far as the pictures have come, so that the two lie interleaved in the file."""

    def __init__(self, container: Any, audio: NDArray[np.float32], sample_rate: int, bits: int | None):
        if audio.ndim != 1:
            raise ValueError(f"audio must be mono [samples], got {list(audio.shape)}")
        self.container, self.rate, self.done = container, sample_rate, 0
        self.audio = np.clip(np.asarray(audio, np.float32), -1, 1)
        self.stream = container.add_stream("aac", rate=sample_rate, layout="mono")
        self.stream.bit_rate = bits or (64000 if sample_rate <= 24000 else 128000)

    def write_until(self, seconds: Fraction | float) -> None:
        end = min(int(seconds * self.rate), len(self.audio))
        while self.done + 1024 <= end:
            self._write(self.done + 1024)

    def finish(self) -> None:
        while self.done < len(self.audio):
            self._write(min(self.done + 1024, len(self.audio)))
        self.container.mux(self.stream.encode(None))

    def _write(self, end: int) -> None:
        frame = av.AudioFrame.from_ndarray(self.audio[None, self.done : end], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
        self.container.mux(self.stream.encode(frame))
        self.done = end


def _h264_stream(container: Any, fps: Fraction, shape: tuple[int, ...], crf: int) -> Any:
    # no macroblock tree: on AVX-512 machines under load, its estimates are not always the same ones
    options = {"crf": str(crf), "preset": "veryfast", "x264-params": "mbtree=0"}
    stream = container.add_stream("libx264", rate=fps, options=options)
    stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.time_base = 1 / fps
    context.thread_count = ENCODER_THREADS
    # BT.601 limited range, said so: what readers that ignore the tag assume as well
    context.color_primaries, context.color_trc, context.colorspace, context.color_range = 6, 6, 6, 1
    return stream
