"""Put the licence-free body together: a file in SMPL-X's schema that the unmodified `smplx` package loads.

V body vertices (skin, eyes, teeth, tongue, lashes), J = 55 joints, 10 betas and 10 expressions; metres, y up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from smplx.vertex_ids import vertex_ids

from model.body import JOINT_NAMES
from samples.builders.makehuman import BaseMesh, Rig, read_base_mesh, read_rig
from samples.builders.population import EXPRESSIONS, Population, expression_directions, sample_population, shape_directions
from samples.builders.skeleton import PARENTS, TPose, joint_weights

BETAS = 10
PEOPLE, HELD_OUT = 240, 50  # sampled people that make the betas; further ones that judge the joint regressor
HEAD, JAW, LEFT_EYE, RIGHT_EYE = 15, 22, 23, 24
REGRESSOR_NEAR, REGRESSOR_ANYWHERE = 100, 200  # vertices a joint is regressed from
REGRESSOR_TEMPLATE, REGRESSOR_RIDGE = 3.0, 2e-5  # weight of the template against one beta; ridge, square metres
HEAD_IMPORTANCE = 4.0  # so that some of the ten betas describe faces
LID_REST = 0.3  # of the blink expression; MakeHuman's neutral face stares
TONGUE_SIZE, TONGUE_DROP = np.array([0.9, 0.75, 0.80]), 0.004  # MakeHuman's would cover the lower teeth in an open mouth; metres
GRID = 2.0**-17  # metres; stored figures are rounded to 7.6 µm, which halves the file
LASHES = tuple(f"helper-{s}-eyelashes-{k}" for s in "lr" for k in (1, 2))
BODY_GROUPS = ("body", "helper-tongue", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", *LASHES)
LAYER_GROUPS = ("helper-tights", "helper-hair", "helper-skirt")
RIGID = {  # these follow one joint alone
    "helper-lower-teeth": JAW, "helper-upper-teeth": HEAD, "helper-l-eye": LEFT_EYE, "helper-r-eye": RIGHT_EYE,
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Everything about the base mesh in the T-pose of the mean person."""

    mesh: BaseMesh
    rig: Rig
    template: np.ndarray  # [Vm, 3] all of MakeHuman's vertices
    joints: np.ndarray  # [J, 3]
    directions: np.ndarray  # [Vm, 3, 20] betas, then expressions
    joint_directions: np.ndarray  # [J, 3, 10]
    weights: np.ndarray  # [Vm, J]
    explained: np.ndarray  # [10] share of variance
    held_out: Population


def read_source() -> Source:
    """Sample people, find the betas (about 15 s)."""
    mesh = read_base_mesh()
    rig = read_rig(len(mesh.vertices))
    tpose = TPose(rig)
    weights = joint_weights(rig)
    for group, joint in RIGID.items():
        weights[rig.vertices(group)] = np.eye(len(JOINT_NAMES))[joint]
    weights[rig.vertices("helper-tongue")] = np.eye(len(JOINT_NAMES))[JAW]
    importance = np.zeros(len(mesh.vertices))
    importance[rig.vertices(*BODY_GROUPS)] = 1.0
    importance[importance.astype(bool) & (weights[:, [HEAD, JAW]].sum(1) > 0.5)] = HEAD_IMPORTANCE
    people = sample_population(mesh.vertices, tpose, PEOPLE, seed=0)
    betas, joint_directions, explained = shape_directions(people, importance, BETAS)
    directions = np.concatenate([betas, expression_directions(len(mesh.vertices))], -1)
    held_out = sample_population(mesh.vertices, tpose, HELD_OUT, seed=1)
    template, joints = people.vertices.mean(0), people.joints.mean(0)
    template += LID_REST * directions[..., BETAS + list(EXPRESSIONS).index("blink")]
    tongue = rig.vertices("helper-tongue")
    root = np.array([0, template[tongue, 1].min(), template[tongue, 2].min()])
    template[tongue] = root + TONGUE_SIZE * (template[tongue] - root) - [0, TONGUE_DROP, 0]
    return Source(mesh, rig, template, joints, directions, joint_directions, weights, explained, held_out)


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


