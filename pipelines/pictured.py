"""The body in a clip's reference picture, as `speak` finds it: fitted to that one picture's landmarks, nothing of the clip after it.

Stage 1 also guesses a body, but a landmark fit lies three times nearer to what is seen, and whatever comes after the reference
hangs on where the person stands. The fit has a focal length of its own; the body is moved along the line of sight to where the
clip's camera sees it as large.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.body import Body
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.clip_reading import clip_pictures
from pipelines.motions import Motion
from pipelines.store import Store, hash_json, writing

VERSION = "2"  # 2: at a focal length that is told
NECK = 12


def pictured_body(config: Config, store: Store, body: Body, motion: Motion, focal: float) -> SmplxParams | None:
    """[1] in the frame of a camera of `focal` pixels, kept once found; none where the picture's landmarks do not say."""
    from pipelines.fit import CODE_VERSION

    digest = hash_json([VERSION, CODE_VERSION, config.fit.model_dump(mode="json"), motion.id, len(motion.sample["clip.mp4"]), focal])
    path = store.evaluation("pictured") / f"{motion.name}.{digest}.npz"
    if not path.is_file():
        found = _fitted(config, body, motion, focal)
        with writing(path) as temporary:
            np.savez(temporary, **({} if found is None else {n: getattr(found, n).numpy() for n in SMPLX_SHAPES}))  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as npz:
        return SmplxParams(**{n: torch.from_numpy(npz[n]) for n in SMPLX_SHAPES}) if npz.files else None


def _fitted(config: Config, body: Body, motion: Motion, wanted: float) -> SmplxParams | None:
    from pipelines.speak import fit_picture

    picture = next(iter(clip_pictures(motion.sample["clip.mp4"])))
    found, focal, _ = fit_picture(config, picture)
    return None if found is None else at_focal(body, found, focal, wanted)


def at_focal(body: Body, params: SmplxParams, focal: float, wanted: float) -> SmplxParams:
    """Bodies [T] seen with `focal`, moved along z to be seen as large with `wanted`, by the neck."""
    depth: Tensor = body.joints(params)[:, NECK, 2]
    transl = params.transl.clone()
    transl[:, 2] += depth * (wanted / focal - 1)
    return replace(params, transl=transl)
