"""What each side of the comparison was trained on and for how long, read from its weights: a fair comparison says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from configs.places import from_project
from pipelines.checkpoints import read_about, weights_file
from pipelines.store import Store

NAMES = {"end_to_end": "end to end, motion", "two_stage": "two-stage, motion", "stage1": "both, avatar (stage 1)"}


def learned(store: Store) -> dict[str, dict[str, str]]:
    """Side → data, steps, seen (hours of motion or pictures that training went through); sides whose weights do not say are absent.

    Training that went on from other weights is told after theirs.
    """
    runs = {
        NAMES["end_to_end"]: [_motion_run(about) for about in _trained(weights_file(store, "stage2"))],
        NAMES["two_stage"]: _baseline_runs(store),
        NAMES["stage1"]: [_picture_run(about) for about in _trained(weights_file(store, "stage1"))],
    }
    return {side: {key: ", then ".join(run[key] for run in found) for key in found[0]} for side, found in runs.items() if found}


def _motion_run(about: dict[str, Any]) -> dict[str, str]:
    config, training = about["config"], about["config"]["stage2_training"]  # as written then: settings may have changed
    windows = about["step"] * training["batch"] * about.get("processes", 1) * training["windows"]
    seen = windows * config["stage2"]["window"] / float(Fraction(str(config["cut"]["fps"]))) / 3600
    return {"data": _data(about), "steps": f"{about['step']:,}", "seen": f"{seen:,.0f} h of motion"}


def _picture_run(about: dict[str, Any]) -> dict[str, str]:
    training = about["config"]["stage1_training"]
    pictures = about["step"] * training["batch"] * about.get("processes", 1) * training["views"]
    return {"data": _data(about), "steps": f"{about['step']:,}", "seen": f"{pictures:,} pictures"}


def _baseline_runs(store: Store) -> list[dict[str, str]]:
    record = store.read_record("baseline_motion", "all")
    facts = record.facts.get("learned_from") if record is not None else None
    runs: list[dict[str, str]] = []
    while facts:
        data = f"{facts['hours']} h, {facts['clips']} clips of {facts['speakers']} speakers"
        runs.insert(0, {"data": data, "steps": f"{facts['steps']:,}", "seen": f"{facts['hours_seen']:,.0f} h of motion"})
        facts = facts.get("before")
    return runs


def _trained(path: Path) -> list[dict[str, Any]]:
    """The metadata of the weights after those of what they began with, as far as it is there; copies (0 steps) left out.

    `earlier`: they began with weights that they have replaced or that are no longer there.
    """
    if not path.is_file():
        return []
    about = read_about(path)
    if "step" not in about or "config" not in about:
        return []
    start = about["config"].get(f"{about['stage']}_training", {}).get("start_from")
    began = from_project(start) if start else path
    about["earlier"] = bool(start) and (not began.is_file() or began.samefile(path))  # of which nothing more can be told
    before = _trained(began) if began.is_file() and not began.samefile(path) else []
    return before + ([about] if about["step"] else [])


def _data(about: dict[str, Any]) -> str:
    data = ", ".join(f"{kind} {version}" for kind, version in about.get("data", {}).items()) or "unknown"
    return f"after earlier weights, {data}" if about.get("earlier") else data
