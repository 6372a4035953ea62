"""What is round the speaker: the camera and light of a shot, a plain wall behind, and the sensor's noise. Pictures are H × W, 0..1."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from model.mesh_raster import Lights
from model.types import Camera
from samples.builders.cast import Shot

TRUNK = 0.80  # metres from the pelvis to the crown of the person that `Shot.height` is stated for
NOISE = 0.006  # standard deviation of the sensor's noise


def camera_of(shot: Shot, top: float, hips: float, size: int) -> Camera:
    """A camera that shows a person from above the head to the hips.

    `top` and `hips` are heights of the crown and of the pelvis, metres; world: y up, the person looks along +z.
    """
    focal = shot.focal * size
    height = shot.height * (top - hips) / TRUNK
    distance = height * shot.focal
    middle = top - 0.43 * height
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
    k = shot.exposure
    return Lights(ambient=0.54 * k, sky=0.10 * k, key_intensity=0.50 * k, fill_intensity=0.24 * k)


def wall(shot: Shot, size: int, seed: int) -> NDArray[np.float32]:
    """A lit wall [size, size, 3] with soft stains, a darker skirting of light, and one blurred picture or window on it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] / size
    light = 1.08 - 0.28 * np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.0, 0.4))
    stains = gaussian_filter(rng.normal(0, 1, (size, size)), size / 12)
    grain = gaussian_filter(rng.normal(0, 1, (size, size)), 1.2)
    out = np.array(shot.wall) * (light + 0.02 * stains / stains.std() + 0.006 * grain / grain.std())[..., None]
    left, top = rng.choice([rng.uniform(-0.1, 0.02), rng.uniform(0.74, 0.85)]), rng.uniform(0.05, 0.25)
    inside = (np.abs(x - left - 0.14) < 0.14) & (np.abs(y - top - 0.16) < 0.16)
    soft = gaussian_filter(inside.astype(float), size / 100)[..., None]
    out = out * (1 - 0.5 * soft) + 0.5 * soft * (rng.uniform(0.3, 0.75) + rng.uniform(-0.12, 0.12, 3))
    return np.clip(out, 0, 1).astype(np.float32)


def develop(picture: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """0..1 → 8 bits with sensor noise."""
    noisy = picture + rng.normal(0, NOISE, picture.shape)
    return (np.clip(noisy, 0, 1) * 255 + 0.5).astype(np.uint8)
