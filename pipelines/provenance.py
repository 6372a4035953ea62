"""What a figure depends on: commit, configuration, data versions, library versions; stored with every checkpoint and metric."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from configs.schema import Config
from pipelines.store import Store, hash_json

ROOT = Path(__file__).parents[1]
LIBRARIES = ("torch", "numpy", "smplx", "mediapipe", "deepspeed", "transformers", "webdataset")
STAGES = ("body_model", "talks_shards", "scans_shards", "idol_shards", "train_stage1", "train_stage2", "baseline_motion")


@cache
def commit() -> str:
    """The working tree's commit, '+changes' where it differs; 'unknown' outside a repository."""
    run = lambda *words: subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout.strip()  # noqa: E731
    try:
        return run("rev-parse", "--short=12", "HEAD") + ("+changes" if run("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # mediapipe and deepspeed need not be where training alone runs
    return found


def provenance(config: Config, store: Store) -> dict[str, Any]:
    """Commit, seed, config hash, the output hash of every recorded stage of this workspace, and the run that made each checkpoint."""
    facts = {"commit": commit(), "seed": config.seed, "config": hash_json(config.model_dump(mode="json"))}
    for stage in STAGES:
        record = store.read_record(stage, "all")
        if record is not None:
            facts[stage] = record.output_hash
            if stage.startswith(("train", "baseline")):
                facts[f"{stage}_run"] = record.facts.get("run", record.input_hash)
    return facts | {f"{n} version": v for n, v in versions().items()}
