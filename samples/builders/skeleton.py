"""SMPL-X's 55 joints on MakeHuman's rig, and the T-pose that SMPL-X's template stands in.

y up, z forward, x to the person's left; the pelvis lies at PELVIS. B bones, J joints, V vertices.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from model.body import JOINT_NAMES
from samples.builders.makehuman import Rig

PELVIS = np.array([0.0, -0.35, 0.01])  # metres, as in SMPL-X
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15]
for _wrist, _first in ((20, 25), (21, 40)):
    PARENTS += [_wrist if k % 3 == 0 else _first + k - 1 for k in range(15)]

SIDES = {"left": ("L", 1.0), "right": ("R", -1.0)}
FINGERS = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
SHIN_X, SHIN_Z, THIGH_X = 0.03, -0.04, 0.07  # the template's legs stand slightly apart


def joint_bones() -> dict[str, str]:
    """SMPL-X joint → the MakeHuman bone whose head it is."""
    table = {"pelvis": "spine05", "spine1": "spine04", "spine2": "spine03", "spine3": "spine02"}
    table |= {"neck": "neck01", "head": "neck03", "jaw": "jaw"}
    limbs = {
        "hip": "upperleg01", "knee": "lowerleg01", "ankle": "foot", "foot": "toe2-1", "collar": "clavicle",
        "shoulder": "upperarm01", "elbow": "lowerarm01", "wrist": "wrist", "eye_smplhf": "eye",
    }  # fmt: skip
    for side, (letter, _) in SIDES.items():
        table |= {f"{side}_{joint}": f"{bone}.{letter}" for joint, bone in limbs.items()}
        for finger, number in FINGERS.items():
            table |= {f"{side}_{finger}{k}": f"finger{number}-{k}.{letter}" for k in (1, 2, 3)}
    return table


def joint_weights(rig: Rig) -> np.ndarray:
    """Skinning weights [V, 55]: a bone without a joint of its own follows its nearest ancestor with one."""
    owners = {bone: JOINT_NAMES.index(joint) for joint, bone in joint_bones().items()}
    owners |= {f"toe{k}-1.{s}": JOINT_NAMES.index(f"{n}_foot") for k in range(1, 6) for n, (s, _) in SIDES.items()}
    owners["root"] = 0
    weights = np.zeros((len(rig.weights), len(JOINT_NAMES)))
    for b in range(len(rig.bones)):
        ancestor = b
        while rig.bones[ancestor] not in owners:
            ancestor = rig.parents[ancestor]
        weights[:, owners[rig.bones[ancestor]]] += rig.weights[:, b]
    return weights


class TPose:
    """Turns MakeHuman's A-pose into SMPL-X's T-pose by skinning: straight horizontal arms, flat hands, legs down."""

    def __init__(self, rig: Rig):
        self.rig = rig
        self.index = {bone: i for i, bone in enumerate(rig.bones)}
        self.weights = sparse.csr_matrix(rig.weights)
        self.joints = [self.index[joint_bones()[name]] for name in JOINT_NAMES]

    def __call__(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[V, 3] → T-posed vertices [V, 3] and joints [55, 3], the pelvis at PELVIS."""
        heads, tails = self.rig.heads @ vertices, self.rig.tails @ vertices
        turns = self._turns(heads, tails)
        rotation = np.zeros((len(heads), 3, 3))
        shift = np.zeros((len(heads), 3))
        for b, (bone, parent) in enumerate(zip(self.rig.bones, self.rig.parents, strict=True)):
            above = (np.eye(3), np.zeros(3)) if parent < 0 else (rotation[parent], shift[parent])
            rotation[b] = turns.get(bone, above[0])
            shift[b] = above[0] @ heads[b] + above[1] - rotation[b] @ heads[b]
        affine = np.concatenate([rotation, shift[..., None]], -1).reshape(-1, 12)
        blended = (self.weights @ affine).reshape(-1, 3, 4)
        posed = np.einsum("vij,vj->vi", blended[..., :3], vertices) + blended[..., 3]
        joints = np.einsum("bij,bj->bi", rotation, heads)[self.joints] + shift[self.joints]
        offset = PELVIS - joints[0]
        return posed + offset, joints + offset

    def _turns(self, heads: np.ndarray, tails: np.ndarray) -> dict[str, np.ndarray]:
        """Global rotation of every bone that the T-pose turns."""
        turns: dict[str, np.ndarray] = {}
        for letter, side in SIDES.values():
            head = lambda bone, s=letter: heads[self.index[f"{bone}.{s}"]]  # noqa: E731
            outward = np.array([side, 0.0, 0.0])
            upper = _arc(head("lowerarm01") - head("upperarm01"), outward)
            lower = _arc(upper @ (head("wrist") - head("lowerarm01")), outward) @ upper
            wrist = _arc(lower @ (head("finger3-1") - head("wrist")), outward) @ lower
            across = wrist @ (head("finger2-1") - head("finger5-1"))  # from pinky to index: forward in a flat hand
            twist = float(np.arctan2(across[1], across[2]))
            wrist = _about_x(twist) @ wrist
            named = {"upperarm01": upper, "lowerarm01": lower, "lowerarm02": _about_x(twist / 2) @ lower, "wrist": wrist}
            for finger in (2, 3, 4, 5):
                joints = [head(f"finger{finger}-{k}") for k in (1, 2, 3)] + [tails[self.index[f"finger{finger}-3.{letter}"]]]
                turn = wrist
                first = turn @ (joints[1] - joints[0])
                direction = np.array([first[0], 0.0, 0.6 * first[2]])
                for k in range(3):
                    turn = _arc(turn @ (joints[k + 1] - joints[k]), direction) @ turn
                    named[f"finger{finger}-{k + 1}"] = turn
            thigh = _arc(head("lowerleg01") - head("upperleg01"), np.array([side * THIGH_X, -1.0, 0.0]))
            shin = _arc(thigh @ (head("foot") - head("lowerleg01")), np.array([side * SHIN_X, -1.0, SHIN_Z])) @ thigh
            named |= {"upperleg01": thigh, "lowerleg01": shin, "foot": np.eye(3)}
            turns |= {f"{bone}.{letter}": turn for bone, turn in named.items()}
        return turns


def _arc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes direction a to direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    x, y, z = np.cross(a, b)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + skew + skew @ skew / (1 + a @ b)


def _about_x(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
