"""The numbers that stage 2 generates: a person's motion as residuals to a reference pose, in channels of its own.

`flow` channels, smooth in time: root (turn and shift in the reference's own frame), upper body, eyes, the face but for the
mouth, and hands, each group turned to its principal axes. `mouth` channels, at the frame rate: jaw and the expressions that
speech moves. Legs are no channels: they follow from the feet, which stay (model.feet). Joints are told by the logarithm of
their rotation against a mean pose; a frame is the reference's logarithm plus the residual, so zero is the reference exactly
whatever the constants, which are fitted to a corpus once and are part of the weights.
Axes: T frames, C flow channels (`FLOW`), M mouth channels, R raw numbers (`RAW`).
"""

from __future__ import annotations

from dataclasses import dataclass

import roma
import torch
from torch import Tensor, nn

from model.geometry import apply_matrices, full_precision, soft_bound
from model.motion import ROOT_LIMIT, TRANSLATION_LIMIT
from model.types import JOINTS, SmplxParams, TensorGroup

UPPER = (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)  # spine, neck, head, collars to wrists
EYES, HANDS, JAW = (23, 24), tuple(range(25, 55)), 22
JOINTS_TOLD = (*UPPER, *EYES, *HANDS)
EXPRESSIONS = 10
ROOT, HAND_AXES = 6, 24
UNSURE = 0.1  # radians by which a body found in a picture may be misread; what people hardly move by so much is not taken from it
MOUTH_SCALE = 0.02  # least standard deviation of a mouth channel: drawn jaws never turn sideways, fitted ones do
BODY = slice(ROOT, ROOT + 3 * len(UPPER))  # flow channels of the upper body
HAND = slice(BODY.stop, BODY.stop + HAND_AXES)
FACE_START = HAND.stop  # eyes, then the expressions that are not the mouth's


@dataclass(frozen=True)
class Still(TensorGroup):
    """What the channels are residuals to."""

    raw: Tensor  # [..., R] logarithms of the joints that are told, then all expressions; the root's part is zero
    jaw: Tensor  # [..., 3]
    channels: Tensor  # [..., C] the same as flow channels, for a network to read
    mouth: Tensor  # [..., M]


