"""Put the licence-free body together: a file in SMPL-X's schema that the unmodified `smplx` package loads.

V body vertices (skin, eyes, teeth, tongue, lashes), J = 55 joints, 10 betas and 10 expressions; metres, y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from smplx.vertex_ids import vertex_ids

from model.body import JOINT_NAMES
from samples.builders.grasps import hand_pca
from samples.builders.makehuman import BaseMesh, Rig, read_base_mesh, read_rig
from samples.builders.mouth import close_lips, shape_mouth
from samples.builders.population import EXPRESSIONS, Population, expression_directions, sample_population, shape_directions
from samples.builders.skeleton import PARENTS, TPose, joint_weights

BETAS = 10
PEOPLE, HELD_OUT = 160, 25  # sampled women, and men, that make the betas; further ones that judge the joint regressor
HEAD, JAW, LEFT_EYE, RIGHT_EYE = 15, 22, 23, 24
HEAD_IMPORTANCE = 10.0  # of a head's surface against a body's, so that some of the ten betas describe faces
LID_REST = 0.4  # of the blink expression; MakeHuman's neutral face stares
GRID = 2.0**-17  # metres; stored figures are rounded to 7.6 µm, which halves the file
LASHES = tuple(f"helper-{s}-eyelashes-{k}" for s in "lr" for k in (1, 2))
BODY_GROUPS = ("body", "helper-tongue", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", *LASHES)
LAYER_GROUPS = ("helper-tights", "helper-hair", "helper-skirt")
RIGID = {  # these follow one joint alone
    "helper-lower-teeth": JAW, "helper-upper-teeth": HEAD, "helper-l-eye": LEFT_EYE, "helper-r-eye": RIGHT_EYE,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Everything about one body file on the base mesh: the T-pose of the mean person, and what varies."""

    mesh: BaseMesh
    rig: Rig
    template: np.ndarray  # [Vm, 3] all of MakeHuman's vertices
    joints: np.ndarray  # [J, 3]
    directions: np.ndarray  # [Vm, 3, 20] betas, then expressions
    joint_directions: np.ndarray  # [J, 3, 10]
    weights: np.ndarray  # [Vm, J]
    area: np.ndarray  # [Vm] share of the body's surface that belongs to a vertex; sums to 1
    explained: np.ndarray  # [10] share of variance
    held_out: Population


def read_sources() -> dict[str, Source]:
    """Sample women and men, find the betas of 'neutral' (all of them), 'female' and 'male' (half a minute)."""
    mesh = read_base_mesh()
    rig = read_rig(len(mesh.vertices))
    tpose = TPose(rig)
    weights = joint_weights(rig)
    for group, joint in RIGID.items():
        weights[rig.vertices(group)] = np.eye(len(JOINT_NAMES))[joint]
    weights[rig.vertices("helper-tongue")] = np.eye(len(JOINT_NAMES))[JAW]
    skin = rig.vertices("body")
    people, unseen = (
        {g: sample_population(mesh.vertices, tpose, skin, g, count, seed) for g in ("female", "male")}
        for count, seed in ((PEOPLE, 0), (HELD_OUT, 1))
    )
    area = vertex_area(mesh, (people["female"] + people["male"]).vertices.mean(0))
    of = lambda sampled, gender: sampled[gender] if gender in sampled else sampled["female"] + sampled["male"]  # noqa: E731
    return {
        gender: _source(mesh, rig, weights, area, of(people, gender), of(unseen, gender))
        for gender in ("neutral", "female", "male")
    }


def _source(mesh: BaseMesh, rig: Rig, weights: np.ndarray, area: np.ndarray, people: Population, unseen: Population) -> Source:
    head = weights[:, [HEAD, JAW, LEFT_EYE, RIGHT_EYE]].sum(1) > 0.5
    betas, joint_directions, explained = shape_directions(people, area * np.where(head, HEAD_IMPORTANCE, 1.0), BETAS)
    directions = np.concatenate([betas, expression_directions(len(mesh.vertices))], -1)
    template = people.vertices.mean(0)
    template += LID_REST * directions[..., BETAS + list(EXPRESSIONS).index("blink")]
    template = close_lips(shape_mouth(template, rig), people.joints.mean(0)[JAW], weights[:, JAW])
    return Source(mesh, rig, template, people.joints.mean(0), directions, joint_directions, weights, area, explained, unseen)


def vertex_area(mesh: BaseMesh, vertices: np.ndarray) -> np.ndarray:
    """Share [Vm] of the body's surface about each vertex; 0 for helpers that are no part of it."""
    quads = mesh.quads[np.isin(mesh.groups, BODY_GROUPS)]
    a, b, c, d = vertices[quads].transpose(1, 0, 2)
    size = np.linalg.norm(np.cross(c - a, d - b), axis=1)
    area = np.bincount(quads.ravel(), np.repeat(size, 4), len(vertices))
    return area / area.sum()


