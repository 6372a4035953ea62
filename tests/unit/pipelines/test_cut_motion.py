"""Pictures that froze are told from people who keep still, whatever codec they went through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from configs.schema import CutConfig
from pipelines import media
from pipelines.cut_look import look
from pipelines.cut_motion import Frozen, Jumps, Stalls, blocks, in_blocks, moved
from pipelines.cut_plan import FROZEN, NO_SPEECH, STILL, Evidence, Stretch, plan_clips
from pipelines.person import Sighting

RATE, HEIGHT, WIDTH = Fraction(25), 144, 256
TALKS = Path(__file__).parents[3] / "samples" / "talks"
START, STOOD = 30, 40  # frames


def someone(frame: float, sway: float = 3.0, mouth: float = 60.0, grain: float = 0.0) -> np.ndarray:
    """A head and shoulders before a wall: they breathe and speak."""
    rng = np.random.default_rng(round(frame * 100))
    wall = np.random.default_rng(0).integers(90, 140, (HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
    picture = cv2.resize(wall, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    time = frame / 25
    x, y = 128 + sway * np.sin(2.1 * time), 60 + 0.4 * sway * np.sin(1.3 * time)
    dot = lambda x, y: (round(16 * x), round(16 * y))  # noqa: E731
    cv2.ellipse(picture, dot(x, 150), (70 * 16, 60 * 16), 0, 0, 360, (40, 60, 120), -1, cv2.LINE_AA, 4)
    cv2.ellipse(picture, dot(x, y), (26 * 16, 34 * 16), 0, 0, 360, (210, 170, 150), -1, cv2.LINE_AA, 4)
    opened = mouth * abs(np.sin(9 * time)) / 10
    cv2.ellipse(picture, dot(x, y + 18), (10 * 16, round(16 * (1 + opened))), 0, 0, 360, (90, 20, 30), -1, cv2.LINE_AA, 4)
    return np.clip(picture + grain * rng.standard_normal((HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)


def found(pictures: Iterator[np.ndarray] | list[np.ndarray]) -> list[Stretch]:
    frozen = Frozen(least=25)
    count = 0
    for picture in pictures:
        frozen.see(count, cv2.resize(picture, (256, 144), interpolation=cv2.INTER_AREA), picture)
        count += 1
    return frozen.end(count)


def coded(path: Path, pictures: list[np.ndarray], codec: str, **options: str) -> list[np.ndarray]:
    """The pictures after an encoder."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        (stream.height, stream.width), stream.pix_fmt = pictures[0].shape[:2], "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return list(media.frames(path))


def stalled(make: Callable[[float], np.ndarray] = someone) -> list[np.ndarray]:
    """Picture `START` stands, then it goes on where it would have been."""
    return [make(START if START <= i < START + STOOD else i) for i in range(100)]


CODECS = [
    ("libx264", {"crf": "18"}),
    ("libx264", {"crf": "28"}),
    ("libx264", {"crf": "34", "preset": "ultrafast"}),
    ("libx265", {"crf": "28"}),
]


@pytest.mark.parametrize(("codec", "options"), CODECS)
def test_a_picture_that_froze_is_found_after_any_codec(tmp_path, codec, options):
    (stretch,) = found(coded(tmp_path / "a.mkv", stalled(), codec, **options))
    assert START < stretch.start <= START + 10  # some mend the picture for a while
    assert abs(stretch.end - START - STOOD) <= 4  # and some foresee what comes


def test_an_exact_stall_is_found_to_the_frame():
    assert found(stalled()) == [Stretch(START + 1, START + STOOD)]
    assert found([someone(i) for i in range(60)] + [someone(60)] * 30) == [Stretch(61, 90)]


NOT_FROZEN: dict[str, Callable[[int], np.ndarray]] = {
    "speaking": someone,
    "hardly moving": lambda i: someone(i, sway=0.5, mouth=10),
    "still in noise": lambda i: someone(0, grain=2.0) if i == 0 else someone(i, sway=0.3, mouth=0, grain=2.0),
    "five pictures a second": lambda i: someone(i - i % 5),
    "two pictures a second": lambda i: someone(i - i % 12),
    "stalls of less than a second": lambda i: someone(i - i % 24),
}


