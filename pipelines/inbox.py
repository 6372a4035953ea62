"""What lies in the inbox: videos, rows of its table (pipelines/talk_table.py), URLs; each an item with a talk id.

What cannot become a talk is an item as well, with its fault: nothing is left out in silence but hidden files, folders,
and files that no row names and whose names are not those of videos.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from configs.schema import Config
from pipelines.store import Store, safe_name, writing
from pipelines.talk_table import Entry, Row, read_table

SUFFIXES = (
    ".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".f4v",
    ".3gp", ".3g2", ".ogv", ".vob", ".mxf", ".asf",
)  # fmt: skip
SAMPLES = Path(str(importlib.resources.files("samples"))) / "talks"


@dataclass(frozen=True)
class Item:
    """A video to be had: a file, a URL, or neither and why."""

    talk: str
    row: Row | None = None
    file: str = ""  # below the inbox
    fault: str = ""  # one line

    @property
    def url(self) -> str:
        return self.row.url if self.row is not None else ""


def items(store: Store) -> dict[str, Item]:
    """Talk id → item. Of files that share a stem, the first keeps it as its id and the others get their full name's."""
    listed: dict[str, Entry] = {}
    found: dict[str, Item] = {}
    loose: list[Item] = []  # rows that name no file
    for entry in read_table(store.inbox):
        named = entry.row.file if entry.row is not None else entry.file
        if named:
            listed.setdefault(_relative(store.inbox, named), entry)
        elif entry.row is not None:
            loose.append(Item(_url_id(entry.row.url), entry.row))
        else:
            loose.append(Item(safe_name(entry.where.replace(" ", "_")), fault=entry.fault))
    root = store.inbox.resolve()
    for file in sorted({*listed, *_dropped(store.inbox)}):
        talk = safe_name(_text(os.path.splitext(file)[0]))
        talk = safe_name(_text(file)) if talk in found else talk
        told = listed.get(file)
        fault = told.fault if told is not None and told.fault else _fault(store.inbox, root, file, told)
        found[talk] = Item(talk, told.row if told is not None else None, file, fault)
    return found | {item.talk: item for item in loose}


def create(config: Config, store: Store) -> None:
    """Make the inbox, with the embedded talks in it, where there is none. Errors: ValueError where those are missing."""
    if store.inbox.exists():
        if not store.inbox.is_dir():
            raise ValueError(f"talks.inbox: expected a folder, got the file {store.inbox}")
        return
    samples = sorted([*SAMPLES.glob("*.mp4"), *SAMPLES.glob("talks.csv")]) if config.talks.include_samples else []
    if config.talks.include_samples and not samples:
        raise ValueError(f"no embedded talks in {SAMPLES}; build them, or set talks.include_samples to false")
    with writing(store.inbox) as temporary:
        temporary.mkdir()
        for path in samples:
            shutil.copyfile(path, temporary / path.name)


def _dropped(inbox: Path) -> list[str]:
    """Names of what was put into the inbox and looks like a video; links and pipes too, which `_fault` judges."""
    entries = [p for p in inbox.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    return [p.name for p in entries if p.is_symlink() or not p.is_dir()]


def _relative(inbox: Path, named: str) -> str:
    """A row's path as it is from the inbox; it may lead out of it."""
    return os.path.relpath(os.path.normpath(inbox / named), inbox)


def _fault(inbox: Path, root: Path, file: str, told: Entry | None) -> str:
    path = inbox / file
    place = f"{told.where}: {(told.row.file if told.row is not None else file)!r}" if told is not None else repr(file)
    try:
        if not path.resolve().is_relative_to(root):
            kind = "a link that leads" if not file.startswith("..") and path.is_symlink() else "a path that leads"
            return f"{place}: expected a file in the inbox, got {kind} out of it; copy the file in, or make its folder the inbox"
        mode = path.stat().st_mode
    except FileNotFoundError:
        kind = "a link to nothing" if path.is_symlink() else "no such file"
        return f"{place}: expected a file in the inbox, got {kind}; check the name, or copy the file in"
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, names too long, NUL bytes
        return f"{place}: expected a file in the inbox, got {_one_line(error)}; check the name"
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        return f"{place}: expected a file in the inbox, got {kind}; name a video file"
    return ""


def _one_line(error: Exception) -> str:
    return " ".join((getattr(error, "strerror", None) or str(error)).split()).lower()


def _text(name: str) -> str:
    """A file name as text that can be hashed; bytes that are no UTF-8 are spelt out."""
    return name.encode("utf-8", "backslashreplace").decode()


def _url_id(url: str) -> str:
    """A talk id that says something of the URL, and differs for every URL."""
    parts = urlsplit(url)
    last = os.path.splitext(unquote(parts.path).rstrip("/").rpartition("/")[2])[0]
    said = re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(p for p in (last, parts.query) if p) or parts.hostname or "")
    return f"{said[:60].strip('._-') or 'url'}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
