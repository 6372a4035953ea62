"""SMPL-X tokens: learned queries that read the image tokens, and the decoder from tokens to SMPL-X parameters.

Each token has one duty, listed in `SmplxDecoder`; the rest carry context for the triplane. The decoder is linear, so
stage 2 moves a body by adding to its tokens. Axes: B batch (any leading axes for the decoder), K tokens, d width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.body import Body
from model.geometry import IDENTITY_6D, UPRIGHT_6D, full_precision, rotation_from_6d, rotvec_from_rotation, rotvec_to_6d
from model.layers import Block, RMSNorm
from model.types import SmplxParams

BODY_TOKENS = 22  # root, then the 21 body joints
LEFT_HAND, RIGHT_HAND, FACE, SHAPE, PLACE = range(22, 27)
DUTIES = 27  # tokens from here on are context
ARM_HANG = 1.1  # radians by which shoulders turn down from the template's T-pose in the decoder's mean pose
HEAD_GAIN = 0.3  # of tokens into the heads: without it one step of Adam moves a joint by several hundredths of a radian
VISIBLE_METRES = 1.3  # the picture's side at the person's depth before anything is learned


class SmplxQueries(nn.Module):
    """Image tokens [B, P, d] → SMPL-X tokens [B, K, d]."""

    def __init__(self, count: int, layers: int, width: int, heads: int):
        super().__init__()
        if count < DUTIES:
            raise ValueError(f"stage 1: smplx_tokens must be at least {DUTIES}, got {count}")
        self.queries = nn.Parameter(torch.randn(1, count, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, cross=True) for _ in range(layers))
        self.norm = RMSNorm(width)

    def forward(self, image_tokens: Tensor) -> Tensor:
        x = self.queries.expand(len(image_tokens), -1, -1).to(image_tokens.dtype)
        for block in self.blocks:
            x = block(x, image_tokens)
        return self.norm(x)


class Decoded(NamedTuple):
    """What tokens say of a body, in the camera frame of the picture."""

    pose: Tensor  # [..., 55, 6] rotations of `SmplxParams.full_pose`, 6D, not yet orthonormal
    betas: Tensor  # [..., 10]
    expression: Tensor  # [..., 10]
    pelvis: Tensor  # [..., 3] metres


class SmplxDecoder(nn.Module):
    """SMPL-X tokens [..., K, d] → parameters in the camera frame of the picture.

    Tokens 0–21: root and body joints, 6D each; 22, 23: the hands; 24: jaw, eyes, expression; 25: betas;
    26: place: (across, down) of the pelvis from the picture's centre in picture sides, and log of the metres that the
    picture's side covers at the pelvis' depth. Depth is that extent × focal ÷ side, so any focal length works.
    """

    mean_body: Tensor  # [22, 6] upright, arms hanging

    def __init__(self, body: Body, width: int):
        super().__init__()
        self.joints = nn.Parameter(torch.randn(BODY_TOKENS, width, 6) * 0.02)
        self.left_hand, self.right_hand = nn.Linear(width, 90), nn.Linear(width, 90)
        self.face = nn.Linear(width, 6 * 3 + 10)
        self.shape = nn.Linear(width, 10)
        self.place = nn.Linear(width, 3)
        for head in (self.left_hand, self.right_hand, self.face, self.shape, self.place):
            nn.init.normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        mean = torch.tensor(IDENTITY_6D).repeat(BODY_TOKENS, 1)
        mean[0] = torch.tensor(UPRIGHT_6D)
        mean[16] = rotvec_to_6d(torch.tensor([0.0, 0.0, -ARM_HANG]))
        mean[17] = rotvec_to_6d(torch.tensor([0.0, 0.0, ARM_HANG]))
        self.register_buffer("mean_body", mean, persistent=False)
        self._body = (body,)  # only its joint regressor is used; the anchors own it

    def forward(
        self,
        tokens: Tensor,  # [..., K, d]
        focal_over_size: Tensor,  # [...] focal length ÷ picture's side
        principal: Tensor | None = None,  # [..., 2] principal point from the picture's centre, in sides; none: centred
    ) -> SmplxParams:  # [...]
        decoded = self.read(tokens, focal_over_size, principal)
        with full_precision(tokens):
            pose = rotvec_from_rotation(rotation_from_6d(decoded.pose))
            rest_pelvis = self._body[0].rest_joints(torch.cat([decoded.betas, decoded.expression], -1))[..., 0, :]
            return SmplxParams.from_pose(pose, decoded.betas, decoded.expression, decoded.pelvis - rest_pelvis)

    def read(self, tokens: Tensor, focal_over_size: Tensor, principal: Tensor | None = None) -> Decoded:
        """What `forward` reads, before it is put into axis-angle."""
        lead = tokens.shape[:-2]
        with full_precision(tokens):
            t = tokens.float() * HEAD_GAIN
            joints = torch.einsum("...jd,jdk->...jk", t[..., :BODY_TOKENS, :], self.joints.float())
            joints = joints + self.mean_body.float()
            face = self._head(self.face, t[..., FACE, :])
            left = self._head(self.left_hand, t[..., LEFT_HAND, :])
            right = self._head(self.right_hand, t[..., RIGHT_HAND, :])
            rest = torch.cat([face[..., :18], left, right], -1).unflatten(-1, (-1, 6)) + joints.new_tensor(IDENTITY_6D)
            place = self._head(self.place, t[..., PLACE, :])
            focal = focal_over_size.float().expand(lead)
            extent = VISIBLE_METRES * torch.exp(place[..., 2].clamp(-2.5, 2.5))
            across = place[..., :2] + place.new_tensor([0.0, 0.25])
            if principal is not None:
                across = across - principal
            pelvis = torch.cat([across * extent[..., None], (extent * focal)[..., None]], -1)
            return Decoded(torch.cat([joints, rest], -2), self._head(self.shape, t[..., SHAPE, :]), face[..., 18:], pelvis)

    @torch.no_grad()
    def steering(self) -> Tensor:  # [343, K, d], K = `DUTIES`
        """The smallest changes of the tokens that move each number of the decoder by one, the others not.

        Its numbers, in this order: 22 × 6 joints, 90 left hand, 90 right hand, 18 jaw and eyes, 10 expression, 3 place.
        The shape's are left out: betas do not change from frame to frame.
        """
        heads = ((LEFT_HAND, self.left_hand), (RIGHT_HAND, self.right_hand), (FACE, self.face), (PLACE, self.place))
        rows = [torch.linalg.pinv(HEAD_GAIN * self.joints.float()).flatten(0, 1)]
        rows += [torch.linalg.pinv(HEAD_GAIN * layer.weight.float()).mT for _, layer in heads]
        duties = [token for token in range(BODY_TOKENS) for _ in range(6)]
        duties += [token for token, layer in heads for _ in range(layer.out_features)]
        every = torch.cat(rows)  # [343, d]
        out = every.new_zeros(len(every), DUTIES, every.shape[-1])
        out[torch.arange(len(every)), torch.tensor(duties)] = every
        return out

    @staticmethod
    def _head(layer: nn.Linear, x: Tensor) -> Tensor:
        return nn.functional.linear(x, layer.weight.float(), layer.bias.float())

