"""What a benchmark hands over: named figures, as a table for people (stderr) and one JSON object (stdout or a file).

    {"benchmark", "device", "commit", "config", "seconds",
     "figures": [{"name", "value", "unit", "bar": ">= 27.0" or null, "holds": true, false or null}]}

A figure that could not be measured is left out by the benchmark, never written as zero.
"""

from __future__ import annotations

import argparse
import json
import math
import operator
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.provenance import commit

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


@dataclass(frozen=True)
class Figure:
    """One measured number. `bar` is a comparison with what it should reach, such as '<= 20'."""

    name: str  # snake_case, without the unit
    value: float
    unit: str
    bar: str | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"figure {self.name}: expected a finite number, got {self.value}; leave it out instead")
        if self.bar is not None and not re.fullmatch(r"(>=|<=|>|<|==) -?[0-9.e+-]+", self.bar):
            raise ValueError(f"figure {self.name}: expected a bar such as '<= 20', got {self.bar!r}")

    @property
    def holds(self) -> bool | None:
        """Whether the bar is met; None without one."""
        if self.bar is None:
            return None
        sign, bound = self.bar.split()
        return bool(COMPARE[sign](self.value, float(bound)))


def arguments(description: str) -> argparse.ArgumentParser:
    """A parser with the option that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the JSON object here instead of to stdout")
    return parser


def publish(
    benchmark: str,
    figures: Sequence[Figure],
    *,
    device: str,
    config: dict[str, Any],
    seconds: float,
    path: Path | None = None,
) -> dict[str, Any]:
    """Print the table, write the object to `path` (or stdout) and return it. `seconds`: how long all of it took."""
    result = {
        "benchmark": benchmark,
        "device": device,
        "commit": commit(),
        "config": config,
        "seconds": round(seconds, 1),
        "figures": [
            {"name": f.name, "value": f.value, "unit": f.unit, "bar": f.bar, "holds": f.holds} for f in figures
        ],
    }
    _print_table(benchmark, device, figures)
    text = json.dumps(result, indent=1)
    if path is None:
        print(text)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return result


def device_name(device: str = "cpu") -> str:
    """'NVIDIA H100 80GB HBM3', or the processor and the threads that torch uses on it."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", info.read_text()) if info.is_file() else []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


@dataclass(frozen=True)
class Times:
    """Milliseconds of each call: on the clock, and of processor time summed over threads."""

    wall: list[float]
    processor: list[float]


def timings(
    call: Callable[[], Any], repeats: int = 30, budget: float = 5.0, wait: Callable[[], Any] | None = None
) -> Times:
    """Times of up to `repeats` calls, at least 3, within `budget` seconds, after two calls that do not count.

    `wait` is called before each reading of the clock (torch.cuda.synchronize).
    """
    wait = wait or (lambda: None)
    call()
    call()
    times = Times([], [])
    end = time.perf_counter() + budget
    while len(times.wall) < repeats and (len(times.wall) < 3 or time.perf_counter() < end):
        wait()
        start, start_processor = time.perf_counter(), time.process_time()
        call()
        wait()
        times.wall.append(1e3 * (time.perf_counter() - start))
        times.processor.append(1e3 * (time.process_time() - start_processor))
    return times


def milliseconds(name: str, times: Times, bar: str | None = None) -> list[Figure]:
    """Median, which the bar is for; least, and median processor time, which other work on the machine disturbs less."""
    return [
        Figure(name, round(statistics.median(times.wall), 3), "ms", bar),
        Figure(f"{name}_least", round(min(times.wall), 3), "ms"),
        Figure(f"{name}_processor", round(statistics.median(times.processor), 3), "core ms"),
    ]


def _print_table(benchmark: str, device: str, figures: Sequence[Figure]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", title=f"{benchmark} on {device}", title_justify="left")
    for heading in ("value", "unit", "bar", "holds"):
        table.add_column(heading, justify="right" if heading == "value" else "left", no_wrap=True)
    for f in figures:
        holds = {None: "", True: "yes", False: "[red]no[/]"}[f.holds]
        table.add_row(f.name, f"{f.value:.4g}", f.unit, f.bar or "", holds)
    Console(file=sys.stderr, width=max(100, Console().width)).print(table)
