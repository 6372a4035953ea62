"""The manifest of a shard set: what it holds, who is held out, and the hash that stands for it."""

from __future__ import annotations

from typing import Any, Literal

from pipelines.shard_folder import ShardFolder
from pipelines.store import Store

Kind = Literal["talks", "scans", "idol", "motions"]


def read_manifest(store: Store, kind: Kind) -> dict[str, Any] | None:
    """{samples, splits {train, test}, groups, shards, files, items, statistics, left_out, versions, hash}; none without shards."""
    return ShardFolder(store.shard_source(kind)).manifest()
