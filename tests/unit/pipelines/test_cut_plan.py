"""The choice of clips: nothing lost, nothing twice, one shot, one person, speech; crops that hold the person."""

from __future__ import annotations

import dataclasses
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.schema import CutConfig
from pipelines.cut_crops import crop_box, wander
from pipelines.cut_plan import (
    AUDIENCE,
    DAMAGED,
    NO_FACE,
    NO_HAND,
    NO_PERSON,
    NO_SPEECH,
    PARTLY,
    SEVERAL,
    SHORT,
    SMALL,
    STILL,
    UNDECODED,
    Evidence,
    Stretch,
    plan_clips,
)
from pipelines.person import Sighting

CONFIG = CutConfig(max_seconds=6.0)
HERE = Sighting((100.0, 60.0, 240.0, 288.0), 1, 0.9)
PHOTO = Sighting(HERE.box, 1, 0.9, still=True)
CROWDED = Sighting(None, 1, 0.0, crowd=6)
HEADLESS = Sighting(HERE.box, 1, 0.9, whole=False)
NOBODY, TWO, FAR = Sighting(None), Sighting(HERE.box, 2, 0.9), Sighting((150.0, 100.0, 170.0, 160.0), 1, 0.9)


def evidence(seconds: float, speech=None, shots=(), seen=None) -> Evidence:
    """A talk of 360×288 at 25 fps; `seen`: function of the time in seconds."""
    frames = round(seconds * 25)
    sightings = {f: (seen(f / 25) if seen else HERE) for f in range(6, frames, 12)}
    return Evidence(frames, 360, 288, list(shots), [(0.0, seconds)] if speech is None else speech, sightings)


def spans(stretches) -> list[tuple[float, float]]:
    return [(s.start / 25, s.end / 25) for s in stretches]


def test_a_plain_talk_is_one_clip():
    clips, rejected = plan_clips(evidence(5.0), CONFIG)
    assert spans(clips) == [(0.0, 5.0)]
    assert rejected == []


def test_silence_is_cut_away_and_short_pauses_stay():
    clips, rejected = plan_clips(evidence(20.0, speech=[(4.0, 5.5), (6.5, 8.0), (15.0, 17.0)]), CONFIG)
    assert spans(clips) == [(3.24, 8.76), (14.24, 17.76)]  # widened by half of speech_gap
    assert {r.reason for r in rejected} == {NO_SPEECH}


def test_shots_part_clips_and_short_ones_are_rejected():
    clips, rejected = plan_clips(evidence(8.0, shots=[75, 100]), CONFIG)
    assert spans(clips) == [(0.0, 3.0), (4.0, 8.0)]
    assert [(r.start, r.end, r.reason) for r in rejected] == [(75, 100, f"{SHORT}: below 2 s")]


REJECTED = [(NOBODY, NO_PERSON), (TWO, SEVERAL), (FAR, SMALL), (CROWDED, AUDIENCE), (HEADLESS, PARTLY)]


@pytest.mark.parametrize(("sighting", "reason"), REJECTED)
def test_what_is_seen_decides(sighting, reason):
    clips, rejected = plan_clips(evidence(9.0, seen=lambda t: sighting if 3 < t < 5 else HERE), CONFIG)
    assert len(clips) == 2
    assert [r.reason for r in rejected] == [reason]
    start, end = spans(rejected)[0]
    assert start == pytest.approx(3, abs=0.3)
    assert end == pytest.approx(5, abs=0.3)
    clips, rejected = plan_clips(evidence(5.0, seen=lambda t: sighting), CONFIG)
    assert clips == []
    assert [(r.start, r.end, r.reason) for r in rejected] == [(0, 125, reason)]


def test_a_photo_is_no_speaker_but_a_moment_of_stillness_is():
    clips, rejected = plan_clips(evidence(12.0, seen=lambda t: PHOTO if 4 < t < 7 else HERE), CONFIG)
    assert {r.reason for r in rejected} == {STILL}
    assert spans(rejected)[0] == pytest.approx((3.6, 7.2), abs=0.3)  # from the sample that nothing changed after
    clips, rejected = plan_clips(evidence(6.0, seen=lambda t: PHOTO if 2 < t < 3.5 else HERE), CONFIG)
    assert (spans(clips), rejected) == ([(0.0, 6.0)], [])


