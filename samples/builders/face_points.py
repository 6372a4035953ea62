"""Where mediapipe's 478 face points lie on the body: several heads and expressions are drawn, detected, and hit by rays.

M = 478 points, W views; metres in template space. Views from the side tell how deep a point lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial import cKDTree

from model.body import Body
from model.mesh_raster import project_vertices, rasterize_mesh, render_mesh, vertex_normals
from model.types import Camera, SmplxParams
from pipelines.body import closest_on_faces
from samples.builders.looks import Look, random_look
from samples.builders.people import Person, dress
from samples.builders.population import EXPRESSIONS
from samples.builders.wardrobe import Wardrobe

SIZE, FOCAL, DISTANCE = 640, 1900.0, 1.2  # pixels, pixels, metres
SIDES = (0.0, -0.28, 0.28)  # metres that the camera stands to the side
HEADS = 7  # shapes that are drawn beside the mean one
SHAPE_SPREAD = 0.8  # standard deviation of their betas
OPEN_JAW = 0.22  # radians
INNER_LIPS = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 95, 88, 178, 87, 14, 317, 402, 318, 324]  # seen apart in open mouths
EYES, FIRST_IRIS = ("helper-l-eye", "helper-r-eye"), 468
INSIDE = ("helper-upper-teeth", "helper-lower-teeth", "helper-tongue")  # no face point lies on these
# iBUG's landmarks 17–67 (brows, nose, eyes, mouth) and 0–16 (jaw) among mediapipe's points; `smplx` reads both
IBUG = [
    71, 63, 105, 66, 107, 336, 296, 334, 293, 301, 168, 197, 5, 4, 75, 97, 2, 326, 305, 33, 160, 158, 133, 153, 144, 362, 385, 387, 263,
    373, 380, 61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
]  # fmt: skip
JAW = [162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389]
YAWS = 40  # rows of smplx's contour table for yaws of 0, 1, ... 39 degrees, and 39 more for −1, ... −39
SIDEWAYS = 7  # degrees from which on the contour is the one seen from the side


@dataclass(frozen=True)
class FacePoints:
    faces: np.ndarray  # [M]
    barycentric: np.ndarray  # [M, 3]
    offset: np.ndarray  # [M, 3]
    contour_faces: np.ndarray  # [3, 17] of JAW as the camera at each of SIDES sees it: a contour slides over the cheek
    contour_barycentric: np.ndarray  # [3, 17, 3]

    def smplx_landmarks(self) -> dict[str, np.ndarray]:
        """The arrays that `smplx` reads."""
        turned = np.arange(YAWS) >= SIDEWAYS
        view = np.concatenate([np.where(turned, 2, 0), np.where(turned, 1, 0)[1:]])  # face to its right: seen from its left
        return {
            "lmk_faces_idx": self.faces[IBUG],
            "lmk_bary_coords": self.barycentric[IBUG],
            "dynamic_lmk_faces_idx": self.contour_faces[view],
            "dynamic_lmk_bary_coords": self.contour_barycentric[view],
        }


def locate_face_points(body: Body, wardrobe: Wardrobe) -> FacePoints:
    """Detect on plain-looking people; RuntimeError where mediapipe sees no face."""
    drawn = faces_to_draw()
    people = [dress(k, bare_face(k), torch.zeros(10), body, wardrobe, texture_size=1024) for k in range(len(drawn.betas))]
    hits = [_hit(body, person, drawn[k], side, wardrobe) for side in SIDES for k, person in enumerate(people)]
    places, trust = (np.stack(x) for x in zip(*hits, strict=True))
    is_open = np.tile(drawn.jaw_pose[:, 0].numpy() > 0, len(SIDES))
    trust[np.ix_(~is_open, INNER_LIPS)] *= 1e-3
    template = body.template.numpy().astype(np.float64)
    skin = np.flatnonzero(shown_faces(body, wardrobe) & (wardrobe.groups == "body"))
    eyes = np.flatnonzero(np.isin(wardrobe.groups, EYES))
    mean = np.einsum("wmc,wm->mc", places, trust) / trust.sum(0)[:, None]
    on_skin, on_eyes = (closest_on_faces(mean, template, body.faces, candidates) for candidates in (skin, eyes))
    is_iris = np.arange(len(mean)) >= FIRST_IRIS
    faces = np.where(is_iris, on_eyes[0], on_skin[0])
    barycentric = np.where(is_iris[:, None], on_eyes[1], on_skin[1])
    offset = mean - np.einsum("mk,mkc->mc", barycentric, template[body.faces[faces]])
    by_view = (x.reshape(len(SIDES), len(drawn.betas), len(mean), -1)[:, :, JAW] for x in (places, trust))
    seen, trusted = by_view
    contour = [closest_on_faces(x, template, body.faces, skin) for x in (seen * trusted).sum(1) / trusted.sum(1)]
    return FacePoints(faces, barycentric, offset.astype(np.float32), *(np.stack(x) for x in zip(*contour, strict=True)))


def bare_face(seed: int) -> Look:
    """Somebody's look with nothing before the face."""
    bare = {"hair_style": "crop", "beard": 0.0, "beard_style": "none", "glasses": None}
    return replace(random_look(seed), neckline="crew", jacket=None, scarf=None, tie=None, **bare)


