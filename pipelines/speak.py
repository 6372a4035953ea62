"""One picture and one voice → a video: nothing else goes in at inference.

The picture's person is found, masked and cropped, and their body fitted to the picture's landmarks; stage 1 reads the
identity there once; stage 2 turns the speech into tokens frame by frame; the renderer draws them. The video carries the
speech at the configured rate.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from configs.places import PROJECT
from configs.schema import Config
from model.picture_fit import pictured_avatar
from model.stage1 import Stage1
from model.stage2 import Stage2
from model.types import Camera, SmplxParams
from pipelines import media
from pipelines.body import body_hash, is_embedded
from pipelines.checkpoints import load_stage2, weights_file
from pipelines.crops import crop, crop_camera, person_box, square_round
from pipelines.drawing import sheet
from pipelines.formats import make_camera
from pipelines.landmarks import Landmarks
from pipelines.manifests import read_manifest
from pipelines.media import Picture, Sound
from pipelines.motions import iterate_motions
from pipelines.progress import progress
from pipelines.refine import STILL, refined_body
from pipelines.store import InputRejected, Record, Store, hash_file, hash_json
from pipelines.stream import Avatar, sound_chunks

CODE_VERSION = "9"
SHIPPED = PROJECT / "samples" / "weights" / "stage2.safetensors"  # with stage 1 beside it
LONGEST = 2048  # larger pictures are shrunk first, pixels
KNEES, SEEN = (25, 26), 0.5  # pose landmarks, and the visibility from which a person counts as seen down to them
ROOM = 0.2  # space round the person in the video for arms that move out, of the person's longer side


def speak(
    config: Config, image: Path, audio: Path, out: Path, checkpoint: Path | None = None, live: bool = False, seed: int | None = None
) -> dict[str, Any]:
    """Write the mp4; returns frames, seconds, wall_seconds, first_frame_ms. InputRejected for input that cannot be used.

    `live`: the sound is read piece by piece and spoken as a stream. `seed` of the chance in gestures (none: the configuration's).
    """
    start = time.perf_counter()
    sound = read_speech(audio)
    picture = read_picture(image)
    stage2 = load_stage2(config, checkpoint or _weights(config))
    avatar = make_avatar(config, stage2, picture)
    seed, count = config.seed if seed is None else seed, frame_count(sound, config.cut.fps)
    began = time.perf_counter()
    frames = avatar.live(sound_chunks(audio), seed) if live else avatar.speaking(sound, count, seed)
    first = next(frames)
    waited = time.perf_counter() - began
    shown = itertools.islice(itertools.chain([first], frames), count)
    media.write_video(out, progress(shown, "rendering", total=count), config.cut.fps, sound)
    seconds = count / float(config.cut.fps)
    facts = {"frames": count, "seconds": seconds, "first_frame_ms": round(1000 * waited, 1), "video": str(out)}
    return facts | {"wall_seconds": time.perf_counter() - start}


def speaking_video(config: Config, store: Store) -> Record:
    """The asset: the configured picture and speech; by default a held-out speaker's frame and another held-out speaker's speech."""
    target = store.speaking / "speaking.mp4"
    given = [p for p in (config.speak.image, config.speak.audio) if p]
    weights = weights_file(store, "stage2")
    manifest = read_manifest(store, "talks")
    inputs = hash_json([
        config.speak.model_dump(), [hash_file(Path(p)) for p in given if Path(p).is_file()],
        hash_file(weights) if weights.is_file() else None, manifest and manifest["hash"],
    ])  # fmt: skip

    def work() -> dict[str, Any]:
        store.speaking.mkdir(parents=True, exist_ok=True)
        image, audio = _default_inputs(config, store)
        facts = speak(config, image, audio, target)
        preview = store.speaking / "frames.png"
        Image.fromarray(sheet(list(media.frames(target)))).save(preview)
        return {**facts, "image": str(image), "audio": str(audio), "preview": str(preview)}

    return store.once("speaking_video", "all", CODE_VERSION, inputs, [target], work)


def _weights(config: Config) -> Path:
    """The workspace's stage 2, or the shipped one where none was trained there yet."""
    trained = weights_file(Store(config), "stage2")
    return trained if trained.is_file() else SHIPPED


def _default_inputs(config: Config, store: Store) -> tuple[Path, Path]:
    """Picture and speech to use: the configured ones, else a held-out clip's first frame and another one's speech."""
    if config.speak.image and config.speak.audio:
        return Path(config.speak.image), Path(config.speak.audio)
    clips = list(iterate_motions(store.shards("talks"), "test"))
    if not clips:
        raise InputRejected("speaking_video: no held-out talk; set speak.image and speak.audio in the configuration")
    image = store.speaking / "picture.png"
    (store.speaking / "clip.mp4").write_bytes(clips[0].sample["clip.mp4"])
    Image.fromarray(next(media.frames(store.speaking / "clip.mp4"))).save(image)
    (store.speaking / "clip.mp4").unlink()
    others = [c for c in clips if c.group != clips[0].group] or clips
    audio = store.speaking / "speech.wav"
    media.write_wav(audio, others[0].audio)
    return Path(config.speak.image or image), Path(config.speak.audio or audio)


def read_speech(path: Path) -> Sound:
    """Any file with sound → 16 kHz mono. InputRejected where there is none or it is shorter than a fifth of a second."""
    if not path.is_file():
        raise InputRejected(f"{path}: expected an audio file, it does not exist")
    try:
        sound = media.read_audio(path)
    except media.MediaError as error:
        raise InputRejected(str(error)) from error
    if len(sound) < media.SAMPLE_RATE // 5:
        raise InputRejected(f"{path}: expected at least 0.2 s of speech, got {len(sound) / media.SAMPLE_RATE:.2f} s")
    return sound


def read_picture(path: Path) -> Picture:
    """Any picture file → upright uint8 RGB, at most `LONGEST` pixels a side."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise InputRejected(f"{path}: expected a picture, it cannot be read ({error})") from error
    picture.thumbnail((LONGEST, LONGEST))
    return np.asarray(picture)


def frame_count(sound: Sound, fps: Fraction) -> int:
    """Frames that cover the sound."""
    return max(1, math.ceil(len(sound) * fps / media.SAMPLE_RATE))


def make_avatar(config: Config, stage2: Stage2, picture: Picture) -> Avatar:
    """The pictured person, encoded once."""
    person = locate(config, picture)
    device = next(stage2.parameters()).device
    body = best_body(config, stage2.stage1, person)
    cut = person.cut[None].float().to(device) / 255
    encoding = pictured_avatar(stage2.stage1, cut, person.camera.to(device), body and body.to(device))
    with torch.no_grad():
        return Avatar(config, stage2, encoding, stage2.identity(encoding), person.video_camera.to(device))


@dataclass(frozen=True)
class LocatedPerson:
    """The one person of a picture."""

    camera: Camera  # [1] of the network's input
    video_camera: Camera  # roomier
    body: SmplxParams | None  # [1] in the camera's frame; none where the landmarks do not say: stage 1 reads it then
    cut: torch.Tensor  # [S, S, 4] uint8, the network's input on white, and its alpha
    found: Landmarks  # in the whole picture
    intrinsics: torch.Tensor  # [3, 3] of the whole picture


def best_body(config: Config, stage1: Stage1, person: LocatedPerson) -> SmplxParams | None:
    """The body [1] of a person seen down to the knees as stage 1 reads and refines it, its hands and face as fitted; else the fit's."""
    knees = person.found.visibility[-1, list(KNEES)].min(initial=1.0)
    if person.body is None or not knees > SEEN or not is_embedded(body_hash(config)):
        return person.body
    refined = refined_body(stage1, person.cut, person.camera[0], person.found, person.intrinsics)
    kept = ("left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose", "expression")
    return dataclasses.replace(refined, **{name: getattr(person.body, name) for name in kept})


def locate(config: Config, picture: Picture) -> LocatedPerson:
    """Find, mask, fit and crop the person. InputRejected where there is nobody."""
    from pipelines.person import MediapipeFinder, MediapipeMasker, smooth_masks

    height, width = picture.shape[:2]
    if MediapipeFinder()(picture).box is None:
        raise InputRejected(f"expected a picture of a person, found nobody in {width}×{height} pixels; use one with head and shoulders")
    mask = next(smooth_masks([MediapipeMasker()(picture)]))
    alpha = (mask * 255).astype(np.uint8)
    body, focal_length, found = fit_picture(config, picture)
    focal = torch.full((2,), focal_length)
    camera = make_camera(torch.eye(4), focal, torch.tensor([width / 2, height / 2]), torch.tensor([width, height]))
    box, size = person_box(alpha), config.stage1.image.image_size
    square = square_round(box, width, height)
    cut = crop(np.dstack([picture, alpha]), square, size)
    room = crop_camera(camera, square_round(box, width, height, ROOM), config.speak.size)
    return LocatedPerson(crop_camera(camera, square, size)[None], room, body, cut, found, camera.intrinsics)


def fit_picture(config: Config, picture: Picture) -> tuple[SmplxParams | None, float, Landmarks]:
    """The body [1] that the picture's landmarks say, in the camera's frame, the focal length in pixels, and the landmarks."""
    from pipelines.fit import LEAST_FOUND, clip_camera, fit_landmarks, load_fit_body
    from pipelines.landmarks import detect

    height, width = picture.shape[:2]
    found = detect([picture] * STILL, config.cut.fps)
    if found.found()["body"] < LEAST_FOUND:
        return None, config.speak.focal * max(width, height), found
    fitted = load_fit_body(config)
    result = fit_landmarks(config, fitted, found, "picture")
    with torch.no_grad():
        still = fitted.body.moved(result.params[-1:], clip_camera(result.focal, (width, height)).w2c)
    return still, result.focal, found
