"""The ground truth beside a talk: a fit file (DESIGN §5 keys) with phones, words, strokes and a second draw of the motion.

Further keys: `phones` [P] IPA ('sil' for silence), `phones_start`, `phones_end` [P] seconds, `phones_prominence` [P];
`words_text`, `words_start`, `words_end` [W]; `strokes_form`, `strokes_hands` ('l', 'r', 'lr'), `strokes_start` (the
hand leaves), `strokes_begin`, `strokes_apex`, `strokes_hold` (until here it is held), `strokes_end` [S] seconds;
`oracle_<key>` for every key of the motion: the generator run again on the same speech with another seed, which is what
a perfect model of this speaker could say of this clip. On demand `masks` [T, H, ceil(W/8)] uint8, the silhouettes' bits,
and `masks_width`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.types import SMPLX_SHAPES, Camera, SmplxParams
from pipelines.formats import save_fit
from samples.builders.gesture import Stroke
from samples.builders.score import PHONES, STROKES, WORDS, Score, columns, rows_of
from samples.builders.speech import Phone


def save_truth(
    path: Path,
    score: Score,
    params: SmplxParams,  # [T]
    oracle: SmplxParams,  # [T]
    camera: Camera,
    strokes: tuple[Stroke, ...],  # in `params`
    masks: NDArray[np.uint8] | None = None,  # [T, H, ceil(W/8)] bits
) -> None:
    """Write `path`; same input, same bytes."""
    save_fit(path, params, camera, torch.ones(len(params.transl)), score.fps)
    with np.load(path, allow_pickle=False) as npz:
        arrays = {name: npz[name] for name in npz.files}
    arrays |= {f"oracle_{n}": getattr(oracle, n).numpy() for n in SMPLX_SHAPES if n != "betas"}
    for (key, kind), rows in ((PHONES, score.phones), (WORDS, score.words), (STROKES, strokes)):
        arrays |= columns(key, kind, rows)
    if masks is not None:
        arrays |= {"masks": masks, "masks_width": np.array(int(camera.size[0]))}
    np.savez_compressed(path, **arrays)


def load_phones(path: Path) -> tuple[Phone, ...]:
    """The phones of a truth file."""
    with np.load(path, allow_pickle=False) as npz:
        return rows_of(npz, *PHONES)


def load_strokes(path: Path) -> tuple[Stroke, ...]:
    """The strokes of a truth file."""
    with np.load(path, allow_pickle=False) as npz:
        return rows_of(npz, *STROKES)


def load_masks(path: Path) -> NDArray[np.bool_]:  # [T, H, W]
    """The silhouettes of a truth file; KeyError where it was written without them."""
    with np.load(path, allow_pickle=False) as npz:
        if "masks" not in npz.files:
            raise KeyError(f"{path}: no masks in it; render the talk with masks=True")
        return np.unpackbits(npz["masks"], axis=-1, count=int(npz["masks_width"])).astype(bool)
