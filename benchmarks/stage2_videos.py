"""Films to watch: speakers never seen, the truth on the left and stage 2 on the right, and one who speaks any wav.

    python -m benchmarks.stage2_videos --weights FILE --out FOLDER [--wav FILE] [--speakers 4] [--seconds 10]

Writes <speaker>.mp4 with the speech, and <speaker>.png: frames of both, one below the other. Stage 2 is given the truth's
first frame and its body, and the sound; the wav is spoken by the first speaker. Needs espeak-ng.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.report import arguments
from benchmarks.stage2_pictured import Scene, set_scene
from benchmarks.stage2_speed import known_avatar
from configs.places import PROJECT
from configs.schema import Config, load_config
from model.stage2 import Stage2
from pipelines import media
from pipelines.checkpoints import load_stage2
from pipelines.crops import crop, crop_camera, person_box, square_round
from pipelines.drawing import sheet
from pipelines.media import Picture, Sound
from pipelines.progress import progress
from pipelines.stream import Avatar

SPEAKER = 910_000  # the first
SHOWN = 8  # frames of a sheet


def avatar_of(config: Config, stage2: Stage2, scene: Scene) -> Avatar:
    """Of the scene's first frame, to be seen by its camera."""
    device, side = next(stage2.parameters()).device, stage2.stage1.config.image.image_size
    first = scene.shoot(slice(0, 1), supersample=2)
    height, width = first.shape[1:3]
    square = square_round(person_box(first[0, ..., 3]), width, height)
    image = (crop(first, square, side)[..., :3].float() / 255).movedim(-1, 1).to(device)
    camera = crop_camera(scene.camera, square, side)[None].to(device)
    return known_avatar(config, stage2, image, camera, scene.params[:1].to(device), scene.camera.to(device))


def truth_of(scene: Scene, count: int) -> Iterator[Picture]:
    """Its pictures on white."""
    for start in range(0, count, 8):
        rgba = scene.shoot(slice(start, min(start + 8, count))).astype(np.float32)
        alpha = rgba[..., 3:] / 255
        yield from np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def write(out: Path, rows: list[list[Picture]], config: Config, sound: Sound) -> None:
    """Rows of frames as a film, side by side, and as a sheet, one below the other."""
    frames = [np.concatenate(pair, 1) for pair in zip(*rows, strict=True)]
    media.write_video(out.with_suffix(".mp4"), iter(frames), config.cut.fps, sound)
    Image.fromarray(np.concatenate([sheet(row, SHOWN, min(384, len(row[0]))) for row in rows], 0)).save(out.with_suffix(".png"))
    print(out.with_suffix(".mp4"))


def main() -> None:
    parser = arguments("Films of stage 2 beside the truth")
    parser.add_argument("--config", type=Path, default=PROJECT / "configs" / "small_stage2.yaml")
    parser.add_argument("--weights", type=Path, required=True, help="stage 2 safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--wav", type=Path, help="spoken by the first speaker, too")
    parser.add_argument("--speakers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=384, help="side of a picture, pixels (even)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    config = load_config(options.config)
    stage2 = load_stage2(config, options.weights, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    for speaker in range(SPEAKER, SPEAKER + options.speakers):
        scene = set_scene(config, speaker, options.seconds, options.size)
        avatar, count = avatar_of(config, stage2, scene), min(scene.score.frames, round(options.seconds * float(config.cut.fps)))
        sound = scene.score.audio[: round(count * media.SAMPLE_RATE / float(config.cut.fps))]
        ours = list(progress(avatar.speaking(sound, count), f"speaker{speaker}", total=count))
        write(options.out / f"speaker{speaker}", [list(truth_of(scene, count)), ours], config, sound)
        if options.wav and speaker == SPEAKER:
            sound = media.read_audio(options.wav)
            count = round(len(sound) / media.SAMPLE_RATE * float(config.cut.fps))
            write(options.out / options.wav.stem, [list(avatar.speaking(sound, count))], config, sound)


if __name__ == "__main__":
    main()
