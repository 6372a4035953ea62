"""What training leaves to look at: metrics.jsonl, TensorBoard scalars and pictures, progress lines, summary.json."""

from __future__ import annotations

import importlib.util
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipelines.store import write_json


class TrainingLog:
    """The first process's log of one run; other processes have none.

    On a resumed run rows and events beyond the step it goes on from are dropped: they will be made again.
    """

    def __init__(self, folder: Path, stage: str, start: int, steps: int, say: Callable[[str], None]):
        self.folder, self.stage, self.start, self.steps, self.say = folder, stage, start, steps, say
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "metrics.jsonl"
        self.rows = [row for row in self._read() if row["step"] <= start]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self.board = _board(folder / "tensorboard", start)
        self.began = time.perf_counter()

    def _read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text().splitlines() if self.start and self.path.is_file() else []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:  # cut short when the process was killed
                break
        return rows

    def losses(self, step: int, values: dict[str, float], learning_rate: float) -> None:
        """One row; `step` counts from 1."""
        seconds = (time.perf_counter() - self.began) / max(1, step - self.start)
        row = {"step": step, **values, "learning_rate": learning_rate, "seconds_per_step": seconds}
        self._write(row, "train")
        parts = "  ".join(f"{name} {value:.4f}" for name, value in values.items())
        left = round(seconds * (self.steps - step))
        text = f"{self.stage} step {step}/{self.steps}  {parts}  {seconds:.3g} s/step  {left // 60}:{left % 60:02d} left"
        print(text, flush=True)
        self.say(text)

    def validation(self, step: int, values: dict[str, float], picture: np.ndarray) -> None:
        """Figures and a picture [H, W, 3] 0..1 of held-out data."""
        self._write({"step": step, "validation": values}, "validation", values)
        path = self.folder / "pictures" / f"step{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        image = np.round(picture.clip(0, 1) * 255).astype(np.uint8)
        Image.fromarray(image).save(path)
        self.board.add_image("validation", image, step, dataformats="HWC")

    def _write(self, row: dict[str, Any], group: str, values: dict[str, float] | None = None) -> None:
        self.rows.append(row)
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        for name, value in (values or {k: v for k, v in row.items() if k != "step"}).items():
            self.board.add_scalar(f"{group}/{name}", value, row["step"])
        self.board.flush()

    def close(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write summary.json: `about`, the last losses and validation, and how fast it went."""
        self.board.close()
        trained = [row for row in self.rows if "validation" not in row]
        validated = [row for row in self.rows if "validation" in row]
        pictures = sorted((self.folder / "pictures").glob("*.png"))
        summary = {
            **about,
            "losses": {k: v for k, v in (trained[-1] if trained else {}).items() if k not in ("step", "learning_rate")},
            "first_losses": {k: v for k, v in (trained[0] if trained else {}).items() if k not in ("step", "learning_rate")},
            "validation": validated[-1]["validation"] if validated else {},
            "preview": str(pictures[-1]) if pictures else None,
        }
        write_json(self.folder / "summary.json", summary)
        return summary


class _NoBoard:
    """Takes what TensorBoard would, where that is not installed."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def _board(folder: Path, start: int) -> Any:
    if importlib.util.find_spec("tensorboard") is None:
        print("TensorBoard is not installed: scalars go to metrics.jsonl and pictures to their folder alone", flush=True)
        return _NoBoard()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=start or None)


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then a cosine down to a twentieth; a function of the step alone, so it needs no state."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
