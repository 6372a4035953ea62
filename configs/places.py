"""Where a configuration's relative paths lead."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def from_project(path: str) -> Path:
    """A path of a configuration: as it is where something lies there or it is absolute, else in the project's folder."""
    given = Path(path)
    return given if given.is_absolute() or given.exists() else PROJECT / given
