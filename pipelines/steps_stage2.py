"""Stage 2's training step: motion from the sound on windows without pictures, and pixels of some frames of windows with them.

Motion comes from the motion and the talk shards and is learned at every step; from `motion_steps` on a few samples are
drawn too: the clean estimates of their chunks are posed, rendered and compared with the video. Stage 1 is frozen: it
encodes the reference, gives the tokens that frames are compared with, and draws them.
Axes: B batch, W windows, T frames, P rendered frames, S input side, R rendered side, C flow channels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from configs.schema import Config
from model.audio_encoders import OfflineEncoder
from model.flow import Drawn, Windows
from model.geometry import full_precision
from model.lips import LipOpening
from model.losses import joint_errors, token_errors, velocity_errors
from model.metrics_talk import jitter, series_correlation
from model.motion_space import FACE_START, HAND, ROOT, Still
from model.motion_spline import SEED, TAIL
from model.rasterize import Render, rasterize
from model.stage1 import Encoding, Stage1
from model.stage2 import FrameTokens, Stage2, at_rest, face_at_rest
from model.talking import talk_whole
from model.types import SmplxParams
from pipelines.body import body_hash, face_embedding
from pipelines.checkpoints import load_stage1
from pipelines.datasets import VALIDATION_STEP, Draw, TalkWindows, WindowBatch, WindowShape
from pipelines.motion_corpus import DrawnWindows, MotionCorpus, MotionWindows, adapt_generator, fit_generator
from pipelines.motion_shards import MotionClip, motion_clips
from pipelines.people import People
from pipelines.steps_stage1 import in_camera, joints_of, picture_losses
from pipelines.store import Store
from pipelines.tasks import Task, picture_rows, weighted

OWN_RAMP = 0.2  # share of training in which the share of steps with own draws grows to what is asked for
PARTS = {"body": slice(0, HAND.start), "hands": HAND, "face": slice(FACE_START, None)}  # flow channels
LIPS = [0, 17]  # mediapipe's mid upper and mid lower lip
ROUND_LIPS = 0.03  # metres
VALIDATION_SAMPLES, VALIDATION_WINDOWS, VALIDATION_CLIPS, VALIDATION_FRAMES = 3, 64, 8, 250


@dataclass(frozen=True)
class Stage2Batch:
    """Windows without pictures, and in later steps samples with them."""

    drawn: DrawnWindows  # [W]
    pictures: WindowBatch | None  # [B]

    def to(self, device: Any) -> Stage2Batch:
        move = lambda x: x.to(device, non_blocking=True)  # noqa: E731
        return Stage2Batch(self.drawn.map(move), self.pictures and self.pictures.to(device))


class Stage2Task(Task):
    """Windows of talks."""

    network: Stage2

    def __init__(self, config: Config, stage1: Stage1, clips: list[MotionClip], held_out: list[MotionClip], people: dict[str, People]):
        super().__init__()
        self.settings, self.config, self.backend = config.stage2_training, config, config.stage2_training.rasterizer
        stage1.rasterizer = self.backend
        for parameter in stage1.parameters():
            parameter.requires_grad_(False)
        self.clips, self.held_out_clips, self.people = clips, held_out, people
        self.network = Stage2(config.stage2, stage1, self.clips[0].features.shape[1])
        if self.settings.start_from is None:  # else the constants come with the weights
            fit_generator(self.network.generator, self.clips)
        embedding = face_embedding(stage1.body, body_hash(config))
        lips = stage1.body.surface(embedding.faces[LIPS], embedding.barycentric[LIPS])
        self.lips, self.lip_points = LipOpening(stage1.body, lips, config.stage2.mouth), lips
        self.shows_pictures = bool(people)
        self.offline_audio = config.audio.encoder == "offline" and self.network.audio_dim == OfflineEncoder.dim

    @classmethod
    def of(cls, config: Config, store: Store) -> Stage2Task:
        """Of a workspace's shards and stage 1."""
        stage1, settings = load_stage1(config, store), config.stage2_training
        clips, held_out = (_clips(store, split, config) for split in ("train", "test"))
        if not clips:
            place, least = store.shards("talks").parent, config.stage2.window
            raise ValueError(f"stage 2: expected clips of {least} frames or more in talk or motion shards under {place}, got none")
        side = max(stage1.config.image.image_size, settings.render_size)
        seen = ("train", "test") if settings.motion_steps < settings.steps else ()
        return cls(config, stage1, clips, held_out, {s: People(store.shard_source("talks"), s, side) for s in seen})

    def begin(self) -> None:
        if self.settings.start_from is not None and self.settings.amplitudes == "data":
            gain = adapt_generator(self.network.generator, self.clips)
            told = ", ".join(f"{name} {gain[part].median():.2f}" for name, part in PARTS.items())
            print(f"stage 2: channels move as in the data, by (median) {told}", flush=True)

    def about(self) -> dict[str, Any]:
        return {"audio_dim": self.network.audio_dim}

    @cached_property
    def shape(self) -> WindowShape:
        own, settings = self.config.stage2, self.settings
        image_size = self.network.stage1.config.image.image_size
        before = self.network.generator.past_frames
        return WindowShape(own.window, before, own.look_ahead, settings.pixel_frames, image_size, settings.render_size)

    @cached_property
    def corpus(self) -> MotionCorpus:
        """Made when first asked for, by the constants that the network has then."""
        return self._encoded(self.clips)

    def _encoded(self, clips: list[MotionClip]) -> MotionCorpus:
        device = next(self.network.parameters()).device
        return MotionCorpus.of(clips, self.network.generator.space).to(device)

    def batches(self, draw: Draw) -> Iterable[Stage2Batch]:
        return Stage2Batches(self, draw)

    def forward(self, batch: Stage2Batch, progress: float) -> dict[str, Tensor]:
        network, weights = self.network, self.settings.loss
        windows = self.corpus.windows(batch.drawn, network.generator, self.offline_audio)
        share = self.settings.own_share * min(1.0, progress / OWN_RAMP)
        if batch.pictures is None:
            drawn = network.learn(windows, self.settings.draws, share)
            return weighted(_means(drawn) | {"vertices_lips": self._lips(drawn, windows)}, weights)
        seen, reference, true, own = self.seen_windows(batch.pictures)
        windows = Windows.cat([own, windows])
        drawn = network.learn(windows, self.settings.draws, share)
        count = len(seen.frames)
        frames = network.estimated(reference.params, drawn[:count])
        losses = _means(drawn) | {"vertices_lips": self._lips(drawn, windows)}
        losses |= motion_losses(network, frames.params, true, seen.confidence)
        if weights.l1 or weights.ssim or weights.mask:
            drawn_as = frames if self.settings.pixel_pose == "estimated" else dataclasses.replace(frames, params=true)
            render = self.render(reference, drawn_as, seen)
            losses |= picture_losses(render.color, render.alpha, seen.views, seen.alpha)
            if weights.face:
                losses["face"] = self._face_loss(render, true, seen)
        if weights.token:
            losses["token"] = self._token_loss(reference, frames, seen)
        losses["regulariser"] = frames.appearance.square().mean()
        return weighted(losses, weights)

    def _lips(self, drawn: Drawn, windows: Windows) -> Tensor:
        """How far the lips' opening is off."""
        with full_precision(drawn.mouth):
            errors = self.lips.errors(drawn.mouth.float() + windows.still.mouth[:, None], windows.mouth)
        return (windows.confidence * errors).mean()

    def seen_windows(self, batch: WindowBatch) -> tuple[WindowBatch, Encoding, SmplxParams, Windows]:
        """Samples with pictures: the reference's encoding [B], the true bodies [B, T] in its camera's frame, and their windows."""
        stage1, space = self.network.stage1, self.network.generator.space
        with torch.no_grad():
            still = in_camera(stage1, batch.reference, batch.camera.w2c)
            lasting = self.config.stage2.lasting
            encoding = at_rest(dataclasses.replace(stage1.encode(batch.image, batch.camera, still), params=still), lasting)
            own = batch.params[:, SEED:-TAIL]
            true = in_camera(stage1, own, batch.camera.w2c[:, None].expand(*own.transl.shape[:2], 4, 4))
            # the reference comes first, so that it is told against the same root
            first = face_at_rest(batch.reference, lasting).map(lambda x: x[:, None])
            motion, mouth = space.encode(SmplxParams.cat([first, batch.params], 1))
            origin, lips = motion[:, 0], mouth[:, 0]
            known = torch.cat([torch.zeros_like(origin[:, :ROOT]), origin[:, ROOT:]], -1)
            windows = Windows(
                batch.audio, motion[:, 1:], mouth[:, 1 + SEED : -TAIL], Still(origin[:, :0], lips[:, :0], known, lips), origin,
                torch.zeros(len(origin), 3 * space.channels, device=origin.device), batch.confidence,
            )  # fmt: skip
        return batch, encoding, true, windows

    def _face_loss(self, render: Render, true: SmplxParams, batch: WindowBatch) -> Tensor:
        """L1 of the shown frames' colours, its mean round the true lips, where it falls off as a bell of ROUND_LIPS metres."""
        rows = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        bodies = true[rows, batch.frames].map(lambda x: x.flatten(0, 1))
        lips = self.network.stage1.body.posed_points(self.lip_points, bodies).mean(1).unflatten(0, batch.frames.shape)  # [B, P, 3]
        focal, middle = batch.view_camera.intrinsics[:, None, 0, 0], batch.view_camera.intrinsics[:, None, :2, 2]
        centre, reach = focal[..., None] * lips[..., :2] / lips[..., 2:] + middle, focal * ROUND_LIPS / lips[..., 2]
        pixels = torch.arange(batch.views.shape[2], device=lips.device) + 0.5
        along = torch.exp(-((pixels - centre[..., None]) / reach[..., None, None]).square() / 2)  # [B, P, 2, R]
        near = (along[:, :, 1, :, None] * along[:, :, 0, None, :])[..., None]
        return (near * (render.color - batch.views).abs().mean(-1, keepdim=True)).sum() / near.sum().clamp(min=1e-6)

    def _token_loss(self, reference: Encoding, frames: FrameTokens, batch: WindowBatch) -> Tensor:
        """Distance of the shown frames' tokens from those that the encoder reads in their true pictures."""
        with torch.no_grad():
            cameras = batch.camera.map(lambda x: x.repeat_interleave(batch.frames.shape[1], 0))
            encoding = self.network.stage1.encode(batch.frame_images.flatten(0, 1), cameras, corrected=False)
        rows = torch.arange(len(batch.frames), device=batch.frames.device)[:, None]
        tokens = encoding.tokens.smplx.unflatten(0, batch.frames.shape)
        return token_errors(self.network.smplx_tokens(reference, frames[rows, batch.frames]), tokens.float()).mean()

    def render(self, reference: Encoding, frames: FrameTokens, batch: WindowBatch) -> Render:  # [B, P]
        identity = self.network.identity(reference)
        upright = batch.view_camera.at_origin().map(lambda x: x[:, None])
        parts = []
        for index in batch.frames.T:
            cloud = self.network.render_cloud(reference, frames, index, identity)
            parts.append(rasterize(cloud, upright, cloud.colors.new_ones(3), self.backend, antialiased=True, depth=False))
        return Render.cat(parts, 1)

    # --- held-out data

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], np.ndarray]:
        self.network.eval()
        chance = torch.random.get_rng_state()
        torch.manual_seed(self.config.seed)
        figures, picture = self._motion_figures()
        if self.shows_pictures:
            seen, picture = self._picture_figures()
            figures |= seen
        torch.random.set_rng_state(chance)
        self.network.train()
        return figures, picture

    @cached_property
    def _validation_motion(self) -> tuple[MotionCorpus, DrawnWindows]:
        corpus = self._encoded((self.held_out_clips or self.clips)[:VALIDATION_WINDOWS])
        windows = MotionWindows(corpus, self.config.stage2.window, Draw(self.config.seed, VALIDATION_WINDOWS))
        return corpus, windows.at(VALIDATION_STEP, VALIDATION_WINDOWS).to(corpus.motion.device)

    def _motion_figures(self) -> tuple[dict[str, float], np.ndarray]:
        """Losses of held-out windows, and talks made for held-out speech against the truth; curves of both as a picture."""
        network, (corpus, drawn) = self.network, self._validation_motion
        losses = _means(network.learn(corpus.windows(drawn, network.generator, False), 1))
        clips = (self.held_out_clips or self.clips)[:VALIDATION_CLIPS]
        count = min(VALIDATION_FRAMES, *(len(c.confidence) for c in clips))
        device = corpus.motion.device
        truth = SmplxParams.cat([c.params[:count].map(lambda x: x[None]) for c in clips]).to(device)
        sound = torch.stack([c.features[:count] for c in clips]).to(device)
        made = talk_whole(network.generator, network.stage1.body, truth[:, 0], sound).params
        body, space = network.stage1.body, network.generator.space
        moves = []
        for params in (made, truth):
            joints = body.joints(params.map(lambda x: x.flatten(0, 1))).unflatten(0, (len(clips), count))
            lips = space.encode(params)[1].cpu().numpy()
            rough = float(np.mean([jitter(p) for p in params.body_pose.cpu().numpy()]))
            moves.append((joints[:, :, [20, 21]].diff(dim=1).norm(dim=-1).mean().item(), rough, lips))
        (speed, rough, lips), (true_speed, true_rough, true_lips) = moves
        figures = {
            "flow": losses["smplx_flow"].item(), "mouth": losses["smplx_mouth"].item(),
            "jitter_ratio": rough / max(true_rough, 1e-9), "hand_speed_ratio": speed / max(true_speed, 1e-9),
            "mouth_corr": float(np.nanmean([series_correlation(a, b) for a, b in zip(lips, true_lips, strict=True)])),
        }  # fmt: skip
        both = [space.encode(p)[0][0] / space.scale for p in (truth, made)]
        return {k: v for k, v in figures.items() if np.isfinite(v)}, _curves(torch.cat(both, 1).T)

    @cached_property
    def _validation(self) -> WindowBatch:
        draw = Draw(self.config.seed, VALIDATION_SAMPLES)
        try:
            return TalkWindows(self.people["test"], draw, self.shape).at(VALIDATION_STEP)
        except ValueError:  # nobody is held out
            return TalkWindows(self.people["train"], draw, self.shape).at(VALIDATION_STEP)

    def _picture_figures(self) -> tuple[dict[str, float], np.ndarray]:
        network = self.network
        batch, reference, true, windows = self.seen_windows(self._validation.to(next(network.parameters()).device))
        frames = network.estimated(reference.params, network.learn(windows, 1))
        seen = self.render(reference, frames, batch)
        psnr = -10 * torch.log10((seen.color - batch.views).square().mean((2, 3, 4)).clamp(min=1e-10))
        target = joints_of(network.stage1, true)
        held = joints_of(network.stage1, reference.params)[:, None]
        figures = {
            "psnr": psnr.mean().item(), "joints_mm": 1000 * joint_errors(joints_of(network.stage1, frames.params), target).mean().item(),
            "frozen_joints_mm": 1000 * joint_errors(held, target).mean().item(),
        }  # fmt: skip
        pairs = zip(batch.views, seen.color, strict=True)
        return figures, picture_rows([[p for pair in zip(*row, strict=True) for p in pair] for row in pairs])


