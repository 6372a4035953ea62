"""Everything that people put into an inbox, in one batch: each kind is refused with one line at the stage named here, or
taken, and the others of the batch are done.

A row of `KINDS` says how a file (or a row of the table) is made, the stage that refuses it and words of its reason. Kinds
that only differ in how they are stored are taken by ingest; their sound is noise, so that cutting ends with 'no speech'.
"""

from __future__ import annotations

import os
import re
import resource
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from configs.schema import Config
from pipelines import ingest, media
from pipelines.cut import cut_talk
from pipelines.store import Record, Store

RATE = Fraction(25)
TALKS = Path(__file__).parents[3] / "samples" / "talks"
NO_SPEECH = "no speech"


@dataclass(frozen=True)
class Kind:
    """One way in which input is bad or odd."""

    name: str
    make: Callable[[Path], None] | None  # writes the file; none: there is only the row
    stage: str  # that refuses it; '' where a clip comes of it
    words: str = ""  # of the reason
    file: str = ""  # its name, if it matters
    row: str = ""  # of talks.csv; {file} stands for the file's name
    facts: dict = field(default_factory=dict)  # among those of the ingested talk

    @property
    def path(self) -> str:
        return self.file or f"{self.name.replace(' ', '_')}.mp4"


def noise(seconds: float, rate: int = 16000, level: float = 0.05) -> np.ndarray:
    return (np.random.default_rng(1).standard_normal(round(seconds * rate)) * level).astype(np.float32)


def pictures(count: int = 25, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """A gradient that moves."""
    ramp = np.linspace(0, 200, width)[None, :, None] + np.linspace(0, 50, height)[:, None, None]
    return [((ramp + 4 * i) % 256).repeat(3, 2).astype(np.uint8) for i in range(count)]


def write(
    path: Path,
    frames: list[np.ndarray] | None = None,
    sound: np.ndarray | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    audio: str = "aac",
    rate: int = 25,
    sample_rate: int = 16000,
    layout: str = "mono",
    format: str | None = None,
    times: list[float] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    videos: int = 1,
    audios: int = 1,
) -> None:
    """A file of any codec, at any rate, with any number of tracks; skips where the codec was not built in."""
    frames = pictures(25) if frames is None else frames
    sound = noise(len(frames) / rate, sample_rate) if sound is None else sound
    try:
        av.Codec(codec, "w"), av.Codec(audio, "w")
    except av.codec.codec.UnknownCodecError as error:
        pytest.skip(f"this build of FFmpeg has no encoder {error}")
    with av.open(str(path), "w", format=format) as container:
        shown = []
        for _ in range(videos):
            stream = container.add_stream(codec, rate=rate)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt = pixels
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                stream.set_display_rotation(rotation)
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            shown.append(stream)
        heard = [container.add_stream(audio, rate=sample_rate, layout=layout) for _ in range(audios)]
        for stream in shown:
            for index, picture in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
                if times is not None:
                    frame.pts, frame.time_base = round(times[index] * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        for stream in heard:
            size = stream.codec_context.frame_size or 1024
            kind = stream.codec_context.format.name
            for start in range(0, len(sound) - size + 1, size):
                channels = np.repeat(sound[None, start : start + size], stream.codec_context.layout.nb_channels, 0)
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channels), format="fltp", layout=layout)
                frame.sample_rate, frame.pts, frame.time_base = sample_rate, start, Fraction(1, sample_rate)
                resampler = av.AudioResampler(format=kind, layout=layout, rate=sample_rate)
                for piece in resampler.resample(frame):
                    piece.pts, piece.time_base = start, Fraction(1, sample_rate)
                    container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    # SVT-AV1 leaves its caller a real-time thread where it may; busy ones then starve the threads that they wait for
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def stored(**how) -> Callable[[Path], None]:
    return lambda path: write(path, **how)


