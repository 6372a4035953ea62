"""The fixed set of anchors on the template's skin, and on a sheet of cloth round its legs: where each Gaussian of every avatar is
attached.

The set depends on the body file and the counts alone, so Gaussian n is the same spot in every picture, frame and run.
Axes: N anchors, those of the skin first, M of them of the sheet, J joints, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import roma
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from model.body import HANDS, JOINT_NAMES, Body, SurfacePoints
from model.fixed_sums import FixedSums, KeptDtype
from model.geometry import aligned_quaternions, ancestors, full_precision, quaternion_from_rotation, quaternion_multiply
from model.hanging import Hanging, hung
from model.skirt import skirt_mesh
from model.surface_sampling import sample_surface
from model.types import GaussianCloud, SmplxParams, TensorGroup

FACE_RADIUS = 0.12  # metres round the middle of eyes and mouth
DENSITY = {"face": 10.0, "head": 2.0, "hands": 4.0, "trunk_and_arms": 1.5, "legs": 0.7}  # anchors per area, relative
INSET = 0.4  # how far under the skin Gaussians start, in spacings: their width then ends at the silhouette
NEIGHBOURS = 8
TURNED = 0.03  # metres that skin facing another way lies further off when neighbours are sought: lips and fingers touch
OPACITY, UNSEEN = 2.5, -4.0  # logit of a Gaussian's opacity at first: on the skin, and on the sheet, which few wear
WARP = 0.5  # how far triplane coordinates follow the anchors' density instead of plain distance, 0..1


@dataclass(frozen=True)
class Stance(TensorGroup):
    """What bodies do to points fixed to them, whatever hangs on these: worked out once for all that is posed alike."""

    shaped: Tensor  # [B, N, 3] the points with the body's shape, template space
    moves: Tensor  # [B, N, 16] how they move: columns of the matrix, place, turn (wxyz, of any length)
    of_joints: Tensor  # [B, J, 16] the same of each joint, of which `moves` are weighted means


class Anchors(KeptDtype):
    """Anchors with their local frames and triplane coordinates, and the body that moves them.

    Body and anchors keep float32 whatever `.half()` or `.bfloat16()` is asked of the network around them: skinning
    weights that are rounded no longer sum to one.
    """

    faces: Tensor  # [N] triangle; the sheet's: of the skin nearest to it
    barycentric: Tensor  # [N, 3]
    frames: Tensor  # [N, 3, 3] columns tangent, bitangent, outward normal, template space
    frame_quaternions: Tensor  # [N, 4] wxyz
    spacing: Tensor  # [N] distance to neighbours, metres
    neighbours: Tensor  # [N, NEIGHBOURS] the anchors nearest to each on the template
    off: Tensor  # [N, 3] of the anchors from the skin's points, metres: zero but for the sheet
    home: Tensor  # [N, 3] where Gaussians start, template space
    opacity: Tensor  # [N] logit with which they start
    coordinates: Tensor  # [N, 3] place in the triplane, -1..1
    covered: Tensor  # [N] whether the sheet takes the place of what hangs wide of them: skin of the legs
    sheet: Tensor  # [N] 0 the skin's anchors, 1 the sheet's
    parents: Tensor  # [J] of the joints, the root's its own
    ancestor_table: Tensor  # [J, J]

    def __init__(self, body: Body, count: int, radius: float, skirt: int = 0):
        """`count` anchors on the skin, `skirt` on the sheet."""
        super().__init__()
        self.body, self.skin = body, count
        surfaces = [_on_skin(body, count, radius)]
        if skirt:
            surfaces.append(_on_sheet(body, skirt, radius, surfaces[0]))
        of = {name: np.concatenate([surface[name] for surface in surfaces]) for name in surfaces[0]}
        self.points: SurfacePoints = body.surface(of["faces"], of["barycentric"].astype(np.float32))
        self.region = of["region"]  # [N] names of DENSITY's keys, and "skirt"
        f32 = lambda x: torch.from_numpy(np.ascontiguousarray(x, np.float32))  # noqa: E731
        frames = f32(_frames(of["normals"]))
        buffers = {
            "faces": torch.from_numpy(of["faces"]), "neighbours": torch.from_numpy(of["neighbours"]),
            **{name: f32(of[name]) for name in ("barycentric", "spacing", "off", "home", "opacity", "coordinates")},
            "frames": frames, "frame_quaternions": quaternion_from_rotation(frames),
            "covered": torch.from_numpy((self.region == "legs") & bool(skirt)), "sheet": torch.from_numpy(of["sheet"]),
            "parents": torch.tensor([max(p, 0) for p in body.parents]), "ancestor_table": ancestors(body.parents),
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value.to(body.template.device), persistent=False)
        self.beside = FixedSums.means(self.neighbours, len(self))
        self.hanging = Hanging(body, self.points, self.sheet * hung(body, self.places))

    @property
    def places(self) -> Tensor:  # [N, 3] of the anchors, template space
        return self.points.rest + self.off

    def __len__(self) -> int:
        return len(self.faces)

    def stance(self, params: SmplxParams) -> Stance:  # [B]
        rotations = roma.rotvec_to_rotmat(params.full_pose)
        coefficients = params.shape_coefficients
        _, transforms = self.body.kinematics(rotations, coefficients, params.transl)
        quaternions = aligned_quaternions(transforms[..., :3], self.parents, self.ancestor_table)
        of_joints = torch.cat([transforms.mT.flatten(2), quaternions], -1)
        return Stance(self.body.shaped(self.points, rotations, coefficients), self.points.weights @ of_joints, of_joints)

    def posed(
        self,
        offsets: Tensor | None,  # [B, N, 3] metres from the skin's points, template space; none: the anchors themselves
        params: SmplxParams | Stance,  # [B]
    ) -> tuple[Tensor, Tensor]:
        """Skinned positions [B, N, 3] and the rotations template → posed [B, N, 4] (wxyz) at each anchor."""
        stance = params if isinstance(params, Stance) else self.stance(params)
        offsets = self.off if offsets is None else offsets
        shaped, moves = stance.shaped + offsets, self.hanging(stance.moves, stance.of_joints, offsets)
        first, second, third, place, turn = moves.split((3, 3, 3, 3, 4), -1)
        x, y, z = shaped.split(1, -1)
        return place + first * x + second * y + third * z, F.normalize(turn, dim=-1)

    def posed_cloud(
        self,
        cloud: GaussianCloud,  # [B or 1, N] in template space
        params: SmplxParams | Stance,  # [B]
    ) -> tuple[GaussianCloud, Tensor]:
        """Gaussians [B, N] moved by SMPL-X parameters into their space, and how each was turned, [B, N, 4] wxyz."""
        with full_precision(cloud.means):
            stance = params if isinstance(params, Stance) else self.stance(params)
            batch = len(stance.moves)
            if len(cloud.means) != batch:
                cloud = cloud.map(lambda t: t.expand(batch, *t.shape[1:]))
            means, turns = self.posed(cloud.means.float() - self.points.rest, stance)
            rotations = quaternion_multiply(turns, F.normalize(cloud.rotations.float(), dim=-1))
        return GaussianCloud(means, rotations, cloud.scales, cloud.opacities, cloud.colors), turns


def _on_skin(body: Body, count: int, radius: float) -> dict[str, NDArray[Any]]:
    """The skin's anchors: arrays [N, ...] by the names of `Anchors`' buffers, and their places, normals and region."""
    template, region = _template(body), face_regions(body)
    density = np.select([region == name for name in DENSITY], list(DENSITY.values()))
    of = _spread(template, body.faces, density, count)
    return of | {
        "home": of["places"] - INSET * of["spacing"][:, None] * of["normals"], "off": np.zeros_like(of["places"]),
        "coordinates": triplane_coordinates(of["places"], template, radius), "region": region[of["faces"]],
        "opacity": np.full(count, OPACITY), "sheet": np.zeros(count, np.int64),
    }  # fmt: skip


def _on_sheet(body: Body, count: int, radius: float, skin: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The same of the sheet's anchors, each carried by the skin's nearest."""
    mesh, triangles = skirt_mesh(body)
    of = _spread(mesh, triangles, np.ones(len(triangles)), count)
    under = cKDTree(skin["places"]).query(of["places"])[1]
    return of | {
        "faces": skin["faces"][under], "barycentric": skin["barycentric"][under], "neighbours": len(skin["faces"]) + of["neighbours"],
        "home": of["places"], "off": of["places"] - skin["places"][under],
        "coordinates": beside_coordinates(of["places"], skin["places"], _template(body), radius), "region": np.full(count, "skirt"),
        "opacity": np.full(count, UNSEEN), "sheet": np.ones(count, np.int64),
    }  # fmt: skip


