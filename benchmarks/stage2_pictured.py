"""Talks drawn with pictures of some of their frames, in memory: what stage 2 learns pixels from where there are no shards.

A talk of 12 s takes about 6 s of processor time and 20 MB. Axes: F frames, S side of a picture.
"""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch

from configs.schema import Config
from model.audio_encoders import make_audio_encoder
from model.mesh_light import Lights
from model.mesh_raster import render_mesh
from model.motion_spline import SEED, TAIL
from model.types import Camera, SmplxParams
from pipelines.crops import crop, crop_camera, person_box, square_round
from pipelines.datasets import WindowBatch, WindowShape, collate, window_batch
from pipelines.motion_shards import MotionClip
from pipelines.people import PersonFrames
from samples.builders.people import Person, make_person
from samples.builders.scene import Stand, camera_of, lights_of
from samples.builders.talks import Score, make_score, perform, plan_talk

STRIDE = 4  # frames between those that are drawn


@dataclass(frozen=True)
class Repeated:
    """Pictures [F, …] of which each of the first dimension of `kept` stands for STRIDE frames; indexed as a tensor is."""

    kept: torch.Tensor  # [F / STRIDE, S, S, 4]
    frames: int

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frames: torch.Tensor) -> torch.Tensor:
        return self.kept[frames // STRIDE]


@dataclass(frozen=True)
class Scene:
    """An unseen speaker before a camera."""

    score: Score
    person: Person
    params: SmplxParams  # [T] world
    camera: Camera
    lights: Lights

    def shoot(self, frames: slice, supersample: int = 1) -> np.ndarray:
        """Pictures [F, H, W, 4] uint8, straight alpha."""
        person, pictures = self.person, []
        for vertices in person.vertices(self.params[frames]):
            seen = render_mesh(
                vertices, person.faces, self.camera, texture=person.texture, uv=person.uv, uv_faces=person.uv_faces,
                lights=self.lights, supersample=supersample,
            )  # fmt: skip
            pictures.append(np.round(255 * np.concatenate([seen.rgb, seen.alpha[..., None]], -1).clip(0, 1)).astype(np.uint8))
        return np.stack(pictures)


def set_scene(config: Config, speaker: int, seconds: float, side: int) -> Scene:
    """A talk of a drawn speaker, filmed with `side` pixels a side."""
    score = make_score(plan_talk(speaker, speaker=speaker, seconds=seconds, fps=config.cut.fps))
    person, shot = make_person(score.plan.look, 512), score.plan.shot
    params = perform(score, betas=person.betas.numpy())
    return Scene(score, person, params, camera_of(shot, Stand.of(person), side), lights_of(shot))


def draw_pictured(config: Config, speaker: int, seconds: float, side: int) -> PersonFrames:
    """A talk of a drawn speaker; of its pictures every STRIDE-th is drawn, the others repeat it."""
    torch.set_num_threads(1)
    scene = set_scene(config, speaker, seconds, 2 * side)
    score, pictures = scene.score, scene.shoot(slice(None, None, STRIDE))
    square = square_round(person_box(pictures[..., 3].max(0)), 2 * side, 2 * side)
    count, name = len(scene.params.transl), f"speaker{speaker}"
    images: Any = Repeated(crop(pictures, square, side), count)
    features = torch.from_numpy(make_audio_encoder(config.audio)(score.audio, score.fps, score.frames)).float()
    cameras = crop_camera(scene.camera, square, side).map(lambda x: x.expand(count, *x.shape))
    return PersonFrames(name, name, images, cameras, scene.params, torch.ones(count), torch.arange(0, count, STRIDE), features, None)


def draw_all(config: Config, first: int, count: int, seconds: float, side: int) -> list[PersonFrames]:
    """Talks of `count` speakers from `first` on, by as many processes as there are cores."""
    speakers = range(first, first + count)
    if (processes := min(os.cpu_count() or 1, count)) == 1:
        return [draw_pictured(config, s, seconds, side) for s in speakers]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return [pickle.loads(x) for x in pool.map(_packed, [config] * count, speakers, [seconds] * count, [side] * count)]


def _packed(*job: Any) -> bytes:
    """As bytes: tensors that processes share take a file handle each."""
    return pickle.dumps(draw_pictured(*job))


def clip_of(config: Config, person: PersonFrames) -> MotionClip:
    assert person.features is not None
    return MotionClip(person.id, person.group, person.params, person.confidence, person.features, config.cut.fps)


def drawn_window(person: PersonFrames, rng: np.random.Generator, shape: WindowShape) -> WindowBatch:
    """A window anywhere in the talk; its reference and the frames that are shown are among those drawn."""
    count = len(person.images)
    start = int(rng.integers(SEED, count - shape.frames - TAIL + 1))
    shown = np.arange(start + (-start) % STRIDE, start + shape.frames, STRIDE) - start
    frames = np.sort(rng.choice(shown, shape.pixel_frames, replace=False))
    reference = STRIDE * int(rng.integers(count // STRIDE))
    return window_batch(person, reference, start, torch.from_numpy(frames), shape)


def drawn_batch(people: list[PersonFrames], rng: np.random.Generator, shape: WindowShape, batch: int) -> WindowBatch:
    return collate([drawn_window(people[int(rng.integers(len(people)))], rng, shape) for _ in range(batch)])
