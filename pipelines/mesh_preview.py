"""Grey shaded meshes for preview pictures."""

from __future__ import annotations

import numpy as np

from model.mesh_raster import rasterize_mesh, vertex_normals

LIGHT = np.array([-0.35, -0.45, -0.82])  # towards the light, OpenCV camera axes


def shaded_mesh(vertices: np.ndarray, faces: np.ndarray, focal: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices [V, 3] in OpenCV camera coordinates, metres → grey picture [size, size, 3] 0..1 and mask [size, size].

    The principal point is the centre of the picture; `focal` is in pixels.
    """
    depth = np.maximum(vertices[:, 2], 1e-3)
    pixels = vertices[:, :2] / depth[:, None] * focal + size / 2
    face_id, barycentric, _ = rasterize_mesh(pixels, depth, faces, size, size)
    mask = face_id >= 0
    normals = vertex_normals(np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64))
    shade = np.zeros((size, size, 3))
    normal = (normals[faces[face_id[mask]]] * barycentric[mask][..., None]).sum(1)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
    light = 0.3 + 0.65 * np.abs(normal @ (LIGHT / np.linalg.norm(LIGHT)))  # two-sided
    shade[mask] = np.clip(light, 0, 1)[:, None] * np.array([0.80, 0.84, 0.90])
    return shade, mask
