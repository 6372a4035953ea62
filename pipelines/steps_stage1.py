"""Stage 1's training step: read a picture, rebuild the person, and compare from that view and others.

Axes: B batch, C target pictures, N Gaussians, J joints, R side of the rendered pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.anchors import Anchors
from model.geometry import full_precision
from model.losses import chamfer, coherence_penalty, joint_errors, l1_map, mask_l1, offset_penalty, scale_penalty, smplx_errors, ssim_map
from model.rasterize import Render, rasterize
from model.stage1 import Encoding, Stage1
from model.types import Camera, GaussianCloud, SmplxParams
from pipelines.body import load_body
from pipelines.datasets import VALIDATION_STEP, Draw, DrawnViews, ScanViews, ViewBatch, ViewRows
from pipelines.people import People
from pipelines.store import ShardKind, Store
from pipelines.tasks import Task, picture_rows, weighted

VALIDATION_SAMPLES = 3
SEVERAL_SHARE = 0.25  # of the steps give the network more than one picture
OWN_ALIGNMENT = (0.3, 0.5)  # share of steps from which pictures are read where the predicted body is, up to this share
PREDICTED_POSE_SHARE = 0.25  # its weight against the true pose's


class Stage1Task(Task):
    """Scans, HuGe100K samples and frames of talks; pictures are rendered with true poses and with the predicted one."""

    network: Stage1

    def __init__(self, config: Config, store: Store):
        super().__init__()
        self.settings, self.config, self.backend = config.stage1_training, config, config.stage1_training.rasterizer
        self.network = Stage1(config.stage1, load_body(config))
        self.network.rasterizer = self.backend
        side = max(config.stage1.image.image_size, self.settings.render_size)
        kinds: tuple[ShardKind, ...] = ("scans", "idol", "talks")
        self.sources = [People(store.shard_source(kind), "train", side, shared=True) for kind in kinds]
        self.held_out = [People(store.shard_source(kind), "test", side) for kind in kinds]

    def batches(self, draw: Draw) -> Iterable[DrawnViews | ViewRows]:
        return self._views(self.sources, draw, self.settings.views)

    def _views(self, sources: list[People], draw: Draw, views: int) -> ScanViews:
        return ScanViews(sources, draw, views, self.config.stage1.image.image_size, self.settings.render_size)

    def forward(self, batch: ViewBatch, progress: float) -> dict[str, Tensor]:
        network = self.network
        given = batch.images.shape[1] if torch.rand(()) < SEVERAL_SHARE else 1
        cameras = batch.input_cameras[:, :given]
        every = in_camera(network, batch.view_params[:, :given], cameras.w2c)
        begin, most = OWN_ALIGNMENT
        own = bool(torch.rand(()) < most * min(1.0, max(0.0, (progress - begin) / (1 - begin))))
        encoding = network.encode_several(batch.images[:, :given], cameras, None if own else every)
        cloud = network.gaussians(network.canonical(encoding))
        drawing = batch.cameras, self.backend, self.settings.render_size
        if encoding.params.transl.requires_grad:
            seen, guess = render_both(network, cloud, encoding, batch.view_params, *drawing)
            of_guess = picture_losses(guess.color, guess.alpha, batch.views[:, :1], batch.alpha[:, :1])
            losses = {f"{name}_predicted": PREDICTED_POSE_SHARE * value for name, value in of_guess.items()}
            flat = lambda bodies: bodies.map(lambda x: x.flatten(0, 1))  # noqa: E731
            losses |= body_losses(network, flat(encoding.bodies), flat(every), batch.confidence.repeat_interleave(given))
        else:  # the body is not learned
            seen, losses = render_views(network, cloud, batch.view_params, *drawing), {}
        losses |= picture_losses(seen.color, seen.alpha, batch.views, batch.alpha)
        anchors, offsets = network.anchors, network.offsets(cloud)
        losses["regulariser"] = offset_penalty(offsets).mean() + scale_penalty(cloud.scales, anchors.spacing).mean()
        losses["coherence"] = coherence_penalty(offsets, anchors.frames[..., 2], anchors.beside, anchors.spacing).mean()
        if self.settings.loss.chamfer:
            losses["chamfer"] = surface_loss(network.pose(cloud, batch.view_params[:, 0]).means, batch.points)
        return weighted(losses, self.settings.loss)

    @cached_property
    def _validation(self) -> DrawnViews | ViewRows:
        sources = [s for s in self.held_out if s] or self.sources
        draw = Draw(self.config.seed, VALIDATION_SAMPLES)
        return self._views(sources, draw, 3).at(VALIDATION_STEP)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        network, batch = self.network, self._validation.to(next(self.network.parameters()).device)
        network.eval()
        camera = batch.input_cameras[:, 0]
        true = in_camera(network, batch.view_params[:, 0], camera.w2c)
        encoding = network.encode(batch.images[:, 0], camera)
        cloud = network.gaussians(network.canonical(encoding))
        seen, own = render_both(network, cloud, encoding, batch.view_params, batch.cameras, self.backend, self.settings.render_size)
        network.train()
        error = (seen.color - batch.views).square().mean((2, 3, 4))
        psnr = -10 * torch.log10(error.clamp(min=1e-10))
        guess, target = (joints_of(network, p) for p in (encoding.params, true))
        joints = joint_errors(guess - guess[:, :1], target - target[:, :1])
        figures = {
            "psnr_input": psnr[:, 0].mean().item(), "psnr_novel": psnr[:, 1:].mean().item(),
            "joints_mm": 1000 * joints.mean().item(),
        }  # fmt: skip
        rows = []
        for i in range(len(batch.views)):
            pairs = [p for c in range(batch.views.shape[1]) for p in (batch.views[i, c], seen.color[i, c])]
            rows.append([*pairs, own.color[i, 0]])
        return figures, picture_rows(rows)


def render_views(
    network: Stage1,
    cloud: GaussianCloud,  # [B, N] canonical
    params: SmplxParams,  # [B, C] world
    cameras: Camera,  # [B, C]
    backend: str,
    side: int | None = None,  # of the pictures; none: as the cameras say
) -> Render:  # [B, C]
    """Each picture with its own pose, on white."""
    views = params.transl.shape[1]
    return render_clouds(network.anchors, cloud.map(lambda x: x.repeat_interleave(views, 0)), params, cameras, backend, side)


def render_both(
    network: Stage1,
    cloud: GaussianCloud,  # [B, N] canonical
    encoding: Encoding,  # [B]
    params: SmplxParams,  # [B, C] world
    cameras: Camera,  # [B, C], the first that of the picture
    backend: str,
    side: int,  # of the pictures
) -> tuple[Render, Render]:  # [B, C], [B, 1]
    """All pictures with their true poses, and the first one with the predicted pose, from which the pose alone learns."""
    views = cameras.w2c.shape[1]
    every_camera = Camera.cat([cameras, cameras.map(lambda x: x[:, :1]).at_origin()], 1)
    every_params = SmplxParams.cat([params, encoding.params.map(lambda x: x[:, None])], 1)
    clouds = cloud.map(lambda x: torch.stack([*[x] * views, x.detach()], 1).flatten(0, 1))
    drawn = render_clouds(network.anchors, clouds, every_params, every_camera, backend, side)
    return drawn.map(lambda x: x[:, :views]), drawn.map(lambda x: x[:, views:])


def render_clouds(
    anchors: Anchors,
    clouds: GaussianCloud,  # [B × C, N] canonical, one a picture
    params: SmplxParams,  # [B, C] world
    cameras: Camera,  # [B, C]
    backend: str,
    side: int | None = None,  # of the pictures; none: as the cameras say
) -> Render:  # [B, C]
    """Each picture of its own Gaussians in its own pose, on white."""
    posed = anchors.posed_cloud(clouds, params.map(lambda x: x.flatten(0, 1)))[0]
    one = cameras.map(lambda x: x.flatten(0, 1)[:, None])
    size = None if side is None else (side, side)
    drawn = rasterize(posed, one, posed.colors.new_ones(3), backend, antialiased=True, size=size, depth=False)
    return drawn.map(lambda x: x.unflatten(0, params.transl.shape[:2])[:, :, 0])


def picture_losses(color: Tensor, alpha: Tensor, views: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """L1, squared error, 1 - SSIM and alpha L1 of pictures [..., R, R, 3 or 1]."""
    return {
        "l1": l1_map(color, views).mean(), "l2": (color - views).square().mean(),
        "ssim": 1 - ssim_map(color, views).mean(), "mask": mask_l1(alpha, mask).mean(),
    }  # fmt: skip


def body_losses(network: Stage1, params: SmplxParams, true: SmplxParams, confidence: Tensor) -> dict[str, Tensor]:
    """Bodies [B] in the camera's frame; unsure fits count less.

    Depth is judged relative to itself, and joints by their shape and by where the picture shows them: metres along
    the line of sight weigh little from far away.
    """
    weight = confidence / confidence.mean().clamp(min=1e-6)
    errors = smplx_errors(params, true)
    depth = true.transl[..., 2].clamp(min=0.1)
    of_parameters = errors.pose.mean(-1) + 0.1 * (errors.betas + errors.expression).mean(-1) + errors.transl / depth
    guess, target = joints_of(network, SmplxParams.cat([params, true])).chunk(2)
    shape = joint_errors(guess - guess[:, :1], target - target[:, :1])
    seen = guess[..., :2] * (target[..., 2:] / guess[..., 2:].clamp(min=0.1))
    across = joint_errors(seen, target[..., :2])
    return {"smplx": (weight * of_parameters).mean(), "vertices": (weight * (shape + across).mean(-1)).mean()}


def surface_loss(means: Tensor, points: Tensor) -> Tensor:
    """Mean chamfer distance, m², of Gaussians [B, N, 3] and scan points [B, P, 3]; samples without a scan (NaN) give zero."""
    scanned = ~points.isnan().any(-1).any(-1)
    if not scanned.any():
        return means.sum() * 0
    out, back = chamfer(means[scanned], points[scanned])
    return (out.mean(1) + back.mean(1)).sum() / len(means)


def in_camera(network: Stage1, params: SmplxParams, w2c: Tensor) -> SmplxParams:
    """World parameters [...] in the frame of cameras [..., 4, 4]."""
    with full_precision(w2c):
        return network.body.moved(params, w2c)


def joints_of(network: Stage1, params: SmplxParams) -> Tensor:
    """Joints [..., J, 3] for any leading axes."""
    lead = params.transl.shape[:-1]
    with full_precision(params.transl):
        flat = params.map(lambda x: x.float().reshape(-1, *x.shape[len(lead) :]))
        return network.body.joints(flat).unflatten(0, lead)
