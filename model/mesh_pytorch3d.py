"""pytorch3d as the finder of visible faces, on CUDA where there is one; shading stays the project's own.

Untested here: pytorch3d builds from source and is no dependency. Its samples lie on a regular grid.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.types import Camera


def visible_faces(points: NDArray, faces: NDArray, camera: Camera, supersample: int) -> NDArray[np.int32]:
    """The nearest face [H, W, S] at regular samples, -1 where there is none. ValueError where pytorch3d is not installed."""
    try:
        from pytorch3d.renderer import MeshRasterizer, RasterizationSettings
        from pytorch3d.structures import Meshes
        from pytorch3d.utils import cameras_from_opencv_projection
    except ImportError as error:
        raise ValueError(
            "backend 'pytorch3d' needs pytorch3d, which is not installed; build it (pip install -e '.[pytorch3d]') or use backend='numba'"
        ) from error
    device = "cuda" if torch.cuda.is_available() else "cpu"
    width, height = (int(x) * supersample for x in camera.size)
    view = camera.resized(width, height).to(device)
    size = torch.tensor([[height, width]], device=device)
    p3d = cameras_from_opencv_projection(view.w2c[None, :3, :3], view.w2c[None, :3, 3], view.intrinsics[None], size)
    mesh = Meshes([torch.as_tensor(points, dtype=torch.float32, device=device)], [torch.as_tensor(faces, device=device)])
    settings = RasterizationSettings(image_size=(height, width), blur_radius=0.0, faces_per_pixel=1, perspective_correct=True)
    found = MeshRasterizer(p3d, settings)(mesh).pix_to_face[0, ..., 0].int().cpu().numpy()
    s = supersample
    return np.ascontiguousarray(found.reshape(height // s, s, width // s, s).transpose(0, 2, 1, 3).reshape(height // s, width // s, s * s))
