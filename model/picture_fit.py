"""An avatar fitted to the very picture that it was read from: what the network could not say of this one person.

The renderer compares the avatar with its picture; first the body moves into its outline and is read again there, then the
anchors' Gaussians follow too, a few steps beyond the network's own corrections (`model.feedback`). Most of their change is
shared by places that lie alike on the body, left and right, front and back: an outline is one from behind as well. A picture
tells a Gaussian's place and size where the surface turns away from it, and its colour where it is seen; elsewhere they stay,
or the person's other sides would pay for this one. Where the body is not known for sure, the shapes of limbs stay too: they
would make up for a limb that is read beside its place.
Axes: B pictures, N anchors, K neighbours, Q cells of the template, S picture side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import roma
import torch
from torch import Tensor

from model.body import JOINT_NAMES
from model.losses import l1_map, mask_l1, ssim_map
from model.rasterize import rasterize
from model.smplx_tokens import BODY_TOKENS
from model.stage1 import FEATURES, OUTPUTS, Encoding, Stage1
from model.types import Camera, GaussianCloud, SmplxParams
from model.visibility import FILL_CELLS, sight

STEPS, BODY_STEPS = 4, 20  # of Adam, which takes its largest step at the fourth and ends at a tenth of it
BETAS = (0.9, 0.95)
RATE, TURN_RATE, SHAPE_RATE, PLACE_RATE = 0.06, 0.015, 0.03, 0.008  # of the head's outputs, radians, betas, metres
OWN = 0.3  # what an anchor changes by itself, of what it changes with its cell
LEVEL = 3  # of `FILL_CELLS`: how large the cells are
TRUNK = [
    *("pelvis", "spine1", "spine2", "spine3", "left_collar", "right_collar"),
    *("neck", "head", "jaw", "left_eye_smplhf", "right_eye_smplhf"),
]  # joints whose skin is no limb's
COLORS = 3  # of the head's outputs, the last
SSIM, MASK, MOVED = 0.2, 0.5, 0.03  # weights beside L1; moves of Gaussians are counted in centimetres
BODY, TURNED, SHAPED, PLACED = 0.01, 0.15, 0.5, (0.03, 0.03, 0.3)  # weight of the body's changes; radians, betas, metres that count as one


def pictured_avatar(
    network: Stage1,
    picture: Tensor,  # [B, S, S, 4] 0..1, colours on white, then alpha
    camera: Camera,  # [B] of it
    params: SmplxParams | None = None,  # [B] the bodies in the pictures, in their cameras' frames; none: as stage 1 reads them
    exact: bool = False,  # whether these bodies are known to be right
    steps: int = STEPS,
) -> Encoding:  # [B] with these bodies, moved into their outlines where they are not exact
    """The people in pictures as stage 1 reads them, then fitted to these pictures in so many steps."""
    image = picture[..., :3].movedim(-1, 1).contiguous()

    def read(body: SmplxParams | None, corrected: bool = True) -> Encoding:
        with torch.no_grad():
            encoding = network.encode(image, camera, body, corrected)
        return replace(encoding, params=body or encoding.params)

    if steps and not exact:
        params = moved_into_picture(network, read(params, corrected=False), picture, camera)
    encoding = read(params)
    return fitted_to_picture(network, encoding, picture, camera, exact, steps) if steps else encoding


def moved_into_picture(network: Stage1, encoding: Encoding, picture: Tensor, camera: Camera) -> SmplxParams:
    """Bodies [B] of an encoding, moved until its avatar covers the person in the picture [B, S, S, 4]."""
    with torch.no_grad():
        cloud = network.gaussians(network.canonical(encoding))
    body = BodyChange(encoding.params)
    _descend(lambda: _unlike(network, cloud, body(), picture, camera) + body.unlikely(), body.groups(), BODY_STEPS)
    return body().detach()


def fitted_to_picture(
    network: Stage1,
    encoding: Encoding,  # [B] of the pictures; its bodies are about where the pictures show them
    picture: Tensor,  # [B, S, S, 4] 0..1, colours on white, then alpha
    camera: Camera,  # [B] of it
    exact: bool = False,  # whether its bodies stay
    steps: int = STEPS,
) -> Encoding:
    """`encoding` with a `change` more, so that `network.canonical` gives the avatar that looks most like the picture."""
    with torch.no_grad():
        features = network.canonical(encoding)
        alone, guess = network.head.outputs(encoding.learned) + encoding.change, features[..., FEATURES : FEATURES + 3]
        before = network.head.decode(alone, guess, network.anchors).means
        turned = 1 - _facing(network, encoding, before).abs()
        shape = (turned if exact else turned * _of_trunk(network))[..., None].expand(-1, -1, OUTPUTS - COLORS)
        seen = features[..., FEATURES + 3 : FEATURES + 4].expand(-1, -1, COLORS)
    near, cell = network.anchors.neighbours, network.color_fill.cells[LEVEL]
    alike, itself = torch.cat([shape, seen], -1), OWN * torch.cat([shape, torch.ones_like(seen)], -1)
    own = torch.zeros_like(alone, requires_grad=True)
    shared = alone.new_zeros(len(picture), FILL_CELLS[LEVEL] ** 2, OUTPUTS).requires_grad_()
    body = BodyChange(encoding.params)

    def change() -> Tensor:  # [B, N, OUTPUTS]
        around = own.index_select(1, near.flatten()).unflatten(1, near.shape).mean(2)
        return itself * (own + around) / 2 + alike * shared.index_select(1, cell)

    def loss() -> Tensor:
        cloud = network.head.decode(alone + change(), guess, network.anchors)
        moved = MOVED * (100 * (cloud.means - before)).square().sum(-1).mean(1)
        if exact:
            return _unlike(network, cloud, encoding.params, picture, camera) + moved
        return _unlike(network, cloud, body(), picture, camera) + moved + body.unlikely()

    _descend(loss, {RATE: [own, shared]} | ({} if exact else body.groups()), steps)
    return replace(encoding, change=encoding.change + change().detach(), params=encoding.params if exact else body().detach())


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

    def groups(self) -> dict[float, list[Tensor]]:
        """What to learn, by step size."""
        return {TURN_RATE: [self.turns], SHAPE_RATE: [self.betas], PLACE_RATE: [self.place]}


def _of_trunk(network: Stage1) -> Tensor:  # [N] 0..1
    """How far trunk and head move each anchor, not limbs."""
    trunk = [i for i, name in enumerate(JOINT_NAMES) if name in TRUNK]
    return network.anchors.points.weights[:, trunk].sum(1)


def _facing(network: Stage1, encoding: Encoding, means: Tensor) -> Tensor:
    """Cosine of the normal of each canonical Gaussian [B, N, 3] to the direction of the camera, [B, N]."""
    anchors = network.anchors
    posed, turns = anchors.posed(means - anchors.points.rest, encoding.params)
    return sight(posed, turns, anchors.frames[..., 2], encoding.focal_over_size, encoding.principal).facing


def _unlike(network: Stage1, cloud: GaussianCloud, params: SmplxParams, picture: Tensor, camera: Camera) -> Tensor:
    """How canonical Gaussians [B, N] in bodies [B] differ from pictures [B, S, S, 4], [B]."""
    posed, batch = network.pose(cloud, params), len(picture)
    here = Camera(torch.eye(4, device=picture.device).expand(batch, 1, 4, 4), camera.intrinsics[:, None], camera.size[:, None])
    size = picture.shape[2], picture.shape[1]
    seen = rasterize(posed, here, posed.colors.new_ones(3), antialiased=True, size=size, depth=False)
    color, alpha, mean = seen.color[:, 0], seen.alpha[:, 0], (1, 2, 3)
    alike = l1_map(color, picture[..., :3]).mean(mean) + SSIM * (1 - ssim_map(color, picture[..., :3])).mean(mean)
    return alike + MASK * mask_l1(alpha, picture[..., 3:]).mean(mean)


def _descend(loss: Callable[[], Tensor], groups: dict[float, list[Tensor]], steps: int) -> None:
    """Adam on the sum of losses [B]; `groups` hold what is learned by its largest step."""
    optimizer = torch.optim.Adam([{"params": tensors, "rate": rate} for rate, tensors in groups.items()], betas=BETAS)
    learned = [tensor for tensors in groups.values() for tensor in tensors]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["rate"] * min(1.0, (step + 1) / 4) * (1 - 0.9 * step / steps)
        with torch.enable_grad():
            gradients = torch.autograd.grad(loss().sum(), learned)
        for tensor, gradient in zip(learned, gradients, strict=True):
            tensor.grad = gradient
        optimizer.step()

