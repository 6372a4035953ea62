"""The avatar of a picture, its body fitted to it: what the network misread of a body the outline and colours tell.

The renderer compares the avatar with the picture while the body moves; where it has come to rest the picture is read again,
and the network's corrections (`model.feedback`) do the rest. Axes: B pictures, S picture side.
"""

from __future__ import annotations

from dataclasses import replace

import roma
import torch
import torch.nn.functional as F
from torch import Tensor

from model.losses import l1_map, mask_l1, ssim_map
from model.rasterize import rasterize
from model.smplx_tokens import BODY_TOKENS
from model.stage1 import Encoding, Stage1
from model.types import Camera, GaussianCloud, SmplxParams

COARSE, FINE = 16, 4  # steps of Adam at half the picture's side and at its own: the largest step is the fourth, the last a tenth of it
BETAS = (0.9, 0.95)
TURN_RATE, SHAPE_RATE, PLACE_RATE = 0.015, 0.03, 0.008  # radians, betas, metres
SSIM, MASK = 0.2, 0.5  # weights beside L1
BODY, TURNED, SHAPED, PLACED = 0.01, 0.15, 0.5, (0.03, 0.03, 0.3)  # weight of the body's changes; radians, betas, metres that count as one


@torch.no_grad()
def pictured_avatar(
    network: Stage1,
    picture: Tensor,  # [B, S, S, 4] 0..1, colours on white, then alpha
    camera: Camera,  # [B] of it
    params: SmplxParams | None = None,  # [B] the bodies in the pictures, in their cameras' frames; none: as stage 1 reads them
    exact: bool = False,  # whether these bodies are known to be right, and stay
) -> Encoding:  # [B] with these bodies
    """The people in pictures as stage 1 reads them."""
    image = picture[..., :3].movedim(-1, 1).contiguous()
    if params is None or not exact:
        alone = network.encode(image, camera, params, corrected=False)  # corrections would hide that the body is beside its place
        params = moved_into_picture(network, replace(alone, params=params or alone.params), picture, camera)
    return replace(network.encode(image, camera, params), params=params)


@torch.no_grad()
def moved_into_picture(network: Stage1, encoding: Encoding, picture: Tensor, camera: Camera) -> SmplxParams:
    """Bodies [B] of an encoding, moved until its avatar covers the person in the picture [B, S, S, 4]."""
    cloud = network.gaussians(network.canonical(encoding))
    body = BodyChange(encoding.params)
    optimizer = torch.optim.Adam([{"params": [tensor], "rate": rate} for rate, tensor in body.groups()], betas=BETAS)
    steps = [_halved(picture, camera)] * COARSE + [(picture, camera)] * FINE
    for step, shown in enumerate(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (step + 1) / 4) * (1 - 0.9 * step / len(steps))
        optimizer.zero_grad()
        with torch.enable_grad():
            (_unlike(network, cloud, body(), *shown) + body.unlikely()).sum().backward()
        optimizer.step()
    return body().detach()


class BodyChange:
    """A change of bodies [B]: turns of root and body joints, betas, place."""

    def __init__(self, params: SmplxParams):
        self.params, pose = params.detach(), params.full_pose
        self.turns = torch.zeros_like(pose[:, :BODY_TOKENS], requires_grad=True)
        self.betas, self.place = (torch.zeros_like(x, requires_grad=True) for x in (params.betas, params.transl))

    def __call__(self) -> SmplxParams:
        pose = self.params.full_pose
        body = roma.rotvec_to_rotmat(pose[:, :BODY_TOKENS]) @ roma.rotvec_to_rotmat(self.turns)
        turned = torch.cat([roma.rotmat_to_rotvec(body), pose[:, BODY_TOKENS:]], 1)
        given = self.params
        return SmplxParams.from_pose(turned, given.betas + self.betas, given.expression, given.transl + self.place)

    def unlikely(self) -> Tensor:  # [B]
        turns = (self.turns / TURNED).square().mean((1, 2))
        betas = (self.betas / SHAPED).square().mean(1)
        place = (self.place / self.place.new_tensor(PLACED)).square().mean(1)
        return BODY * (turns + 0.3 * betas + 0.1 * place)

    def groups(self) -> list[tuple[float, Tensor]]:
        """Step sizes of what is learned."""
        return [(TURN_RATE, self.turns), (SHAPE_RATE, self.betas), (PLACE_RATE, self.place)]


def _halved(picture: Tensor, camera: Camera) -> tuple[Tensor, Camera]:
    height, width = (side // 2 for side in picture.shape[1:3])
    small = F.interpolate(picture.movedim(-1, 1), (height, width), mode="area").movedim(1, -1)
    return small.contiguous(), camera.resized(width, height)


def _unlike(network: Stage1, cloud: GaussianCloud, params: SmplxParams, picture: Tensor, camera: Camera) -> Tensor:
    """How canonical Gaussians [B, N] in bodies [B] differ from pictures [B, S, S, 4], [B]."""
    posed, here = network.pose(cloud, params), camera.at_origin().map(lambda t: t[:, None])
    size = picture.shape[2], picture.shape[1]
    seen = rasterize(posed, here, posed.colors.new_ones(3), antialiased=True, size=size, depth=False)
    color, alpha, mean = seen.color[:, 0], seen.alpha[:, 0], (1, 2, 3)
    alike = l1_map(color, picture[..., :3]).mean(mean) + SSIM * (1 - ssim_map(color, picture[..., :3])).mean(mean)
    return alike + MASK * mask_l1(alpha, picture[..., 3:]).mean(mean)
