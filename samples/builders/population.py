"""The people whose variation the body's ten betas describe, and the facial movements its ten expressions stand for.

N sampled people, V vertices of the base mesh, J joints; metres, T-pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from samples.builders.makehuman import Phenotype, phenotype_vertices, target
from samples.builders.skeleton import TPose

Gender = Literal["female", "male"]

# details beside MakeHuman's macro sliders: (target, ending of its negative and positive side, largest weight); '*' is l and r
_SIZE = ("decr", "incr")
_SHIFT = ("down", "up")
DETAILS: tuple[tuple[str, tuple[str, str], float], ...] = (
    ("head/head-scale-horiz", _SIZE, 0.5), ("head/head-scale-vert", _SIZE, 0.38), ("head/head-scale-depth", _SIZE, 0.5),
    ("head/head-fat", _SIZE, 0.8), ("head/head-back-scale-depth", _SIZE, 0.5), ("chin/chin-width", _SIZE, 1.0),
    ("chin/chin-height", _SIZE, 0.8), ("chin/chin-prominent", _SIZE, 0.8), ("chin/chin-bones", _SIZE, 0.8),
    ("nose/nose-scale-horiz", _SIZE, 0.9), ("nose/nose-scale-vert", _SIZE, 0.8), ("nose/nose-scale-depth", _SIZE, 0.9),
    ("nose/nose-hump", _SIZE, 0.7), ("nose/nose-point", _SHIFT, 0.7), ("nose/nose-trans", _SHIFT, 0.5),
    ("mouth/mouth-scale-horiz", _SIZE, 0.7), ("mouth/mouth-lowerlip-volume", _SIZE, 0.6),
    ("mouth/mouth-upperlip-volume", _SIZE, 0.6), ("mouth/mouth-trans", _SHIFT, 0.5), ("cheek/*-cheek-bones", _SIZE, 0.9),
    ("cheek/*-cheek-volume", _SIZE, 0.9), ("eyes/*-eye-scale", _SIZE, 0.5), ("eyes/*-eye-trans", ("in", "out"), 0.5),
    ("eyes/*-eye-corner1", _SHIFT, 0.5), ("forehead/forehead-temple", _SIZE, 0.7), ("forehead/forehead-scale-vert", _SIZE, 0.4),
    ("forehead/forehead-trans", ("backward", "forward"), 0.5), ("eyebrows/eyebrows-trans", _SHIFT, 0.5),
    ("ears/*-ear-scale", _SIZE, 0.5), ("ears/*-ear-wing", _SIZE, 0.6), ("neck/neck-scale-horiz", _SIZE, 0.6),
    ("torso/torso-scale-horiz", _SIZE, 0.7), ("torso/torso-scale-depth", _SIZE, 0.6), ("torso/torso-vshape", _SIZE, 0.4),
    ("torso/measure-waist-circ", _SIZE, 0.5), ("hip/hip-scale-horiz", _SIZE, 0.5), ("buttocks/buttocks-volume", _SIZE, 0.6),
)  # fmt: skip
# lengths that vary beside stature: (targets, standard deviation of their weight)
LENGTHS = (
    (("legs/upperlegs-height", "legs/lowerlegs-height"), 0.22), (("torso/torso-scale-vert",), 0.27),
    (("arms/measure-upperarm-length", "arms/measure-lowerarm-length"), 0.33),
)  # fmt: skip
STATURE = {"female": 1.600, "male": 1.727}  # metres, world's means
STATURE_SD = 0.07  # metres, within a gender

# expression k = 2 is the movement fully done; names of CC0 ARKit-style face units, '_' stands for Left and Right
EXPRESSIONS: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile_": 1.0, "cheekSquint_": 0.5},
    "lips_open": {"mouthUpperUp_": 0.7, "mouthLowerDown_": 1.0},
    "pucker": {"mouthPucker": 1.0},
    "funnel": {"mouthFunnel": 1.0},
    "stretch": {"mouthStretch_": 1.0},
    "press": {"mouthPress_": 1.0, "mouthRollLower": 0.5, "mouthRollUpper": 0.5},
    "brow_up": {"browInnerUp": 1.0, "browOuterUp_": 1.0},
    "brow_down": {"browDown_": 1.0},
    "blink": {"eyeBlink_": 0.55},
    "frown": {"mouthFrown_": 1.0, "noseSneer_": 0.5},
}


@dataclass(frozen=True)
class Population:
    vertices: np.ndarray  # [N, V, 3]
    joints: np.ndarray  # [N, J, 3]

    def __add__(self, other: Population) -> Population:
        return Population(np.concatenate([self.vertices, other.vertices]), np.concatenate([self.joints, other.joints]))


def random_phenotype(rng: np.random.Generator, gender: Gender, stature: float) -> Phenotype:
    """An adult of about that stature in metres; build, age, origin, limb lengths and face spread widely."""
    details: list[tuple[str, float]] = []
    for name, endings, largest in DETAILS:
        details += _sided(name, endings, rng.uniform(-largest, largest))
    for names, deviation in LENGTHS:
        weight = np.clip(rng.normal(0, deviation), -0.6, 0.6)
        details += [pair for name in names for pair in _sided(name, _SIZE, weight)]
    africa, asia, europe = rng.dirichlet([0.7, 0.7, 0.7])
    taller = stature - STATURE[gender]
    feminine = 0.25 * rng.beta(1, 2)
    return Phenotype(
        gender=feminine if gender == "female" else 1 - feminine,
        age=0.5 + 0.4 * rng.beta(1, 2),
        muscle=rng.uniform(0.05, 0.95),
        weight=rng.uniform(0.05, 0.95),
        height=0.5 + 0.8 * taller / (0.73 if taller < 0 else 1.45),  # the slider's metres per unit below and above its middle
        proportions=rng.uniform(0.3, 0.9),
        origin=(float(africa), float(asia), float(europe)),
        details=tuple(details),
    )


def _sided(name: str, endings: tuple[str, str], weight: float) -> list[tuple[str, float]]:
    sides = [name.replace("*", side) for side in "lr"] if "*" in name else [name]
    return [(f"{side}-{endings[int(weight > 0)]}", abs(weight)) for side in sides]


def sample_population(
    base: np.ndarray,
    tpose: TPose,
    skin: np.ndarray,  # vertices that count for stature
    gender: Gender,
    count: int,
    seed: int,
) -> Population:
    """People of one gender whose stature is normal about its mean; what the sliders miss of it is made up by scaling."""
    rng = np.random.default_rng([seed, sorted(STATURE).index(gender)])
    share = rng.permutation((np.arange(count) + 0.5) / count)  # evenly spaced quantiles
    stature = np.array([STATURE[gender] + STATURE_SD * NormalDist().inv_cdf(s) for s in share])
    vertices = phenotype_vertices(base, [random_phenotype(rng, gender, s) for s in stature])
    vertices *= (stature / np.ptp(vertices[:, skin, 1], axis=1))[:, None, None]
    people = [tpose(v) for v in vertices]
    return Population(np.stack([p[0] for p in people]), np.stack([p[1] for p in people]))


def shape_directions(
    population: Population,
    importance: np.ndarray,  # [V] weight of a vertex's squared distance
    count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted principal components, one standard deviation each, positive towards taller: [V, 3, K], joints [J, 3, K].

    Also returns the share of the weighted variance that the first k explain, [K].
    """
    n = len(population.vertices)
    vertices = (population.vertices - population.vertices.mean(0)).reshape(n, -1)
    joints = (population.joints - population.joints.mean(0)).reshape(n, -1)
    weighted = vertices * np.repeat(np.sqrt(importance), 3)
    variance, scores = np.linalg.eigh(weighted @ weighted.T)
    variance, scores = variance[::-1][:count], scores[:, ::-1][:, :count]
    directions = (vertices.T @ scores).reshape(-1, 3, count) / np.sqrt(n - 1)
    joint_directions = (joints.T @ scores).reshape(-1, 3, count) / np.sqrt(n - 1)
    mean_height = population.vertices[:, :, 1].mean(0)
    grows = np.einsum("v,vk,v->k", importance, directions[:, 1], mean_height - mean_height.mean())
    sign = np.where(grows < 0, -1.0, 1.0)
    explained = np.cumsum(variance) / np.trace(weighted @ weighted.T)
    return directions * sign, joint_directions * sign, explained


def expression_directions(vertex_count: int) -> np.ndarray:
    """Face units as linear directions, [V, 3, 10]; a coefficient of 2 is the full movement."""
    out = np.zeros((vertex_count, 3, len(EXPRESSIONS)))
    for k, units in enumerate(EXPRESSIONS.values()):
        for unit, weight in units.items():
            for name in (unit[:-1] + "Left", unit[:-1] + "Right") if unit.endswith("_") else (unit,):
                index, offset = target(f"faceunits01/targets/faceunits/{name}")
                out[index, :, k] += 0.5 * weight * offset
    return out
