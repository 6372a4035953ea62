"""The disk layout and the records of what has been done. Nothing else in the project joins workspace paths.

A unit of work (a talk, a clip, a scan, a checkpoint) has one record a stage: `records/<stage>/<unit>.json` with the
code version, the hash of its inputs, the hash of its outputs and how it ended. A second run with the same code version
and inputs finds the record and does nothing. Outputs are written under a temporary name and renamed; the record comes last.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from configs.schema import Config

ShardKind = Literal["talks", "scans", "idol", "motions"]


class InputRejected(ValueError):
    """The input cannot be used. The message is one line: what was expected, what came, what to do."""


@dataclass(frozen=True)
class Record:
    """How one unit of one stage ended."""

    stage: str
    unit: str
    code_version: str
    input_hash: str
    status: Literal["ok", "rejected"]
    output_hash: str = ""
    reason: str = ""
    seconds: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)


def hash_json(value: Any) -> str:
    """Hash of anything JSON can hold, independent of key order; 16 hex digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def hash_files(paths: list[Path], root: Path) -> str:
    """Hash of names relative to `root` and contents; independent of order and of file times."""
    return hash_json(sorted((p.relative_to(root).as_posix(), hash_file(p)) for p in paths))


def safe_name(text: str) -> str:
    """A name that any file system and any partition key takes; changed names get a hash so that they stay distinct."""
    clean = re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._")[:80]
    return clean if clean == text else f"{clean or 'unnamed'}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def write_json(path: Path, value: Any) -> None:
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


@contextlib.contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target` (file or folder); rename it into place when the block succeeds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.stem}.{uuid.uuid4().hex[:8]}{target.suffix}"
    try:
        yield temporary
        if temporary.is_dir() and target.exists():
            shutil.rmtree(target)
        os.replace(temporary, target)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


class Store:
    """Every place in the workspace, by name."""

    def __init__(self, config: Config):
        self.root = Path(config.workspace).expanduser().resolve()
        inbox = Path(config.talks.inbox).expanduser()
        self.inbox = inbox if inbox.is_absolute() else self.root / inbox
        self.shards_url = config.shards.url
        self.body = self.root / "body"
        self.scan_source = self.root / "scan_source"
        self.comparison = self.root / "comparison"
        self.speaking = self.root / "speaking"

    def inside(self, *parts: str) -> Path:
        """A path under the workspace; ValueError where the parts lead out of it."""
        path = self.root.joinpath(*parts).resolve()
        if not path.is_relative_to(self.root):
            raise ValueError(f"path leads outside the workspace: {'/'.join(parts)!r}")
        return path

    def talk(self, talk_id: str) -> Path:
        return self.inside("talks", talk_id)

    def clip(self, talk_id: str, clip_id: str) -> Path:
        return self.inside("talks", talk_id, "clips", clip_id)

    def clips(self, talk_id: str) -> list[Path]:
        """Folders of a talk's accepted clips, in order."""
        folder = self.talk(talk_id) / "clips"
        return sorted(p for p in folder.glob("*") if (p / "clip.json").is_file())

    def talks(self) -> list[str]:
        folder = self.root / "talks"
        return sorted(p.name for p in folder.glob("*") if (p / "talk.json").is_file())

    def scan(self, subject: str) -> Path:
        return self.inside("scans", subject)

    def shards(self, kind: ShardKind) -> Path:
        return self.inside("shards", kind)

    def shard_source(self, kind: ShardKind) -> Path | str:
        """Where to read shards: the workspace's, else those at `shards.url` if that is set."""
        own = self.shards(kind)
        there = self.shards_url is None or (own / "manifest.json").is_file()
        return own if there else f"{str(self.shards_url).rstrip('/')}/{kind}"

    def checkpoint(self, name: Literal["stage1", "stage2", "baseline"]) -> Path:
        return self.inside("checkpoints", name)

    def evaluation(self, name: str) -> Path:
        return self.inside("evaluation", name)

    def baseline(self, name: Literal["motion", "retargeted", "video"]) -> Path:
        return self.inside("baseline", name)

    def record_path(self, stage: str, unit: str) -> Path:
        return self.inside("records", stage, f"{unit}.json")

    def read_record(self, stage: str, unit: str) -> Record | None:
        path = self.record_path(stage, unit)
        return Record(**json.loads(path.read_text())) if path.is_file() else None

    def write_record(self, record: Record) -> None:
        write_json(self.record_path(record.stage, record.unit), asdict(record))

    def output_hash(self, stage: str, unit: str = "all") -> str:
        """Data version of a finished stage. InputRejected where it has not been made."""
        record = self.read_record(stage, unit)
        if record is None or record.status != "ok":
            raise InputRejected(f"{stage}: expected its results, found none; run it first")
        return record.output_hash

    def once(
        self,
        stage: str,
        unit: str,
        code_version: str,
        input_hash: str,
        outputs: list[Path],
        work: Callable[[], dict[str, Any]],
    ) -> Record:
        """Run `work` unless the same code version and inputs were done before and the outputs still stand.

        `outputs` are files or folders whose content is hashed; `work` returns facts (JSON). An `InputRejected`
        is recorded with its reason and returned as a record with status 'rejected'; other errors pass through.
        """
        old = self.read_record(stage, unit)
        same = old is not None and (old.code_version, old.input_hash) == (code_version, input_hash)
        if old is not None and same and (old.status == "rejected" or all(p.exists() for p in outputs)):
            return old
        start = time.perf_counter()
        try:
            facts = work()
        except InputRejected as error:
            record = Record(stage, unit, code_version, input_hash, "rejected", reason=str(error), seconds=time.perf_counter() - start)
        else:
            files = sorted(f for p in outputs for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file())
            digest = hash_files(files, self.root)
            record = Record(stage, unit, code_version, input_hash, "ok", digest, seconds=time.perf_counter() - start, facts=facts)
        self.write_record(record)
        return record