@pytest.mark.parametrize("kind", NOT_FROZEN)
def test_people_who_keep_still_are_not_frozen(tmp_path, kind):
    pictures = [NOT_FROZEN[kind](i) for i in range(100)]
    assert found(pictures) == []
    assert found(coded(tmp_path / "a.mkv", pictures, "libx264", crf="23")) == []


def test_a_mouth_far_away_is_seen_to_move():
    """Someone who stands still in a wide picture, their head as high as a twentieth of it."""
    wall = cv2.resize(someone(0), (1280, 720), interpolation=cv2.INTER_CUBIC)

    def far(frame: int) -> np.ndarray:
        picture = wall.copy()
        picture[300:372, 600:728] = cv2.resize(someone(frame, sway=0.2, mouth=60), (128, 72), interpolation=cv2.INTER_AREA)
        return picture

    assert found([far(i) for i in range(60)]) == []
    assert all(moved(blocks(far(i)), blocks(far(i + 13)), in_blocks((560, 300, 770, 700), 1280, blocks(wall).shape)) for i in (0, 13, 26))
    grain = [wall + np.random.default_rng(i).integers(-5, 6, wall.shape, np.int16) for i in (0, 1)]
    assert not moved(*(blocks(np.clip(g, 0, 255).astype(np.uint8)) for g in grain))
    assert found([far(i if i < 20 else 20) for i in range(60)]) == [Stretch(21, 60)]


@pytest.mark.parametrize("name", ["speaker16_bread", "speaker19_noise"])
def test_no_embedded_talk_is_frozen(name):
    assert found(media.frames(TALKS / f"{name}.mp4", RATE)) == []


