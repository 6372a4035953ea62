"""The body model in use: which file it is, its record, and where mediapipe's face points lie on it."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from smplx.vertex_ids import vertex_ids

from configs.schema import EMBEDDED, Config
from model.body import Body
from model.fit_layout import FaceEmbedding
from model.types import JOINTS, SmplxParams
from pipelines.store import Record, Store, hash_file, writing

CODE_VERSION = "1"
HEAD, JAW, LEFT_EYE, RIGHT_EYE = 15, 22, 23, 24
SMPLX_VERTICES: dict[str, int] = vertex_ids["smplx"]  # nose, eyes, ears, finger tips, toes, heels


def body_file(config: Config) -> Path:
    """The SMPL-X-schema npz that the configuration names. ValueError where it does not exist."""
    if config.body.model_path == EMBEDDED:
        return _embedded("SMPLX_NEUTRAL.npz")
    path = Path(config.body.model_path).expanduser()
    if not path.is_file():
        raise ValueError(f"body.model_path: expected an SMPL-X npz or '{EMBEDDED}', got {path} which is not a file")
    return path


def load_body(config: Config) -> Body:
    """The configured body, checked against the schema."""
    path = body_file(config)
    try:
        body = Body.load(path)
    except (KeyError, ValueError, OSError) as error:
        reason = error.args[0] if error.args else error
        raise ValueError(f"body.model_path: expected an SMPL-X model file, got {path}: {reason}") from error
    _check(body, path)
    return body


def body_hash(config: Config) -> str:
    """Identity of the body file; the data version that everything below inherits."""
    return hash_file(body_file(config))


def is_embedded(digest: str) -> bool:
    """Whether a body file's hash is that of the body which ships with the project."""
    return digest == hash_file(_embedded("SMPLX_NEUTRAL.npz"))


def embedding_hash() -> str:
    """Identity of the shipped face embedding, from which that of any body comes."""
    return hash_file(_embedded("face_landmarks.npz"))


def body_record(config: Config, store: Store) -> Record:
    """Validate the body file and note its facts and a preview; the file itself stays where it is."""
    path = body_file(config)
    digest = hash_file(path)

    def work() -> dict[str, Any]:
        body = load_body(config)
        preview = store.body / "preview.png"
        _write_preview(body, preview)
        counts = {"vertices": len(body.template), "faces": len(body.faces), "joints": JOINTS}
        return {"path": str(path), "hash": digest, "embedded": is_embedded(digest), **counts, "preview": str(preview)}

    return store.once("body_model", "body", CODE_VERSION, digest, [store.body / "preview.png"], work)


def face_embedding(body: Body, body_hash: str) -> FaceEmbedding:
    """Where mediapipe's 478 face points lie on `body`.

    Shipped for the embedded body. For any other file the points are carried over: a similarity transform that takes the
    embedded body's head (head, jaw and eye joints; nose, eye and ear vertices) to the other's, then the closest
    point of the other's head surface. Right to some millimetres; offsets are zero there.
    """
    with np.load(_embedded("face_landmarks.npz"), allow_pickle=False) as npz:
        barycentric, offset = npz["barycentric"].astype(np.float32), npz["offset"].astype(np.float32)
        shipped = FaceEmbedding(npz["faces"].astype(np.int64), barycentric, offset)
    if is_embedded(body_hash):
        return shipped
    source = Body.load(_embedded("SMPLX_NEUTRAL.npz"))
    corners = source.template.numpy()[source.faces[shipped.faces]]
    return transfer_embedding((corners * shipped.barycentric[..., None]).sum(1) + shipped.offset, source, body)


def transfer_embedding(points: np.ndarray, source: Body, target: Body) -> FaceEmbedding:
    """Carry template-space points [478, 3] of `source`'s head over to the surface of `target`."""
    scale, turn, shift = _similarity(_head_anchors(source), _head_anchors(target))
    moved = scale * points @ turn.T + shift
    faces, barycentric = closest_on_faces(moved, target.template.numpy(), target.faces, _head_faces(target))
    return FaceEmbedding(faces, barycentric.astype(np.float32), np.zeros((len(points), 3), np.float32))


