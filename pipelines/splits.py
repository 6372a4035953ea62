"""Which identities are held out: by a hash of the id, so that no run and no machine can differ, or as it is stated."""

from __future__ import annotations

import hashlib
from typing import Literal

SPLITS = ("train", "test")


def split_of(identity: str, held_out: float) -> Literal["train", "test"]:
    """Split of a speaker or subject; `held_out` is the share (0..1) of identities that are for testing."""
    if not 0 <= held_out <= 1:
        raise ValueError(f"held_out must be a share between 0 and 1, got {held_out}")
    position = int(hashlib.sha256(identity.encode()).hexdigest()[:8], 16) / 2**32
    return "test" if position < held_out else "train"


def settle_splits(stated: dict[str, tuple[str, str | None]]) -> tuple[dict[str, str | None], dict[str, str]]:
    """Splits that are stated, by clip: id → (speaker, split or none) gives (id → split or none, id → why it is left out).

    A speaker is in one split: what is stated for one clip goes for the speaker's others, and where both splits are stated,
    the speaker is held out and the clips for training are left out.
    """
    refused = {
        id: f"expected split {' or '.join(SPLITS)}, got {split!r}; correct it where the talk's split is stated"
        for id, (_, split) in stated.items()
        if split is not None and split not in SPLITS
    }
    known = {id: row for id, row in stated.items() if id not in refused}
    chosen = {speaker: "train" for speaker, split in known.values() if split == "train"}
    chosen |= {speaker: "test" for speaker, split in known.values() if split == "test"}
    for id, (speaker, split) in known.items():
        if split is not None and split != chosen[speaker]:
            refused[id] = f"expected one split a speaker, speaker {speaker!r} is stated as train and as test; held out"
    return {id: chosen.get(speaker) for id, (speaker, _) in stated.items()}, refused
