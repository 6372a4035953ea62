import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import torch

from configs.schema import Config
from model.motion_spline import SEED, TAIL
from pipelines.crops import crop, crop_camera, person_box, square_round
from pipelines.datasets import Draw, ScanViews, TalkWindows, WindowShape
from pipelines.manifests import read_manifest
from pipelines.people import People, decode, iterate_people
from pipelines.scans import look_at
from pipelines.shard_folder import sha256
from pipelines.shards import Sample, pack, write_scan_shards, write_talk_shards
from pipelines.splits import settle_splits, split_of
from pipelines.store import InputRejected, Store, hash_file
from pipelines.view_table import ViewTable

SPEAKERS, FRAMES = ("speaker15", "speaker18"), 24  # of the tiny corpus


def test_splits_are_by_identity_and_the_manifest_says_so(corpus):
    config, store = corpus
    for kind, samples in (("scans", 3), ("talks", 2)):
        manifest = read_manifest(store, kind)
        assert manifest["samples"] == samples == sum(map(len, manifest["splits"].values()))
        for split, groups in manifest["groups"].items():
            assert groups
            assert all(split_of(group, config.shards.held_out) == split for group in groups)
        assert not set(manifest["groups"]["train"]) & set(manifest["groups"]["test"])
        assert manifest["versions"]["body"]
    assert read_manifest(store, "idol")["samples"] == 0


def test_the_same_samples_give_the_same_bytes(tmp_path):
    def write(name):
        folder = tmp_path / name
        folder.mkdir()
        samples = [Sample(f"s{i}", f"s{i}", lambda i=i: {"a.bin": bytes([i]) * 400, "b.json": b"{}"}) for i in (2, 0, 1)]
        return pack(folder, samples, 0.5, 0.001, []), {p.name: hash_file(p) for p in folder.iterdir()}

    assert write("one") == write("two")
    manifest, files = write("three")
    assert sorted(name for names in manifest["shards"].values() for name in names) == sorted(files)
    assert max(len(v) for v in manifest["shards"].values()) > 1, "target size begins new shards"
    with tarfile.open(tmp_path / "three" / sorted(files)[0]) as tar:
        assert {(m.mtime, m.uname, m.uid) for m in tar.getmembers()} == {(0, "", 0)}


def test_no_shard_is_larger_than_its_target(tmp_path):
    samples = [Sample(f"s{i:02d}", f"s{i:02d}", lambda i=i: {"a.bin": bytes(3000 + 137 * i)}) for i in range(20)]
    manifest = pack(tmp_path, samples, 0.4, 0.03, [])
    sizes = [(tmp_path / name).stat().st_size for names in manifest["shards"].values() for name in names]
    assert sizes == [manifest["files"][n]["bytes"] for names in manifest["shards"].values() for n in names]
    assert max(sizes) <= 30_000 + 10_240, "tar pads its end to 10 kB"
    assert len(sizes) <= 2 + sum(sizes) / 20_000, "and none is much smaller but the last of a split"


def test_talks_are_packed_alike_in_whatever_order_they_were_made(corpus_folder, make_config):
    found = []
    for order in (SPEAKERS, SPEAKERS[::-1]):
        config = make_config(workspace=str(make_config().workspace) + order[0])
        store = Store(config)
        for speaker in order:
            source = Store(Config.model_validate({"workspace": str(corpus_folder / "workspace")})).talk(f"{speaker}_talk")
            shutil.copytree(source, store.talk(f"{speaker}_talk"))
        write_talk_shards(config, store)
        found.append({p.name: hash_file(p) for p in store.shards("talks").iterdir()})
    assert found[0] == found[1]


