"""What each side of the comparison was trained on and for how long, read from its weights: a fair comparison says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.checkpoints import from_project, read_about, weights_file
from pipelines.store import Store

NAMES = {"end_to_end": "end to end, motion", "two_stage": "two-stage, motion", "stage1": "both, avatar (stage 1)"}


def learned(store: Store) -> dict[str, dict[str, str]]:
    """Side → data, steps, seen (hours of motion or pictures that training went through); sides whose weights do not say are absent."""
    found: dict[str, dict[str, str]] = {}
    stage2 = _trained(weights_file(store, "stage2"))
    if stage2 is not None:
        config, training = stage2["config"], stage2["config"]["stage2_training"]  # as written then: settings may have changed
        windows = stage2["step"] * training["batch"] * stage2.get("processes", 1) * training["windows"]
        seen = windows * config["stage2"]["window"] / float(Fraction(str(config["cut"]["fps"]))) / 3600
        found[NAMES["end_to_end"]] = {"data": _data(stage2), "steps": f"{stage2['step']:,}", "seen": f"{seen:,.0f} h of motion"}
    record = store.read_record("baseline_motion", "all")
    facts = record.facts.get("learned_from") if record is not None else None
    if facts:
        data = f"{facts['hours']} h, {facts['clips']} clips of {facts['speakers']} speakers"
        found[NAMES["two_stage"]] = {"data": data, "steps": f"{facts['steps']:,}", "seen": f"{facts['hours_seen']:,.0f} h of motion"}
    stage1 = _trained(weights_file(store, "stage1"))
    if stage1 is not None:
        training = stage1["config"]["stage1_training"]
        pictures = stage1["step"] * training["batch"] * stage1.get("processes", 1) * training["views"]
        found[NAMES["stage1"]] = {"data": _data(stage1), "steps": f"{stage1['step']:,}", "seen": f"{pictures:,} pictures"}
    return found


def _trained(path: Path) -> dict[str, Any] | None:
    """The metadata of the weights, or of those that they are a copy of; none where it does not say."""
    if not path.is_file():
        return None
    about = read_about(path)
    if "step" not in about or "config" not in about:
        return None
    start = about["config"].get(f"{about['stage']}_training", {}).get("start_from")
    if about["step"] == 0 and start and from_project(start).is_file():
        return _trained(from_project(start))
    return about


def _data(about: dict[str, Any]) -> str:
    return ", ".join(f"{kind} {version}" for kind, version in about.get("data", {}).items()) or "unknown"