def content(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


def shortened(share: float, **how) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        write(path, pictures(150), **how)
        data = path.read_bytes()
        path.write_bytes(data[: round(len(data) * share)])

    return make


def replaced(*old_new: bytes) -> Callable[[Path], None]:
    """With other names of codecs in the index."""

    def make(path: Path) -> None:
        media.write_video(path, pictures(), RATE, noise(1.0))
        data = path.read_bytes()
        for old, new in zip(old_new[::2], old_new[1::2], strict=True):
            assert old in data
            data = data.replace(old, new)
        path.write_bytes(data)

    return make


def blanked(track: str) -> Callable[[Path], None]:
    """All data of a track are 0xff; the index says nothing of it."""

    def make(path: Path) -> None:
        media.write_video(path, pictures(), RATE, noise(1.0))
        data = bytearray(path.read_bytes())
        with av.open(str(path)) as container:
            for packet in container.demux():
                if packet.stream.type == track and packet.size:
                    data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
        path.write_bytes(data)

    return make


def without_index(path: Path) -> None:
    write(path)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def only_sound(path: Path, **how) -> None:
    with av.open(str(path), "w", format=how.get("format")) as container:
        stream = container.add_stream(how.get("audio", "pcm_s16le"), rate=16000, layout="mono")
        for start in range(0, 16000 - 1152, 1152):
            samples = noise(1.0)[None, start : start + 1152]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16000
            for piece in av.AudioResampler(format=stream.codec_context.format.name, layout="mono", rate=16000).resample(frame):
                container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def picture_file(suffix: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(cv2.imencode(suffix, pictures(1)[0])[1].tobytes())


def archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("talk.mp4", b"x" * 5000)


def link_out(path: Path) -> None:
    outside = path.parents[1] / "outside.mp4"
    media.write_video(outside, pictures(), RATE, noise(1.0))
    path.symlink_to(outside)


def taken(name: str, make: Callable[[Path], None], file: str = "", row: str = "", **facts) -> Kind:
    """Ingest takes it; nobody speaks in it."""
    return Kind(name, make, "cut", NO_SPEECH, file, row, facts)


def plain(path: Path) -> None:
    media.write_video(path, pictures(), RATE, noise(1.0))


@cache
def talk_excerpt(seconds: float) -> tuple[list[np.ndarray], np.ndarray]:
    """Pictures and sound of an embedded talk."""
    path = TALKS / "speaker15_radio.mp4"
    shown = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in media.frames(path, RATE, 0.0, seconds)]
    return shown, media.read_audio(path)[: round(seconds * 16000)]


def spoken(edit: Callable[[np.ndarray], np.ndarray], gain: float = 1.0, seconds: float = 2.6) -> Callable[[Path], None]:
    """An embedded talk with other pictures, or louder."""

    def make(path: Path) -> None:
        shown, sound = talk_excerpt(seconds)
        media.write_video(path, [edit(p) for p in shown], RATE, np.clip(sound * gain, -1, 1))

    return make


def pair(picture: np.ndarray) -> np.ndarray:
    return np.hstack([picture, picture[:, ::-1]])


def far(picture: np.ndarray) -> np.ndarray:
    small = cv2.resize(picture, None, fx=0.2, fy=0.2, interpolation=cv2.INTER_AREA)
    out = np.full_like(picture, 128)
    out[-small.shape[0] :, : small.shape[1]] = small
    return out


def slide(picture: np.ndarray) -> np.ndarray:
    out = np.full_like(picture, 250)
    for line in range(4):
        cv2.putText(out, "Results: 42 %", (20, 60 + 60 * line), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (20, 20, 60), 2)
    return out


def cartoon(picture: np.ndarray) -> np.ndarray:
    out = np.full_like(picture, 255)
    height, width = out.shape[:2]
    middle = width // 2, height // 3
    cv2.circle(out, middle, height // 6, (255, 220, 0), -1)
    for side in (-1, 1):
        cv2.circle(out, (middle[0] + side * height // 18, middle[1] - height // 30), height // 60, (0, 0, 0), -1)
    cv2.ellipse(out, middle, (height // 12, height // 12), 0, 20, 160, (200, 0, 0), 3)
    return out


def first_only() -> Callable[[np.ndarray], np.ndarray]:
    kept: list[np.ndarray] = []

    def edit(picture: np.ndarray) -> np.ndarray:
        kept.append(picture)
        return kept[0]

    return edit


def spoiled(path: Path) -> None:
    """A talk of which every fourth picture's data are lost."""
    spoken(lambda p: p)(path)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for index, packet in enumerate(container.demux(video=0)):
            if index % 4 == 2 and packet.size:
                data[packet.pos + 8 : packet.pos + packet.size] = b"\xff" * (packet.size - 8)
    path.write_bytes(data)


def music(path: Path) -> None:
    time = np.arange(3 * 16000) / 16000
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220.0, 277.2, 329.6, 440.0)) * 0.15
    media.write_video(path, pictures(75), RATE, chord.astype(np.float32))


JUMP = [i / 25 + 7200 * (i > 5) for i in range(10)]
VFR = [0.0, 0.033, 0.05, 0.35, 0.38, 0.41, 0.51, 0.55, 0.59, 0.63]
STORED = [
    taken("variable frame rate", stored(frames=pictures(10), times=VFR), variable_rate=True),
    taken("rotated", stored(rotation=90), rotation=90, width=64, height=96),
    taken("upside down", stored(rotation=180), rotation=180, width=96),
    taken("two video tracks", stored(videos=2), video_tracks=2),
    taken("two audio tracks", stored(audios=2), audio_tracks=2),
    taken("odd size", stored(frames=pictures(25, 67, 99), codec="mpeg4"), "odd.avi", width=99, height=67),
    taken("wide pixels", stored(aspect=Fraction(4, 3)), width=128),
    taken("hevc", stored(codec="libx265"), video_codec="hevc"),
    taken("ten bits", stored(codec="libx265", pixels="yuv420p10le"), pixel_format="yuv420p10le"),
    taken("ten bits h264", stored(pixels="yuv422p10le"), pixel_format="yuv422p10le"),
    taken("full colour", stored(pixels="yuv444p"), pixel_format="yuv444p"),
    taken("grey", stored(pixels="gray")),
    taken("vp9 and opus", stored(codec="libvpx-vp9", audio="libopus", sample_rate=48000), "vp9.webm", sample_rate=48000),
    taken("vp8", stored(codec="libvpx", audio="libopus", sample_rate=48000), "vp8.webm", video_codec="vp8"),
    taken("av1", stored(codec="libsvtav1"), "av1.mkv", video_codec="libdav1d"),
    taken("mpeg 2", stored(codec="mpeg2video", audio="mp2"), "m2.mpg", video_codec="mpeg2video"),
    taken("mpeg 1", stored(codec="mpeg1video", audio="mp2", sample_rate=44100), "m1.mpg", video_codec="mpeg1video"),
    taken("transport stream", stored(), "stream.ts", container="mpegts"),
    taken("prores", stored(codec="prores_ks", pixels="yuv422p10le", audio="pcm_s16le"), "prores.mov", video_codec="prores"),
    taken("motion jpeg", stored(codec="mjpeg", pixels="yuvj420p", audio="pcm_s16le"), "jpeg.avi", video_codec="mjpeg"),
    taken("windows media", stored(codec="wmv2", audio="libmp3lame", sample_rate=44100), "media.wmv", video_codec="wmv2"),
    taken("flash", stored(codec="flv1", sample_rate=44100), "flash.flv", container="flv"),
    taken("wrong extension", stored(format="matroska"), "wrong.avi", container="matroska,webm"),
    taken("surround sound", stored(layout="5.1", sample_rate=48000)),
    taken("telephone sound", stored(audio="pcm_s16le", sample_rate=8000), "phone.mkv", sample_rate=8000),
    taken("240 frames a second", stored(frames=pictures(240), rate=240), fps="240"),
    taken("one frame a second", stored(frames=pictures(3), rate=1), fps="1"),
    taken("one frame", stored(frames=pictures(1), sound=noise(1.0)), frames=1),
    taken("8K", stored(frames=[np.zeros((4320, 7680, 3), np.uint8)], sound=noise(0.5), codec="mjpeg", pixels="yuvj420p"), width=7680),
    taken("a name with quotes", plain, "it's \"the\" 'best'.mp4"),
    taken("a name with a newline", plain, "two\nlines.mp4"),
    taken("a name like an option", plain, "-i --help %d ${HOME}.mp4"),
    taken("a name of other letters", plain, "речь 東京 🎤.mp4"),
    taken("a name that is no text", plain, os.fsdecode(b"caf\xe9.mp4")),
    taken("a long name", plain, f"{'x' * 240}.mp4"),
    taken("in a folder", plain, "day 1/first.mp4", "{file},,Ada"),
    taken("an absolute path inside", plain, "absolute.mp4", "{inbox}/absolute.mp4,,"),
    taken("another suffix, listed", plain, "listed.dat", "{file},,"),
]  # fmt: skip
REFUSED = [
    Kind("empty", Path.touch, "ingest", "empty"),
    Kind("zeros", content(bytes(5000)), "ingest", "cannot be opened"),
    Kind("random bytes", content(np.random.default_rng(0).bytes(5000)), "ingest", "cannot be opened|neither"),
    Kind("text", content(b"this is no video\n" * 300), "ingest", "cannot be opened"),
    Kind("web page", content(b"<!DOCTYPE html><html>404</html>" * 50), "ingest", "cannot be opened"),
    Kind("archive", archive, "ingest", "cannot be opened"),
    Kind("png", picture_file(".png"), "ingest", "with sound, it has no audio"),
    Kind("jpeg", picture_file(".jpg"), "ingest", "with sound, it has no audio"),
    Kind("animation", stored(codec="gif", pixels="rgb8", audios=0, format="gif"), "ingest", "no audio track"),
    Kind("wav", lambda p: only_sound(p, format="wav"), "ingest", "holds only pcm_s16le audio"),
    Kind("mp3", lambda p: only_sound(p, audio="libmp3lame", format="mp3"), "ingest", "holds only mp3"),
    Kind("no sound", stored(audios=0), "ingest", "no audio track"),
    Kind("truncated", shortened(0.5), "ingest", "truncated"),
    Kind("truncated mkv", shortened(0.5), "ingest", "truncated", "truncated.mkv"),
    Kind("truncated avi", shortened(0.5, codec="mpeg4", audio="mp2"), "ingest", "truncated", "truncated.avi"),
    Kind("no index", without_index, "ingest", "truncated"),
    Kind("unknown codecs", replaced(b"avc1", b"zzzz", b"esds", b"yyyy", b"mp4a", b"yyyy"), "ingest", "no track of it can be decoded"),
    Kind("unknown sound", replaced(b"esds", b"yyyy", b"mp4a", b"yyyy"), "ingest", "audio track that cannot"),
    Kind("unknown pictures", replaced(b"avc1", b"drmi"), "ingest", "holds pictures that cannot be decoded"),
    Kind("broken pictures", blanked("video"), "ingest", "no picture"),
    Kind("broken sound", blanked("audio"), "ingest", "none of its aac track"),
    Kind("one pixel", stored(frames=pictures(25, 1, 1), codec="png", pixels="rgb24"), "ingest", "64 pixels a side, got 1 × 1", "pixel.mov"),
    Kind("a strip", stored(frames=pictures(25, 16, 640)), "ingest", "got 640 × 16"),
    Kind("giant", stored(frames=[np.zeros((5000, 9000, 3), np.uint8)], sound=noise(0.5), codec="mjpeg", pixels="yuvj420p"),
         "ingest", "at most 40 megapixels, got 9000 × 5000"),
    Kind("a jump in time", stored(frames=pictures(10), times=JUMP), "ingest", "a jump of 7200 s", "jump.mkv"),
    Kind("a link out", link_out, "ingest", "link that leads out"),
    Kind("a link to nothing", lambda p: p.symlink_to("nowhere.mp4"), "ingest", "link to nothing"),
    Kind("a link to itself", lambda p: p.symlink_to(p.name), "ingest", "expected a file in the inbox"),
    Kind("a pipe", os.mkfifo, "ingest", "a pipe"),
    Kind("row: a path out", None, "ingest", "leads out of it", row="../outside.mp4,,"),
    Kind("row: an absolute path", None, "ingest", "leads out of it", row="/etc/passwd,,"),
    Kind("row: a link out", link_out, "ingest", "leads out of it", "linked.dat", "{file},,"),
    Kind("row: no such file", None, "ingest", "no such file", row="nobody.mp4,,"),
    Kind("row: a folder", Path.mkdir, "ingest", "got a folder", "folder", "{file},,"),
    Kind("row: a NUL", None, "ingest", "expected a file in the inbox|leads", row="a\0b.mp4,,"),
    Kind("row: nothing", None, "ingest", "either `file` or `url`, got neither", row=",,Ada"),
    Kind("row: both", plain, "ingest", "either `file` or `url`, got both", row="{file},http://127.0.0.1:9/both.mp4,Ada"),
    Kind("row: more values", plain, "ingest", "a value a column, got more", row="{file},,Ada,CC0,en,train,why"),
    Kind("row: wrong split", plain, "ingest", "split: .*'train' or 'test'.*got 'dev'", row="{file},,Ada,CC0,en,dev"),
    Kind("row: two splits", plain, "ingest", "to be in one split", row="{file},,Grace,,,test"),
    Kind("row: twice", None, "ingest", "the same video as in talks.csv line", row="good.mp4,,"),
    Kind("row: a speaker of two lines", plain, "ingest", "speaker: expected text on one line", row='{file},,"A\nda"'),
    Kind("row: a long speaker", plain, "ingest", "speaker: .*at most 200", row="{file},," + "A" * 300),
    Kind("row: ftp", None, "ingest", "URL with http or https", row=",ftp://127.0.0.1/a.mp4,"),
    Kind("row: file URL", None, "ingest", "URL with http or https", row=",file:///etc/passwd,"),
    Kind("row: a password", None, "ingest", "without a user name", row=",https://me:secret@127.0.0.1/a.mp4,"),
    Kind("row: nobody answers", None, "ingest", "expected a connection that lasts", row=",http://127.0.0.1:9/silent.mp4,"),
]  # fmt: skip
SEEN = [
    Kind("good", spoken(lambda p: p), "", row="{file},,Grace,CC0,en,train"),
    Kind("clipped sound", spoken(lambda p: p, gain=30.0), ""),
    Kind("silence", spoken(lambda p: p, gain=0.0), "cut", NO_SPEECH),
    Kind("music", music, "cut", NO_SPEECH),
    Kind("black", spoken(lambda p: p * 0), "cut", "no person"),
    Kind("static slide", spoken(slide), "cut", "no person"),
    Kind("a photo with a voice", spoken(first_only()), "cut", "static picture|frozen picture"),
    Kind("damaged inside", spoiled, "cut", "damaged pictures"),
    Kind("cartoon", spoken(cartoon), "cut", "no person"),
    Kind("two people", spoken(pair), "cut", "several people"),
    Kind("far away", spoken(far), "cut", "person too small|no person"),
    Kind("short", spoken(lambda p: p, seconds=1.2), "cut", "too short|below"),
]
KINDS = [*STORED, *REFUSED, *SEEN]


@dataclass
class Batch:
    store: Store
    records: dict[str, dict[str, Record]]  # by talk, then by stage
    talks: dict[str, str]  # kind → talk
    skipped: dict[str, str]  # kind → why it could not be made


def config_for(folder: Path) -> Config:
    quick = {"include_samples": False, "download_retries": 1, "download_backoff": 0.01, "download_timeout": 1.0}
    return Config.model_validate({"workspace": str(folder), "talks": quick, "cut": {"size": 96}})


def run(config: Config, store: Store) -> dict[str, dict[str, Record]]:
    """Both stages over the whole inbox."""
    talks = ingest.discover(config, store)
    ingested = {talk: ingest.ingest_talk(config, store, talk) for talk in talks}
    return {talk: {"ingest": record, "cut": cut_talk(config, store, talk)} for talk, record in ingested.items()}


@pytest.fixture(scope="module")
def batch(tmp_path_factory) -> Batch:
    config = config_for(tmp_path_factory.mktemp("batch") / "workspace")
    store = Store(config)
    store.inbox.mkdir(parents=True)
    skipped: dict[str, str] = {}
    rows: list[tuple[Kind, str]] = []
    for kind in KINDS:
        path = store.inbox / kind.path
        try:
            if kind.make is not None:
                path.parent.mkdir(exist_ok=True)
                kind.make(path)
        except pytest.skip.Exception as error:
            path.unlink(missing_ok=True)
            skipped[kind.name] = str(error)
        if kind.row:
            rows.append((kind, kind.row.replace("{file}", kind.path).replace("{inbox}", str(store.inbox))))
    rows.sort(key=lambda pair: pair[0].name != "good")  # the others contradict it
    lines = ["file,url,speaker,licence,language,split", *(row for _, row in rows)]
    (store.inbox / "talks.csv").write_bytes("\n".join(lines).encode())
    talks = {}
    found = ingest.inbox.items(store)
    where = {kind.name: 2 + sum(row.count("\n") for _, row in rows[: i + 1]) + i for i, (kind, _) in enumerate(rows)}
    for kind in KINDS:
        file = next((t for t, item in found.items() if item.file == kind.path), "") if kind.make else ""
        line = next((t for t, item in found.items() if f"line {where.get(kind.name)}:" in item.fault), "")
        url = next((t for t, item in found.items() if kind.row and item.url and item.url in kind.row), "")
        talks[kind.name] = file or line or url
    return Batch(store, run(config, store), talks, skipped)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_kind_is_refused_at_its_stage_or_taken(batch, kind):
    if kind.name in batch.skipped:
        pytest.skip(batch.skipped[kind.name])
    talk = batch.talks[kind.name]
    assert talk, "nothing in the inbox stands for it"
    records = batch.records[talk]
    for stage in ("ingest", "cut"):
        record = records[stage]
        assert batch.store.read_record(stage, talk) == record
        if stage == kind.stage:
            assert record.status == "rejected"
            assert "\n" not in record.reason
            assert 20 < len(record.reason) < 700
            assert re.search(kind.words, record.reason), record.reason
            assert "secret" not in record.reason
            break
        assert record.status == "ok", record.reason
        if stage == "ingest":
            assert kind.facts.items() <= record.facts.items()
    if kind.stage == "ingest":
        assert records["cut"].reason.startswith("not cut, rejected when ingested")
        assert not (batch.store.talk(talk) / "talk.json").exists()


@pytest.mark.parametrize("kind", [k for k in STORED if not {"rotation", "width"} & k.facts.keys()], ids=lambda kind: kind.name)
def test_what_is_taken_shows_what_was_stored(batch, kind):
    if kind.name in batch.skipped:
        pytest.skip(batch.skipped[kind.name])
    damage = media.Damage()
    shown = list(media.frames(batch.store.inbox / kind.path, damage=damage))
    assert damage.all(10.0) == []
    stored_colour = np.float32(pictures(1)[0])
    assert len(shown) == batch.records[batch.talks[kind.name]]["ingest"].facts["frames"]
    assert np.abs(shown[0] - stored_colour).mean() < 10
    heard = media.read_audio(batch.store.inbox / kind.path)
    assert 0.015 < heard.std() < 0.07  # less where what lies above 8 kHz is gone


def test_the_table_has_sixty_kinds_and_every_item_has_its_record(batch):
    assert len({kind.name for kind in KINDS}) == len(KINDS) >= 60
    assert set(batch.talks.values()) == set(batch.records)
    assert all(talk.isascii() and "/" not in talk and not talk.startswith(".") for talk in batch.records)
    assert batch.store.clips(batch.talks["good"])


def test_nothing_half_written_is_left(batch):
    left = [p for p in batch.store.root.rglob(".*") if batch.store.inbox not in p.parents]
    assert left == []


def grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"more")


def swap(path: Path) -> None:
    """Another file of the same size in its place."""
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes())
    os.replace(copy, path)


@pytest.mark.parametrize("change", [grow, swap, Path.unlink])
@pytest.mark.parametrize("moment", ["hash_file", "_check"])
def test_a_file_that_changes_while_it_is_read_is_refused_and_taken_when_it_is_still(tmp_path, monkeypatch, change, moment):
    config = config_for(tmp_path)
    store = Store(config)
    store.inbox.mkdir()
    for name in ("a.mp4", "b.mp4"):
        plain(store.inbox / name)
    whole = (store.inbox / "a.mp4").read_bytes()
    read = getattr(ingest, moment)

    def disturbed(path, *args):
        result = read(path, *args)
        if path.name == "a.mp4":
            change(path)
        return result

    with monkeypatch.context() as patch:
        patch.setattr(ingest, moment, disturbed)
        records = {talk: ingest.ingest_talk(config, store, talk) for talk in ingest.discover(config, store)}
    assert records["b"].status == "ok"
    assert records["a"].status == "rejected"
    assert re.search("changed while it was read|can be read", records["a"].reason), records["a"].reason
    assert store.talks() == ["b"]
    (store.inbox / "a.mp4").write_bytes(whole)
    assert ingest.ingest_talk(config, store, "a").status == "ok"


def test_a_video_that_was_replaced_after_it_was_ingested_is_not_cut(tmp_path):
    config = config_for(tmp_path)
    store = Store(config)
    store.inbox.mkdir()
    plain(store.inbox / "a.mp4")
    assert ingest.ingest_talk(config, store, "a").status == "ok"
    write(store.inbox / "a.mp4", pictures(30))
    record = cut_talk(config, store, "a")
    assert record.status == "rejected"
    assert "changed since" in record.reason
    (store.inbox / "a.mp4").unlink()
    with pytest.raises(ValueError, match="no longer in the inbox"):
        ingest.video_path(store, {"talk": "a", "file": "a.mp4", "sha": ""})


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    config = config_for(tmp_path)
    store = Store(config)
    store.inbox.mkdir()
    plain(store.inbox / "a.mp4")
    (store.inbox / "talks.csv").write_text(f"file,speaker,language\na.mp4,{'é' * 200},{'é' * 200}\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))  # room for a record, not for a talk.json
    try:
        record = ingest.ingest_talk(config, store, "a")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        with pytest.raises(ValueError, match="expected room to write") as caught:
            ingest.ingest_talk(config, store, "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(caught.value)
    assert (record.status, record.facts) == ("rejected", {"try_again": True})
    assert "expected room to write, got 'File too large'" in record.reason
    assert [p.name for p in store.root.rglob("*") if p.is_file() and store.inbox not in p.parents] == ["a.json"]
    assert ingest.ingest_talk(config, store, "a").status == "ok"
