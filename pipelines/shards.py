"""WebDataset shards of talks, scans and HuGe100K samples, with a manifest; deterministic to the byte.

`shards/<kind>/{train,test}-%05d.tar` + `manifest.json`. Talks: one sample a clip {clip.mp4 (with its sound),
mask.npz, fit.npz, features.npz, clip.json}. Scans and idol: one sample a subject {NNN.png|webp, cameras.json, smplx.npz,
points.npz (scans alone: the surface)}. Each also holds sample.json {id, group, split}. Splits are by speaker and by
subject (pipelines/splits.py); `groups` in the manifest says who is where.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import webdataset
from PIL import Image

from configs.schema import Config
from pipelines import idol
from pipelines.body import body_file, body_hash
from pipelines.manifests import Kind, read_manifest
from pipelines.progress import progress
from pipelines.scans import list_subjects
from pipelines.splits import split_of
from pipelines.store import (
    InputRejected,
    Record,
    Store,
    hash_file,
    hash_files,
    hash_json,
    safe_name,
    write_json,
    writing,
)
from pipelines.view_sets import cameras_json, hands_mean_of, params_npz

__all__ = ["pack", "read_manifest", "write_idol_shards", "write_scan_shards", "write_shards", "write_talk_shards"]
CODE_VERSION = "3"
CLIP_FILES = ("clip.mp4", "mask.npz", "fit.npz", "features.npz", "clip.json")
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Sample:
    """One sample before it is packed; `read` gives its members, name → bytes."""

    id: str
    group: str  # the identity that decides the split: speaker or subject
    read: Callable[[], dict[str, bytes]]


def write_talk_shards(config: Config, store: Store) -> Record:
    """Pack every clip that has a fit and features; what is left out is listed with its reason."""
    samples, left_out, inputs = [], [], []
    for talk in store.talks():
        for clip in store.clips(talk):
            missing = [n for n in CLIP_FILES if not (clip / n).is_file()]
            if missing:
                left_out.append({"id": f"{talk}/{clip.name}", "reason": f"lacks {', '.join(missing)}"})
                continue
            files = [clip / name for name in CLIP_FILES]
            speaker = json.loads((clip / "clip.json").read_text())["speaker"]
            samples.append(Sample(f"{talk}/{clip.name}", speaker, _reader(files)))
            inputs.append(hash_files(files, store.root))
    return write_shards(config, store, "talks", samples, left_out, inputs)


def write_scan_shards(config: Config, store: Store) -> Record:
    """Pack the rendered scans."""
    samples, inputs, left_out = [], [], []
    for folder in (store.scan(subject) for subject in list_subjects(config, store)):
        if not (folder / "cameras.json").is_file():
            left_out.append({"id": folder.name, "reason": "not rendered"})
            continue
        if not (folder / "smplx.npz").is_file():
            left_out.append({"id": folder.name, "reason": "no SMPL-X parameters"})
            continue
        files = [*sorted((folder / "render").iterdir()), folder / "cameras.json", folder / "smplx.npz", folder / "points.npz"]
        samples.append(Sample(folder.name, folder.name, _reader(files)))
        inputs.append(hash_files(files, store.root))
    return write_shards(config, store, "scans", samples, left_out, inputs)


def write_idol_shards(config: Config, store: Store) -> Record:
    """Convert and pack HuGe100K samples; with no `idol.root` an empty set. What cannot be read is listed with its reason."""
    hands_mean = hands_mean_of(body_file(config))
    found = idol.list_samples(config)

    def reader(video: Path, param: Path) -> Callable[[], dict[str, bytes]]:
        def read() -> dict[str, bytes]:
            views, pictures, params = idol.read_sample(video, param, hands_mean)
            members = {v.file: _webp(p) for v, p in zip(views, pictures, strict=True)}
            return members | {"cameras.json": _json(cameras_json(views)), "smplx.npz": params_npz(params)}

        return read

    samples = [Sample(name, name, reader(*files)) for name, files in found.items()]
    inputs = [f"{name}:{hash_file(video)}:{hash_file(param)}" for name, (video, param) in found.items()]
    return write_shards(config, store, "idol", samples, [], inputs)


def write_shards(
    config: Config, store: Store, kind: Kind, samples: list[Sample], left_out: list[dict[str, str]], inputs: list[str]
) -> Record:
    """Pack samples unless that was done with the same `inputs` (hashes) and settings; `left_out` goes into the manifest."""
    target = store.shards(kind)
    versions = {"body": body_hash(config), "code": CODE_VERSION, "inputs": hash_json(sorted(inputs))}
    settings = [config.shards.model_dump(), left_out]

    def work() -> dict[str, Any]:
        with writing(target) as folder:
            folder.mkdir()
            manifest = pack(folder, samples, config.shards.held_out, config.shards.target_mb, left_out)
            manifest |= {"kind": kind, "versions": versions}
            manifest["hash"] = hash_json([manifest, {p.name: hash_file(p) for p in sorted(folder.glob("*.tar"))}])
            write_json(folder / "manifest.json", manifest)
        counts = {f"{split}_samples": len(manifest["splits"][split]) for split in SPLITS}
        size = sum(p.stat().st_size for p in target.glob("*.tar"))
        return {
            "samples": manifest["samples"],
            **counts,
            "bytes": size,
            "left_out": manifest["left_out"],
            "hash": manifest["hash"],
            "path": str(target),
        }

    return store.once(f"{kind}_shards", "all", CODE_VERSION, hash_json([versions, settings]), [target], work)


def pack(folder: Path, samples: Iterable[Sample], held_out: float, target_mb: float, left_out: list[dict[str, str]]) -> dict[str, Any]:
    """Write the tar files of both splits; returns samples, splits, groups, shards and what was left out."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    groups: dict[str, set[str]] = {split: set() for split in SPLITS}
    left_out = list(left_out)
    with _Shards(folder, target_mb) as shards:
        ordered = sorted(samples, key=lambda s: s.id)
        for index, sample in enumerate(progress(ordered, "packing samples", len(ordered))):
            split = split_of(sample.group, held_out)
            try:
                members = sample.read()
            except InputRejected as error:
                left_out.append({"id": sample.id, "reason": str(error)})
                continue
            about = {"id": sample.id, "group": sample.group, "split": split}
            # a key ends at the first dot of a member's name
            key = f"{index:06d}-{safe_name(sample.id).replace('.', '_')}"
            shards.add(split, key, members | {"sample.json": _json(about)})
            splits[split].append(sample.id)
            groups[split].add(sample.group)
        names = shards.names
    count, members_of = sum(map(len, splits.values())), {k: sorted(v) for k, v in groups.items()}
    return {"samples": count, "splits": splits, "groups": members_of, "shards": names, "left_out": left_out}


class _Shards:
    """Open tar files, one a split; a new one is begun where the size is reached."""

    def __init__(self, folder: Path, target_mb: float):
        self.folder, self.limit = folder, target_mb * 1e6
        self.names: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.open: dict[str, tuple[webdataset.TarWriter, int]] = {}

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self.open.values():
            opened[0].close()

    def add(self, split: str, key: str, members: dict[str, bytes]) -> None:
        size = sum(map(len, members.values()))
        if split in self.open and self.open[split][1] + size > self.limit:
            self.open.pop(split)[0].close()
        if split not in self.open:
            name = f"{split}-{len(self.names[split]):05d}.tar"
            self.names[split].append(name)
            # fixed owner and time: the same samples give the same bytes
            self.open[split] = (webdataset.TarWriter(str(self.folder / name), user="", group="", mtime=0, encoder=False), 0)
        writer, used = self.open[split]
        writer.write({"__key__": key, **members})
        self.open[split] = (writer, used + size)


def _reader(files: list[Path]) -> Callable[[], dict[str, bytes]]:
    return lambda: {path.name: path.read_bytes() for path in files}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _webp(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=92, alpha_quality=100)
    return stream.getvalue()
