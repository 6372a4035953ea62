"""The hair and beard styles, one row each; samples/builders/hair.py makes them. Lengths in metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HairStyle:
    top: float  # thickness of the hair over the crown
    sides: float
    front: float = 0.0  # thickness added over the forehead: a quiff
    line: Literal["usual", "receding", "ring"] = "usual"
    fringe: Literal["none", "straight", "swept"] = "none"
    strands: Literal["straight", "wavy", "curly", "cropped"] = "straight"
    rough: float = 0.0  # height of curls on the surface
    lean: float = 0.0  # how much thicker one side of the parting is
    parted: bool = False
    falls: float | None = None  # height where hanging hair ends in the middle of the back
    wave: float = 0.0  # of hanging hair
    tail: Literal["none", "pony", "low_pony", "bun", "top_bun", "braid"] = "none"
    worn_by: tuple[float, float] = (1.0, 1.0)  # how often by men, by women


HAIR_STYLES: dict[str, HairStyle] = {
    "bald": HairStyle(0.0, 0.0015, line="ring", strands="cropped", worn_by=(0.6, 0.0)),
    "receding": HairStyle(0.006, 0.006, line="receding", worn_by=(0.8, 0.0)),
    "buzz": HairStyle(0.0012, 0.001, strands="cropped", worn_by=(0.7, 0.12)),
    "crop": HairStyle(0.007, 0.004, worn_by=(1.2, 0.15)),
    "short": HairStyle(0.017, 0.009, worn_by=(1.2, 0.3)),
    "side_part": HairStyle(0.019, 0.007, front=0.008, lean=0.6, parted=True, worn_by=(1.2, 0.1)),
    "quiff": HairStyle(0.020, 0.005, front=0.022, worn_by=(0.9, 0.1)),
    "fringed": HairStyle(0.019, 0.012, fringe="swept", worn_by=(0.7, 0.5)),
    "curly": HairStyle(0.030, 0.018, strands="curly", rough=0.007, worn_by=(1.0, 0.5)),
    "afro": HairStyle(0.075, 0.065, strands="curly", rough=0.006, worn_by=(0.5, 0.6)),
    "shaggy": HairStyle(0.022, 0.016, falls=0.215, wave=0.006, strands="wavy", parted=True, worn_by=(0.5, 0.3)),
    "bob": HairStyle(0.020, 0.018, falls=0.200, parted=True, worn_by=(0.05, 1.0)),
    "fringed_bob": HairStyle(0.021, 0.018, fringe="straight", falls=0.205, worn_by=(0.0, 0.7)),
    "long_straight": HairStyle(0.018, 0.016, falls=0.01, parted=True, worn_by=(0.2, 1.3)),
    "long_fringed": HairStyle(0.020, 0.017, fringe="straight", falls=-0.02, worn_by=(0.0, 0.7)),
    "long_wavy": HairStyle(0.022, 0.021, falls=0.02, wave=0.012, strands="wavy", lean=0.3, parted=True, worn_by=(0.15, 1.3)),
    "long_curly": HairStyle(0.036, 0.034, falls=0.06, wave=0.008, strands="curly", rough=0.008, worn_by=(0.1, 0.8)),
    "ponytail": HairStyle(0.009, 0.008, tail="pony", worn_by=(0.0, 1.0)),
    "low_ponytail": HairStyle(0.010, 0.009, tail="low_pony", parted=True, worn_by=(0.25, 0.5)),
    "bun": HairStyle(0.010, 0.008, tail="bun", worn_by=(0.0, 0.8)),
    "top_bun": HairStyle(0.009, 0.007, tail="top_bun", worn_by=(0.25, 0.5)),
    "braid": HairStyle(0.010, 0.009, tail="braid", parted=True, worn_by=(0.0, 0.5)),
}  # fmt: skip


@dataclass(frozen=True)
class BeardStyle:
    """Where hair grows on the face, 0 or 1 each, and how thick it stands."""

    jaw: float = 0.0
    chin: float = 0.0
    lip: float = 0.0
    thick: float = 0.0  # metres at the chin
    dense: tuple[float, float] = (0.7, 0.95)
    worn_by: float = 1.0


BEARD_STYLES: dict[str, BeardStyle] = {
    "none": BeardStyle(worn_by=2.6),
    "stubble": BeardStyle(1, 1, 1, dense=(0.12, 0.4), worn_by=2.0),
    "moustache": BeardStyle(lip=1, thick=0.004, worn_by=0.6),
    "goatee": BeardStyle(chin=1, lip=1, thick=0.005, worn_by=0.8),
    "short_beard": BeardStyle(1, 1, 1, thick=0.003, worn_by=1.4),
    "full_beard": BeardStyle(1, 1, 1, thick=0.012, worn_by=0.8),
    "long_beard": BeardStyle(1, 1, 1, thick=0.032, worn_by=0.3),
}