def test_the_manifest_counts_what_the_shards_hold(corpus):
    _, store = corpus
    manifest = read_manifest(store, "talks")
    statistics = manifest["statistics"]
    for split in ("train", "test"):
        expected = {"samples": 1, "groups": 1, "frames": FRAMES, "seconds": FRAMES / 25}
        assert {k: statistics[split][k] for k in expected} == expected
    (train,) = iterate_people(store.shards("talks"), "train", 16)
    assert (statistics["features"]["encoder"], statistics["features"]["frames"]) == (["test"], FRAMES)
    np.testing.assert_allclose(statistics["features"]["mean"], train.features.mean(0), atol=1e-5)
    np.testing.assert_allclose(statistics["features"]["std"], train.features.std(0, correction=0), rtol=1e-4)
    for name, about in manifest["files"].items():
        assert about["sha256"] == sha256(store.shards("talks") / name)
        assert about["samples"] == sum(item["shard"] == name for item in manifest["items"].values())
    assert "features" not in read_manifest(store, "scans")["statistics"]


def state(store, talk, split, where="clip.json"):
    folder = store.clips(talk)[0] if where == "clip.json" else store.talk(talk)
    about = json.loads((folder / where).read_text())
    (folder / where).write_text(json.dumps({**about, "split": split}))


@pytest.mark.parametrize("where", ["clip.json", "talk.json"])
def test_a_stated_split_comes_before_the_hash(corpus, where):
    config, store = corpus
    before = read_manifest(store, "talks")
    state(store, "speaker15_talk", "test", where)  # by hash: train
    state(store, "speaker18_talk", "train", where)
    write_talk_shards(config, store)
    after = read_manifest(store, "talks")
    assert after["groups"] == {"train": before["groups"]["test"], "test": before["groups"]["train"]}
    assert [next(iterate_people(store.shards("talks"), s, 16)).group for s in ("train", "test")] == ["speaker18", "speaker15"]


def test_an_unknown_split_leaves_out_its_clip_alone(corpus):
    config, store = corpus
    state(store, "speaker15_talk", "../test")
    write_talk_shards(config, store)
    manifest = read_manifest(store, "talks")
    assert manifest["samples"] == 1
    assert "expected split train or test, got '../test'" in manifest["left_out"][0]["reason"]


def test_a_speaker_is_never_in_both_splits():
    stated = {
        "a/0": ("ann", "train"),
        "a/1": ("ann", "test"),
        "a/2": ("ann", None),
        "b/0": ("bob", "train"),
        "b/1": ("bob", None),
        "c/0": ("cy", None),
    }
    splits, refused = settle_splits(stated)
    assert {id: s for id, s in splits.items() if id not in refused} == {
        "a/1": "test",
        "a/2": "test",
        "b/0": "train",
        "b/1": "train",
        "c/0": None,
    }
    assert list(refused) == ["a/0"]


def test_a_video_under_a_second_name_is_packed_once(corpus):
    """It would have a speaker of its own, perhaps in the other split."""
    config, store = corpus
    about = json.loads((store.talk("speaker15_talk") / "talk.json").read_text())
    shutil.copytree(store.talk("speaker15_talk") / "clips", store.talk("again") / "clips")
    for talk in ("speaker15_talk", "again"):
        (store.talk(talk) / "talk.json").write_text(json.dumps({**about, "sha": "5"}))
    write_talk_shards(config, store)
    manifest = read_manifest(store, "talks")
    assert manifest["samples"] == 2
    assert {row["id"].split("/")[0] for row in manifest["left_out"]} == {"speaker15_talk"}  # "again" comes first
    assert "expected each video once, got that of talk 'again' again; remove one" in manifest["left_out"][0]["reason"]


def test_features_of_another_encoder_do_not_mix(corpus):
    config, store = corpus
    for number in (1, 2):
        clip = store.clip("speaker15_talk", f"speaker15_talk-00{number}")
        shutil.copytree(store.clips("speaker15_talk")[0], clip)
    with np.load(clip / "features.npz", allow_pickle=False) as npz:
        np.savez(clip / "features.npz", **{**npz, "encoder": np.array("wav2vec2:other")})
    write_talk_shards(config, store)
    (left_out,) = read_manifest(store, "talks")["left_out"]
    assert left_out["id"] == "speaker15_talk/speaker15_talk-002"
    assert "got 'wav2vec2:other'" in left_out["reason"]


