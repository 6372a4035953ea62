"""A set of shards by its place: a folder or any fsspec URL (s3://bucket/prefix). Names and members are never trusted.

`<place>/manifest.json` and `<place>/{train,test}-%05d.tar`. A shard's name has that form and no other, so nothing outside
the place is opened; members are read into memory by their plain names, and links, folders and paths are refused. What
members hold is npz without pickles, JSON, pictures and video. Credentials and endpoint of s3:// are the usual
ones (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, ~/.aws).
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

NAME = re.compile(r"(train|test)-\d{5,9}\.tar")
BUCKETS = {"s3", "s3a", "gs", "gcs", "abfs", "az"}  # protocols without folders
BLOCK = 4 << 20  # bytes asked for at once


class ShardFolder:
    """The shards of one kind, at a local folder or URL."""

    def __init__(self, place: str | Path):
        self.place = str(place).rstrip("/")
        self.local = isinstance(place, Path)
        self.root: str = self._resolve()[1]

    @property
    def files(self) -> AbstractFileSystem:
        """Looked up each time: a connection made before a fork cannot be used after it, and fsspec keeps one a process."""
        return self._resolve()[0]

    def _resolve(self) -> tuple[AbstractFileSystem, str]:
        if self.local:
            return LocalFileSystem(), str(Path(self.place).absolute())
        try:
            return fsspec.core.url_to_fs(self.place)  # type: ignore[no-any-return]
        except (ImportError, ValueError) as error:  # s3fs not installed, protocol unknown
            raise ValueError(
                f"shards: {self.place!r} cannot be opened ({_line(error)}); expected a folder or an fsspec URL such as s3://bucket/talks"
            ) from error

    def manifest(self) -> dict[str, Any] | None:
        """manifest.json, none where there is none. Errors: ValueError where the place cannot be read or it is no manifest."""
        try:
            with self._open("manifest.json") as stream:
                manifest = json.load(stream)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"shards: {self.place}/manifest.json is not JSON ({error}); write the shards again") from error
        for names in manifest.get("shards", {}).values():
            for name in names:
                _plain(name, self.place)
        return dict(manifest)

    def names(self, split: str) -> list[str]:
        """Shards of a split in order, by the manifest; by what lies there where it has none."""
        manifest = self.manifest()
        if manifest is not None:
            return sorted(manifest["shards"].get(split, []))
        try:
            found = [path.rsplit("/", 1)[-1] for path in self.files.ls(self.root, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(n for n in found if NAME.fullmatch(n) and n.startswith(f"{split}-"))

    def samples(self, name: str) -> Iterator[dict[str, bytes]]:
        """The samples of a shard in order, member name without key → content; `__key__` holds the key."""
        with self._open(_plain(name, self.place)) as stream:
            yield from read_samples(stream, f"{self.place}/{name}")

    def hash(self) -> str | None:
        return (self.manifest() or {}).get("hash")

    def publish(self, folder: Path) -> bool:
        """Copy the local shards in `folder` here unless the same are here already; the manifest goes last.

        Shards that the new manifest does not name are removed. Errors: ValueError where the place cannot be written.
        """
        manifest = json.loads((folder / "manifest.json").read_text())
        files = self.files
        try:
            if self.hash() == manifest["hash"]:
                return False
            if not BUCKETS & {files.protocol, *files.protocol}:  # there, it would make a bucket of a misspelt one
                files.makedirs(self.root, exist_ok=True)
            if files.exists(f"{self.root}/manifest.json"):  # no manifest stands for shards that are half there
                files.rm_file(f"{self.root}/manifest.json")
            names = [name for split in manifest["shards"].values() for name in split]
            for name in [*names, "manifest.json"]:
                files.put_file(str(folder / name), f"{self.root}/{name}")
            files.invalidate_cache()
            for path in files.ls(self.root, detail=False):
                name = path.rsplit("/", 1)[-1]
                if NAME.fullmatch(name) and name not in names:
                    files.rm_file(path)
        except OSError as error:
            raise ValueError(f"shards: cannot write to {self.place} ({_line(error)}); check the bucket and the credentials") from error
        return True

    def _open(self, name: str) -> IO[bytes]:
        try:
            return self.files.open(f"{self.root}/{name}", "rb", block_size=BLOCK)  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(f"shards: cannot read {self.place}/{name} ({_line(error)}); check the bucket and the credentials") from error


def read_samples(stream: IO[bytes], name: str) -> Iterator[dict[str, Any]]:
    """Samples of a tar: consecutive members whose names agree up to the first dot. Errors: ValueError where it is none."""
    sample: dict[str, Any] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                if not entry.isfile() or "/" in entry.name or "\\" in entry.name or entry.name.startswith("."):
                    raise ValueError(f"{name}: expected plain files, got member {entry.name!r}; not a shard of this project")
                key, _, member = entry.name.partition(".")
                if sample and sample["__key__"] != key:
                    yield sample
                    sample = {}
                content = archive.extractfile(entry)
                assert content is not None
                sample |= {"__key__": key, member: content.read()}
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{name}: cannot be read to its end ({error}); copy or write the shards again") from error
    if sample:
        yield sample


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _plain(name: str, place: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError(f"shards: {place}: expected shard names such as train-00000.tar, the manifest has {name!r}")
    return name


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