class Stage2Batches:
    """Batches of both kinds, the same whenever the run is begun."""

    def __init__(self, task: Stage2Task, draw: Draw):
        self.motion, self.draw, self.settings = MotionWindows(task.corpus, task.config.stage2.window, draw), draw, task.settings
        self.talks = TalkWindows(task.people["train"], draw, task.shape) if task.shows_pictures else None

    def at(self, step: int) -> Stage2Batch:
        drawn = self.motion.at(step, self.draw.batch * self.settings.windows)
        return Stage2Batch(drawn, self.talks.at(step) if self.talks and step >= self.settings.motion_steps else None)

    def __iter__(self) -> Iterator[Stage2Batch]:
        if self.talks:
            self.talks.talks.start(*self.draw.words)
        yield from map(self.at, self.draw.steps())


def _clips(store: Store, split: str, config: Config) -> list[MotionClip]:
    """Of both kinds of shards; InputRejected is not for here: clips at another rate or too short are left out."""
    found = [c for kind in ("motions", "talks") for c in motion_clips(store.shard_source(kind), split)]  # type: ignore[arg-type]
    return [c for c in found if c.fps == config.cut.fps and len(c.confidence) >= config.stage2.window]


def _means(drawn: Drawn) -> dict[str, Tensor]:
    return {name: value.mean() for name, value in drawn.losses.items()}


def _curves(channels: Tensor) -> np.ndarray:
    """Channels [2C, T] of a truth and of what was made, as colours round grey: [2C, T, 3] 0..1."""
    value = (0.5 + 0.2 * channels).clamp(0, 1).cpu().numpy()
    return np.stack([value, 0.5 + 0 * value, 1 - value], -1).repeat(2, 0)


def motion_losses(network: Stage2, params: SmplxParams, true: SmplxParams, confidence: Tensor) -> dict[str, Tensor]:
    """Joints and joint velocities of frames [B, T] in one space."""
    weight = confidence / confidence.mean().clamp(min=1e-6)
    moved, target = joints_of(network.stage1, params), joints_of(network.stage1, true)
    velocity = velocity_errors(moved, target).mean(-1)
    return {
        "vertices": (weight * joint_errors(moved, target).mean(-1)).mean(),
        "velocity": (torch.minimum(weight[:, 1:], weight[:, :-1]) * velocity).mean(),
    }
