"""Still poses for pictures of people: a stance drawn at random, arms anywhere a talker's arms go, never inside the trunk."""

from __future__ import annotations

import numpy as np
import torch

from model.body import JOINT_NAMES
from model.types import SMPLX_SHAPES, SmplxParams
from samples.builders.people import Person

# joint → (mean, largest deviation) of its rotation vector, radians; y and z turn over for the right side
SPREAD = {
    "spine1": ((0, 0, 0), (0.10, 0.12, 0.06)), "spine3": ((0.02, 0, 0), (0.10, 0.12, 0.06)),
    "neck": ((0, 0, 0), (0.12, 0.25, 0.08)), "head": ((0, 0, 0), (0.15, 0.35, 0.08)),
}  # fmt: skip
SIDED = {
    "collar": ((0, 0, -0.04), (0.03, 0.06, 0.06)), "shoulder": ((0, -0.25, -0.80), (0.25, 0.35, 0.38)),
    "elbow": ((0, -0.85, 0), (0.15, 0.80, 0.05)), "wrist": ((0, 0, 0), (0.45, 0.20, 0.25)),
    "hip": ((-0.05, 0.08, 0.04), (0.15, 0.12, 0.06)), "knee": ((0.12, 0, 0), (0.12, 0, 0)),
}  # fmt: skip
FINGERS = ("index", "middle", "ring", "pinky")


def random_stance(person: Person, rng: np.random.Generator) -> SmplxParams:
    """Parameters [1] of the person standing on y = 0, turned by up to 0.3 rad, with some expression."""
    pose = torch.zeros(len(JOINT_NAMES), 3)

    def turn(joint: str, mean: tuple[float, ...], spread: tuple[float, ...], mirrored: bool = False) -> None:
        drawn = np.array(mean) + np.array(spread) * rng.uniform(-1, 1, 3)
        pose[JOINT_NAMES.index(joint)] = torch.from_numpy(drawn * ([1, -1, -1] if mirrored else [1, 1, 1])).float()

    for joint, (mean, spread) in SPREAD.items():
        turn(joint, mean, spread)
    for side in ("left", "right"):
        for joint, (mean, spread) in SIDED.items():
            turn(f"{side}_{joint}", mean, spread, side == "right")
        curl = rng.uniform(0.05, 0.9)
        for finger in FINGERS:
            for k in (1, 2, 3):
                turn(f"{side}_{finger}{k}", (0, 0, -curl), (0, 0, 0.15), side == "right")
    parts = SmplxParams.from_pose(pose[None], person.betas[None], torch.zeros(1, 10), torch.zeros(1, 3))
    fields = {name: getattr(parts, name) for name in SMPLX_SHAPES}
    fields["global_orient"] = torch.tensor([[0.0, rng.uniform(-0.3, 0.3), 0.0]]).float()
    fields["jaw_pose"] = torch.tensor([[max(0.0, rng.normal(0.02, 0.08)), 0.0, 0.0]]).float()
    fields["expression"] = torch.from_numpy(np.clip(rng.normal(0.1, 0.35, (1, 10)), 0, 1.5)).float()
    ground = float(person.vertices(SmplxParams(**fields))[0, :, 1].min())
    fields["transl"] = torch.tensor([[rng.uniform(-0.1, 0.1), -ground, rng.uniform(-0.1, 0.1)]]).float()
    return SmplxParams(**fields)
