"""The people whose variation the body's ten betas describe, and the facial movements its ten expressions stand for.

N sampled people, V vertices of the base mesh, J joints; metres, T-pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from samples.builders.makehuman import Phenotype, phenotype_vertices, target
from samples.builders.skeleton import TPose

# face and body details that vary beside MakeHuman's macro sliders: (target before -decr/-incr, largest weight)
DETAILS = (
    ("head/head-scale-horiz", 0.5), ("head/head-scale-vert", 0.5), ("head/head-fat", 0.5), ("chin/chin-width", 0.8),
    ("chin/chin-height", 0.6), ("chin/chin-prominent", 0.7), ("nose/nose-scale-horiz", 0.7), ("nose/nose-scale-vert", 0.6),
    ("nose/nose-scale-depth", 0.7), ("mouth/mouth-scale-horiz", 0.5), ("mouth/mouth-lowerlip-volume", 0.6),
    ("cheek/*-cheek-bones", 0.7), ("eyes/*-eye-scale", 0.5), ("forehead/forehead-temple", 0.6),
    ("torso/torso-scale-horiz", 0.4), ("hip/hip-scale-horiz", 0.4),
)  # fmt: skip

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
    "blink": {"eyeBlink_": 1.0},
    "frown": {"mouthFrown_": 1.0, "noseSneer_": 0.5},
}


@dataclass(frozen=True)
class Population:
    vertices: np.ndarray  # [N, V, 3]
    joints: np.ndarray  # [N, J, 3]


def random_phenotype(rng: np.random.Generator) -> Phenotype:
    """An adult: stature with 7 cm of standard deviation within a gender, the rest spread widely."""
    stature = rng.normal(0, 0.07)
    details: list[tuple[str, float]] = []
    for name, largest in DETAILS:
        weight = rng.uniform(-largest, largest)
        suffix = "incr" if weight > 0 else "decr"
        sides = [name.replace("*", side) for side in "lr"] if "*" in name else [name]
        details += [(f"{side}-{suffix}", abs(weight)) for side in sides]
    africa, asia, europe = rng.dirichlet([0.7, 0.7, 0.7])
    return Phenotype(
        gender=rng.beta(0.5, 0.5),
        age=0.5 + 0.4 * rng.beta(1, 2),
        muscle=np.clip(rng.normal(0.5, 0.2), 0, 1),
        weight=np.clip(rng.normal(0.5, 0.2), 0, 1),
        height=0.5 + stature / (0.73 if stature < 0 else 1.45),  # the slider's metres per unit below and above its middle
        proportions=rng.uniform(0.3, 0.9),
        origin=(float(africa), float(asia), float(europe)),
        details=tuple(details),
    )


def sample_population(base: np.ndarray, tpose: TPose, count: int, seed: int) -> Population:
    rng = np.random.default_rng(seed)
    people = [tpose(phenotype_vertices(base, random_phenotype(rng))) for _ in range(count)]
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
