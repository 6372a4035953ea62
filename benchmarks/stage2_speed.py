"""How fast stage 2 makes pictures of sound, and what a longer speech costs: `python -m benchmarks.stage2 --speed-only`.

A doll and noise stand in for a person and speech, so nothing is drawn first; nothing is read from disk but the weights. Speeds
are of whole runs after a first one that compiles and fills caches; the time to the first picture is from the first sound handed
over, which comes at once. The two-stage system of the same size (random weights unless `--baseline` names some) runs beside it.
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
from benchmarks.stage1_speed import level_cameras, upright
from configs.schema import Config
from model.audio_encoders import SAMPLE_RATE, make_audio_encoder
from model.audio_stream import open_stream
from model.audio_to_motion import AudioToMotion, rest_of
from model.body import Body
from model.motion import motion_vector, params_from_motion
from model.stage2 import Stage2
from model.types import Camera, GaussianCloud, SmplxParams
from pipelines.drawing import draw
from pipelines.steps_stage1 import in_camera
from pipelines.stream import Avatar

PIECE = SAMPLE_RATE // 25  # samples of a stream's pieces
SHORT, LONG = 16.0, 64.0  # seconds of speech whose cost a second is compared; what is kept in mind is full after 4
HEIGHT = 1.7  # metres that fill the picture
SEEN, STYLES = 20, 300  # fits of codes and speakers that a made-up baseline knows of


def made_up_speech(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise in syllables, [samples]: what sound says does not matter to its cost."""
    rng, count = np.random.default_rng(seed), round(seconds * SAMPLE_RATE)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(count) / SAMPLE_RATE)
    return (0.1 * syllables * rng.standard_normal(count)).astype(np.float32)


def doll(body: Body, params: SmplxParams, camera: Camera) -> Tensor:
    """A picture [1, 3, S, S] on white of a body [1] whose skin is grey, darker towards its feet."""
    side = int(camera.size[0, 0])
    pixels, _ = camera[0].project(body.vertices(params)[0])
    column, row = pixels.round().long().clamp(0, side - 1).unbind(-1)
    solid = torch.zeros(1, 1, side, side, device=pixels.device)
    solid[0, 0, row, column] = 1
    solid = torch.nn.functional.max_pool2d(solid, 7, 1, 3)
    shade = torch.linspace(0.7, 0.3, side, device=pixels.device)[:, None]
    return torch.lerp(torch.ones(3, side, side, device=pixels.device), shade.expand(3, side, side), solid)


@torch.no_grad()
def made_up_avatar(config: Config, stage2: Stage2, size: int) -> Avatar:
    """A doll before its camera, ready to speak in pictures of `size`²."""
    device, side = next(stage2.parameters()).device, stage2.stage1.config.image.image_size
    params, camera = (x.map(lambda t: t[:, 0].to(device)) for x in (upright(1, 1), level_cameras(1, 1, side, HEIGHT)))
    image = doll(stage2.stage1.body, params, camera)
    return known_avatar(config, stage2, image, camera, params, camera[0].resized(size, size))


@torch.no_grad()
def known_avatar(config: Config, stage2: Stage2, image: Tensor, camera: Camera, params: SmplxParams, shown: Camera) -> Avatar:
    """Of a picture [1, 3, S, S], its camera [1] and true body [1] in the world, in pictures of the intrinsics of `shown`."""
    body = in_camera(stage2.stage1, params, camera.w2c)
    encoding = dataclasses.replace(stage2.stage1.encode(image, camera, body), params=body)
    upright = Camera(torch.eye(4, device=image.device), shown.intrinsics, shown.size)
    return Avatar(config, stage2, encoding, stage2.identity(encoding), upright)


def made_up_baseline(config: Config, features: np.ndarray) -> AudioToMotion:
    """The two-stage system's first stage with random weights, its codes fitted to noise."""
    settings = config.baseline
    network = AudioToMotion(features.shape[1], settings.width, settings.layers, settings.codes, STYLES)
    still = upright(1, 1)[0, :1].map(lambda x: x.expand(4 * len(features), *x.shape[1:]))
    vectors = motion_vector(still, rest_of(still))
    network.motion.fit([vectors + 0.1 * torch.randn_like(vectors) for _ in range(SEEN)], 0)
    return network.eval()


def two_stage(
    config: Config, stage2: Stage2, avatar: Avatar, network: AudioToMotion, sound: np.ndarray, frames: int
) -> Iterator[np.ndarray]:
    """Pictures by the two-stage system: motion of the whole speech, then the canonical avatar posed by it."""
    features = make_audio_encoder(config.audio)(sound, avatar.fps, frames)
    first, stage1 = avatar.encoding.params, stage2.stage1
    moved = params_from_motion(network.generate(torch.from_numpy(features).float()), rest_of(first.to("cpu")))
    params = moved.to(first.transl.device)
    with torch.no_grad():
        canonical = stage1.gaussians(avatar.identity.features)

    def posed(index: Tensor) -> GaussianCloud:
        return stage1.pose(canonical.map(lambda x: x.expand(len(index), *x.shape[1:])), params[index])

    return draw(posed, avatar.camera, frames)


def speeds(
    config: Config, stage2: Stage2, size: int = 512, seconds: float = 5.12, short: float = SHORT, long: float = LONG,
    baseline: AudioToMotion | None = None,
) -> list[Figure]:  # fmt: skip
    """Sound → pictures of `size`² on the network's device, whole and as a stream of 40 ms pieces; motion alone of any length."""
    device = next(stage2.parameters()).device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    avatar, fps = made_up_avatar(config, stage2, size), float(config.cut.fps)
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
    found += _two_stage_speed(config, stage2, avatar, baseline, sound, frames, size)
    before, whole, after = (_cost(avatar, length) for length in (short, long, short))  # clocks and caches change meanwhile
    costs = {short: (before + after) / 2, long: whole}
    found += [Figure(f"motion_ms_per_second_{length:.0f}", round(cost, 2), "ms/s") for length, cost in costs.items()]
    found.append(Figure(f"cost_per_second_{long:.0f}_over_{short:.0f}", round(costs[long] / costs[short], 3), "", "<= 1.1"))
    found.append(dataclasses.replace(_memory(device), name=f"peak_memory_after_{long:.0f}_s"))
    return found


def _two_stage_speed(
    config: Config, stage2: Stage2, avatar: Avatar, network: AudioToMotion | None, sound: np.ndarray, frames: int, size: int
) -> list[Figure]:
    device = avatar.identity.features.device
    network = network or made_up_baseline(config, make_audio_encoder(config.audio)(sound, avatar.fps, frames))
    run = lambda: two_stage(config, stage2, avatar, network, sound, frames)  # noqa: E731
    next(run())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    first = next(run())
    waited = time.perf_counter() - start
    start = time.perf_counter()
    count = sum(1 for _ in run())
    rate = count / (time.perf_counter() - start)
    assert first.shape == (size, size, 3)
    return [
        Figure(f"fps_{size}_two_stage", round(rate, 2), "frames/s"), Figure("first_frame_two_stage_ms", round(1000 * waited, 1), "ms"),
        dataclasses.replace(_memory(device), name="peak_memory_two_stage"),
    ]  # fmt: skip


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
