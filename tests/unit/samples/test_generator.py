import itertools

import numpy as np
import pytest
import torch

from model.body import JOINT_NAMES
from model.types import SmplxParams
from samples.builders import espeak, population
from samples.builders.arms import MIRROR_POINT, solve_arm
from samples.builders.contact import Capsules, overlap
from samples.builders.curves import RATE, through
from samples.builders.forms import ALL_FORMS, FORMS, RESTS
from samples.builders.gesture import GestureStyle, accents, draw_gestures, hand_path, plan_strokes
from samples.builders.legs import stand
from samples.builders.people import embedded_body
from samples.builders.performance import _bones, _put_arm
from samples.builders.speech import Phone, Word
from samples.builders.visemes import EXPRESSIONS, MouthStyle, mouth
from samples.builders.words import PICTURED


def phones_of(*names, length=0.12, prominence=None):
    prominence = prominence or {}
    return tuple(Phone(i * length, (i + 1) * length, n, prominence.get(i, -9.0)) for i, n in enumerate(names))


@pytest.fixture(scope="module")
def stick_body():
    """A chain of joints at plausible places; no file is read."""

    class Stick:
        rest = torch.zeros(len(JOINT_NAMES), 3)

    for side, sign in (("left", 1.0), ("right", -1.0)):
        for name, x in (("collar", 0.03), ("shoulder", 0.18), ("elbow", 0.44), ("wrist", 0.68)):
            Stick.rest[JOINT_NAMES.index(f"{side}_{name}")] = torch.tensor([sign * x, 0.1, 0.0])
    return Stick


@pytest.mark.parametrize("name", [*RESTS, *ALL_FORMS])
def test_arm_reaches_its_target_on_both_sides(stick_body, name):
    from scipy.spatial.transform import Rotation

    controls = RESTS[name] if name in RESTS else ALL_FORMS[name].end
    joints = stick_body.rest.double().numpy()
    for side, mirror in (("left", np.ones(3)), ("right", MIRROR_POINT)):
        bones = _bones(joints, side, mirror)
        arm = solve_arm(controls[None], bones)
        collar, shoulder, elbow = (Rotation.from_rotvec(r[0]) for r in (arm.collar, arm.shoulder, arm.elbow))
        at = bones.collar + collar.apply(bones.shoulder - bones.collar)
        at = at + (collar * shoulder).apply(bones.elbow - bones.shoulder)
        at = at + (collar * shoulder * elbow).apply(bones.wrist - bones.elbow)
        assert np.linalg.norm(at - (bones.shoulder + bones.length * controls[:3])) < 0.02


def test_right_arm_is_the_mirror_image_of_the_left(stick_body):
    pose = np.zeros((1, len(JOINT_NAMES), 3))
    joints = stick_body.rest.double().numpy()
    controls = FORMS["present"].end[None]
    _put_arm(pose, "left", solve_arm(controls, _bones(joints, "left", np.ones(3))))
    _put_arm(pose, "right", solve_arm(controls, _bones(joints, "right", MIRROR_POINT)).mirrored())
    params = SmplxParams.from_pose(torch.tensor(pose).float(), torch.zeros(1, 10), torch.zeros(1, 10), torch.zeros(1, 3))
    mirror = torch.tensor([1.0, -1.0, -1.0])
    torch.testing.assert_close(params.left_hand_pose * mirror, params.right_hand_pose)
    torch.testing.assert_close(params.body_pose[:, 15] * mirror, params.body_pose[:, 16])


def test_vowels_open_the_jaw_and_bilabials_close_it_between_them():
    phones = phones_of("ɑː", "p", "ɑː", "ɑː", "m", "ɑː")
    count = round(phones[-1].end * RATE)
    jaw, lips = mouth(phones, count, MouthStyle(), np.random.default_rng(0))
    middle = [round((p.start + p.end) / 2 * RATE) - 2 for p in phones]
    assert min(jaw[middle[0]], jaw[middle[2]]) > 0.12
    assert max(jaw[middle[1]], jaw[middle[4]]) < 0.05
    assert lips[middle[1], 4] > 0.8  # press


def test_rounded_vowels_round_and_spread_vowels_spread():
    for name, column in (("uː", 1), ("iː", 3)):
        lips = mouth(phones_of("sil", name, "sil", length=0.2), 60, MouthStyle(), np.random.default_rng(1))[1]
        assert lips[30].argmax() == column or lips[28].argmax() == column


def test_every_stroke_ends_on_an_accent():
    prominence = dict.fromkeys(range(0, 60, 7), 1.5)
    phones = phones_of(*["æ", "t"] * 30, prominence=prominence)
    when = np.array([t for t, _ in accents(phones)])
    strokes = plan_strokes(phones, GestureStyle(rate=1.0), np.random.default_rng(2))
    assert len(strokes) >= 3
    assert all(np.abs(when - s.apex).min() < 0.15 for s in strokes)