def _spread(
    vertices: NDArray[np.float64],  # [V, 3]
    triangles: NDArray[np.int64],  # [F, 3]
    density: NDArray[np.float64],  # [F] relative
    count: int,
) -> dict[str, NDArray[Any]]:
    """Spots spread over a mesh: triangle, barycentric weights, places, normals, spacing and the neighbours of each."""
    corners = vertices[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1) / 2
    picked, barycentric = sample_surface(corners, density, count)
    places = np.einsum("nkc,nk->nc", corners[picked], barycentric)
    normals = _interpolated_normals(vertices, triangles, cross, picked, barycentric)
    apart = np.concatenate([places, TURNED * normals], 1)
    return {
        "faces": picked, "barycentric": barycentric, "places": places, "normals": normals,
        "spacing": np.sqrt((area * density).sum() / (count * density[picked])),
        "neighbours": cKDTree(apart).query(apart, NEIGHBOURS + 1)[1][:, 1:],
    }  # fmt: skip


def _template(body: Body) -> NDArray[np.float64]:  # [V, 3]
    return body.template.detach().cpu().numpy().astype(np.float64)


def face_regions(body: Body) -> NDArray[np.str_]:
    """The region of each triangle [F], read off the skinning weights and the eye and jaw joints of any body."""
    joint = {name: index for index, name in enumerate(JOINT_NAMES)}
    triangles = body.faces
    weights = body.skin_weights.detach().cpu().numpy()[triangles].mean(1)  # type: ignore[operator]
    centre = body.template.detach().cpu().numpy()[triangles].mean(1)
    places = body.joint_template.detach().cpu().numpy()
    eyes = (places[joint["left_eye_smplhf"]] + places[joint["right_eye_smplhf"]]) / 2
    jaw = places[joint["jaw"]]
    head_joints = [joint[n] for n in ("head", "jaw", "left_eye_smplhf", "right_eye_smplhf")]
    leg_joints = [joint[f"{s}_{n}"] for s in ("left", "right") for n in ("hip", "knee", "ankle", "foot")]
    middle = eyes - [0.0, 0.03, 0.0]
    head = weights[:, head_joints].sum(1) > 0.5
    face = head & (np.linalg.norm(centre - middle, axis=1) < FACE_RADIUS) & (centre[:, 2] > min(jaw[2], eyes[2] - 0.02))
    hands = weights[:, [*HANDS["left"], *HANDS["right"]]].sum(1) > 0.5
    legs = weights[:, leg_joints].sum(1) > 0.5
    return np.select([face, head, hands, legs], ["face", "head", "hands", "legs"], "trunk_and_arms")


