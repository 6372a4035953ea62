"""Shards in folders and on S3 (moto's local server): the same samples, nothing from outside, faults told in one line."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile

import fsspec
import numpy as np
import pytest
from torch.utils.data import DataLoader

from configs.schema import Config
from pipelines.manifests import read_manifest
from pipelines.motions import iterate_motions
from pipelines.people import People, iterate_people
from pipelines.shard_folder import ShardFolder, read_samples
from pipelines.shards import write_talk_shards
from pipelines.store import Store
from pipelines.windows import ClipWindows, collate_windows


@pytest.fixture(scope="module")
def s3():
    """A local S3 server with an empty bucket; the URL of the bucket."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3", skip_instance_cache=True).mkdir("corpus")
        yield "s3://corpus"
    server.stop()


@pytest.fixture(params=["s3", "folder"])
def url(request, tmp_path) -> str:
    """Where to publish: each test its own prefix."""
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}" if request.param == "s3" else str(tmp_path / "published")


def published(corpus, url) -> tuple[Config, Store]:
    config, store = corpus
    config = config.model_copy(update={"shards": config.shards.model_copy(update={"url": url})})
    store = Store(config)
    assert write_talk_shards(config, store).status == "ok"
    return config, store


def test_shards_are_put_at_the_url_and_read_from_there(corpus, url):
    _, store = published(corpus, url)
    local, remote = ShardFolder(store.shards("talks")), ShardFolder(f"{url}/talks")
    assert remote.manifest() == local.manifest()
    for split in ("train", "test"):
        assert remote.names(split) == local.names(split)
        for name in local.names(split):
            assert list(remote.samples(name)) == list(local.samples(name))
    here, there = (next(iterate_people(f, "train", 32)) for f in (store.shards("talks"), f"{url}/talks"))
    assert (here.images == there.images).all()
    assert next(iterate_motions(f"{url}/talks", "test")).group == "speaker18"
    for workers in (0, 2):
        loader = DataLoader(ClipWindows(f"{url}/talks", "train", 8, size=32), 3, num_workers=workers, collate_fn=collate_windows)
        assert [b.frames.shape[0] for b in loader] == [3]


def test_a_workspace_without_shards_reads_those_at_the_url(corpus, url):
    _, store = published(corpus, url)
    manifest = read_manifest(store, "talks")
    shutil.rmtree(store.shards("talks"))
    assert store.shard_source("talks") == f"{url}/talks"
    assert read_manifest(store, "talks") == manifest
    assert len(People(store.shard_source("talks"), "train", 16).cache) == 1


def test_what_is_there_already_is_not_put_again_and_what_is_old_goes(corpus, url):
    _, store = published(corpus, url)
    remote = ShardFolder(f"{url}/talks")
    assert remote.publish(store.shards("talks")) is False
    with remote.files.open(f"{remote.root}/train-00007.tar", "wb") as stream:
        stream.write(b"of an earlier run")
    manifest = store.shards("talks") / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"hash": "another"}))
    assert remote.publish(store.shards("talks")) is True
    remote.files.invalidate_cache()
    assert not remote.files.exists(f"{remote.root}/train-00007.tar")
    assert remote.hash() == "another"


def test_a_bucket_that_is_not_there_is_one_line(corpus, s3):
    with pytest.raises(ValueError, match=r"cannot write to s3://no-such-bucket/talks .*check the bucket") as caught:
        published(corpus, "s3://no-such-bucket")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="expected a folder or an fsspec URL"):
        ShardFolder("nonsense://here")


def tar(*members: tuple[str, bytes], link: str | None = None) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("0.link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "archive",
    [tar(("../0.npz", b"")), tar(("/etc/0.npz", b"")), tar(("a/0.npz", b"")), tar(("..\\0.npz", b"")), tar(link="/etc/passwd")],
)
def test_members_outside_and_links_are_refused(archive):
    with pytest.raises(ValueError, match="expected plain files"):
        list(read_samples(archive, "train-00000.tar"))


def test_samples_are_told_apart_by_their_keys():
    got = list(read_samples(tar(("0-a.x.bin", b"1"), ("0-a.y.bin", b"2"), ("1-b.x.bin", b"3")), "t"))
    assert got == [{"__key__": "0-a", "x.bin": b"1", "y.bin": b"2"}, {"__key__": "1-b", "x.bin": b"3"}]


def test_a_truncated_shard_is_said_and_not_half_read():
    whole = tar(("0.a.bin", b"x" * 5000), ("1.a.bin", b"y" * 5000)).getvalue()
    for cut in (700, 5000, 6200):
        with pytest.raises(ValueError, match="cannot be read to its end"):
            list(read_samples(io.BytesIO(whole[:cut]), "train-00000.tar"))


@pytest.mark.parametrize("name", ["../train-00000.tar", "/etc/passwd", "pipe:touch owned", "train-00000.tar/..", "s3://other/x.tar"])
def test_a_manifest_names_no_file_outside(tmp_path, name):
    (tmp_path / "manifest.json").write_text(json.dumps({"shards": {"train": [name]}}))
    people = lambda: list(iterate_people(tmp_path, "train", 16))  # noqa: E731
    for read in (ShardFolder(tmp_path).manifest, people, lambda: People(tmp_path, "train", 16)):
        with pytest.raises(ValueError, match=r"expected shard names such as train-00000\.tar"):
            read()
    with pytest.raises(ValueError, match="expected shard names"):
        next(ShardFolder(tmp_path).samples(name))


def test_pickles_in_a_shard_are_not_opened(corpus, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    _, store = corpus
    folder = store.shards("talks")
    sample = next(ShardFolder(folder).samples("train-00000.tar"))
    for member in ("mask.npz", "fit.npz", "features.npz"):
        stream = io.BytesIO()
        np.savez(stream, mask=np.array([Trap()], object), features=np.array([Trap()], object), transl=np.array([Trap()], object))
        bad = {**sample, member: stream.getvalue() if member != "fit.npz" else pickle.dumps(Trap())}
        key = bad.pop("__key__")
        (folder / "train-00000.tar").write_bytes(tar(*((f"{key}.{n}", c) for n, c in bad.items())).getvalue())
        with pytest.raises((ValueError, KeyError)):
            list(iterate_people(folder, "train", 16))
    assert not (tmp_path / "owned").exists()
