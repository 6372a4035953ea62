"""WebDataset shards of talks, scans and HuGe100K samples, with a manifest; deterministic to the byte.

The same samples give the same names and bytes, in whatever order they were made: they are packed by id.

`shards/<kind>/{train,test}-%05d.tar` + `manifest.json`. Talks: one sample a clip {clip.mp4 (with its sound),
mask.npz, fit.npz, features.npz, clip.json}. Scans and idol: one sample a subject {NNN.png|webp, cameras.json, smplx.npz,
points.npz (scans alone: the surface)}. Each also holds sample.json {id, group, split}. Splits are by speaker and by
subject (pipelines/splits.py); `groups` in the manifest says who is where, `statistics` how much there is, `items` what each
sample is and `files` what each shard is. With `shards.url` all of it is also put there; read it with
pipelines/shard_folder.py, people.py or windows.py.
"""

from __future__ import annotations

import io
import json
from collections import Counter
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
from pipelines.shard_folder import ShardFolder, sha256
from pipelines.shard_statistics import Statistics
from pipelines.splits import SPLITS, settle_splits, split_of
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
CODE_VERSION = "4"
CLIP_FILES = ("clip.mp4", "mask.npz", "fit.npz", "features.npz", "clip.json")
BLOCK = 512  # of a tar, bytes


@dataclass(frozen=True)
class Sample:
    """One sample before it is packed; `read` gives its members, name → bytes."""

    id: str
    group: str  # the identity that decides the split: speaker or subject
    read: Callable[[], dict[str, bytes]]
    split: str | None = None  # where it is stated; none: by hash of the group


def write_talk_shards(config: Config, store: Store) -> Record:
    """Pack every clip that has a fit and features; what is left out is listed with its reason."""
    left_out, whole = [], {}
    for talk in store.talks():
        for clip in store.clips(talk):
            missing = [n for n in CLIP_FILES if not (clip / n).is_file()]
            if missing:
                left_out.append({"id": f"{talk}/{clip.name}", "reason": f"lacks {', '.join(missing)}"})
            else:
                whole[f"{talk}/{clip.name}"] = clip
    about = {id: _clip_facts(store, clip) for id, clip in whole.items()}
    splits, refused = settle_splits({id: (facts["speaker"], facts["split"]) for id, facts in about.items()})
    refused |= _same_videos({id: facts["sha"] for id, facts in about.items()})
    refused |= _other_encoders({id: facts["encoder"] for id, facts in about.items() if id not in refused})
    samples, inputs = [], []
    for id, clip in whole.items():
        if id in refused:
            left_out.append({"id": id, "reason": refused[id]})
            continue
        files = [clip / name for name in CLIP_FILES]
        samples.append(Sample(id, about[id]["speaker"], _reader(files), splits[id]))
        inputs.append(hash_files(files, store.root) + (f":{splits[id]}" if splits[id] else ""))
    return write_shards(config, store, "talks", samples, left_out, inputs)


def _clip_facts(store: Store, clip: Path) -> dict[str, Any]:
    """Speaker, stated split (of the clip, else of its talk), the encoder of its features and the hash of its video."""
    about = json.loads((clip / "clip.json").read_text())
    talk = json.loads((clip.parents[1] / "talk.json").read_text())
    with np.load(clip / "features.npz", allow_pickle=False) as npz:
        encoder = f"{npz['encoder']}"
    split = about.get("split") or talk.get("split") or None
    return {"speaker": about["speaker"], "split": split, "encoder": encoder, "sha": talk.get("sha")}


def _same_videos(hashes: dict[str, str | None]) -> dict[str, str]:
    """Why clips are left out whose talk is another's video under a second name: it might be learnt and tested on."""
    first: dict[str, str] = {}
    for id, sha in sorted(hashes.items()):
        first.setdefault(sha or id, id.split("/")[0])
    told = "expected each video once, got that of talk {!r} again; remove one of them from the inbox"
    return {id: told.format(first[sha]) for id, sha in hashes.items() if sha and first[sha] != id.split("/")[0]}


def _other_encoders(encoders: dict[str, str]) -> dict[str, str]:
    """Why clips are left out whose features are of another encoder than most: they do not mix."""
    counts = Counter(encoders.values())
    most = max(counts, key=lambda name: (counts[name], name), default="")
    advice = f"expected features of {most!r} as of most clips, got {{!r}}; run audio_features for its talk again"
    return {id: advice.format(name) for id, name in encoders.items() if name != most}


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
    settings = [config.shards.model_dump(exclude={"url"}), left_out]

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
            "statistics": {k: v for k, v in manifest["statistics"].items() if k in SPLITS},
            "hash": manifest["hash"],
            "path": str(target),
        }

    record = store.once(f"{kind}_shards", "all", CODE_VERSION, hash_json([versions, settings]), [target], work)
    if config.shards.url and record.status == "ok":
        ShardFolder(f"{config.shards.url.rstrip('/')}/{kind}").publish(target)
    return record


def pack(folder: Path, samples: Iterable[Sample], held_out: float, target_mb: float, left_out: list[dict[str, str]]) -> dict[str, Any]:
    """Write the tar files of both splits; returns the manifest but for kind, versions and hash."""
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    groups: dict[str, set[str]] = {split: set() for split in SPLITS}
    left_out, statistics = list(left_out), Statistics()
    with _Shards(folder, target_mb) as shards:
        ordered = sorted(samples, key=lambda s: s.id)
        for index, sample in enumerate(progress(ordered, "packing samples", len(ordered))):
            split = sample.split or split_of(sample.group, held_out)
            try:
                members = sample.read()
            except InputRejected as error:
                left_out.append({"id": sample.id, "reason": str(error)})
                continue
            about = {"id": sample.id, "group": sample.group, "split": split}
            # a key ends at the first dot of a member's name
            key = f"{index:06d}-{safe_name(sample.id).replace('.', '_')}"
            shard = shards.add(split, key, members | {"sample.json": _json(about)})
            statistics.add(split, shard, sample.id, sample.group, members)
            splits[split].append(sample.id)
            groups[split].add(sample.group)
        names = shards.names
    count, members_of = sum(map(len, splits.values())), {k: sorted(v) for k, v in groups.items()}
    tars = [name for split in names.values() for name in split]
    held = Counter(item["shard"] for item in statistics.items.values())
    files = {n: {"bytes": (folder / n).stat().st_size, "samples": held[n], "sha256": sha256(folder / n)} for n in tars}
    return {
        "samples": count,
        "splits": splits,
        "groups": members_of,
        "shards": names,
        "files": files,
        "items": statistics.items,
        "statistics": statistics.summary(SPLITS),
        "left_out": sorted(left_out, key=lambda row: row["id"]),
    }


class _Shards:
    """Open tar files, one a split; a new one is begun where the next sample would make it larger than the target."""

    def __init__(self, folder: Path, target_mb: float):
        self.folder, self.limit = folder, target_mb * 1e6
        self.names: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.open: dict[str, tuple[webdataset.TarWriter, int]] = {}

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in self.open.values():
            opened[0].close()

    def add(self, split: str, key: str, members: dict[str, bytes]) -> str:
        """The name of the shard that the sample went to."""
        size = sum(BLOCK + -(-len(content) // BLOCK) * BLOCK for content in members.values())
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
        return self.names[split][-1]


def _reader(files: list[Path]) -> Callable[[], dict[str, bytes]]:
    return lambda: {path.name: path.read_bytes() for path in files}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _webp(picture: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "WEBP", quality=92, alpha_quality=100)
    return stream.getvalue()
