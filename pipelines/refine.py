"""The body of a pictured person: what stage 1 reads, refined against the picture's own landmarks and silhouette.

Stage 1 is asked twice, the second time about the mirrored picture; landmarks come from mediapipe, joints and outline from
`model.refine_points`, which looks at the cut-out picture. What was learned of errors lies in samples/body/refine.npz and
holds for the embedded body alone. Where no landmarks are found, stage 1's body stays as it is.
"""

from __future__ import annotations

import copy
import logging
from functools import cache
from importlib import resources
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from model.body import Body
from model.refine import Errors, Refiner, Seen, between, load_points, mirrored, pixels_of, rays
from model.refine_points import BODY, SIDE, JointPoints
from model.stage1 import Stage1, view_of
from model.types import Camera, SmplxParams
from pipelines.landmarks import Landmarks

LEARNED = Path(str(resources.files("samples"))) / "body" / "refine.npz"
STILL = 4  # times that a picture is shown to the detector, which expects a film
log = logging.getLogger(__name__)


@torch.no_grad()
def refined_body(
    network: Stage1,
    picture: Tensor,  # [S, S, 4] uint8, cut out: colours on white, then alpha
    camera: Camera,  # of it
    found: Landmarks,  # of the picture, or of a larger one that it was cut from; the last frame counts
    intrinsics: Tensor,  # [3, 3] of the picture that `found` is in
) -> SmplxParams:  # [1] in the camera's frame
    """Stage 1's body, refined; logs where it is left as it is."""
    device = next(network.parameters()).device
    image = picture[..., :3].movedim(-1, 0)[None].float() / 255
    read = read_body(network, image.to(device), camera.map(lambda x: x[None].to(device))).to("cpu")
    seen = Seen.of(found.pose[-1:], found.visibility[-1:], found.pose_world[-1:], intrinsics[None])
    if not (seen.unsure == 0).any():
        log.warning("no landmarks found in the picture: the body stays as stage 1 reads it")
        return read
    refiner, points = load_refiner(network.body)
    first = refiner.refined(read, seen)
    return refiner.refined(read, look_closer(points, picture, camera, refiner.body.joints(first)[:, :BODY], seen))


def read_body(network: Stage1, images: Tensor, cameras: Camera) -> SmplxParams:
    """Bodies [B] that stage 1 sees in pictures [B, 3, S, S], and in their mirror images: the mean of both."""
    intrinsics = cameras.intrinsics.clone()
    intrinsics[:, 0, 2] = cameras.size[:, 0] - intrinsics[:, 0, 2]
    other = Camera(cameras.w2c, intrinsics, cameras.size)
    plain, turned = (
        network.decode_smplx(network.queries(network.image_encoder(pictures).tokens), *view_of(view))
        for pictures, view in ((images, cameras), (images.flip(-1), other))
    )
    return between(network.body, plain, mirrored(network.body, turned))


def look_closer(points: JointPoints, picture: Tensor, camera: Camera, joints: Tensor, seen: Seen) -> Seen:
    """`seen` with the joints that are found near those of the bodies [1, J, 3]."""
    if len(picture) != SIDE:
        small = F.interpolate(picture.movedim(-1, 0)[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True)
        picture, camera = small[0].movedim(0, -1).round().to(torch.uint8), camera.resized(SIDE, SIDE)
    intrinsics = camera.intrinsics[None]
    expected = pixels_of(joints, intrinsics)
    inside = ((expected > 0) & (expected < SIDE)).all(-1)
    return seen.with_joints(rays(points.locate(picture[None].cpu().numpy(), expected), intrinsics), inside)


@cache
def load_refiner(body: Body) -> tuple[Refiner, JointPoints]:
    """Both on the CPU: a picture is too little work for a GPU."""
    body = copy.deepcopy(body).to("cpu")
    return Refiner(body, Errors.load(LEARNED)), load_points(LEARNED, body)