def test_an_unreadable_sample_is_left_out_with_its_reason(tmp_path):
    def fail():
        raise InputRejected("broken file")

    manifest = pack(tmp_path, [Sample("a", "a", fail), Sample("b", "b", lambda: {"x.bin": b"1"})], 0.0, 1.0, [])
    assert manifest["splits"]["train"] == ["b"]
    assert manifest["left_out"] == [{"id": "a", "reason": "broken file"}]


def test_clips_without_a_fit_are_listed_and_the_rest_packed(corpus):
    config, store = corpus
    clip = store.clips(store.talks()[0])[0]
    (clip / "fit.npz").unlink()
    facts = write_talk_shards(config, store).facts
    assert facts["samples"] == 1
    assert "fit.npz" in facts["left_out"][0]["reason"]


def test_a_second_run_does_nothing(corpus):
    config, store = corpus
    before = {p: p.stat().st_mtime_ns for p in store.shards("scans").iterdir()}
    record = write_scan_shards(config, store)
    assert {p: p.stat().st_mtime_ns for p in store.shards("scans").iterdir()} == before
    assert record.facts["hash"] == read_manifest(store, "scans")["hash"]


def test_talk_sample_holds_all_that_the_contract_names(corpus):
    _, store = corpus
    with tarfile.open(next(store.shards("talks").glob("train-*.tar"))) as tar:
        names = {m.name.split(".", 1)[1] for m in tar.getmembers()}
    assert names == {"clip.mp4", "mask.npz", "fit.npz", "features.npz", "clip.json", "sample.json"}


def test_decoded_frames_lie_under_the_projected_body(corpus, body):
    _, store = corpus
    for kind in ("talks", "scans"):
        person = next(iterate_people(store.shards(kind), "train", 48))
        assert person.images.shape[1:] == (48, 48, 4)
        joints = body.joints(person.params)[:, [12, 15]]  # neck and head
        pixels, _ = person.cameras.project(joints)
        x, y = pixels.floor().long().unbind(-1)
        frames = torch.arange(len(person.images))[:, None].expand_as(x)
        assert (person.images[frames, y, x, 3] > 100).all()
        corner = person.images[:, 0, 0]
        assert (corner[..., :3] == 255).all(), "background is white"
        assert (corner[..., 3] == 0).all()


