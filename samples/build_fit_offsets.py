"""Measure where mediapipe puts body and hand landmarks: `python -m samples.build_fit_offsets` prints the tables.

People other than the embedded talks' speakers (other seeds, other motion) are drawn, some 15 s each; the offset
of each landmark from the body's own point is solved by least squares over all frames, left and right as mirror images.
Needs espeak-ng.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import roma
import torch
from rich.progress import track
from torch import Tensor

from configs.schema import Config
from model.body import Body
from model.fit_layout import BODY_NAMES, HAND_NAMES, Layout, Observations, make_layout
from model.fit_offsets import left_name
from model.types import Camera, SmplxParams
from pipelines.body import body_hash, face_embedding
from pipelines.fit import observations
from samples.builders.people import embedded_body
from samples.builders.strangers import Draw, strangers

DRAW = Draw(first=30_001, people=60, frames=60, step=2, start=10, side=384, whole=7, least_seconds=8.0)
FARTHEST = 0.08  # metres; landmarks that are further off are mistakes
RIDGE = 0.03  # per frame, against directions in which the offset is not seen


def equations(body: Body, layout: Layout, params: SmplxParams, camera: Camera, seen: Observations) -> tuple[Tensor, Tensor]:
    """Normal equations A [K, 3, 3], b [K, 3] of each landmark's offset over the frames of one talk."""
    rotations = roma.rotvec_to_rotmat(params.full_pose)
    _, transforms = body.kinematics(rotations, params.shape_coefficients, params.transl)
    rest = body.shaped(layout.points, rotations, params.shape_coefficients)
    world, turn = body.skin(rest, layout.points.weights, transforms)
    view = camera.w2c[:3, :3]
    here = world @ view.T + camera.w2c[:3, 3]
    ray = here[..., :2] / here[..., 2:]
    metres = here[..., 2:] / camera.intrinsics[0, 0]
    gap = (seen.points - (ray * camera.intrinsics[0, 0] + camera.intrinsics[:2, 2])) * metres  # [T, K, 2] metres
    turned = view @ turn  # [T, K, 3, 3] template → camera
    jacobian = turned[:, :, :2] - ray[..., None] * turned[:, :, 2:]  # [T, K, 2, 3]
    use = ((seen.weights > 0.5 * seen.weights.amax(0)) & (gap.norm(dim=-1) < FARTHEST)).float()
    left = torch.einsum("tk,tkia,tkib->kab", use, jacobian, jacobian) + RIDGE * len(gap) * torch.eye(3)
    return left, torch.einsum("tk,tkia,tki->ka", use, jacobian, gap)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure landmark offsets.")
    parser.add_argument("--frames", type=int, default=DRAW.frames, help="frames drawn per person")
    parser.add_argument("--people", type=int, default=DRAW.people, help="people drawn")
    options = parser.parse_args()
    body = embedded_body()
    layout = make_layout(body, face_embedding(body, body_hash(Config.model_validate({}))))
    left, right = torch.zeros(len(layout.sigma), 3, 3), torch.zeros(len(layout.sigma), 3)
    for found, params, camera in track(strangers(replace(DRAW, people=options.people, frames=options.frames)), total=options.people):
        a, b = equations(body, layout, params, camera, observations(found))
        left, right = left + a, right + b
    for title, names, start in (("_BODY", BODY_NAMES, 0), ("_HAND", HAND_NAMES, len(BODY_NAMES))):
        print(f"{title}: dict[str, tuple[int, int, int]] = {{")
        for row, name in enumerate(names):
            if left_name(name) == name:
                other = next(i for i, n in enumerate(names) if n != name and left_name(n) == name)
                offset = solve(left[[start + row, start + other]], right[[start + row, start + other]])
                x, y, z = (1e3 * offset).round().int().tolist()
                print(f'    "{name}": ({x}, {y}, {z}),')
        print("}")


def solve(left: Tensor, right: Tensor) -> Tensor:
    """Offset [3] of the left side from both sides' equations [2, 3, 3], [2, 3]."""
    mirror = torch.tensor([-1.0, 1.0, 1.0])
    return torch.linalg.solve(left[0] + left[1] * mirror[:, None] * mirror, right[0] + right[1] * mirror)


if __name__ == "__main__":
    main()