def body_order(source: Source) -> np.ndarray:
    """Base-mesh vertex of each body vertex [V]: `smplx` expects nose, eyes, finger tips... at fixed places."""
    order = source.rig.vertices(*BODY_GROUPS).tolist()
    for name, vertex in named_vertices(source).items():
        here, there = order.index(vertex), vertex_ids["smplx"][name]
        order[here], order[there] = order[there], order[here]
    return np.array(order)


def named_vertices(source: Source) -> dict[str, int]:
    """Base-mesh vertices of the places that `smplx.vertex_ids` names."""
    points, skin = source.template, source.rig.vertices("body")
    owner = source.weights.argmax(1)

    def farthest(candidates: np.ndarray, direction: tuple[float, float, float]) -> int:
        return int(candidates[np.argmax(points[candidates] @ np.array(direction))])

    def of(*joints: str) -> np.ndarray:
        return skin[np.isin(owner[skin], [JOINT_NAMES.index(j) for j in joints])]

    jaw_height = source.joints[JAW, 1]
    head = of("head", "jaw", "neck")
    middle = head[(np.abs(points[head, 0]) < 0.004) & (points[head, 1] > jaw_height - 0.02)]
    beside = head[(points[head, 1] > jaw_height) & (points[head, 1] < jaw_height + 0.09)]
    found = {"nose": farthest(middle, (0, 0, 1))}
    for side, letter, sign in (("left", "l", 1.0), ("right", "r", -1.0)):
        found[f"{letter}eye"] = farthest(source.rig.vertices(f"helper-{letter}-eye"), (0, 0, 1))
        found[f"{letter}ear"] = farthest(beside, (sign, 0, 0))
        for finger in ("index", "middle", "ring", "pinky"):
            found[letter + finger] = farthest(of(f"{side}_{finger}3"), (sign, 0, 0))
        thumb = of(f"{side}_thumb3")
        along = points[thumb].mean(0) - source.joints[JOINT_NAMES.index(f"{side}_thumb3")]
        found[f"{letter}thumb"] = farthest(thumb, tuple(along))
        capital = letter.upper()
        found[f"{capital}BigToe"] = farthest(of(f"{side}_foot"), (-sign * 0.4, 0, 1))
        found[f"{capital}SmallToe"] = farthest(of(f"{side}_foot"), (sign, 0, 0.5))
        found[f"{capital}Heel"] = farthest(of(f"{side}_ankle"), (0, -0.5, -1))
    return found


def triangles(source: Source, order: np.ndarray, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The quads of some groups in two triangles each: faces [F, 3] into `order`, UV faces [F, 3], group [F]."""
    place = np.full(len(source.template), -1)
    place[order] = np.arange(len(order))
    chosen = np.isin(source.mesh.groups, groups)
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    faces = place[source.mesh.quads[chosen]][:, halves].reshape(-1, 3)
    return faces, source.mesh.uv_quads[chosen][:, halves].reshape(-1, 3), np.repeat(source.mesh.groups[chosen], 2)


def assemble(
    source: Source,
    order: np.ndarray,  # [V]
    regressor: np.ndarray,  # [J, V]
    posedirs: np.ndarray,  # [V, 3, 486]
) -> dict[str, np.ndarray]:
    """Every array of the body file except the face landmarks."""
    root = np.uint32(2**32 - 1)
    mean, components = hand_pca()
    mirror = np.tile(np.float32([1, -1, -1]), 15)
    return {
        "v_template": on_grid(source.template[order]),
        "shapedirs": on_grid(source.directions[order]),
        "posedirs": posedirs,
        "J_regressor": regressor.astype(np.float32),
        "weights": round_weights(source.weights[order]),
        "kintree_table": np.array([[root if p < 0 else p for p in PARENTS], range(len(PARENTS))], dtype=np.int64),
        "f": triangles(source, order, BODY_GROUPS)[0].astype(np.uint32),
        "hands_meanl": mean,
        "hands_meanr": mean * mirror,
        "hands_componentsl": components,
        "hands_componentsr": components * mirror,
    }


def on_grid(metres: np.ndarray) -> np.ndarray:
    return (np.round(metres / GRID) * GRID).astype(np.float32)


def round_weights(weights: np.ndarray) -> np.ndarray:
    """Skinning weights in steps of 1/4096 that still sum to 1 exactly."""
    rounded = np.round(weights * 4096) / 4096
    rounded[np.arange(len(rounded)), rounded.argmax(1)] += 1 - rounded.sum(1)
    return rounded.astype(np.float32)