def test_cropping_moves_the_camera_with_the_picture():
    camera = look_at(torch.zeros(3), 0.3, 0.1, 4.0, 300.0, 128)
    point = torch.tensor([[0.2, 0.3, 0.1]])
    x, y = camera.project(point)[0][0].tolist()
    picture = np.zeros((128, 128, 4), np.uint8)
    picture[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = 255
    square = square_round((30, 10, 110, 120), 128, 128)
    cropped = crop(picture, square, 64)
    u, v = crop_camera(camera, square, 64).project(point)[0][0].tolist()
    rows, columns = np.nonzero(cropped[..., 3].numpy() > 60)
    assert abs(columns.mean() + 0.5 - u) < 1
    assert abs(rows.mean() + 0.5 - v) < 1


def test_a_person_cut_by_the_edge_is_not_lifted_from_it():
    left, top, side = square_round((40, 50, 90, 128), 128, 128, margin=0.2)
    assert top + side == 128
    assert square_round(None, 64, 96) == (-16, 0, 96)
    assert person_box(np.zeros((4, 4), np.uint8)) is None
    assert left >= 0


def test_batches_follow_from_seed_step_and_process(corpus):
    _, store = corpus
    people = [People(store.shards(k), "train", 48) for k in ("scans", "talks", "idol")]
    make = lambda **k: ScanViews(people, Draw(**{"seed": 1, "batch": 2, **k}), 3, 48, 32)  # noqa: E731
    stream = iter(make())
    first, second = next(stream).to("cpu"), next(stream)
    torch.testing.assert_close(next(iter(make(start=1))).views.pictures, second.views.pictures, msg="a run resumed at step 1 sees step 1")
    assert not torch.equal(first.views, make(rank=1).at(0).to("cpu").views)
    assert first.images.shape == (2, 2, 3, 48, 48)
    assert first.views.shape == (2, 3, 32, 32, 3)
    assert first.cameras.size.unique().tolist() == [32]
    small = torch.nn.functional.interpolate(first.images[:, 0], (32, 32), mode="bilinear", antialias=True)
    torch.testing.assert_close(small.movedim(1, -1), first.views[:, 0], atol=1e-5, rtol=0, msg="first target is the input")


def test_a_table_of_pictures_gives_what_samples_would(corpus):
    _, store = corpus
    views = ScanViews([People(store.shards(k), "train", 48) for k in ("scans", "talks")], Draw(1, 4), 3, 48, 32)
    one_by_one = views.at(3).to("cpu")
    views.table = ViewTable(views.sources)
    for name, value in vars(views.at(3).to("cpu")).items():
        other = getattr(one_by_one, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, other, equal_nan=True, msg=name)
        else:
            for part, tensor in vars(value).items():
                torch.testing.assert_close(tensor, getattr(other, part), msg=f"{name}.{part}")


def test_windows_carry_audio_round_every_frame(corpus):
    _, store = corpus
    talks = People(store.shards("talks"), "train", 48)
    batch = TalkWindows(talks, Draw(0, 6), WindowShape(12, 4, 3, 2, 48, 32)).at(1)
    features, poses = talks.cache[0].features, talks.cache[0].params.body_pose[:, 15]
    assert batch.audio.shape == (6, 4 + 12 + 3, features.shape[1])
    assert batch.params.transl.shape == (6, SEED + 12 + TAIL, 3)
    assert batch.frame_images.shape == (6, 2, 3, 48, 48)
    for i in range(6):  # find the window in the clip by its motion, then compare its audio
        match = (poses - batch.params.body_pose[i, SEED, 15]).abs().sum(-1).argmin().item()
        torch.testing.assert_close(batch.audio[i, 4 : 4 + 12], features[match : match + 12])


def test_too_short_clips_are_refused_with_one_line(corpus):
    _, store = corpus
    with pytest.raises(ValueError, match="1000 frames or more"):
        TalkWindows(People(store.shards("talks"), "train", 16), Draw(0, 1), WindowShape(1000, 4, 4, 1, 16, 16))


def test_processes_of_a_run_keep_a_part_of_the_people_each(corpus, monkeypatch):
    _, store = corpus
    whole = People(store.shards("scans"), "train", 16)
    monkeypatch.setenv("WORLD_SIZE", str(len(whole.shards)))
    parts = []
    for rank in range(len(whole.shards)):
        monkeypatch.setenv("RANK", str(rank))
        parts += [p.id for p in People(store.shards("scans"), "train", 16, shared=True).cache]
    assert sorted(parts) == sorted(p.id for p in whole.cache)
    monkeypatch.setenv("WORLD_SIZE", "99")
    assert len(People(store.shards("scans"), "train", 16, shared=True).cache) == len(whole.cache), "too few to share out"


def test_a_corpus_too_large_for_memory_is_streamed(corpus):
    _, store = corpus

    def ids(*words):
        streamed = People(store.shards("scans"), "train", 32, limit_mb=0.001, workers=0)
        assert streamed.cache is None
        streamed.start(*words)
        rng = np.random.default_rng(0)
        return [streamed.pick(rng).id for _ in range(20)]

    assert set(ids(3, 0, 0)) == {"0124", "0126"}
    assert ids(3, 0, 0) == ids(3, 0, 0)
    assert ids(3, 0, 0) != ids(3, 0, 10), "a run resumed at step 10 does not see the beginning again"


def test_decode_takes_the_samples_that_the_shards_hold(corpus):
    _, store = corpus
    with tarfile.open(next(store.shards("scans").glob("test-*.tar"))) as tar:
        members = {m.name.split(".", 1)[1]: tar.extractfile(m).read() for m in tar.getmembers()}
    person = decode(members, 32)
    surface = person.points - person.points.mean(0)
    assert 0.5 < surface[:, 1].max() < 1.2, "points of the scan's surface, metres"
    assert person.id == "0125" == json.loads(members["sample.json"])["group"]
    assert np.load(io.BytesIO(members["smplx.npz"]), allow_pickle=False)["betas"].shape == (10,)
    assert set(person.inputs.tolist()) == {0, 4}, "the front views alone are shown to the encoder"
