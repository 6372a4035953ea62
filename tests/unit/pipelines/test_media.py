"""Media files by time: what is written comes back at the same place, and odd files are read as players show them."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from pipelines import media

RATE = Fraction(25)


def picture(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def ramp(count: int, **size: int) -> list[np.ndarray]:
    """Pictures whose grey tells their number: 5 a step."""
    return [picture(20 + 5 * (i % 42), **size) for i in range(count)]


def numbers(pictures) -> list[int]:
    return [round((float(p[8:-8, 8:-8].mean()) - 20) / 5) for p in pictures]


def clicks(seconds: float, *times: float, rate: int = 16000) -> np.ndarray:
    """Silence with a 20 ms tone burst at each time."""
    audio = np.zeros(round(seconds * rate), np.float32)
    for time in times:
        start = round(time * rate)
        audio[start : start + rate // 50] = 0.8 * np.sin(2 * np.pi * 1000 * np.arange(rate // 50) / rate)
    return audio


def onset(audio: np.ndarray, after: float = 0.0) -> float:
    start = round(after * 16000)
    return (start + int(np.argmax(np.abs(audio[start:]) > 0.2))) / 16000


def encode(path, frames, times, codec="libx264", options=None, audio=None, audio_start=0.0, **stream_settings):
    """A file with chosen time stamps (milliseconds), as cameras and recorders make them."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options or {})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        if "rotation" in stream_settings:
            video.set_display_rotation(stream_settings["rotation"])
        if "aspect" in stream_settings:
            video.codec_context.sample_aspect_ratio = stream_settings["aspect"]
        sound = container.add_stream("aac", rate=16000, layout="mono") if audio is not None else None
        for image, time in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for start in range(0, len(audio) if audio is not None else 0, 1024):
            frame = av.AudioFrame.from_ndarray(audio[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = 16000, Fraction(1, 16000)
            frame.pts = start + round(audio_start * 16000)
            container.mux(sound.encode(frame))
        if sound is not None:
            container.mux(sound.encode(None))


def test_round_trip_keeps_pictures_sound_and_their_sync(tmp_path):
    path = tmp_path / 'it\'s a "talk" 100% %d [1].mp4'
    sent = clicks(1.6, 0.4, 1.2)
    assert media.write_video(path, iter(ramp(40)), RATE, sent) == 40
    info = media.probe(path)
    assert (info.width, info.height, info.fps, info.frames) == (64, 48, RATE, 40)
    assert (info.has_video, info.has_audio, info.sample_rate) == (True, True, 16000)
    assert info.seconds == pytest.approx(1.6, abs=1e-3)
    assert media.measure(path) == pytest.approx((1.6, 1.6), abs=0.07)
    assert numbers(media.frames(path)) == list(range(40))
    heard = media.read_audio(path)
    assert len(heard) == len(sent)
    assert onset(heard) == pytest.approx(0.4, abs=0.002)
    assert onset(heard, 1.0) == pytest.approx(1.2, abs=0.002)


def test_same_input_gives_the_same_bytes_and_no_leftovers(tmp_path):
    noisy = np.random.default_rng(0).integers(0, 255, (12, 48, 64, 3), np.uint8)
    for name in ("a.mp4", "b.mp4"):
        media.write_video(tmp_path / name, noisy, RATE, clicks(0.48, 0.1))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    with pytest.raises(ValueError, match="at least one picture"):
        media.write_video(tmp_path / "none.mp4", iter([]), RATE)
    with pytest.raises(ValueError, match="one size"):
        media.write_video(tmp_path / "mixed.mp4", [picture(1), picture(1, 50)], RATE)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_metadata_comes_first_in_the_file(tmp_path):
    media.write_video(tmp_path / "a.mp4", ramp(5), RATE)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_are_padded_to_even_ones(tmp_path):
    media.write_video(tmp_path / "a.mp4", ramp(3, height=47, width=63), RATE)
    info = media.probe(tmp_path / "a.mp4")
    assert (info.width, info.height) == (64, 48)


def test_colours_come_back(tmp_path):
    colours = [(200, 30, 40), (30, 180, 60), (40, 60, 210), (230, 220, 40)]
    pictures = [np.full((48, 64, 3), c, np.uint8) for c in colours]
    media.write_video(tmp_path / "a.mp4", pictures, RATE, crf=10)
    for sent, got in zip(colours, media.frames(tmp_path / "a.mp4"), strict=True):
        np.testing.assert_allclose(got[8:-8, 8:-8].mean((0, 1)), sent, atol=4)


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(25), list(range(40))),
        (Fraction(25, 2), list(range(0, 40, 2))),
        (Fraction(50), [i // 2 for i in range(80)]),
        (Fraction(30), [int((i + 0.49) * 25 / 30) for i in range(48)]),
    ],
)
def test_any_constant_rate_shows_the_picture_of_the_time(tmp_path, rate, expected):
    media.write_video(tmp_path / "a.mp4", ramp(40), RATE)
    assert numbers(media.frames(tmp_path / "a.mp4", rate)) == expected


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "mpg"])
@pytest.mark.parametrize("start", [0.0, 1.2, 2.52])
def test_a_stretch_equals_that_stretch_of_the_whole(tmp_path, suffix, start):
    path = tmp_path / f"a.{suffix}"
    codec = "mpeg2video" if suffix == "mpg" else "libx264"
    options = {"g": "12"} if suffix == "mpg" else {"g": "30", "bf": "2"}
    count = 90
    # avi knows no time stamps, only a rate
    if suffix == "avi":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=25)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for image in ramp(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    elif suffix == "mpg":
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
            for image in ramp(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
    else:
        encode(path, ramp(count), [i / 25 for i in range(count)], codec, options)
    whole = [p.tobytes() for p in media.frames(path, RATE)]
    assert len(whole) == pytest.approx(count, abs=1)
    part = [p.tobytes() for p in media.frames(path, RATE, start, start + 0.4)]
    first = round(start * 25)
    assert part == whole[first : first + 10]


def test_variable_frame_rate_becomes_constant(tmp_path):
    times = np.cumsum([0.0, 0.033, 0.02, 0.3, 0.033, 0.033, 0.1, 0.04, 0.04, 0.04])
    encode(tmp_path / "a.mkv", ramp(10), times)
    got = numbers(media.frames(tmp_path / "a.mkv", RATE))
    centres = (np.arange(len(got)) + 0.5) / 25
    assert got == [max(np.searchsorted(times, c - 0.003, side="right") - 1, 0) for c in centres]
    assert len(got) == pytest.approx((times[-1] + 0.04) * 25, abs=1)


def test_rotation_flag_is_honoured(tmp_path):
    image = picture(40)
    image[:24, :32] = 220  # bright: top left
    encode(tmp_path / "a.mp4", [image] * 3, [0, 0.04, 0.08], rotation=90)
    info = media.probe(tmp_path / "a.mp4")
    assert (info.width, info.height) == (48, 64)
    upright = next(media.frames(tmp_path / "a.mp4"))
    assert upright.shape == (64, 48, 3)
    # counterclockwise: what was top left is bottom left
    assert upright[40:, :16].mean() > 180 > 80 > upright[:24].mean()


def test_pixels_become_square(tmp_path):
    encode(tmp_path / "a.mp4", ramp(3), [0, 0.04, 0.08], aspect=Fraction(4, 3))
    assert media.probe(tmp_path / "a.mp4").width == 85
    assert next(media.frames(tmp_path / "a.mp4")).shape[:2] == (48, 85)


@pytest.mark.parametrize("late", [-0.2, 0.5])
def test_sound_that_starts_apart_from_the_picture_stays_in_sync(tmp_path, late):
    shift = max(-late, 0)  # the file's clock starts with what comes first
    encode(
        tmp_path / "a.mkv", ramp(50), [i / 25 + shift for i in range(50)],
        audio=clicks(1.5, 0.6), audio_start=late + shift,
    )  # fmt: skip
    heard = media.read_audio(tmp_path / "a.mkv")
    assert onset(heard) == pytest.approx(0.6 + late, abs=0.004)


def test_sound_is_resampled_and_mixed_to_mono_in_place(tmp_path):
    rate = 44100
    left = clicks(1.0, 0.5, rate=rate)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=rate, layout="stereo")
        packed = (np.stack([left, left], 1).reshape(1, -1) * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="stereo")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    heard = media.read_audio(tmp_path / "a.wav")
    assert heard.dtype == np.float32
    assert len(heard) == pytest.approx(16000, abs=2)
    assert onset(heard) == pytest.approx(0.5, abs=0.001)
    assert np.abs(heard).max() == pytest.approx(0.8, abs=0.05)


def test_wav_round_trip(tmp_path):
    sent = clicks(0.5, 0.1)
    media.write_wav(tmp_path / "a.wav", sent)
    np.testing.assert_allclose(media.read_audio(tmp_path / "a.wav"), sent, atol=1e-4)


def test_unreadable_files_are_named_in_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is no video " * 100)
    media.write_wav(tmp_path / "sound.wav", clicks(0.5, 0.1))
    media.write_video(tmp_path / "mute.mp4", ramp(5), RATE)
    faults = {"empty.mp4": "0 bytes", "text.mp4": "cannot be opened", "absent.mp4": "does not exist"}
    for name, reason in faults.items():
        with pytest.raises(media.MediaError, match=reason) as caught:
            media.probe(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not media.probe(tmp_path / "sound.wav").has_video
    with pytest.raises(media.MediaError, match="expected video"):
        next(media.frames(tmp_path / "sound.wav"))
    with pytest.raises(media.MediaError, match="expected audio"):
        media.read_audio(tmp_path / "mute.mp4")


def test_a_cover_picture_is_not_a_video(tmp_path):
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(picture(99), format="rgb24").reformat(format="yuvj420p")))
        frame = av.AudioFrame.from_ndarray(clicks(0.064, 0.01)[None, :1024], format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux([*cover.encode(None), *sound.encode(None)])
    assert not media.probe(path).has_video
