"""Where mediapipe's 478 face points lie on the body: the neutral head is drawn from three sides, detected, and hit by rays.

M = 478 points, W views; metres in template space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from model.body import Body
from model.mesh_raster import project_vertices, rasterize_mesh, render_mesh, vertex_normals
from model.types import Camera
from samples.builders.looks import random_look
from samples.builders.people import Person, dress
from samples.builders.wardrobe import Wardrobe

SIZE, FOCAL, DISTANCE = 640, 1900.0, 1.2  # pixels, pixels, metres
SIDES = (0.0, -0.28, 0.28)  # metres that the camera stands to the side
# iBUG's landmarks 17–67 (brows, nose, eyes, mouth) and 0–16 (jaw) among mediapipe's points; `smplx` reads both
IBUG = [
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263,
    373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
]  # fmt: skip
JAW = [162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389]
YAWS = 79  # rows of smplx's contour table; the same here at every yaw


@dataclass(frozen=True)
class FacePoints:
    faces: np.ndarray  # [M]
    barycentric: np.ndarray  # [M, 3]
    offset: np.ndarray  # [M, 3]

    def smplx_landmarks(self) -> dict[str, np.ndarray]:
        """The arrays that `smplx` reads."""
        return {
            "lmk_faces_idx": self.faces[IBUG],
            "lmk_bary_coords": self.barycentric[IBUG],
            "dynamic_lmk_faces_idx": np.tile(self.faces[JAW], (YAWS, 1)),
            "dynamic_lmk_bary_coords": np.tile(self.barycentric[JAW], (YAWS, 1, 1)),
        }


def locate_face_points(body: Body, wardrobe: Wardrobe) -> FacePoints:
    """Detect on a plain-looking neutral person; RuntimeError where mediapipe sees no face."""
    plain = replace(random_look(0), skin=(0.86, 0.68, 0.57), hair_style="crop", beard=0.0, neckline="crew", jacket=None)
    person = dress(0, plain, torch.zeros(10), body, wardrobe, texture_size=1024)
    head = body.joint_template[15].numpy() + [0, 0.05, 0.03]
    views = [_hit(body, person, camera_at(head + [side, 0, DISTANCE], head)) for side in SIDES]
    faces, barycentric, places, trust = (np.stack(x) for x in zip(*views, strict=True))
    mean = (places * trust[..., None]).sum(0) / trust.sum(0)[:, None]
    best, every = trust.argmax(0), np.arange(places.shape[1])
    offset = mean - places[best, every]
    return FacePoints(faces[best, every], barycentric[best, every], offset.astype(np.float32))


def camera_at(eye: np.ndarray, target: np.ndarray, size: int = SIZE, focal: float = FOCAL) -> Camera:
    """A camera at `eye` that looks at `target`, upright; world y up."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 1.0, 0.0])
    right /= np.linalg.norm(right)
    w2c = np.eye(4)
    w2c[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    w2c[:3, 3] = -w2c[:3, :3] @ eye
    intrinsics = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]])
    return Camera(torch.from_numpy(w2c).float(), intrinsics, torch.tensor([size, size]))


def detect(picture: np.ndarray) -> np.ndarray:
    """mediapipe FaceMesh with irises on a picture [H, W, 3] 0..1: pixels [478, 2]."""
    import mediapipe

    with mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True) as detector:
        found = detector.process((picture * 255).astype(np.uint8)).multi_face_landmarks
    if not found:
        raise RuntimeError("mediapipe saw no face on the neutral head; look at its render")
    height, width = picture.shape[:2]
    return np.array([[p.x * width, p.y * height] for p in found[0].landmark])


def _hit(body: Body, person: Person, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Triangle, barycentric weights and place of each detected point on the bare body, and how far to trust it."""
    surface = person.vertices(person.posing())[0]
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces}
    points = detect(render_mesh(surface, person.faces, camera, background=(0.8, 0.82, 0.85), **look).rgb)
    template = body.template.numpy().astype(np.float64)
    pixels, depth = project_vertices(template, camera)
    face, barycentric, _ = rasterize_mesh(pixels, depth, body.faces, SIZE, SIZE)
    rows, columns = np.nonzero(face >= 0)
    distance, nearest = cKDTree(np.stack([columns, rows], 1) + 0.5).query(points)
    face, barycentric = face[rows, columns][nearest], barycentric[rows, columns][nearest]
    corners = body.faces[face]
    place = np.einsum("mk,mkc->mc", barycentric, template[corners])
    normal = np.einsum("mk,mkc->mc", barycentric, vertex_normals(template, body.faces)[corners])
    w2c = camera.w2c.double().numpy()
    towards = -w2c[:3, :3].T @ w2c[:3, 3] - place
    facing = (normal * towards).sum(1) / np.linalg.norm(towards, axis=1) / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
    return face, barycentric, place, np.clip(facing, 0.02, 1) ** 2 * (distance < 3) + 1e-4
