"""What only a truth file knows of a held-out clip: its phones, and another draw of the same person saying the same.

`evaluation.truth` names a folder of `<talk>.npz` (fit files with `phones*` and `oracle_*`), as ships with the embedded talks.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import torch

from configs.schema import EMBEDDED, Config
from model.body import Body
from model.types import SmplxParams
from pipelines.formats import load_fit
from pipelines.formats_take import Take, resampled
from pipelines.motions import Motion
from pipelines.placing import placed, unplaced
from pipelines.scoring_rows import Phones, phones_of, second_draw


def truth_of(
    config: Config, body: Body, motion: Motion, start: float, fitted: SmplxParams
) -> tuple[SmplxParams | None, Phones | None]:
    """Second draw [T] in the camera's frame, and phones with seconds since the clip's start; none where no file tells.

    Both draws of a truth file stand at the true place; `fitted` [T] is what the clip's fit says of the first, off by what a
    picture cannot tell (size and distance). The second draw is put where the fit says that the first one stands.
    """
    frames = len(fitted.transl)
    path = _file(config, motion)
    if path is None:
        return None, None
    fit, phones = load_fit(path), phones_of(path)
    if phones is not None:
        inside = [i for i, t in enumerate(phones[1]) if start <= t < start + frames / motion.fit.fps]
        phones = [phones[0][i] for i in inside], phones[1][inside] - start
    drawn = second_draw(path, Take.of(fit.params, fit.fps))
    if drawn is None:
        return None, phones
    first, second = (resampled(x, motion.fit.fps).params() for x in (Take.of(fit.params, fit.fps), drawn))
    index = (torch.arange(frames) + round(start * motion.fit.fps)).clamp(max=len(second.transl) - 1)
    stands = body.moved(first[index[:1]], fit.camera.w2c)
    return placed(unplaced(body.moved(second[index], fit.camera.w2c), stands), fitted[:1]), phones


def _file(config: Config, motion: Motion) -> Path | None:
    root = config.evaluation.truth
    if root is None:
        return None
    folder = Path(str(resources.files("samples"))) / "talks" / "truth" if root == EMBEDDED else Path(root).expanduser()
    path = folder / f"{motion.id.split('/')[0]}.npz"
    return path if path.is_file() else None