def triplane_coordinates(
    places: NDArray[np.float64],  # [N, 3] anchors, metres
    template: NDArray[np.float64],  # [V, 3]
    radius: float,  # largest half side of the box, metres
) -> NDArray[np.float64]:  # [N, 3] in -1..1
    """Where anchors lie in the triplane: distance within the body's box, mixed per axis with their rank.

    The box is the template's own (never more than `radius` from its centre), and ranks stretch it where anchors are
    dense, so face and hands get more texels than empty space beside the legs.
    """
    middle, half = _box(template, radius)
    linear = np.clip((places - middle) / half, -1, 1)
    rank = np.argsort(np.argsort(places, axis=0, kind="stable"), axis=0, kind="stable")
    return (1 - WARP) * linear + WARP * ((rank + 0.5) / len(places) * 2 - 1)


def beside_coordinates(
    places: NDArray[np.float64],  # [M, 3] off the skin
    anchors: NDArray[np.float64],  # [N, 3] on it
    template: NDArray[np.float64],
    radius: float,
) -> NDArray[np.float64]:  # [M, 3] in -1..1
    """The same of other places, which are drawn together where they reach out of the box."""
    middle, half = _box(template, radius)
    linear = (places - middle) / half
    linear = linear / np.maximum(np.abs(linear).max(0) / 0.98, 1)
    ranks = [np.searchsorted(np.sort(of), at) for of, at in zip(anchors.T, (middle + linear * half).T, strict=True)]
    return (1 - WARP) * linear + WARP * (np.stack(ranks, 1) / len(anchors) * 2 - 1)


def _box(template: NDArray[np.float64], radius: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle and half sides [3] of the triplane's box."""
    low, high = template.min(0), template.max(0)
    return (low + high) / 2, np.minimum(radius, (high - low) / 2 + 0.02)


def _interpolated_normals(
    template: NDArray[np.float64],
    triangles: NDArray[np.int64],
    cross: NDArray[np.float64],
    picked: NDArray[np.int64],
    barycentric: NDArray[np.float64],
) -> NDArray[np.float64]:  # [N, 3] unit
    vertex = np.zeros_like(template)
    for corner in range(3):
        np.add.at(vertex, triangles[:, corner], cross)
    normal = np.einsum("nkc,nk->nc", vertex[triangles[picked]], barycentric)
    for fallback in (cross[picked], np.broadcast_to([0.0, 0.0, 1.0], normal.shape)):  # degenerate corners, then faces
        bad = np.linalg.norm(normal, axis=1, keepdims=True) < 1e-12
        normal = np.where(bad, fallback, normal)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)


def _frames(normal: NDArray[np.float64]) -> NDArray[np.float64]:  # [N, 3] unit → [N, 3, 3]
    up = np.where(np.abs(normal[:, 1:2]) < 0.9, [[0.0, 1.0, 0.0]], [[1.0, 0.0, 0.0]])
    tangent = np.cross(up, normal)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    return np.stack([tangent, np.cross(normal, tangent), normal], -1)