def test_face_and_hand_must_be_seen_for_a_share_of_a_clip():
    seen = lambda t: Sighting(HERE.box, 1, 0.9, face=round(2 * t) % 2 == 0, hands=int(t < 2))  # noqa: E731
    talk = evidence(6.0, seen=seen)
    kept = lambda **settings: len(plan_clips(talk, CutConfig(**settings))[0])  # noqa: E731
    assert kept(min_face_share=0.4, min_hand_share=0.3) == 1
    for asked, reason in (({"min_face_share": 0.6}, NO_FACE), ({"min_face_share": 0.4, "min_hand_share": 0.4}, NO_HAND)):
        clips, rejected = plan_clips(talk, CutConfig(**asked))
        assert clips == []
        assert [(r.start, r.end, r.reason.startswith(reason)) for r in rejected] == [(0, 150, True)]


def test_what_does_not_decode_is_accounted_for():
    talk = dataclasses.replace(evidence(6.0), decoded=100)
    clips, rejected = plan_clips(talk, CONFIG)
    assert spans(clips) == [(0.0, 4.0)]
    assert [(r.start, r.end, r.reason) for r in rejected] == [(100, 150, UNDECODED)]


def test_someone_elsewhere_is_someone_else():
    left, right = (100.0, 60.0, 180.0, 280.0), (300.0, 60.0, 380.0, 280.0)
    assert wander([left] * 5 + [right] * 5) == [5]
    assert wander([left] * 4 + [right] + [left] * 4) == []  # a lone mistake


def test_an_hour_is_planned_in_seconds():
    start = time.process_time()
    clips, _ = plan_clips(evidence(3600.0), CONFIG)
    assert len(clips) == 600
    assert time.process_time() - start < 10  # it takes one


def test_a_single_miss_is_forgiven_but_not_many():
    once = plan_clips(evidence(5.0, seen=lambda t: NOBODY if 2.0 < t < 2.4 else HERE), CONFIG)
    assert spans(once[0]) == [(0.0, 5.0)]
    half = plan_clips(evidence(5.0, seen=lambda t: NOBODY if int((t - 0.24) / 0.48 + 0.5) % 2 else HERE), CONFIG)
    assert half[0] == []
    assert {r.reason.split(":")[0] for r in half[1]} == {NO_PERSON, SHORT}


def test_long_speech_is_parted_in_pauses():
    speech = [(0.0, 5.2), (5.6, 9.0), (9.2, 12.0)]
    clips, rejected = plan_clips(evidence(12.0, speech=speech), CutConfig(max_seconds=7.0))
    assert spans(clips) == [(0.0, 5.4), (5.4, 12.0)]
    assert rejected == []
    clips, _ = plan_clips(evidence(33.0), CutConfig(max_seconds=7.0))  # no pause at all: equal pieces
    assert [round(len(c) / 25, 1) for c in clips] == [6.6] * 5


def test_someone_who_walks_is_followed_by_several_crops():
    def walking(t: float) -> Sighting:
        x = 20.0 + 80 * t
        return Sighting((x, 100.0, x + 100.0, 400.0), 1, 0.9)

    talk = Evidence(200, 1280, 720, [], [(0.0, 8.0)], {f: walking(f / 25) for f in range(6, 200, 12)})
    clips, _ = plan_clips(talk, CutConfig(max_seconds=20.0))
    assert len(clips) >= 2
    for clip in clips:
        assert clip.crop.side < 0.9 * 720
        for frame in range(clip.start, clip.end):
            middle = 20 + 80 * frame / 25 + 50
            assert clip.crop.x <= middle <= clip.crop.x + clip.crop.side