def test_hands_carry_out_nearly_all_planned_strokes():
    phones = phones_of(*["æ", "t"] * 60, prominence=dict.fromkeys(range(4, 120, 6), 1.5))
    style, planned, done = GestureStyle(rate=1.0), 0, 0
    for seed in range(5):
        strokes = plan_strokes(phones, style, np.random.default_rng(seed))
        paths = {s: hand_path(strokes, s, phones, 1440, style, np.random.default_rng(seed))[0] for s in "lr"}
        for stroke in strokes:
            leading = "r" if "r" in stroke.hands else "l"
            at = paths[leading][round(stroke.apex * RATE), :3]
            planned += 1
            done += np.linalg.norm(at - FORMS[stroke.form].end[:3]) < 0.2
    assert done > 0.85 * planned


def test_a_word_that_a_form_pictures_gets_that_form():
    phones = phones_of(*["æ", "t"] * 20, prominence={12: 2.0, 30: 2.0})
    words = [Word(phones[i].start, phones[i + 1].end, text) for i, text in ((12, "Big,"), (30, "table"))]
    for seed in range(5):
        strokes = plan_strokes(phones, GestureStyle(rate=1.0, pictured=1.0), np.random.default_rng(seed), words)
        assert [s.form for s in strokes if abs(s.apex - phones[12].start) < 0.2] in (["big"], [])
    assert set(PICTURED.values()) <= set(FORMS)


def test_recorded_strokes_are_where_the_hand_moves():
    phones = phones_of(*["æ", "t"] * 60, prominence=dict.fromkeys(range(4, 120, 9), 1.5))
    paths, strokes = draw_gestures(phones, (), 1440, GestureStyle(rate=1.0, touch=0.2), np.random.default_rng(4))
    assert len(strokes) > 5
    for s in strokes:
        assert 0 <= s.start <= s.begin < s.apex <= s.hold <= s.end
        wrist = paths[s.hands[-1]][:, :3]
        assert np.linalg.norm(wrist[round(s.apex * RATE)] - wrist[round(s.start * RATE)]) > 0.05
    for side in "lr":
        mine = [s for s in strokes if s.hands == side]
        assert all(a.hold <= b.begin + 0.1 for a, b in itertools.pairwise(mine))


def test_feet_stand_still_while_the_hips_move():
    body = embedded_body()
    rest = body.rest_joints(torch.zeros(20)).double().numpy()
    rng = np.random.default_rng(0)
    pose, shift = np.zeros((20, len(JOINT_NAMES), 3)), rng.normal(0, 0.015, (20, 3)) * [1, 0.1, 1]
    pose[:, 0] = rng.normal(0, 0.02, (20, 3))
    shift = stand(pose, shift, rest, 0.03)
    params = SmplxParams.from_pose(*(torch.tensor(x).float() for x in (pose, np.zeros((20, 10)), np.zeros((20, 10)), shift)))
    ankles = body.joints(params)[:, [JOINT_NAMES.index("left_ankle"), JOINT_NAMES.index("right_ankle")]]
    assert (ankles.amax(0) - ankles.amin(0)).max() < 0.003
    assert (params.body_pose[:, 3:5].norm(dim=-1) < 0.8).all()  # knees hardly bent


def test_overlap_of_capsules_is_how_deep_they_are_in_each_other():
    capsule = lambda a, b, r: Capsules(np.array([[a]], float), np.array([[b]], float), np.array([r]))  # noqa: E731
    level = capsule((-1, 0, 0), (1, 0, 0), 0.1)
    deep, way = overlap(capsule((0, 0.15, -1), (0, 0.15, 1), 0.1), level)
    assert deep[0, 0, 0] == pytest.approx(0.05)
    np.testing.assert_allclose(way[0, 0, 0], (0, 0.15, 0), atol=1e-9)
    assert overlap(capsule((1.3, 0, 0), (2, 0, 0), 0.1), level)[0][0, 0, 0] == pytest.approx(-0.1)
    assert overlap(capsule((-1, 0.3, 0), (1, 0.3, 0), 0.1), level)[0][0, 0, 0] == pytest.approx(-0.1)


def test_of_two_close_accents_the_stronger_stays():
    phones = phones_of("æ", "æ", "t", "t", "t", "æ", length=0.1, prominence={0: 0.5, 1: 2.0, 5: 1.0})
    assert [p for _, p in accents(phones)] == [2.0, 1.0]


def test_path_goes_through_its_keys_and_refuses_disorder():
    path = through([(0.0, np.array([0.0])), (0.5, np.array([1.0])), (1.0, np.array([-1.0]))], 100)
    assert path[50, 0] == pytest.approx(1, abs=1e-3)
    assert np.abs(np.diff(path[:, 0], 2)).max() < 0.02
    with pytest.raises(ValueError, match="in order of time"):
        through([(1.0, np.array([0.0])), (0.5, np.array([1.0]))], 10)


def test_without_the_library_the_packages_to_install_are_named(monkeypatch):
    monkeypatch.setattr(espeak, "LIBRARY", "libespeak-not-there.so")
    with pytest.raises(RuntimeError, match=r"apt-get install espeak-ng libespeak-ng1"):
        espeak.synthesise(["hello"], espeak.Voice("en-us", "en-US", 160, 50, 50))


def test_expressions_are_the_bodys_own_in_order():
    assert tuple(population.EXPRESSIONS) == EXPRESSIONS
