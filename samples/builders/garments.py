"""The garments: rows of data that say where each is cut from the layer of tights, how loose it is and what it is made of.

Lengths are metres in the template's T-pose: heights of hems, and distances of sleeve ends from the body's middle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Neckline = Literal["crew", "v", "deep_v", "scoop", "boat", "collar", "high", "roll"]
Range = tuple[float, float]

# no sleeve ends within the bend of an elbow (0.41), where skin would come through
NO_SLEEVE, CAP, SHORT, ELBOW, THREE_QUARTER, LONG = (0.185, 0.20), (0.22, 0.25), (0.28, 0.34), (0.34, 0.37), (0.50, 0.54), (0.615, 0.645)
WAIST, TUCKED_HEM = -0.275, -0.30
ANKLE = -1.155


@dataclass(frozen=True)
class Upper:
    """Something worn on the trunk. Ranges are drawn from; a garment is one row."""

    necklines: tuple[Neckline, ...]
    sleeves: tuple[Range, ...]
    hem: Range = (-0.40, -0.36)
    loose: Range = (0.005, 0.008)  # off the skin
    arm: float = 0.004  # further off along the arm
    cuff: float = 0.002  # further off where a sleeve ends
    flare: float = 0.006  # further off at the hem
    smooth: int = 3
    weaves: tuple[str, ...] = ("plain",)
    patterns: tuple[str, ...] = ("plain",)
    tucks: float = 0.0  # chance of being tucked in
    ribbed: bool = False  # bands at cuffs and hem
    front: Literal["closed", "buttons", "placket", "zip", "lapels", "open"] = "closed"
    opens: float | None = None  # height of the first button; none: no opening
    worn_by: tuple[float, float] = (1.0, 1.0)  # how often by men, by women


PRINTS = ("plain", "plain", "stripes", "graphic", "graphic", "dots", "block", "melange", "fade", "chevron")
SHIRTINGS = ("plain", "plain", "pinstripes", "checks", "plaid", "dots", "stripes", "floral")
KNITS = ("plain", "plain", "stripes", "argyle", "block", "melange", "chevron")

UPPERS: dict[str, Upper] = {
    "t_shirt": Upper(("crew", "crew", "v"), (SHORT,), patterns=PRINTS, cuff=0.012, tucks=0.3, worn_by=(1.3, 1.0)),
    "long_sleeve": Upper(("crew", "boat", "v"), (LONG, THREE_QUARTER), patterns=PRINTS, tucks=0.3, worn_by=(0.8, 0.9)),
    "tank_top": Upper(("scoop", "deep_v"), (NO_SLEEVE,), patterns=("plain", "stripes", "floral", "fade"), tucks=0.4, worn_by=(0.25, 0.8)),
    "polo": Upper(("collar",), (SHORT,), weaves=("knit", "plain"), patterns=("plain", "plain", "stripes", "block"), cuff=0.008,
                  tucks=0.4, ribbed=True, front="placket", worn_by=(1.0, 0.4)),
    "shirt": Upper(("collar",), (LONG, LONG, SHORT, ELBOW, THREE_QUARTER), patterns=SHIRTINGS, loose=(0.007, 0.011), tucks=0.5,
                   front="buttons",
                   worn_by=(1.6, 0.8)),
    "blouse": Upper(("scoop", "v", "boat", "deep_v"), (LONG, ELBOW, THREE_QUARTER, SHORT), weaves=("satin", "plain"), arm=0.011,
                    cuff=0.006, flare=0.014,
                    patterns=("plain", "floral", "floral", "dots", "stripes", "fade"), loose=(0.008, 0.012), tucks=0.5, worn_by=(0.0, 1.5)),
    "sweater": Upper(("crew", "v", "boat"), (LONG,), weaves=("knit", "cable", "wool"), patterns=KNITS, loose=(0.011, 0.016), arm=0.006,
                     smooth=5, ribbed=True, flare=0.002, worn_by=(1.0, 1.0)),
    "turtleneck": Upper(("roll",), (LONG,), weaves=("knit", "plain", "cable"), patterns=("plain", "plain", "melange", "stripes"),
                        loose=(0.007, 0.011), tucks=0.3, ribbed=True, worn_by=(0.5, 0.8)),
    "hoodie": Upper(("crew",), (LONG,), weaves=("wool",), patterns=("plain", "plain", "graphic", "block", "melange"), loose=(0.014, 0.020),
                    arm=0.007, smooth=5, ribbed=True, flare=0.002, hem=(-0.43, -0.40), worn_by=(1.0, 0.7)),
    "dress": Upper(("scoop", "v", "boat", "crew", "collar"), (NO_SLEEVE, CAP, SHORT, LONG), hem=(-0.26, -0.255), flare=0.0,
                   weaves=("plain", "satin"), patterns=("plain", "floral", "floral", "dots", "stripes", "checks", "fade"), worn_by=(0.0,
                   1.7)),
}  # fmt: skip

OVERS: dict[str, Upper] = {
    "blazer": Upper(("crew",), (LONG,), hem=(-0.44, -0.42), loose=(0.012, 0.014), arm=0.004, flare=0.008, smooth=6, weaves=("wool",
                    "plain"),
                    patterns=("plain", "plain", "plain", "pinstripes", "plaid"), front="lapels", opens=-0.13, worn_by=(1.0, 0.8)),
    "cardigan": Upper(("crew",), (LONG, THREE_QUARTER), hem=(-0.445, -0.40), loose=(0.013, 0.016), arm=0.006, flare=0.010, smooth=6,
                      ribbed=True,
                      weaves=("knit", "cable"), patterns=("plain", "plain", "stripes", "argyle", "melange"), front="buttons", opens=-0.10,
                      worn_by=(0.6, 1.2)),
    "vest": Upper(("crew",), ((0.185, 0.195),), hem=(-0.40, -0.36), loose=(0.010, 0.012), arm=0.0, flare=0.0, smooth=5, weaves=("wool",
                  "plain"),
                  patterns=("plain", "pinstripes", "argyle", "checks"), front="buttons", opens=-0.04, worn_by=(0.5, 0.25)),
    "jacket": Upper(("crew",), (LONG,), hem=(-0.40, -0.35), loose=(0.015, 0.019), arm=0.008, flare=0.002, smooth=6, ribbed=True,
                    weaves=("leather", "denim", "plain"), patterns=("plain", "plain", "block"), front="zip", opens=0.02, worn_by=(0.8,
                    0.7)),
    "open_shirt": Upper(("crew",), (LONG, SHORT), hem=(-0.445, -0.40), loose=(0.012, 0.014), arm=0.005, flare=0.014, smooth=5,
                        patterns=("plaid", "checks", "plain", "stripes"), front="open", opens=-0.60, worn_by=(0.5, 0.5)),
}  # fmt: skip


@dataclass(frozen=True)
class Lower:
    """Something worn on the legs; cut from the tights, or (skirts) wound round the hips."""

    hem: Range
    loose: Range = (0.003, 0.005)
    wide: Range = (0.004, 0.012)  # further off towards the hem
    weaves: tuple[str, ...] = ("plain", "wool")
    patterns: tuple[str, ...] = ("plain",)
    skirt: bool = False
    worn_by: tuple[float, float] = (1.0, 1.0)


LOWERS: dict[str, Lower] = {
    "trousers": Lower((ANKLE - 0.03, ANKLE), patterns=("plain", "plain", "plain", "pinstripes", "plaid"), worn_by=(1.4, 0.8)),
    "jeans": Lower((ANKLE - 0.03, ANKLE), weaves=("denim",), wide=(0.002, 0.014), worn_by=(1.4, 1.2)),
    "wide_trousers": Lower((ANKLE - 0.035, ANKLE - 0.02), wide=(0.020, 0.032), worn_by=(0.15, 0.5)),
    "leggings": Lower((ANKLE + 0.01, ANKLE + 0.08), loose=(0.0015, 0.002), wide=(0.0, 0.001), worn_by=(0.0, 0.4)),
    "shorts": Lower((-0.72, -0.58), loose=(0.005, 0.008), wide=(0.012, 0.022), weaves=("plain", "denim"), patterns=("plain", "plain",
                    "plaid", "floral"),
                    worn_by=(0.5, 0.3)),
    "skirt": Lower((-0.76, -0.56), wide=(0.02, 0.13), patterns=("plain", "plain", "plaid", "floral", "dots", "pinstripes"), skirt=True,
                   weaves=("plain", "wool", "denim", "satin"), worn_by=(0.0, 0.7)),
    "long_skirt": Lower((-1.08, -0.88), wide=(0.05, 0.18), patterns=("plain", "floral", "stripes", "fade"), skirt=True, weaves=("plain",
                        "satin"),
                        worn_by=(0.0, 0.5)),
}  # fmt: skip


@dataclass(frozen=True)
class Footwear:
    top: float  # height of the upper edge
    loose: float
    sole: float  # metres under the foot
    worn_by: tuple[float, float] = (1.0, 1.0)


FOOTWEAR: dict[str, Footwear] = {
    "shoes": Footwear(ANKLE + 0.005, 0.006, 0.010, (1.2, 0.6)),
    "sneakers": Footwear(ANKLE + 0.02, 0.010, 0.022, (1.2, 1.0)),
    "boots": Footwear(-1.00, 0.009, 0.020, (0.5, 0.7)),
    "flats": Footwear(-1.165, 0.004, 0.006, (0.0, 0.7)),
}