def joint_regressor(source: Source, order: np.ndarray) -> np.ndarray:
    """[J, V], rows sum to 1: joints of the template and of each beta, unmoved by expressions.

    Constrained least squares with a small ridge. Non-negative weights near the joint are off by up to 23 mm (MakeHuman's
    knees move along the leg with its proportions), so weights are signed and a part of the vertices lies anywhere.
    """
    points, directions, weights = source.template[order], source.directions[order], source.weights[order]
    still = np.abs(directions[..., BETAS:]).max((1, 2)) < 1e-4
    usable = still & np.isin(order, source.rig.vertices("body", "helper-l-eye", "helper-r-eye"))
    anywhere = _spread(np.flatnonzero(usable), REGRESSOR_ANYWHERE)
    out = np.zeros((len(JOINT_NAMES), len(order)))
    for j, parent in enumerate(PARENTS):
        belongs = weights[:, j] + (weights[:, parent] if parent >= 0 else 0)
        near = np.flatnonzero(usable & (belongs > 0.2))
        near = near[np.argsort(np.linalg.norm(points[near] - source.joints[j], axis=1), kind="stable")[:600]]
        chosen = _spread(near, REGRESSOR_NEAR)
        if j <= RIGHT_EYE:  # fingers move rigidly with their hand: near vertices say it all
            chosen = np.union1d(chosen, anywhere)
        template = REGRESSOR_TEMPLATE * (points[chosen] - source.joints[j]).T
        betas = (directions[chosen][..., :BETAS] - source.joint_directions[j]).transpose(2, 1, 0).reshape(3 * BETAS, -1)
        residual = np.concatenate([template, betas])
        solution = np.linalg.solve(residual.T @ residual + REGRESSOR_RIDGE * np.eye(len(chosen)), np.ones(len(chosen)))
        out[j, chosen] = solution / solution.sum()
    return out


def triangles(source: Source, order: np.ndarray, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The quads of some groups in two triangles each: faces [F, 3] into `order`, UV faces [F, 3], group [F]."""
    place = np.full(len(source.template), -1)
    place[order] = np.arange(len(order))
    chosen = np.isin(source.mesh.groups, groups)
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    faces = place[source.mesh.quads[chosen]][:, halves].reshape(-1, 3)
    return faces, source.mesh.uv_quads[chosen][:, halves].reshape(-1, 3), np.repeat(source.mesh.groups[chosen], 2)


def assemble(source: Source, order: np.ndarray, regressor: np.ndarray) -> dict[str, np.ndarray]:
    """All arrays of the body file except the face landmarks."""
    root = np.uint32(2**32 - 1)
    mean, components = hand_pca()
    mirror = np.tile([1.0, -1.0, -1.0], 15)
    return {
        "v_template": on_grid(source.template[order]),
        "shapedirs": on_grid(source.directions[order]),
        "posedirs": np.zeros((len(order), 3, 486), np.int8),  # no pose correctives; smplx makes floats of them
        "J_regressor": regressor.astype(np.float32),
        "weights": round_weights(source.weights[order]),
        "kintree_table": np.array([[root if p < 0 else p for p in PARENTS], range(len(PARENTS))], dtype=np.int64),
        "f": triangles(source, order, BODY_GROUPS)[0].astype(np.uint32),
        "hands_meanl": mean,
        "hands_meanr": mean * mirror,
        "hands_componentsl": components,
        "hands_componentsr": components * mirror,
    }


def hand_pca() -> tuple[np.ndarray, np.ndarray]:
    """Mean pose [45] and an orthonormal basis [45, 45] of the left hand: curl, single fingers, thumb, spread first."""
    curl = np.zeros((5, 3, 3))  # index, middle, pinky, ring, thumb; left fingers bend about -z, the thumb about +y
    curl[:4, :, 2] = -1.0
    curl[4, :, 1] = 1.0
    fingers = np.stack([curl * (np.arange(5) == k)[:, None, None] for k in (4, 0, 1, 3, 2)])
    spread = np.zeros((5, 3, 3))
    spread[:, 0, 1] = (-1.0, -0.3, 1.0, 0.4, -0.5)
    first = np.stack([curl * (np.arange(5) < 4)[:, None, None], *fingers[:4], spread]).reshape(6, 45)
    basis, triangle = np.linalg.qr(np.concatenate([first, np.eye(45)]).T)
    basis = (basis * np.sign(np.diag(triangle))).T
    mean = 0.25 * first[0]
    return mean.astype(np.float32), basis.astype(np.float32)


def on_grid(metres: np.ndarray) -> np.ndarray:
    return (np.round(metres / GRID) * GRID).astype(np.float32)


def round_weights(weights: np.ndarray) -> np.ndarray:
    """Skinning weights in steps of 1/4096 that still sum to 1 exactly."""
    rounded = np.round(weights * 4096) / 4096
    rounded[np.arange(len(rounded)), rounded.argmax(1)] += 1 - rounded.sum(1)
    return rounded.astype(np.float32)


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int)]
