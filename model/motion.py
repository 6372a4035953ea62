"""Motion as vectors relative to a reference pose: what the baseline generates.

A motion vector holds, in this order (`MOTION` = 343 numbers, all zero at the reference pose):
55 joints × 6: 6D of R_referenceᵀ·R (rotation of the joint in its own reference frame) minus the 6D of the identity,
               joints in the order of `SmplxParams.full_pose`;
10: expression minus the reference's;
3: translation minus the reference's, metres, in the space of the parameters (for stage 2 the picture's camera frame).
Betas are the reference's and are no part of it. Axes: T frames.
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

from model.geometry import IDENTITY_6D, full_precision, rotation_from_6d, rotation_to_6d
from model.types import JOINTS, SmplxParams

MOTION = JOINTS * 6 + 10 + 3
ROOT_LIMIT = 0.6  # radians by which a generated root may turn from the reference's
TRANSLATION_LIMIT = 0.3  # metres by which it may move


def motion_vector(params: SmplxParams, reference: SmplxParams) -> Tensor:
    """Frames [..., T] relative to their reference [...] → [..., T, 343]."""
    with full_precision(params.transl):
        reference = reference.map(lambda t: t.float())
        turns = _matrices(reference)[..., None, :, :, :].mT @ _matrices(params)
        change = rotation_to_6d(turns) - turns.new_tensor(IDENTITY_6D)
        expression = params.expression.float() - reference.expression[..., None, :]
        transl = params.transl.float() - reference.transl[..., None, :]
        return torch.cat([change.flatten(-2), expression, transl], -1)


def params_from_motion(vector: Tensor, reference: SmplxParams) -> SmplxParams:
    """The inverse: [..., T, 343] and the reference [...] → frames [..., T]; betas are the reference's."""
    with full_precision(vector):
        reference = reference.map(lambda t: t.float())
        joints, expression, transl = vector.float().split([JOINTS * 6, 10, 3], -1)
        change = rotation_from_6d(joints.unflatten(-1, (JOINTS, 6)) + joints.new_tensor(IDENTITY_6D))
        turns = _matrices(reference)[..., None, :, :, :] @ change
        return SmplxParams.from_pose(
            roma.rotmat_to_rotvec(turns),
            reference.betas[..., None, :].expand(*vector.shape[:-1], -1),
            expression + reference.expression[..., None, :],
            transl + reference.transl[..., None, :],
        )


def pose_features(params: SmplxParams) -> Tensor:
    """Absolute pose for a network to read: 6D of all joints minus the identity's, then expression, [..., 340]."""
    with full_precision(params.transl):
        six = rotation_to_6d(_matrices(params))
        return torch.cat([(six - six.new_tensor(IDENTITY_6D)).flatten(-2), params.expression.float()], -1)


def _matrices(params: SmplxParams) -> Tensor:  # [..., 55, 3, 3]
    return roma.rotvec_to_rotmat(params.full_pose.float())
