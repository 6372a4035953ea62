"""End to end against two-stage, from the workspace that a graph run has filled: every row, and the gains with intervals.

    python -m benchmarks.comparison [--config configs/sample.yaml] [--again]

Reads what `stage2_evaluation` and `baseline_video` measured (`python -m assets_defs.demo --config …` makes them; for figures that
mean something `configs/small_comparison.yaml`, whose first lines say what to run before). The rows go
to stderr as a table, the figures into the JSON object: `psnr_gain` (dB) and `mouth_gain` (correlation of mouth and speech
beyond that with wrong speech) are end to end less two-stage on the same clips, `fgd_ratio` is end to end over two-stage;
`_low` and `_high` are the ends of 95 % intervals over held-out speakers. `--again` generates, renders and scores all clips a
second time from the same checkpoints in a copy of the workspace: `largest_change` is the largest difference of any figure of
any clip.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config, load_config
from pipelines.comparison import ACCUMULATION, ORDER, ROW_NAMES, Comparison, verdict
from pipelines.scoring_summary import cell
from pipelines.store import Store

UNITS = {"psnr_gain": "dB", "mouth_gain": "r", "fgd_ratio": ""}
BARS = {"psnr_gain": "> 0", "mouth_gain": "> 0", "fgd_ratio": "< 1"}
NEEDED = ("checkpoints", "shards", "records", "baseline/motion", "baseline/retargeted", "evaluation/stage1", "evaluation/autoencoder")


def figures(found: Comparison) -> list[Figure]:
    """The gains and their intervals, then every figure of both systems and of the rows beside them."""
    result = []
    for name, interval in found.headline().items():
        result.append(Figure(name, interval.value, UNITS[name], BARS[name]))
        if interval.low is not None and interval.high is not None:
            result += [Figure(f"{name}_low", interval.low, UNITS[name]), Figure(f"{name}_high", interval.high, UNITS[name])]
    for figure, lost in found.losses().items():
        result += [Figure(f"{figure}_lost_by_{part}", interval.value, "") for part, interval in lost.items()]
    for row in dict.fromkeys((*ORDER, *ACCUMULATION)):
        result += [Figure(f"{row}_{name}", figure["value"], "") for name, figure in found.rows.get(row, {}).items()]
    return result


def again(config: Config) -> float:
    """Largest change of any figure of any clip when all of them are generated, rendered and scored once more."""
    from pipelines.baseline import video
    from pipelines.evaluate import evaluate_stage2

    first = Store(config)
    with tempfile.TemporaryDirectory() as folder:
        second = Store(config.model_copy(update={"workspace": folder}))
        for name in NEEDED:
            if (first.root / name).is_dir():
                shutil.copytree(first.root / name, second.root / name)
        for stage, work in (("stage2_evaluation", evaluate_stage2), ("baseline_video", video)):
            second.record_path(stage, "all").unlink(missing_ok=True)
            record = work(config.model_copy(update={"workspace": folder}), second)
            if record.status != "ok":
                raise ValueError(record.reason)
        return largest_change(Comparison.load(first).per_clip, Comparison.load(second).per_clip)


def largest_change(first: dict[str, Any], second: dict[str, Any]) -> float:
    """Of two `per_clip` tables; figures that only one of them has are a change of 1e9."""
    a, b = ({(r, c, f): v for r, clips in side.items() for c, found in clips.items() for f, v in found.items()} for side in (first, second))
    return max((abs(a[k] - b[k]) for k in a.keys() & b.keys()), default=0.0) if a.keys() == b.keys() else 1e9


def print_rows(found: Comparison) -> None:
    """Every row with its intervals."""
    rows = [r for r in dict.fromkeys((*ORDER, *ACCUMULATION)) if r in found.rows]
    console = Console(file=sys.stderr, width=20 + 26 * len(rows))
    speakers = len(set(found.who.values()))
    table = Table("figure", *(ROW_NAMES[r] for r in rows), title=f"{len(found.who)} clips of {speakers} held-out speakers, 95 % intervals")
    for name in found.definitions:
        table.add_row(name, *(cell(found.rows[r].get(name)) for r in rows))
    console.print(table)
    for name, interval in found.headline().items():
        console.print(f"{name}: {cell(vars(interval))}: {verdict(name, interval)}", markup=False, highlight=False)


def main() -> None:
    parser = arguments("End to end against two-stage, from a graph run's workspace.")
    parser.add_argument("--config", type=Path, default=Path("configs/sample.yaml"), help="YAML preset whose workspace is read")
    parser.add_argument("--workspace", type=Path, help="another workspace than the preset's")
    parser.add_argument("--again", action="store_true", help="measure everything a second time and tell what changed")
    options = parser.parse_args()
    start = time.perf_counter()
    config = load_config(options.config)
    if options.workspace is not None:
        config = config.model_copy(update={"workspace": str(options.workspace)})
    try:
        found = Comparison.load(Store(config))
        result = figures(found)
        if options.again:
            result.append(Figure("largest_change", again(config), "", "<= 0"))
    except ValueError as error:
        sys.exit(f"comparison: {error}")
    print_rows(found)
    about = {
        "config": str(options.config), "clips": sorted(found.who), "learned": found.learned,
        "provenance": json.loads(json.dumps(found.provenance["stage2"])),
    }  # fmt: skip
    publish("comparison", result, device=device_name(), config=about, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
