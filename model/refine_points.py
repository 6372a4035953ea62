"""Where the body's joints are in a picture: a small network looks at a patch round each joint's expected place.

Finer than a general detector, since it knows whom it looks at: a person of known pose, cut out. Right sides are looked at
in a mirror, so that a joint and its counterpart are one kind.

Axes: B people, J joints (22 of the body), M patches, S picture side (256), P patch side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from model.body import JOINT_NAMES

BODY = 22  # joints
SIDE = 256  # of the pictures, pixels
PATCH, ROOM, WIDE = 40, 8, 2  # pixels of a patch; how far it may be shifted in training; coarser patches: every second pixel
REACH = 30.0  # pixels; bones are given to the network in this unit
STEP = 4.0  # pixels of a unit of its answer
KINDS = sorted({name.replace("left_", "").replace("right_", "") for name in JOINT_NAMES[:BODY]})
KIND = [KINDS.index(name.replace("left_", "").replace("right_", "")) for name in JOINT_NAMES[:BODY]]
RIGHT = [name.startswith("right_") for name in JOINT_NAMES[:BODY]]
Bytes = NDArray[np.uint8]


class JointPoints(nn.Module):
    """Patches of a joint at two scales, its kind and the directions of its bones → how far it is from the patch's middle."""

    def __init__(self, parents: list[int], widths: tuple[int, ...] = (24, 48, 64), hidden: int = 128):
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in zip((8, *widths), widths, strict=False))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b) for b in widths)
        self.kinds = nn.Embedding(len(KINDS), 32)
        side = -(-PATCH // 2 ** len(widths))
        self.inner = nn.Linear(widths[-1] * side**2 + 32 + 4, hidden)
        self.out = nn.Linear(hidden, 2 * len(KINDS))
        self.drop = nn.Dropout(0.2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.parent = [max(p, 0) for p in parents[:BODY]]
        self.child = [next((c for c in range(BODY) if parents[c] == k), self.parent[k]) for k in range(BODY)]

    def forward(self, patches: Tensor, kind: Tensor, bones: Tensor) -> Tensor:  # [M, 8, P, P], [M], [M, 4] → [M, 2] steps
        x = patches
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.gelu(norm(convolution(x)))
        x = self.drop(F.gelu(self.inner(torch.cat([x.flatten(1), self.kinds(kind), bones], 1))))
        return self.out(x).unflatten(1, (-1, 2))[torch.arange(len(kind)), kind]

    def bones(self, pixels: Tensor, mirror: Tensor) -> Tensor:
        """From each joint [B, J, 2] to its parent and to its child, as the (mirrored [B, J]) patches show them: [B, J, 4]."""
        x = torch.cat([pixels[:, self.parent] - pixels, pixels[:, self.child] - pixels], -1) / REACH
        turn = torch.where(mirror, -1.0, 1.0)
        one = torch.ones_like(turn)
        return x * torch.stack([turn, one, turn, one], -1)

    @torch.no_grad()
    def locate(self, pictures: Bytes, expected: Tensor) -> Tensor:
        """Joints [B, J, 2] in pixels, near where they are expected, in pictures [B, SIDE, SIDE, 4]; mean of both mirrorings."""
        crops = PatchSource(pictures, expected.numpy())
        found = []
        person, joint = (x.flatten() for x in torch.meshgrid(torch.arange(len(expected)), torch.arange(BODY), indexing="ij"))
        for other in (False, True):
            mirror = torch.tensor(RIGHT)[joint] ^ other
            bones = self.bones(expected, mirror.view(-1, BODY)).flatten(0, 1)
            patches = crops.patches(person, joint, torch.zeros(len(joint), 2).long(), mirror)
            step = STEP * self(patches, torch.tensor(KIND)[joint], bones)
            step[:, 0] *= torch.where(mirror, -1.0, 1.0)
            found.append(crops.centres + step.view(-1, BODY, 2))
        return (found[0] + found[1]) / 2


class PatchSource:
    """What lies round each joint, cut once; patches are parts of it."""

    def __init__(self, pictures: Bytes, places: Any):  # [B, SIDE, SIDE, 4] colours on white, then alpha; [B, J, 2] pixels
        border = PATCH
        dark = pictures.copy()
        dark[..., :3] = 255 - dark[..., :3]  # background and what lies beyond the picture are 0
        fine = np.pad(dark, ((0, 0), (border, border), (border, border), (0, 0)))
        means = dark.reshape(len(dark), SIDE // WIDE, WIDE, SIDE // WIDE, WIDE, 4).mean((2, 4)).round().astype(np.uint8)
        coarse = np.pad(means, ((0, 0), (border, border), (border, border), (0, 0)))
        corner = (np.floor(np.clip(places, 0, SIDE - 1)).astype(int) // WIDE) * WIDE
        self.centres = torch.from_numpy(corner).float()  # [B, J, 2]
        self.fine = torch.from_numpy(_cut(fine, corner + border, PATCH // 2 + ROOM))
        self.coarse = torch.from_numpy(_cut(coarse, corner // WIDE + border, PATCH // 2 + ROOM // WIDE))

    def patches(self, person: Tensor, joint: Tensor, shift: Tensor, mirror: Tensor) -> Tensor:
        """Patches [M, 8, P, P] of joints [M] of people [M], shifted by [M, 2] pixels (multiples of `WIDE`, at most `ROOM`)."""
        out = torch.empty(len(joint), 8, PATCH, PATCH)
        for k, (i, j, (x, y)) in enumerate(zip(person.tolist(), joint.tolist(), shift.tolist(), strict=True)):
            out[k, :4] = self.fine[i, j, ROOM + y : ROOM + y + PATCH, ROOM + x : ROOM + x + PATCH].movedim(-1, 0)
            x, y = (ROOM + x) // WIDE, (ROOM + y) // WIDE
            out[k, 4:] = self.coarse[i, j, y : y + PATCH, x : x + PATCH].movedim(-1, 0)
        return torch.where(mirror[:, None, None, None], out.flip(-1), out) / 255


def _cut(pictures: Bytes, middle: NDArray[np.int64], half: int) -> Bytes:  # [B, H, W, 4], [B, J, 2] → [B, J, 2 half, 2 half, 4]
    return np.stack([np.stack([p[y - half : y + half, x - half : x + half] for x, y in m]) for p, m in zip(pictures, middle, strict=True)])