def test_a_stream_that_stalls_is_cut_out_to_the_frame(tmp_path):
    """The file has no picture for two seconds; its time stamps say so."""
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(125):
            frame = av.VideoFrame.from_ndarray(someone(index), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index * 40 + (2000 if index >= 75 else 0), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    here = Sighting((60.0, 20.0, 200.0, 144.0), 1, 1.0)
    seen = look(tmp_path / "a.mkv", [(0.0, 7.0)], CutConfig(), lambda picture: here)
    clips, rejected = plan_clips(seen, CutConfig())
    assert [(c.start, c.end) for c in clips] == [(0, 75), (125, 175)]
    assert [(r.start, r.end, r.reason) for r in rejected] == [(75, 125, FROZEN)]


def test_what_stands_for_a_whole_shot_is_a_static_picture_and_silence_stays_silence():
    here, still = Sighting((60.0, 20.0, 200.0, 144.0), 1, 1.0), Sighting((60.0, 20.0, 200.0, 144.0), 1, 1.0, still=True)
    seen = {f: (still if 105 <= f < 150 else here) for f in range(5, 300, 10)}
    plain = Evidence(300, WIDTH, HEIGHT, [100, 150], [(0.0, 12.0)], seen, frozen=[Stretch(101, 150), Stretch(200, 240)])
    clips, rejected = plan_clips(plain, CutConfig())
    assert [(c.start, c.end) for c in clips] == [(0, 100), (150, 200), (240, 300)]
    assert [(r.start, r.end, r.reason) for r in rejected] == [(100, 150, STILL), (200, 240, FROZEN)]
    silent = Evidence(300, WIDTH, HEIGHT, [100, 150], [(0.0, 7.0)], seen, frozen=[Stretch(200, 240)])
    assert (194, 300, NO_SPEECH) in {(r.start, r.end, r.reason) for r in plan_clips(silent, CutConfig())[1]}


def stalls(pictures: Iterator[np.ndarray] | list[np.ndarray]) -> list[Stretch]:
    finder = Stalls(least=10)
    for index, picture in enumerate(pictures):
        finder.see(index, blocks(picture))
    return finder.end()


@pytest.mark.parametrize(("codec", "options"), [("mpeg4", {"b": "2000000"}), ("mpeg1video", {"b": "2000000"}), *CODECS[:2], CODECS[3]])
def test_a_short_stall_in_speech_is_found_under_what_an_encoder_adds(tmp_path, codec, options):
    talk = list(media.frames(TALKS / "speaker16_bread.mp4", RATE, 0.0, 3.0))
    stood = [talk[START if START <= i < START + 20 else i] for i in range(75)]
    (stretch,) = stalls(coded(tmp_path / "a.mkv", stood, codec, **options, g="50"))
    assert START < stretch.start <= START + 8
    assert abs(stretch.end - START - 20) <= 2
    assert stalls(coded(tmp_path / "b.mkv", talk, codec, **options, g="50")) == []


def test_pictures_that_are_left_out_end_a_stall():
    finder = Stalls(least=10)
    for index in [*range(9), *range(20, 31)]:
        finder.see(index, blocks(someone(0)))
    assert finder.end() == [Stretch(21, 31)]


def test_people_may_stand_still_while_nobody_speaks(tmp_path):
    media.write_video(tmp_path / "a.mkv", [someone(i if i < 60 or i >= 80 else 60) for i in range(125)], RATE)
    here = Sighting((60.0, 20.0, 200.0, 144.0), 1, 1.0)
    spoken, pause = ([(0.0, 5.0)], [(0.0, 2.4), (3.2, 5.0)])
    for speech, expected in ((spoken, [(0, 61), (80, 125)]), (pause, [(0, 125)])):
        seen = look(tmp_path / "a.mkv", speech, CutConfig(), lambda picture: here)
        clips, rejected = plan_clips(seen, CutConfig(min_seconds=1.5))
        assert [(c.start, c.end) for c in clips] == expected
        assert {r.reason for r in rejected} <= {FROZEN}


def jumps(pictures: Iterator[np.ndarray] | list[np.ndarray]) -> list[int]:
    finder = Jumps()
    for index, picture in enumerate(pictures):
        finder.see(index, picture)
    return finder.found


JUMPING: dict[str, tuple[Callable[[int], np.ndarray], list[int]]] = {
    "someone who speaks": (someone, []),
    "someone who gestures": (lambda i: someone(i, sway=40, mouth=100), []),
    "someone in noise": (lambda i: someone(i, grain=4.0), []),
    "five pictures a second": (lambda i: someone(i - i % 5, sway=40), []),
    "a flash": (lambda i: someone(i) // (1 if i == 40 else 2), []),
    "a fade": (lambda i: (someone(i) * min(i / 50, 1)).astype(np.uint8), []),
    "seconds left out": (lambda i: someone(i if i < 40 else i + 42, sway=20), [40]),
    "somebody else at the same wall": (lambda i: someone(i) if i < 40 else someone(i, sway=-30)[:, ::-1], [40]),
    "two cuts": (lambda i: someone(i + 60 * (30 <= i < 70), sway=20), [30, 70]),
    "a cut in a video of ten a second": (lambda i: someone(i - i % 2 + (50 if i >= 40 else 0), sway=20), [40]),
}


@pytest.mark.parametrize("kind", JUMPING)
def test_cuts_between_like_pictures_are_found_and_nothing_else(kind):
    make, expected = JUMPING[kind]
    assert jumps([make(i) for i in range(100)]) == expected


def test_takes_of_one_talk_are_shots_of_their_own(tmp_path):
    """scenedetect alone sees no difference between them."""
    pictures = list(media.frames(TALKS / "speaker19_noise.mp4", RATE, 0.0, 5.0))
    small = [cv2.resize(p, (256, 256), interpolation=cv2.INTER_AREA) for p in pictures]
    media.write_video(tmp_path / "a.mp4", [*small[:60], *small[80:]], RATE)
    assert look(tmp_path / "a.mp4", [], CutConfig(), lambda picture: Sighting(None)).shots == [60]