def closest_on_faces(
    points: np.ndarray,  # [P, 3]
    vertices: np.ndarray,  # [V, 3]
    faces: np.ndarray,  # [F, 3]
    candidates: np.ndarray,  # [C] indices of the triangles that may be hit
) -> tuple[np.ndarray, np.ndarray]:
    """Closest surface point of each point: triangle index [P] and barycentric weights [P, 3].

    Among the 24 triangles with the nearest centres the clamped projection decides (exact for well-shaped triangles).
    """
    corners = vertices[faces[candidates]]
    distance = np.linalg.norm(points[:, None] - corners.mean(1)[None], axis=-1)
    near = np.argpartition(distance, min(24, distance.shape[1] - 1), axis=1)[:, :24]  # [P, K]
    a, b, c = (corners[near][:, :, i] for i in range(3))
    bary = _project(points[:, None], a, b, c)
    hit = bary[..., :1] * a + bary[..., 1:2] * b + bary[..., 2:] * c
    best = np.linalg.norm(hit - points[:, None], axis=-1).argmin(1)
    rows = np.arange(len(points))
    return candidates[near[rows, best]], bary[rows, best]


def _project(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Barycentric weights of the projection of p on triangle abc, clamped to the triangle."""
    ab, ac, ap = b - a, c - a, p - a
    dot = lambda x, y: (x * y).sum(-1)  # noqa: E731
    d00, d01, d11, d20, d21 = dot(ab, ab), dot(ab, ac), dot(ac, ac), dot(ap, ab), dot(ap, ac)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-18)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    bary = np.clip(np.stack([1 - v - w, v, w], -1), 0, None)
    return bary / bary.sum(-1, keepdims=True)


def _head_anchors(body: Body) -> np.ndarray:  # [9, 3]
    vertices = [SMPLX_VERTICES[n] for n in ("nose", "leye", "reye", "lear", "rear")]
    joints = body.joint_template[[HEAD, JAW, LEFT_EYE, RIGHT_EYE]]
    return torch.cat([joints, body.template[vertices]]).numpy()


def _head_faces(body: Body) -> np.ndarray:  # [C]
    """Skin triangles of the head: those moved by head and jaw (eyeballs too: the irises lie on them)."""
    share = body.skin_weights[:, [HEAD, JAW, LEFT_EYE, RIGHT_EYE]].sum(1).numpy()
    return np.flatnonzero((share[body.faces] > 0.5).all(1))


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Least-squares scale, rotation and shift that take `source` to `target` (Umeyama 1991)."""
    ms, mt = source.mean(0), target.mean(0)
    u, s, vt = np.linalg.svd((target - mt).T @ (source - ms))
    flip = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turn = (u * flip) @ vt
    scale = float((s * flip).sum() / ((source - ms) ** 2).sum())
    return scale, turn, mt - scale * turn @ ms


def _check(body: Body, path: Path) -> None:
    vertices, needed = len(body.template), max(SMPLX_VERTICES.values()) + 1

    def expect(holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"body.model_path: {path}: expected {what}")

    expect(tuple(body.skin_weights.shape) == (vertices, JOINTS), f"weights [{vertices}, {JOINTS}]")
    expect(tuple(body.joint_template.shape) == (JOINTS, 3), f"J_regressor [{JOINTS}, {vertices}]")
    expect(vertices >= needed, f"at least {needed} vertices (smplx's extra joints use them), got {vertices}")
    expect(int(body.faces.max()) < vertices, f"faces of vertices below {vertices}, got {body.faces.max()}")
    sums = body.skin_weights.sum(1)
    expect(bool(torch.allclose(sums, torch.ones_like(sums), atol=1e-2)), "skinning weights that sum to 1 per vertex")


def _embedded(name: str) -> Path:
    path = Path(str(importlib.resources.files("samples"))) / "body" / name
    if not path.is_file():
        raise ValueError(f"samples/body/{name} is missing; rebuild it with `python -m samples.build_body`")
    return path


def _write_preview(body: Body, path: Path) -> None:
    from PIL import Image

    from pipelines.mesh_preview import shaded_mesh  # numba compiles on import: only where a picture is drawn

    size, height = 480, 2.3
    with torch.no_grad():
        vertices = body.vertices(SmplxParams.zeros(1))[0].numpy()
    centre = (vertices.max(0) + vertices.min(0)) / 2
    camera = (vertices - centre) * [1, -1, -1] + [0, 0, 6.0]  # OpenCV camera 6 m in front of the person
    rgb, mask = shaded_mesh(camera, body.faces, 6.0 * size / height, size)
    picture = np.where(mask[..., None], rgb, 1.0)
    with writing(path) as temporary:
        Image.fromarray((picture * 255).astype(np.uint8)).save(temporary)
