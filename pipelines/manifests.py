"""The manifest of a shard set: what it holds, who is held out, and the hash that stands for it."""

from __future__ import annotations

import json
from typing import Any, Literal

from pipelines.store import Store

Kind = Literal["talks", "scans", "idol"]


def read_manifest(store: Store, kind: Kind) -> dict[str, Any] | None:
    """{samples, splits {train, test}, groups, shards, left_out, versions, hash}; none where the shards were never written."""
    path = store.shards(kind) / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else None
