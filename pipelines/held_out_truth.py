"""What a truth file knows of a held-out clip: its motion and camera, its phones, another draw of the same person saying the same.

`evaluation.truth` names a folder of `<talk>.npz` (fit files with `phones*` and `oracle_*`), as ships with the embedded talks. A fit
moves hands and lips less than the person did: where the truth is known, nothing is judged by a fit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from configs.schema import EMBEDDED, Config
from model.body import Body
from model.types import SmplxParams
from pipelines.crops import crop_camera
from pipelines.formats import FitFile, load_fit
from pipelines.formats_take import Take, resampled
from pipelines.motions import Motion
from pipelines.scoring_rows import Phones, phones_of, second_draw


@dataclass(frozen=True)
class Truth:
    """Of one clip; times are the clip's."""

    fit: FitFile  # [T] what a perfect fit would have found
    second: SmplxParams | None  # [T] the second draw, in the camera's frame
    phones: Phones | None


def truth_of(config: Config, body: Body, motion: Motion) -> Truth | None:
    """None where no file tells."""
    path = _file(config, motion)
    if path is None:
        return None
    about, fit = json.loads(motion.sample["clip.json"]), load_fit(path)
    start, fps, frames = float(about.get("start", 0)), motion.fit.fps, len(motion.fit.confidence)
    first = round(start * float(fps))

    def part(take: Take) -> SmplxParams:  # the last frame is held
        whole = resampled(take, fps)
        return whole.params()[(torch.arange(frames) + first).clamp(max=whole.frames - 1)]

    taken = Take.of(fit.params, fit.fps)
    camera = fit.camera
    if "crop" in about:
        crop = about["crop"]
        camera = crop_camera(camera, (crop["x"], crop["y"], crop["side"]), about["size"])
    drawn, phones = second_draw(path, taken), phones_of(path)
    if phones is not None:
        inside = [i for i, t in enumerate(phones[1]) if start <= t < start + frames / fps]
        phones = [phones[0][i] for i in inside], phones[1][inside] - start
    second = None if drawn is None else body.moved(part(drawn), camera.w2c)
    return Truth(FitFile(part(taken), camera, torch.ones(frames), fps), second, phones)


def _file(config: Config, motion: Motion) -> Path | None:
    root = config.evaluation.truth
    if root is None:
        return None
    folder = Path(str(resources.files("samples"))) / "talks" / "truth" if root == EMBEDDED else Path(root).expanduser()
    path = folder / f"{motion.id.split('/')[0]}.npz"
    return path if path.is_file() else None
