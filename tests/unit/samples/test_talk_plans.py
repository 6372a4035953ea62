import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from model.types import SMPLX_SHAPES
from pipelines.formats import load_fit
from pipelines.media import probe, read_audio
from pipelines.store import InputRejected
from samples.builders import espeak
from samples.builders.acoustics import heard_in
from samples.builders.backdrops import backdrop
from samples.builders.espeak import Voice
from samples.builders.people import make_person
from samples.builders.phrases import BOOKS
from samples.builders.plan import RATES, Room, plan_from_text, plan_to_text
from samples.builders.plans import BACKDROPS
from samples.builders.score import hands_of
from samples.builders.speech import SAMPLE_RATE, SILENCE, Phone
from samples.builders.talk_figures import arms_inside, closed_share, mouth_corr
from samples.builders.talks import Score, make_score, perform, plan_talk, render_talk
from samples.builders.texts import write_lines
from samples.builders.truth import load_masks, load_phones, load_strokes


@pytest.fixture(scope="module")
def score():
    return make_score(plan_talk(3, seconds=5, framing="half"))


@pytest.fixture(scope="module")
def others():
    return [make_score(plan_talk(seed)) for seed in (4, 6, 9)]


def test_a_seed_is_one_plan_and_another_seed_another():
    assert plan_talk(11) == plan_talk(11)
    plans = [plan_talk(s) for s in range(60)]
    assert len({p.lines for p in plans}) == 60
    assert {p.fps for p in plans} == set(RATES)
    assert {p.shot.backdrop for p in plans} == set(BACKDROPS)
    assert {p.shot.framing for p in plans} == {"half", "full"}
    assert len({p.voice.language.split("-")[0] for p in plans}) >= 5
    assert len({p.voice.name for p in plans}) > 20


def test_a_speaker_keeps_voice_style_and_looks_from_talk_to_talk():
    one, two = plan_talk(1, speaker=77), plan_talk(2, speaker=77)
    assert (one.voice, one.style, one.look, one.speaker) == (two.voice, two.style, two.look, two.speaker)
    assert one.lines != two.lines
    assert one.style != plan_talk(1, speaker=78).style


def test_given_settings_change_nothing_else():
    free, set_ = plan_talk(5), plan_talk(5, fps=Fraction(24))
    assert set_ == replace(free, fps=Fraction(24))


def test_plan_survives_as_text_and_a_broken_one_is_named():
    plan = plan_talk(8, fps=Fraction(30000, 1001))
    assert plan_from_text(plan_to_text(plan)) == plan
    with pytest.raises(ValueError, match=r"not a talk's plan: fps"):
        plan_from_text(plan_to_text(plan).replace("30000/1001", "fast"))


@pytest.mark.parametrize("language", sorted(BOOKS))
def test_every_phrase_book_fills_its_slots(language):
    for seed in range(40):
        lines = write_lines(language, 15, 165, 0.3, np.random.default_rng(seed))
        text = " ".join(lines)
        assert len(lines) >= 3
        assert "{" not in text
        assert "|" not in text
        assert all(line.lstrip("¿¡")[0].isupper() and line[-1] in ".?!" for line in lines)


def test_unknown_language_and_negative_seed_are_refused():
    with pytest.raises(ValueError, match="no phrase book for language 'xx'"):
        write_lines("xx", 10, 165, 0.3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="0 or more, got -1"):
        plan_talk(-1)


@pytest.mark.needs_voice
@pytest.mark.parametrize("name", ["en-us+nobody", "xx-yy+m1"])
def test_unknown_voice_is_named(name):
    with pytest.raises(ValueError, match="espeak-ng knows no voice"):
        make_score(replace(plan_talk(0), voice=Voice(name, "en-US", 160, 50, 50)))


@pytest.mark.needs_voice
def test_phones_cover_the_sound_and_words_lie_in_it(others):
    for score in others:
        assert score.phones[0].start == 0
        assert all(a.end == pytest.approx(b.start) for a, b in itertools.pairwise(score.phones))
        assert score.phones[-1].end == pytest.approx(len(score.wav) / SAMPLE_RATE, abs=1e-6)
        said = " ".join(w.text for w in score.words)
        assert len(said) > 0.7 * len(" ".join(score.plan.lines).replace(",", "").replace(".", ""))
        assert all(0 < w.start < w.end <= score.seconds for w in score.words)


@pytest.mark.needs_voice
@pytest.mark.parametrize("fps", RATES)
def test_sound_and_pictures_last_equally_long_at_every_rate(fps):
    score = make_score(plan_talk(2, seconds=4, fps=fps))
    assert abs(len(score.wav) - score.frames * SAMPLE_RATE / fps) <= 0.5
    assert score.fps == fps


