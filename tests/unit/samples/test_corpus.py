import ctypes.util
import json
from dataclasses import replace

import pytest
import torch

from pipelines.people import People
from samples.builders.corpus import PRESETS, Corpus, CorpusSpec, _person_seed, measured
from samples.builders.looks import random_look

TINY = CorpusSpec(people=2, views=8, talks=2, speakers=1, seconds=1.0, size=48, held_out=0.5)
needs_speech = pytest.mark.skipif(ctypes.util.find_library("espeak-ng") is None, reason="needs espeak-ng")


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Corpus:
    corpus = Corpus(tmp_path_factory.mktemp("people"), CorpusSpec(2, 8, 0, 0, 1.0, 48, held_out=0.5))
    corpus.draw(1)
    corpus.pack()
    return corpus


def test_people_are_read_as_training_reads_scans(people):
    found = [p for split in ("train", "test") for p in People(people.store.shards("scans"), split, 32).cache]
    assert sorted(p.id for p in found) == people.people
    assert all(p.images.shape == (8, 32, 32, 4) for p in found)
    assert (found[0].images[..., 3] > 128).float().mean() > 0.05
    assert measured(people) < 0.2
    pose = found[0].params.body_pose
    assert torch.equal(pose[0], pose[3]), "four pictures of a stance"
    assert not torch.equal(pose[0], pose[4]), "then another"
    assert {int(i) // 4 for i in found[0].inputs} == {0, 1}


def test_half_bodies_are_as_many_as_asked_for(people, tmp_path):
    def kinds(corpus):
        return [view["kind"] for view in json.loads((corpus.person("p00000") / "cameras.json").read_text())["views"]]

    assert kinds(people) == ["full", "full", "full", "half"] * 2
    whole = Corpus(tmp_path, CorpusSpec(1, 4, 0, 0, 1.0, 48, stances=1, half_bodies=0))
    whole.draw(1)
    assert kinds(whole) == ["full"] * 4


def test_the_same_specification_gives_the_same_shards_and_nothing_is_made_twice(people, tmp_path):
    again = Corpus(tmp_path, people.spec)
    again.draw(1)
    assert again.pack()["scans"].facts["hash"] == people.pack()["scans"].facts["hash"]
    made = again.person("p00000").stat().st_mtime_ns
    again.draw(1)
    assert again.person("p00000").stat().st_mtime_ns == made


def test_a_build_that_was_stopped_goes_on(people, tmp_path):
    half = Corpus(tmp_path, people.spec)
    (tmp_path / "people" / ".p00001.half").mkdir(parents=True)  # what a killed process leaves
    half.draw(1)
    assert half.pack()["scans"].facts["hash"] == people.pack()["scans"].facts["hash"]


def test_another_corpus_or_other_files_are_refused_in_one_line(people, tmp_path):
    with pytest.raises(ValueError, match=r"holds one of \{'people': 2\}, expected \{'people': 3\}"):
        Corpus(people.folder, CorpusSpec(3, 8, 0, 0, 1.0, 48, held_out=0.5))
    (tmp_path / "photo.png").touch()
    with pytest.raises(ValueError, match="other files"):
        Corpus(tmp_path, TINY)


@pytest.mark.parametrize("wrong", [{"speakers": 3}, {"people": -1}, {"size": 33}, {"views": 6}, {"stances": 3}, {"skirts": 1.5}])
def test_wrong_specifications_are_refused(wrong):
    with pytest.raises(ValueError, match="corpus: expected"):
        CorpusSpec(**{**TINY.__dict__, **wrong})


def test_as_many_are_chosen_for_their_skirts_as_asked_for():
    spec = replace(TINY, people=40)
    by_chance, chosen = ([_person_seed(s, i) for i in range(40)] for s in (spec, replace(spec, skirts=0.5)))
    wear = [random_look(seed).skirt is not None for seed in chosen]
    assert all(wear[1::2])
    assert chosen[::2] == by_chance[::2], "the others are who they were"
    assert 0.5 <= sum(wear) / 40 < 0.8
    assert len(set(chosen)) == 40


def test_small_is_what_it_promises():
    small = PRESETS["small"]
    assert small.people >= 300
    assert small.views == 16
    assert small.size == 256
    assert small.talks >= 200
    assert small.speakers >= 60
    assert small.seconds == 10


@needs_speech
def test_talks_are_drawn_from_saved_speech_and_read_as_training_reads_clips(tmp_path):
    corpus = Corpus(tmp_path, CorpusSpec(0, 8, 1, 1, 1.0, 48, held_out=0.0))
    corpus.speak(1)
    corpus.draw(1)
    corpus.pack()
    (talk,) = People(corpus.store.shards("talks"), "train", 48).cache
    assert talk.id == "s0000_t00000"
    assert talk.group == "s0000"
    frames = corpus.frames("s0000_t00000")
    assert len(talk.images) == len(talk.features) == len(talk.params.transl) == frames
    assert torch.isfinite(talk.features).all()
    about = json.loads((corpus.talk("s0000_t00000") / "clip.json").read_text())
    assert about["frames"] == frames


@needs_speech
def test_what_cannot_be_made_is_told_and_the_rest_is_kept(tmp_path):
    corpus = Corpus(tmp_path, TINY)
    corpus.speak(1)
    corpus.speech("s0000_t00001").write_bytes(b"half")
    with pytest.raises(RuntimeError, match=r"1 of 2 talks failed: s0000_t00001: .*not a talk's score"):
        corpus.draw(1)
    assert corpus.talk("s0000_t00000").is_dir()