class MotionSpace(nn.Module):
    """Motion ↔ channels. Untouched by training; `fit` sets its constants."""

    mean: Tensor  # [joints told, 3, 3] mean rotations
    axes: Tensor  # [C, R] rows are orthonormal
    scale: Tensor  # [C] standard deviation of the residuals
    mouth_mean: Tensor  # [M]
    mouth_scale: Tensor  # [M]

    def __init__(self, mouth: tuple[int, ...]):
        super().__init__()
        self.mouth = tuple(mouth)
        self.rest = tuple(i for i in range(EXPRESSIONS) if i not in self.mouth)
        told = len(JOINTS_TOLD)
        self.raw_size = ROOT + 3 * told + len(self.rest)
        self.channels = FACE_START + 3 * len(EYES) + len(self.rest)
        self.mouth_channels = 3 + len(self.mouth)
        self.register_buffer("mean", torch.eye(3).repeat(told, 1, 1))
        self.register_buffer("axes", torch.zeros(self.channels, self.raw_size))
        self.register_buffer("scale", torch.ones(self.channels))
        self.register_buffer("mouth_mean", torch.zeros(self.mouth_channels))
        self.register_buffer("mouth_scale", torch.ones(self.mouth_channels))
        for channels, raw in self._groups():
            self.axes[channels, raw] = torch.eye(raw.stop - raw.start)[: channels.stop - channels.start]

    def _groups(self) -> list[tuple[slice, slice]]:
        """Channels and the raw numbers that they are axes of."""
        upper, eyes, hands = (3 * len(x) for x in (UPPER, EYES, HANDS))
        first = ROOT + upper
        spans = [(slice(0, ROOT), slice(0, ROOT)), (BODY, slice(ROOT, first)), (HAND, slice(first + eyes, first + eyes + hands))]
        face, last = FACE_START + eyes, first + eyes + hands
        spans.append((slice(FACE_START, face), slice(first, first + eyes)))
        spans += [(slice(face + i, face + i + 1), slice(last + i, last + i + 1)) for i in range(len(self.rest))]
        return spans

    def expressions(self, which: tuple[int, ...]) -> list[int]:
        """Flow channels of expression coefficients, none of the mouth's."""
        return [FACE_START + 3 * len(EYES) + self.rest.index(i) for i in which]

    # --- motion → channels

    def encode(self, params: SmplxParams) -> tuple[Tensor, Tensor]:
        """Clips [..., T] → flow channels [..., T, C] (the root against the clip's mean root) and mouth channels [..., T, M]."""
        with full_precision(params.transl):
            rotations = roma.rotvec_to_rotmat(params.full_pose.float())
            middle = roma.special_procrustes(rotations[..., 0, :, :].mean(-3))
            turn = roma.rotmat_to_rotvec(middle[..., None, :, :].mT @ rotations[..., 0, :, :])
            shift = (params.transl - params.transl.mean(-2, keepdim=True)).float() @ middle
            raw = torch.cat([turn, shift, self._logs(rotations), params.expression[..., list(self.rest)].float()], -1)
            return raw @ self.axes.mT, self._mouth(params)

    def still(self, reference: SmplxParams) -> Still:
        with full_precision(reference.transl):
            rotations = roma.rotvec_to_rotmat(reference.full_pose.float())
            root = reference.transl.new_zeros(*reference.transl.shape[:-1], ROOT).float()
            raw = torch.cat([root, self._logs(rotations), reference.expression[..., list(self.rest)].float()], -1)
            return Still(raw, reference.jaw_pose.float(), raw @ self.axes.mT, self._mouth(reference))

    def steadied(self, pose: SmplxParams) -> SmplxParams:
        """Poses [...] found in pictures as people may hold themselves: upper body and hands drawn to the mean pose.

        Of each channel scale² / (scale² + UNSURE²) is kept, Wiener's estimate; of what fingers do beside their channels, nothing.
        """
        with full_precision(pose.transl):
            kept = self.scale.square() / (self.scale.square() + UNSURE**2)
            raw = (kept * self.still(pose).channels) @ self.axes
            logs = raw[..., ROOT : ROOT + 3 * len(JOINTS_TOLD)].unflatten(-1, (-1, 3))
            joints = roma.rotmat_to_rotvec(self.mean @ roma.rotvec_to_rotmat(logs))
            drawn = [i for i, joint in enumerate(JOINTS_TOLD) if joint not in EYES]
            full = pose.full_pose.float().clone()
            full[..., [JOINTS_TOLD[i] for i in drawn], :] = joints[..., drawn, :]
            return SmplxParams.from_pose(full, pose.betas, pose.expression, pose.transl)

    def residual(self, pose: SmplxParams, reference: SmplxParams, still: Still) -> Tensor:  # [..., C]
        """The flow channels whose `decode` from the reference is the pose, as far as channels tell it."""
        with full_precision(pose.transl):
            rotations = roma.rotvec_to_rotmat(pose.full_pose.float())
            root = roma.rotvec_to_rotmat(reference.global_orient.float())
            turn = roma.rotmat_to_rotvec(root.mT @ rotations[..., 0, :, :])
            shift = apply_matrices(root.mT, (pose.transl - reference.transl).float())
            told = torch.cat([self._logs(rotations), pose.expression[..., list(self.rest)].float()], -1) - still.raw[..., ROOT:]
            return torch.cat([turn, shift, told], -1) @ self.axes.mT

    def _logs(self, rotations: Tensor) -> Tensor:  # [..., 55, 3, 3] → [..., 3 · joints told]
        return roma.rotmat_to_rotvec(self.mean.mT @ rotations[..., list(JOINTS_TOLD), :, :]).flatten(-2)

    def _mouth(self, params: SmplxParams) -> Tensor:
        return torch.cat([params.jaw_pose, params.expression[..., list(self.mouth)]], -1).float()

    # --- channels → motion

    def decode(
        self,
        flow: Tensor,  # [..., T, C] residuals to the reference
        mouth: Tensor,  # [..., T, M] residuals to the reference
        reference: SmplxParams,  # [...]
        still: Still | None = None,  # [...] of the reference, where it is known already
    ) -> SmplxParams:  # [..., T] legs and betas are the reference's
        with full_precision(flow):
            reference = reference.map(lambda x: x.float())
            still = still or self.still(reference)
            raw, mouth = flow.float() @ self.axes, mouth.float()
            lead, told = raw.shape[:-1], len(JOINTS_TOLD)
            root = roma.rotvec_to_rotmat(reference.global_orient)[..., None, :, :]
            turned = root @ roma.rotvec_to_rotmat(soft_bound(raw[..., :3], ROOT_LIMIT))
            shift = (root @ soft_bound(raw[..., 3:ROOT], TRANSLATION_LIMIT)[..., None])[..., 0]
            logs = (raw + still.raw[..., None, :])[..., ROOT : ROOT + 3 * told].unflatten(-1, (told, 3))
            joints = roma.rotmat_to_rotvec(self.mean @ roma.rotvec_to_rotmat(logs))
            pose = reference.full_pose[..., None, :, :].expand(*lead, JOINTS, 3).clone()
            pose[..., list(JOINTS_TOLD), :] = joints
            pose[..., 0, :] = roma.rotmat_to_rotvec(turned)
            pose[..., JAW, :] = still.jaw[..., None, :] + mouth[..., :3]
            expression = reference.expression[..., None, :].expand(*lead, EXPRESSIONS).clone()
            expression[..., list(self.rest)] += raw[..., ROOT + 3 * told :]
            expression[..., list(self.mouth)] += mouth[..., 3:]
            betas = reference.betas[..., None, :].expand(*lead, -1)
            return SmplxParams.from_pose(pose, betas, expression, reference.transl[..., None, :] + shift)

    # --- constants

    @torch.no_grad()
    def fit(self, clips: list[SmplxParams]) -> None:
        """Mean rotations, principal axes and deviations of clips [T]."""
        pose = torch.cat([c.full_pose.float()[:, list(JOINTS_TOLD)] for c in clips])
        self.mean.copy_(roma.special_procrustes(roma.rotvec_to_rotmat(pose).mean(0)))
        self.axes.zero_()
        whole = MotionSpace(self.mouth)  # its axes are replaced by all raw numbers, to look at those
        whole.mean, whole.axes = self.mean, torch.eye(self.raw_size)
        encoded = [whole.encode(c) for c in clips]
        raw = torch.cat([r - r.mean(0) for r, _ in encoded]).double()
        for channels, span in self._groups():
            kept = channels.stop - channels.start
            directions = torch.linalg.eigh(raw[:, span].mT @ raw[:, span])[1].flip(1)[:, :kept].mT
            signs = directions.gather(1, directions.abs().argmax(1, keepdim=True)).sign()
            self.axes[channels, span] = (directions * signs).float()
        self.scale.copy_((raw @ self.axes.double().mT).square().mean(0).sqrt().clamp(min=1e-5))
        mouth = torch.cat([m for _, m in encoded])
        self.mouth_mean.copy_(mouth.mean(0))
        self.mouth_scale.copy_(mouth.std(0).clamp(min=MOUTH_SCALE))
