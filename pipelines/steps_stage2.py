"""Stage 2's training step: a reference picture and a window of speech → the body, face and pixels of each frame.

Stage 1 is frozen: it encodes the reference, gives the tokens that frames are compared with, and draws them.
Axes: B batch, T frames, P rendered frames, S input side, R rendered side.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.losses import joint_errors, smplx_errors, token_errors, velocity_errors
from model.motion import motion_vector
from model.rasterize import Render, rasterize
from model.stage1 import Encoding
from model.stage2 import FrameTokens, Stage2
from model.types import Camera, SmplxParams
from pipelines.checkpoints import load_stage1
from pipelines.datasets import VALIDATION_STEP, Draw, TalkWindows, WindowBatch
from pipelines.people import People
from pipelines.steps_stage1 import in_camera, joints_of, picture_losses
from pipelines.store import Store
from pipelines.tasks import Task, picture_rows, weighted

VALIDATION_SAMPLES = 3
SEED_NOISE = 0.01  # standard deviation added to seed motion: at work it is the network's own, which is not exact
JAW = 22
JAW_WEIGHT = 8.0  # of the jaw against another joint: it is one of 55 and says most of what is heard
EXPRESSION_WEIGHT = 0.5


class Stage2Task(Task):
    """Windows of talks."""

    network: Stage2

    def __init__(self, config: Config, store: Store):
        super().__init__()
        self.settings, self.config, self.backend = config.stage2_training, config, config.stage2_training.rasterizer
        stage1 = load_stage1(config, store)
        for parameter in stage1.parameters():
            parameter.requires_grad_(False)
        side = max(stage1.config.image.image_size, self.settings.render_size)
        self.talks, self.held_out = (People(store.shards("talks"), split, side) for split in ("train", "test"))
        self.windows = self._windows(self.talks, Draw(config.seed, self.settings.batch), stage1.config.image.image_size)
        self.audio_dim = self.windows.at(0).audio.shape[-1]
        self.network = Stage2(config.stage2, stage1, self.audio_dim)

    def _windows(self, talks: People, draw: Draw, image_size: int) -> TalkWindows:
        own = self.config.stage2
        return TalkWindows(
            talks, draw, own.window, own.audio_context, self.settings.pixel_frames, own.seed_frames, image_size, self.settings.render_size
        )

    def about(self) -> dict[str, Any]:
        return {"audio_dim": self.audio_dim}

    def batches(self, draw: Draw) -> Iterable[WindowBatch]:
        return self._windows(self.talks, draw, self.windows.image_size)

    def forward(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        network, stage1 = self.network, self.network.stage1
        reference, true = self._reference(batch)
        seed = motion_vector(true[:, : network.config.seed_frames], reference.params)
        seed = seed + SEED_NOISE * torch.randn_like(seed)
        frames = network(reference, batch.audio, seed)
        seen = self._render(reference, frames, batch)
        losses = picture_losses(seen.color, seen.alpha, batch.views, batch.alpha)
        losses |= motion_losses(network, frames.params, true, batch.confidence)
        with torch.no_grad():
            cameras = batch.camera.map(lambda x: x.repeat_interleave(batch.frames.shape[1], 0))
            tokens = stage1.encode(batch.frame_images.flatten(0, 1), cameras).tokens.smplx.unflatten(0, batch.frames.shape)
        rows = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        losses["token"] = token_errors(frames.smplx_tokens[rows, batch.frames].float(), tokens.float()).mean()
        losses["regulariser"] = frames.appearance.square().mean()
        return weighted(losses, self.settings.loss)

    def _reference(self, batch: WindowBatch) -> tuple[Encoding, SmplxParams]:
        """The reference's encoding with its true body, and the true bodies of all frames, in the camera's frame."""
        stage1 = self.network.stage1
        with torch.no_grad():
            still = in_camera(stage1, batch.reference, batch.camera.w2c)
            reference = stage1.encode(batch.image, batch.camera, still)
            w2c = batch.camera.w2c[:, None].expand(*batch.params.transl.shape[:2], 4, 4)
            true = in_camera(stage1, batch.params, w2c)
        return dataclasses.replace(reference, params=still), true

    def _render(self, reference: Encoding, frames: FrameTokens, batch: WindowBatch) -> Render:  # [B, P]
        identity = self.network.identity(reference)
        camera = batch.view_camera.map(lambda x: x[:, None])
        upright = Camera(torch.eye(4, device=camera.w2c.device).expand_as(camera.w2c), camera.intrinsics, camera.size)
        parts = []
        for index in batch.frames.T:
            cloud = self.network.render_cloud(reference, frames, index, identity)
            parts.append(rasterize(cloud, upright, cloud.colors.new_ones(3), self.backend, antialiased=True))
        return Render.cat(parts, 1)

    @cached_property
    def _validation(self) -> WindowBatch:
        draw = Draw(self.config.seed, VALIDATION_SAMPLES)
        size = self.windows.image_size
        try:
            return self._windows(self.held_out, draw, size).at(VALIDATION_STEP)
        except ValueError:  # nobody is held out
            return self._windows(self.talks, draw, size).at(VALIDATION_STEP)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        network, batch = self.network, self._validation.to(next(self.network.parameters()).device)
        network.eval()
        reference, true = self._reference(batch)
        frames = network(reference, batch.audio, motion_vector(true[:, : network.config.seed_frames], reference.params))
        seen = self._render(reference, frames, batch)
        network.train()
        psnr = -10 * torch.log10((seen.color - batch.views).square().mean((2, 3, 4)).clamp(min=1e-10))
        joints = joint_errors(*(joints_of(network.stage1, p) for p in (frames.params, true)))
        still = joint_errors(joints_of(network.stage1, true), joints_of(network.stage1, reference.params)[:, None])
        jaw = smplx_errors(frames.params, true).pose[..., JAW]
        figures = {
            "psnr": psnr.mean().item(), "joints_mm": 1000 * joints.mean().item(), "frozen_joints_mm": 1000 * still.mean().item(),
            "jaw_degrees": torch.rad2deg(jaw.mean()).item(),
        }  # fmt: skip
        rows = [[p for c in range(batch.views.shape[1]) for p in (batch.views[i, c], seen.color[i, c])] for i in range(len(batch.views))]
        return figures, picture_rows(rows)


def motion_losses(network: Stage2, params: SmplxParams, true: SmplxParams, confidence: Tensor) -> dict[str, Tensor]:
    """Parameters, joints and joint velocities of frames [B, T] in one space."""
    weight = confidence / confidence.mean().clamp(min=1e-6)
    errors = smplx_errors(params, true)
    joint_weights = torch.ones_like(errors.pose[0, 0])
    joint_weights[JAW] = JAW_WEIGHT
    pose = (errors.pose * joint_weights).sum(-1) / joint_weights.sum()
    of_parameters = pose + EXPRESSION_WEIGHT * errors.expression.mean(-1) + errors.transl
    moved, target = joints_of(network.stage1, params), joints_of(network.stage1, true)
    velocity = velocity_errors(moved, target).mean(-1)
    return {
        "smplx": (weight * of_parameters).mean(),
        "vertices": (weight * joint_errors(moved, target).mean(-1)).mean(),
        "velocity": (torch.minimum(weight[:, 1:], weight[:, :-1]) * velocity).mean(),
    }