@pytest.mark.needs_voice
def test_score_comes_back_from_its_file_and_needs_no_speech_engine(score, tmp_path, monkeypatch):
    path = tmp_path / "talk.npz"
    score.save(path)
    again = Score.load(path)
    assert (again.plan, again.phones, again.words, again.strokes) == (score.plan, score.phones, score.words, score.strokes)
    np.testing.assert_array_equal(again.wav, score.wav)
    assert again.wav.dtype == np.int16
    make_score(score.plan).save(tmp_path / "twice.npz")
    assert (tmp_path / "twice.npz").read_bytes() == path.read_bytes()
    monkeypatch.setattr(espeak, "subprocess", None)
    assert len(perform(Score.load(path)).transl) == score.frames


@pytest.mark.needs_voice
def test_half_written_score_is_refused_in_one_line(score, tmp_path):
    score.save(tmp_path / "whole.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "whole.npz").read_bytes()[:2000])
    with pytest.raises(InputRejected, match=r"half\.npz: not a talk's score .* make it again with make_score"):
        Score.load(tmp_path / "half.npz")


@pytest.mark.needs_voice
def test_a_take_repeats_and_two_takes_differ(score):
    one, again, two = (perform(score, take) for take in (0, 0, 1))
    for name in SMPLX_SHAPES:
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert (one.body_pose - two.body_pose).abs().max() > 0.1
    assert np.corrcoef(one.jaw_pose[:, 0], two.jaw_pose[:, 0])[0, 1] > 0.6
    assert hands_of(score, 0)[1] == score.strokes != hands_of(score, 1)[1]


@pytest.mark.needs_voice
def test_mouth_follows_its_own_speech_and_closes_for_bilabials(others):
    motions = [perform(s) for s in others]
    own = [mouth_corr(s, params=p) for s, p in zip(others, motions, strict=True)]
    foreign = [mouth_corr(s, heard=others[i - 1], params=p) for i, (s, p) in enumerate(zip(others, motions, strict=True))]
    assert min(own) > 0.45
    assert abs(np.mean(foreign)) < 0.2
    assert min(closed_share(s, p) for s, p in zip(others, motions, strict=True)) > 0.85


@pytest.mark.needs_voice
def test_arms_stay_out_of_the_body_and_of_each_other():
    figures = arms_inside((1,))
    assert max(figures["trunk_mm"], figures["arms_mm"]) < 5


def test_room_adds_what_it_states():
    rng = np.random.default_rng(0)
    voice = (0.1 * rng.normal(0, 1, 2 * SAMPLE_RATE)).astype(np.float32)
    voice[SAMPLE_RATE:] = 0
    phones = (Phone(0, 1, "a"), Phone(1, 2, SILENCE))
    level = lambda x: 20 * np.log10(np.sqrt(np.mean(np.square(x))))  # noqa: E731
    np.testing.assert_array_equal(heard_in(Room(), voice, phones, rng), voice)
    noisy = heard_in(Room(noise_db=30), voice, phones, np.random.default_rng(1))
    assert level(voice[:SAMPLE_RATE]) - level(noisy[SAMPLE_RATE:]) == pytest.approx(30, abs=1)
    wet = heard_in(Room(reverberation=0.5, direct_db=10), voice, phones, np.random.default_rng(1)) - voice
    assert level(voice[:SAMPLE_RATE]) - level(wet[:SAMPLE_RATE]) == pytest.approx(10, abs=1.5)
    early, late = wet[SAMPLE_RATE:][: SAMPLE_RATE // 10], wet[SAMPLE_RATE:][SAMPLE_RATE // 4 :][: SAMPLE_RATE // 10]
    assert level(early) - level(late) == pytest.approx(30, abs=4)  # 60 dB in half a second


@pytest.mark.parametrize("kind", BACKDROPS)
def test_backdrops_repeat_and_differ_by_seed(kind):
    shot = replace(plan_talk(0).shot, backdrop=kind)
    one, again, other = (backdrop(shot, 64, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.shape == (64, 64, 3)
    assert one.min() >= 0
    assert one.max() <= 1
    assert np.abs(one - other).mean() > 0.002


@pytest.mark.needs_voice
def test_film_holds_what_the_score_says(tmp_path):
    score = make_score(replace(plan_talk(6, seconds=2, fps=Fraction(30000, 1001)), lines=("You see a whole bridge.",)))
    truth = render_talk(score, make_person(score.plan.look, 64), tmp_path / "t.mp4", size=96, masks=True, threads=1)
    info = probe(tmp_path / "t.mp4")
    assert (info.width, info.height, info.fps, info.frames) == (96, 96, Fraction(30000, 1001), score.frames)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    heard = read_audio(tmp_path / "t.mp4")[: len(score.wav)]
    assert np.corrcoef(heard, score.audio[: len(heard)])[0, 1] > 0.95
    fit = load_fit(truth)
    assert fit.fps == score.fps
    assert len(fit.params.transl) == score.frames
    assert load_phones(truth) == score.phones
    assert load_strokes(truth) == score.strokes
    masks = load_masks(truth)
    assert masks.shape == (score.frames, 96, 96)
    assert 0.02 < masks.mean() < 0.6
