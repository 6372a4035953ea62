"""The ground truth beside an embedded talk: a fit file (DESIGN §5 keys) with the phones and a second draw of the motion.

Further keys: `phones` [P] IPA ('sil' for silence), `phones_start`, `phones_end` [P] seconds, `phones_prominence` [P];
`oracle_<key>` for every key of the motion: the generator run again on the same speech with another seed, which is what
a perfect model of this speaker could say of this clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from model.types import SMPLX_SHAPES, Camera, SmplxParams
from pipelines.formats import save_fit
from samples.builders.speech import Phone


def save_truth(
    path: Path,
    params: SmplxParams,  # [T]
    oracle: SmplxParams,  # [T]
    camera: Camera,
    fps: Fraction,
    phones: Sequence[Phone],
) -> None:
    """Write `path`; same input, same bytes."""
    save_fit(path, params, camera, torch.ones(len(params.transl)), fps)
    with np.load(path, allow_pickle=False) as npz:
        arrays = {name: npz[name] for name in npz.files}
    arrays |= {f"oracle_{n}": getattr(oracle, n).numpy() for n in SMPLX_SHAPES if n != "betas"}
    arrays |= {
        "phones": np.array([p.name for p in phones]),
        "phones_start": np.array([p.start for p in phones]),
        "phones_end": np.array([p.end for p in phones]),
        "phones_prominence": np.array([p.prominence for p in phones]),
    }
    np.savez_compressed(path, **arrays)


def load_phones(path: Path) -> tuple[Phone, ...]:
    """The phones of a truth file, ready for `performance.perform`."""
    with np.load(path, allow_pickle=False) as npz:
        columns = zip(npz["phones_start"], npz["phones_end"], npz["phones"], npz["phones_prominence"], strict=True)
        return tuple(Phone(float(a), float(b), str(n), float(p)) for a, b, n, p in columns)
