"""The table in the inbox: who speaks in which video, under which licence, and videos that lie behind URLs.

One table, `talks.csv` (its first line names the columns) or `talks.jsonl` (a JSON object a line), UTF-8, with these
fields, of which a row needs `file` or `url` and nothing else:

    file      path of a video, relative to the inbox
    url       of a page or file that yt-dlp knows how to fetch; http or https
    speaker   the same name wherever the same person speaks: decides the split (default: the talk's id)
    licence   as in 'CC-BY-4.0' (default: what the page says, then talks.default_licence)
    language  as in 'en-GB' (default: unknown)
    split     'train' or 'test' (default: by hash of the speaker)

A row that cannot be used carries its fault, one line; the others go on. A table that cannot be read as such is an error:
without it, speakers would be guessed.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

NAMES = ("talks.csv", "talks.jsonl")
LONGEST = 200  # characters of a speaker, licence or language
LONGEST_PATH = 4000  # characters of a file or URL


class Row(BaseModel):
    """What a row says, checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    file: str = Field("", max_length=LONGEST_PATH)
    url: str = Field("", max_length=LONGEST_PATH)
    speaker: str = Field("", max_length=LONGEST)
    licence: str = Field("", max_length=LONGEST)
    language: str = Field("", max_length=LONGEST)
    split: Literal["", "train", "test"] = ""

    @field_validator("*", mode="before")
    @classmethod
    def _nothing(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("url", "speaker", "licence", "language")
    @classmethod
    def _printable(cls, value: str) -> str:
        if not value.isprintable():
            raise ValueError("expected text on one line, without control characters")
        return value

    @field_validator("url")
    @classmethod
    def _web(cls, value: str) -> str:
        if value:
            parts = urlsplit(value)
            if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
                raise ValueError("expected a URL with http or https; put local videos into the inbox and name them under `file`")
            if parts.username is not None or parts.password is not None:
                raise ValueError("expected a URL without a user name or password, since it is kept in the records")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Row:
        if bool(self.file) == bool(self.url):
            raise ValueError(f"expected either `file` or `url`, got {'both' if self.file else 'neither'}")
        return self


COLUMNS = tuple(Row.model_fields)


@dataclass(frozen=True)
class Entry:
    """A row, or why it cannot be used; `file` is what it names even then, if it can be told."""

    where: str  # 'talks.csv line 3'
    row: Row | None
    fault: str = ""
    file: str = ""


def read_table(inbox: Path) -> list[Entry]:
    """All rows in order. Errors: ValueError for two tables, or one that is not text with the right columns."""
    tables = [inbox / name for name in NAMES if (inbox / name).is_file()]
    if len(tables) > 1:
        raise ValueError(f"{inbox}: expected one table, got {' and '.join(NAMES)}; join them")
    if not tables:
        return []
    read = _csv_rows if tables[0].suffix == ".csv" else _json_rows
    try:
        return _consistent([_entry(f"{tables[0].name} line {line}", value) for line, value in read(tables[0])])
    except UnicodeDecodeError as error:
        raise ValueError(f"{tables[0]}: expected UTF-8 text, got other bytes at {error.start}; save it as UTF-8") from error
    except csv.Error as error:
        raise ValueError(f"{tables[0]}: expected comma-separated values, got a line that is none ({error})") from error


def _csv_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream, restkey="more")
        columns = [(c or "").strip() for c in reader.fieldnames or []]
        unknown = [c for c in columns if c not in COLUMNS]
        if unknown or len(set(columns)) < len(columns) or not {"file", "url"} & set(columns):
            raise ValueError(f"{path}: expected columns of {','.join(COLUMNS)} (file or url among them), got {','.join(columns) or 'none'}")
        reader.fieldnames = columns
        for values in reader:
            yield reader.line_num, values


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8-sig") as stream:
        for line, text in enumerate(stream, 1):
            if text.strip():
                try:
                    yield line, json.loads(text)
                except (json.JSONDecodeError, RecursionError) as error:
                    yield line, error


def _entry(where: str, value: Any) -> Entry:
    if not isinstance(value, dict):
        got = f"text that is no JSON ({value})" if isinstance(value, Exception) else f"{value!r:.60}"
        return Entry(where, None, f'{where}: expected an object like {{"file": "a.mp4"}}, got {got}')
    file = value.get("file")
    named = file.strip() if isinstance(file, str) else ""
    if "more" in value:
        return Entry(where, None, f"{where}: expected a value a column, got more: {value['more']!r:.60}; quote those with commas", named)
    try:
        return Entry(where, Row.model_validate(value))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = f"{first['loc'][0]}: " if first["loc"] else ""
        got = f", got {first['input']!r:.60}" if first["loc"] and not _secret(first["input"]) else ""
        return Entry(where, None, f"{where}: {place}{first['msg'].removeprefix('Value error, ')}{got}", named)


def _secret(value: Any) -> bool:
    """Whether a value may hold a password, which no record repeats."""
    return isinstance(value, str) and "@" in value


def _consistent(entries: list[Entry]) -> list[Entry]:
    """Faults of rows that contradict an earlier one: the same video twice, a person in two splits."""
    sources: dict[str, str] = {}
    splits: dict[str, tuple[str, str]] = {}
    checked = []
    for entry in entries:
        row, fault = entry.row, ""
        if row is not None:
            first = sources.setdefault(row.file or row.url, entry.where)
            if first != entry.where:
                checked.append(Entry(entry.where, None, f"{entry.where}: the same video as in {first}; keep one of the rows"))
                continue
            if row.speaker and row.split:
                split, told = splits.setdefault(row.speaker, (row.split, entry.where))
                if split != row.split:
                    got = f"{row.speaker!r} in {row.split!r}, and in {split!r} in {told}"
                    fault = f"{entry.where}: expected a person to be in one split, got {got}"
        checked.append(Entry(entry.where, None, fault, row.file) if row is not None and fault else entry)
    return checked
