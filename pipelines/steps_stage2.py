"""Stage 2's training step: a reference picture and a window of speech → the body, face and pixels of each frame.

Stage 1 is frozen: it encodes the reference, gives the tokens that frames are compared with, and draws them.
Axes: B batch, W windows, T frames, P rendered frames, S input side, R rendered side.
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
from model.types import JOINTS, Camera, SmplxParams, TensorGroup
from pipelines.checkpoints import load_stage1
from pipelines.datasets import VALIDATION_STEP, Draw, TalkWindows, WindowBatch, WindowShape
from pipelines.people import People
from pipelines.steps_stage1 import in_camera, joints_of, picture_losses
from pipelines.store import Store
from pipelines.tasks import Task, picture_rows, weighted

VALIDATION_SAMPLES = 3
SEED_NOISE = 0.01  # standard deviation added to seed motion: at work it is the network's own, which is not exact
JAW = 22
JAW_WEIGHT = 8.0  # of the jaw against another joint: it is one of 55 and says most of what is heard
EXPRESSION_WEIGHT = 0.5
# of the numbers of a motion vector against those of a finger
BODY_NUMBER, JAW_NUMBER, EXPRESSION_NUMBER, METRE_NUMBER = 3.0, 12.0, 1.5, 10.0


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
        self.talks, self.held_out = (People(store.shard_source("talks"), split, side) for split in ("train", "test"))
        own, image_size = config.stage2, stage1.config.image.image_size
        self.shape = WindowShape(
            own.window, own.audio_context, self.settings.windows, self.settings.motion_steps, self.settings.pixel_frames,
            own.seed_frames, image_size, self.settings.render_size,
        )  # fmt: skip
        self.audio_dim = TalkWindows(self.talks, Draw(config.seed, 1), self.shape).at(0).audio.shape[-1]
        self.network = Stage2(own, stage1, self.audio_dim)

    def about(self) -> dict[str, Any]:
        return {"audio_dim": self.audio_dim}

    def batches(self, draw: Draw) -> Iterable[WindowBatch]:
        return TalkWindows(self.talks, draw, self.shape)

    def forward(self, batch: WindowBatch, progress: float) -> dict[str, Tensor]:
        weights = self.settings.loss
        reference, true = self._reference(batch)
        if not batch.frames.shape[1]:
            return weighted(self._motion_losses(reference, true, batch), weights)
        frames = self.network(*self._heard(reference, true, batch, SEED_NOISE))
        losses = motion_losses(self.network, frames.params, true.map(lambda x: x.flatten(0, 1)), batch.confidence.flatten(0, 1))
        first = frames.map(lambda x: x[:: batch.audio.shape[1]])  # the window of each sample that is shown
        if weights.l1 or weights.ssim or weights.mask:
            seen = self._render(reference, first, batch)
            losses |= picture_losses(seen.color, seen.alpha, batch.views, batch.alpha)
        if weights.token:
            losses["token"] = self._token_loss(first, batch)
        losses["regulariser"] = frames.appearance.square().mean()
        return weighted(losses, weights)

    def _reference(self, batch: WindowBatch) -> tuple[Encoding, SmplxParams]:
        """The reference's encoding [B] with its true body, and the true bodies of all frames [B, W, T], in its camera's frame."""
        stage1 = self.network.stage1
        with torch.no_grad():
            still = in_camera(stage1, batch.reference, batch.camera.w2c)
            reference = stage1.encode(batch.image, batch.camera, still)
            w2c = batch.camera.w2c[:, None, None].expand(*batch.params.transl.shape[:3], 4, 4)
            true = in_camera(stage1, batch.params, w2c)
        return dataclasses.replace(reference, params=still), true

    def _heard(self, reference: Encoding, true: SmplxParams, batch: WindowBatch, noise: float) -> tuple[Encoding, Tensor, Tensor]:
        """The network's inputs for windows in rows [B W]: reference, audio, and the seed with noise on it."""
        seeds = self.network.config.seed_frames
        seed = _windows_motion(true[:, :, :seeds], reference).flatten(0, 1)
        each = reference.map(lambda x: _repeated(x, batch.audio.shape[1]))
        return each, batch.audio.flatten(0, 1), seed + noise * torch.randn_like(seed)

    def _motion_losses(self, reference: Encoding, true: SmplxParams, batch: WindowBatch) -> dict[str, Tensor]:
        """Motion vectors and their moves from frame to frame against the true ones."""
        target = _windows_motion(true, reference).flatten(0, 1)
        motion = self.network.motion(*self._heard(reference, true, batch, SEED_NOISE))
        weight = batch.confidence.flatten(0, 1)[..., None] * _number_weights(motion)
        weight = weight / weight.mean().clamp(min=1e-6)
        return {
            "smplx": (weight * (motion - target).abs()).mean(),
            "velocity": (torch.minimum(weight[:, 1:], weight[:, :-1]) * (motion.diff(dim=1) - target.diff(dim=1)).abs()).mean(),
        }

    def _token_loss(self, frames: FrameTokens, batch: WindowBatch) -> Tensor:
        """Distance of the shown frames' tokens from those that the encoder reads in their true pictures."""
        with torch.no_grad():
            cameras = batch.camera.map(lambda x: x.repeat_interleave(batch.frames.shape[1], 0))
            encoding = self.network.stage1.encode(batch.frame_images.flatten(0, 1), cameras)
        rows = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        tokens = encoding.tokens.smplx.unflatten(0, batch.frames.shape)
        return token_errors(frames.smplx_tokens[rows, batch.frames].float(), tokens.float()).mean()

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
        try:
            return TalkWindows(self.held_out, draw, self.shape).at(VALIDATION_STEP)
        except ValueError:  # nobody is held out
            return TalkWindows(self.talks, draw, self.shape).at(VALIDATION_STEP)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        network, batch = self.network, self._validation.to(next(self.network.parameters()).device)
        network.eval()
        reference, true = self._reference(batch)
        frames = network(*self._heard(reference, true, batch, 0.0))
        windows = batch.audio.shape[1]
        seen = self._render(reference, frames.map(lambda x: x[::windows]), batch)
        network.train()
        psnr = -10 * torch.log10((seen.color - batch.views).square().mean((2, 3, 4)).clamp(min=1e-10))
        target = joints_of(network.stage1, true).flatten(0, 1)
        joints = joint_errors(joints_of(network.stage1, frames.params), target)
        held = joints_of(network.stage1, reference.params).repeat_interleave(windows, 0)[:, None]
        jaw = smplx_errors(frames.params, true.map(lambda x: x.flatten(0, 1))).pose[..., JAW]
        figures = {
            "psnr": psnr.mean().item(), "joints_mm": 1000 * joints.mean().item(),
            "frozen_joints_mm": 1000 * joint_errors(held, target).mean().item(), "jaw_degrees": torch.rad2deg(jaw.mean()).item(),
        }  # fmt: skip
        pairs = zip(batch.views, seen.color, strict=True)
        return figures, picture_rows([[p for pair in zip(*row, strict=True) for p in pair] for row in pairs])


def _repeated(value: Any, times: int) -> Any:
    """Each row of a tensor, or of a group of tensors, `times` times."""
    if isinstance(value, TensorGroup):
        return value.map(lambda x: _repeated(x, times))
    return value.repeat_interleave(times, 0)


def _windows_motion(params: SmplxParams, reference: Encoding) -> Tensor:  # [B, W, T, 343] of params [B, W, T]
    flat = motion_vector(params.map(lambda x: x.flatten(1, 2)), reference.params)
    return flat.unflatten(1, params.transl.shape[1:3])


def _number_weights(motion: Tensor) -> Tensor:  # [343]
    joints = motion.new_ones(JOINTS, 6)
    joints[:JAW] = BODY_NUMBER
    joints[JAW] = JAW_NUMBER
    face, place = motion.new_full((10,), EXPRESSION_NUMBER), motion.new_full((3,), METRE_NUMBER)
    return torch.cat([joints.flatten(), face, place])


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
