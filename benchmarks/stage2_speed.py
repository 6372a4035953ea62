"""How fast stage 2 makes pictures of sound, and what a longer speech costs: `python -m benchmarks.stage2 --speed-only`.

A person and sound drawn here; nothing is read from disk but the weights. Speeds are of whole runs after a first one that
compiles and fills caches; the time to the first picture is from the first sound handed over, which comes at once.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Figure
from benchmarks.stage1 import draw_subject
from configs.schema import Config
from model.audio_encoders import SAMPLE_RATE
from model.audio_stream import open_stream
from model.stage2 import Stage2
from model.types import Camera, SmplxParams
from pipelines.crops import shrink
from pipelines.steps_stage1 import in_camera
from pipelines.stream import Avatar

SUBJECT = 900_000
PIECE = SAMPLE_RATE // 25  # samples of a stream's pieces
SHORT, LONG = 16.0, 256.0  # seconds of speech whose cost a second is compared


def made_up_speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, [samples]: what sound says does not matter to its cost."""
    rng, count = np.random.default_rng(seed), round(seconds * SAMPLE_RATE)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE)
    return (0.1 * syllables * rng.standard_normal(count)).astype(np.float32)


def drawn_avatar(config: Config, stage2: Stage2, size: int) -> Avatar:
    """A drawn person, ready to speak in pictures of `size`²."""
    device, subject = next(stage2.parameters()).device, draw_subject(SUBJECT)
    side = stage2.stage1.config.image.image_size
    camera = subject.cameras[:1].resized(side, side).to(device)
    image = shrink(subject.pictures[:1, ..., :3], side).movedim(-1, 1).to(device)
    return known_avatar(config, stage2, image, camera, subject.params[:1].to(device), camera[0].resized(size, size))


@torch.no_grad()
def known_avatar(config: Config, stage2: Stage2, image: Tensor, camera: Camera, params: SmplxParams, shown: Camera) -> Avatar:
    """Of a picture [1, 3, S, S], its camera [1] and true body [1] in the world, in pictures of the intrinsics of `shown`."""
    body = in_camera(stage2.stage1, params, camera.w2c)
    encoding = dataclasses.replace(stage2.stage1.encode(image, camera, body), params=body)
    upright = Camera(torch.eye(4, device=image.device), shown.intrinsics, shown.size)
    return Avatar(config, stage2, encoding, stage2.identity(encoding), upright)


def speeds(
    config: Config, stage2: Stage2, size: int = 512, seconds: float = 5.12, short: float = SHORT, long: float = LONG
) -> list[Figure]:
    """Sound → pictures of `size`² on the network's device, whole and as a stream of 40 ms pieces; motion alone of any length."""
    device = next(stage2.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    avatar, fps = drawn_avatar(config, stage2, size), float(config.cut.fps)
    sound, frames = made_up_speech(seconds), round(seconds * fps)
    offline: Callable[[], Iterator[np.ndarray]] = lambda: avatar.speaking(sound, frames)  # noqa: E731
    live: Callable[[], Iterator[np.ndarray]] = lambda: avatar.live(_pieces(sound))  # noqa: E731
    found = []
    for name, run in (("offline", offline), ("stream", live)):
        next(run())  # compiles and fills caches
        start = time.perf_counter()
        count = sum(1 for _ in run())
        found.append(Figure(f"fps_{size}_{name}", round(count / (time.perf_counter() - start), 2), "frames/s"))
    waits = []
    for _ in range(5):
        start = time.perf_counter()
        next(live())
        waits.append(1000 * (time.perf_counter() - start))
    found.append(Figure("first_frame_ms", round(sorted(waits)[2], 1), "ms", "<= 150" if device.type == "cuda" else None))
    found.append(_memory(device))
    costs = {length: _cost(avatar, length) for length in (short, long)}
    found += [Figure(f"motion_ms_per_second_{length:.0f}", round(cost, 2), "ms/s") for length, cost in costs.items()]
    found.append(Figure(f"cost_per_second_{long:.0f}_over_{short:.0f}", round(costs[long] / costs[short], 3), "", "<= 1.1"))
    found.append(dataclasses.replace(_memory(device), name=f"peak_memory_after_{long:.0f}_s"))
    return found


def _pieces(sound: np.ndarray) -> Iterable[np.ndarray]:
    return (sound[i : i + PIECE] for i in range(0, len(sound), PIECE))


def _cost(avatar: Avatar, seconds: float) -> float:
    """Milliseconds that the motion of a second of streamed sound takes, its features included; of a CPU, of its own time."""
    clock = time.perf_counter if avatar.identity.features.is_cuda else time.process_time

    def features() -> Iterator[np.ndarray]:
        stream = open_stream(avatar.config.audio, avatar.fps)
        for second in range(round(seconds)):
            for piece in _pieces(made_up_speech(1.0, second)):
                yield stream.push(piece)
        yield stream.finish()

    start = clock()
    made = sum(motion.params.transl[0].cpu().shape[0] for motion in avatar.motion(features()))
    assert abs(made - seconds * float(avatar.fps)) <= 1
    return 1000 * (clock() - start) / seconds


def _memory(device: torch.device) -> Figure:
    if device.type == "cuda":
        return Figure("peak_memory", round(torch.cuda.max_memory_allocated(device) / 1e9, 3), "GB")
    return Figure("peak_memory", round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 3), "GB")