AWAY = dataclasses.replace(HERE, face=False)
sightings = st.sampled_from([HERE, HERE, HERE, HERE, AWAY, NOBODY, TWO, FAR])


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 900),
    cuts=st.lists(st.integers(0, 900), max_size=5),
    seen=st.lists(sightings, min_size=75, max_size=75),
    edges=st.lists(st.floats(0, 36), max_size=8, unique=True),
    rate=st.sampled_from([Fraction(25), Fraction(30000, 1001)]),
    longest=st.sampled_from([3.0, 6.0, 20.0]),
    marks=st.lists(st.integers(0, 900), max_size=6, unique=True).map(sorted),
)
def test_every_frame_is_in_exactly_one_stretch(frames, cuts, seen, edges, rate, longest, marks):
    edges = sorted(edges)
    speech = list(zip(edges[::2], edges[1::2], strict=False))
    config = CutConfig(max_seconds=longest, fps=rate)
    spoilt = [Stretch(a, b) for a, b in zip(marks[::2], marks[1::2], strict=False)]
    seen_at = {f: seen[f // 12] for f in range(6, frames, 12)}
    talk = Evidence(frames, 360, 288, sorted(set(cuts)), speech, seen_at, damaged=spoilt[:1], frozen=spoilt[1:])
    clips, rejected = plan_clips(talk, config)
    count = np.zeros(frames, int)
    for stretch in [*clips, *rejected]:
        assert 0 <= stretch.start < stretch.end <= frames
        count[stretch.start : stretch.end] += 1
    assert (count == 1).all()
    assert all(r.reason for r in rejected)
    for clip in clips:
        assert config.min_seconds * rate <= len(clip) <= config.max_seconds * rate
        assert not any(clip.start < c < clip.end for c in cuts)
        assert not any(clip.start < s.end and s.start < clip.end for s in spoilt)


@pytest.mark.parametrize(
    ("box", "size", "crop"),
    [
        ((600, 200, 760, 600), (1280, 720), (420, 140, 520)),  # room on all sides: margin everywhere
        ((0, 100, 200, 500), (1280, 720), (0, 40, 520)),  # at the edge: moved inside
        ((100, 20, 400, 512), (512, 512), (0, 0, 512)),  # fills a square picture: all of it
        ((40, 30, 330, 288), (360, 288), (41, 0, 288)),  # a little too wide: no padding for that
        ((10, 30, 590, 360), (600, 360), (10, -220, 580)),  # far too wide: padded above, where the person is not
        ((100, 200, 980, 1900), (1080, 1920), (-310, 200, 1700)),  # taller than wide picture: padded both sides
    ],
)
def test_crops_hold_the_person(box, size, crop):
    got = crop_box([box] * 3, *size, margin=0.15)
    assert (got.x, got.y, got.side) == pytest.approx(crop, abs=1)


def test_crops_are_not_widened_by_a_lone_outlier():
    steady = [(600.0, 200.0, 760.0, 600.0)] * 19
    assert crop_box([*steady, (0.0, 0.0, 1280.0, 720.0)], 1280, 720, 0.15) == crop_box(steady, 1280, 720, 0.15)


def test_each_take_that_is_too_short_is_told_by_itself():
    """Three shots of a second and a half: not one stretch of four and a half that is 'below 2 s'."""
    _, rejected = plan_clips(evidence(4.5, shots=(38, 75)), CONFIG)
    assert [(r.start, r.end) for r in rejected] == [(0, 38), (38, 75), (75, 112)]
    assert all(r.reason.startswith(SHORT) for r in rejected)


def test_a_face_that_turns_away_costs_the_time_it_is_away():
    away = dataclasses.replace(HERE, face=False)
    clips, rejected = plan_clips(evidence(6.0, seen=lambda t: HERE if t < 2.5 else away), CONFIG)
    assert spans(clips) == [(0.0, 2.4)]
    assert [(r.start / 25, r.end / 25, r.reason.startswith(NO_FACE)) for r in rejected] == [(2.4, 6.0, True)]
    clips, rejected = plan_clips(evidence(6.0, seen=lambda t: HERE if t < 1.5 else away), CONFIG)
    assert (clips, spans(rejected)) == ([], [(0.0, 6.0)])  # what is left is too short


def test_damaged_pictures_are_in_no_clip():
    talk = dataclasses.replace(evidence(9.0, speech=[(0.0, 6.0)]), damaged=[Stretch(60, 75), Stretch(200, 225)])
    clips, rejected = plan_clips(talk, CONFIG)
    assert [(c.start, c.end) for c in clips] == [(0, 60), (75, 169)]
    assert [(r.start, r.end, r.reason) for r in rejected] == [(60, 75, DAMAGED), (169, 225, NO_SPEECH)]
