"""Which identities are held out: decided once, by a hash of the id, so that no run and no machine can differ."""

from __future__ import annotations

import hashlib
from typing import Literal


def split_of(identity: str, held_out: float) -> Literal["train", "test"]:
    """Split of a speaker or subject; `held_out` is the share (0..1) of identities that are for testing."""
    if not 0 <= held_out <= 1:
        raise ValueError(f"held_out must be a share between 0 and 1, got {held_out}")
    position = int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if position < held_out else "train"
