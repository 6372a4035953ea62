"""Places of the template that cuts and colours refer to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.body import JOINT_NAMES
from samples.builders.wardrobe import Wardrobe


@dataclass(frozen=True)
class BodyArrays:
    """The body file, as far as clothes need it."""

    template: np.ndarray  # [V, 3]
    dirs: np.ndarray  # [V, 3, 20]
    weights: np.ndarray  # [V, 55]
    faces: np.ndarray  # [F, 3]
    joints: np.ndarray  # [55, 3]


@dataclass(frozen=True)
class Anatomy:
    """Places in the template, [3] each; metres, T-pose."""

    left_eye: np.ndarray
    mouth: np.ndarray
    nose: np.ndarray
    chin: np.ndarray
    neck: np.ndarray
    ankle: np.ndarray
    pelvis: np.ndarray
    bridge: np.ndarray  # of the nose, between the eyes
    ear: np.ndarray  # top of the left one


def anatomy(body: BodyArrays, wardrobe: Wardrobe) -> Anatomy:
    joint = {name: body.joints[i] for i, name in enumerate(JOINT_NAMES)}
    eye = joint["left_eye_smplhf"]
    skin = np.unique(body.faces[wardrobe.groups == "body"])
    middle = body.template[skin[np.abs(body.template[skin, 0]) < 0.005]]
    face = middle[(middle[:, 2] > 0.1) & (middle[:, 1] > joint["neck"][1])]
    lips = body.template[wardrobe.masks["lips"] > 0.5]
    above = face[face[:, 1] > lips[:, 1].max()]
    level = above[np.abs(above[:, 1] - eye[1]) < 0.008]
    ears = body.template[(wardrobe.masks["ears"] > 0.5) & (body.template[:, 0] > 0)]
    top = ears[ears[:, 1] > ears[:, 1].max() - 0.006]
    return Anatomy(
        left_eye=eye,
        mouth=lips.mean(0),
        nose=above[above[:, 2].argmax()],
        chin=face[face[:, 1].argmin()],
        neck=joint["neck"],
        ankle=joint["left_ankle"],
        pelvis=joint["pelvis"],
        bridge=level[level[:, 2].argmax()],
        ear=np.array([top[:, 0].max(), top[:, 1].max() + 0.002, top[:, 2].mean() + 0.004]),
    )
