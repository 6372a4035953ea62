"""How a talk is filmed: the camera and light of a shot, and the sensor's noise. Pictures are H × W, 0..1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.body import JOINT_NAMES
from model.mesh_raster import Lights
from model.types import Camera
from samples.builders.people import Person, embedded_body
from samples.builders.plan import Shot

TRUNK = 0.80  # metres from the pelvis to the crown of the person that the `Shot.height` of half a body is stated for
STATURE = 1.70  # metres, of the person that the `Shot.height` of a full body is stated for
NOISE = 0.006  # standard deviation of the sensor's noise
SHEETS = 4  # sheets of noise that are drawn; each frame shows one of them, turned and shifted
KEY, FILL = 0.50, 0.24  # lamps of a light of contrast 1
AMBIENT = 0.54


@dataclass(frozen=True)
class Stand:
    """Heights in metres of a person who stands straight; world: y up, the person looks along +z."""

    top: float
    hips: float
    floor: float

    @classmethod
    def of(cls, person: Person) -> Stand:
        standing = person.posing()
        vertices = person.vertices(standing)[0]
        hips = float(embedded_body().joints(standing)[0, JOINT_NAMES.index("pelvis"), 1])
        return cls(float(vertices[:, 1].max()), hips, float(vertices[:, 1].min()))


def camera_of(shot: Shot, stand: Stand, size: int) -> Camera:
    """A camera that shows a person from above the head to the hips, or to below the feet."""
    focal = shot.focal * size
    if shot.framing == "full":
        height = shot.height * (stand.top - stand.floor) / STATURE
        middle = (stand.top + stand.floor) / 2
    else:
        height = shot.height * (stand.top - stand.hips) / TRUNK
        middle = stand.top - 0.43 * height
    distance = height * shot.focal
    eye = np.array([distance * np.sin(shot.yaw), middle + shot.rise, distance * np.cos(shot.yaw)])
    forward = np.array([0.0, middle, 0.0]) - eye
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(forward, right), forward])  # rows: x right, y down, z forward
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = turn, -turn @ eye
    intrinsics = np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    tensor = lambda x: torch.from_numpy(x).float()  # noqa: E731
    return Camera(tensor(w2c), tensor(intrinsics), torch.tensor([size, size]))


def lights_of(shot: Shot) -> Lights:
    """A bright stage, exposed for the speaker's face."""
    light = shot.light
    k = light.exposure
    lamps = KEY + FILL
    key = KEY * (0.5 + 0.5 * light.contrast)
    return Lights(
        ambient=(AMBIENT + 0.5 * (lamps - FILL - key)) * k,
        sky=0.10 * k,
        key=(light.side, light.height, 0.75),
        key_intensity=key * k,
        fill=(-0.70 if light.side >= 0 else 0.70, 0.15, 0.60),
        fill_intensity=FILL * k,
    )


def tint_of(shot: Shot) -> NDArray[np.float32]:
    """What the lamp's colour does to a picture's red, green and blue: [3] factors round 1."""
    warm = shot.light.warmth
    return np.array([1 + 0.06 * warm, 1.0, 1 - 0.10 * warm], np.float32)


class Sensor:
    """0..1 → 8 bits with noise: `develop` for each picture. Picture i of a seed always gets the same noise."""

    def __init__(self, size: int, seed: int, tint: NDArray[np.float32] | None = None):
        rng = np.random.default_rng([seed, 61])
        self.seed = seed
        self.gain = 255 * (np.ones(3, np.float32) if tint is None else tint)
        self.sheets = (255 * NOISE * rng.standard_normal((SHEETS, size, size, 3), np.float32) + 0.5).astype(np.float32)

    def develop(self, picture: NDArray[np.float32], index: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.seed, index])
        sheet, turn, mirror, down = rng.integers([SHEETS, 4, 2, self.sheets.shape[1]])
        noise = np.roll(self.sheets[sheet], down, 0)[:: 1 - 2 * (turn // 2), :: 1 - 2 * mirror]
        out = picture.astype(np.float32) * self.gain
        out += noise
        return np.clip(out, 0, 255, out=out).astype(np.uint8)