def shown_faces(body: Body, wardrobe: Wardrobe) -> np.ndarray:  # [F] bool
    """Triangles that a face point may lie on: skin outside the mouth, and eyes."""
    inside = np.isin(wardrobe.groups, INSIDE) | (wardrobe.masks["mouth"][body.faces].min(1) > 0.5)
    return ~inside & (np.char.find(wardrobe.groups, "lashes") < 0)


def faces_to_draw() -> SmplxParams:
    """The mean head and others [1 + HEADS], by turns with closed lips, with the jaw open and with a smile."""
    rng = np.random.default_rng(11)
    betas = np.concatenate([np.zeros((1, 10)), rng.normal(0, SHAPE_SPREAD, (HEADS, 10))])
    jaw, expression = np.zeros((len(betas), 3)), np.zeros((len(betas), 10))
    jaw[1::2, 0] = OPEN_JAW * np.array([1, 0.5, 1, 0.5])
    expression[1::2, list(EXPRESSIONS).index("lips_open")] = 0.8
    expression[2::4, list(EXPRESSIONS).index("smile")] = 0.8
    tensor = lambda x: torch.from_numpy(x).float()  # noqa: E731
    zero = SmplxParams.zeros(len(betas))
    return replace(zero, betas=tensor(betas), jaw_pose=tensor(jaw), expression=tensor(expression))


def landmark_order() -> list[int]:
    """mediapipe's indices of smplx's landmarks: 17 of the contour, then 51."""
    return [*JAW, *IBUG]


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


def head_centre(body: Body, params: SmplxParams) -> np.ndarray:  # parameters [1] → [3]
    return body.joints(params)[0, 15].numpy().astype(np.float64) + [0, 0.05, 0.03]


def _hit(
    body: Body, person: Person, params: SmplxParams, side: float, wardrobe: Wardrobe
) -> tuple[np.ndarray, np.ndarray]:
    """Template place [M, 3] of each detected point on the bare body, and how far to trust it [M]."""
    params = params[None]
    head = head_centre(body, params)
    camera = camera_at(head + [side, 0, DISTANCE], head)
    surface = body.posed_points(person.points, params)[0].numpy()
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces}
    points = detect(render_mesh(surface, person.faces, camera, background=(0.8, 0.82, 0.85), **look).rgb)
    shown = body.faces[shown_faces(body, wardrobe)]
    posed = body.vertices(params)[0].numpy().astype(np.float64)
    pixels, depth = project_vertices(posed, camera)
    face, barycentric, _ = rasterize_mesh(pixels, depth, shown, SIZE, SIZE)
    rows, columns = np.nonzero(face >= 0)
    distance, nearest = cKDTree(np.stack([columns, rows], 1) + 0.5).query(points)
    corners, barycentric = shown[face[rows, columns][nearest]], barycentric[rows, columns][nearest]
    at = lambda values: np.einsum("mk,mkc->mc", barycentric, values[corners])  # noqa: E731
    seen, normal = at(posed), at(vertex_normals(posed, body.faces))
    w2c = camera.w2c.double().numpy()
    towards = -w2c[:3, :3].T @ w2c[:3, 3] - seen
    facing = (normal * towards).sum(1) / np.linalg.norm(towards, axis=1) / np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
    return at(body.template.numpy().astype(np.float64)), np.clip(facing, 0.02, 1) ** 2 * (distance < 3) + 1e-4
