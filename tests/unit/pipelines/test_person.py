"""Who is in a picture: hands, heads and other people, told from where landmarks and faces lie."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import media
from pipelines.cut_motion import BLOCK, moved
from pipelines.person import Body, MediapipeFinder, Sighting, describe, tiles

FRAME = (0.0, 0.0, 640.0, 360.0)
SAMPLES = Path(__file__).resolve().parents[3] / "samples" / "talks"
FACE = (290.0, 60.0, 350.0, 120.0)  # of the person below


def person() -> np.ndarray:
    """Landmarks [33, 3] of someone in the middle of the picture, hands raised."""
    points = np.full((33, 3), 0.9, np.float32)
    points[:11, :2] = 320, 90
    points[7, :2], points[8, :2] = (350, 90), (290, 90)
    points[11, :2], points[12, :2] = (380, 150), (260, 150)
    points[13:, :2] = 320, 300
    points[[15, 17, 19, 21], :2], points[[16, 18, 20, 22], :2] = (400, 220), (240, 220)
    return points


def seen(points: np.ndarray, *faces: tuple[float, ...]) -> Sighting:
    return describe(Body(points), np.array(faces, np.float32).reshape(-1, 4), FRAME)


def test_one_speaker_with_face_and_hands():
    assert seen(person(), FACE) == Sighting((240.0, 90.0, 400.0, 300.0), 1, pytest.approx(0.9), True, 2, True, 1)


def test_hands_count_where_they_are_in_the_picture_and_visible():
    points = person()
    points[[15, 17, 19, 21], 1] = 400  # below the picture
    assert seen(points, FACE).hands == 1
    points[[16, 18, 20, 22], 2] = 0.2
    assert seen(points, FACE).hands == 0


def test_a_head_over_the_edge_is_not_whole():
    points = person()
    points[:13, 1] -= 90
    assert not seen(points, FACE).whole
    points = person()
    points[11:13, 1] = 380  # shoulders under the lower edge: head and shoulders
    assert seen(points, FACE).whole


@pytest.mark.parametrize(
    ("other", "people"),
    [
        ((500.0, 60.0, 560.0, 120.0), 2),  # as large, apart
        ((560.0, 60.0, 585.0, 85.0), 1),  # small, apart
        ((380.0, 150.0, 410.0, 180.0), 2),  # small, beside the shoulder
        ((500.0, 60.0, 510.0, 70.0), 1),  # far away
    ],
)
def test_others_count_by_size_and_overlap(other, people):
    assert seen(person(), FACE, other).people == people
    assert seen(person(), other, FACE).face


def test_without_a_face_at_the_head_the_face_is_not_seen():
    assert not seen(person()).face
    assert not seen(person(), (500.0, 60.0, 560.0, 120.0)).face


def test_tiles_cover_the_picture():
    covered = np.zeros((720, 1280), bool)
    sides = set()
    for x0, y0, x1, y1 in tiles(1280, 720):
        assert 0 <= x0 < x1 <= 1280
        assert 0 <= y0 < y1 <= 720
        covered[round(y0) : round(y1), round(x0) : round(x1)] = True
        sides.add(round(x1 - x0))
    assert covered.all()
    assert sides == {720, 432}
    assert all(x1 - x0 < 512 for x0, _, x1, _ in tiles(512, 512))


def test_noise_and_fades_are_still_and_a_mouth_moves():
    rng = np.random.default_rng(0)
    slide = np.full((144 // BLOCK, 256 // BLOCK, 3), 120, np.float32)
    grain = slide + rng.normal(0, 4 / BLOCK, slide.shape).astype(np.float32)
    assert not moved(slide, grain)
    assert not moved(slide, slide - 25)
    speaking = grain.copy()
    speaking[6, 16] += 8
    assert moved(slide, speaking)
    assert not moved(slide, speaking, (slice(8, 16), slice(0, 30)))  # elsewhere


def test_the_real_detector_finds_someone_far_away_and_two_side_by_side():
    first, second = (next(media.frames(SAMPLES / f"{n}.mp4", None, 3.0)) for n in ("speaker15_radio", "speaker16_bread"))
    finder = MediapipeFinder()
    stage = np.full((720, 1280, 3), 120, np.uint8)
    stage[580:700, 800:920] = cv2.resize(first, (120, 120), interpolation=cv2.INTER_AREA)
    far = finder(stage)
    assert far.box is not None
    assert far.people == 1
    assert 800 < far.box[0] < far.box[2] < 920
    assert 580 < far.box[1] < far.box[3] < 710
    both = finder(np.hstack([first, second]))
    assert (both.people, both.crowd) == (2, 2)
    assert finder(np.full((180, 320, 3), 90, np.uint8)).box is None
    finder.close()
