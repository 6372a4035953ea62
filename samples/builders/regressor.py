"""Which vertices say where a joint is, and how far that is from the skeleton the vertices were skinned with.

V body vertices, J = 55 joints, N people; metres, T-pose.
"""

from __future__ import annotations

import numpy as np

from model.body import JOINT_NAMES
from samples.builders.body import BETAS, RIGHT_EYE, Source
from samples.builders.skeleton import PARENTS

NEAR, ANYWHERE = 100, 200  # vertices a joint is regressed from
TEMPLATE_WEIGHT, RIDGE = 3.0, 2e-6  # weight of the template against one beta; ridge, square metres


def joint_regressor(source: Source, order: np.ndarray) -> np.ndarray:
    """[J, V], rows sum to 1: joints of the template and of each beta, unmoved by expressions.

    Constrained least squares with a small ridge. Non-negative weights near the joint are off by up to 23 mm (MakeHuman's
    knees move along the leg with its proportions), so weights are signed and a part of the vertices lies anywhere.
    """
    points, directions, weights = source.template[order], source.directions[order], source.weights[order]
    still = np.abs(directions[..., BETAS:]).max((1, 2)) < 1e-4
    usable = still & np.isin(order, source.rig.vertices("body", "helper-l-eye", "helper-r-eye"))
    anywhere = _spread(np.flatnonzero(usable), ANYWHERE)
    out = np.zeros((len(JOINT_NAMES), len(order)))
    for j, parent in enumerate(PARENTS):
        belongs = weights[:, j] + (weights[:, parent] if parent >= 0 else 0)
        near = np.flatnonzero(usable & (belongs > 0.2))
        near = near[np.argsort(np.linalg.norm(points[near] - source.joints[j], axis=1), kind="stable")[:600]]
        chosen = _spread(near, NEAR)
        if j <= RIGHT_EYE:  # fingers move rigidly with their hand: near vertices say it all
            chosen = np.union1d(chosen, anywhere)
        template = TEMPLATE_WEIGHT * (points[chosen] - source.joints[j]).T
        betas = (directions[chosen][..., :BETAS] - source.joint_directions[j]).transpose(2, 1, 0).reshape(3 * BETAS, -1)
        residual = np.concatenate([template, betas])
        solution = np.linalg.solve(residual.T @ residual + RIDGE * np.eye(len(chosen)), np.ones(len(chosen)))
        out[j, chosen] = solution / solution.sum()
    return out


def regressor_errors(source: Source, order: np.ndarray, regressor: np.ndarray, count: int = 200) -> dict[str, np.ndarray]:
    """Distances [N, J] in mm between regressed joints and the skeleton's: random betas, and people who made no betas."""
    betas = np.random.default_rng(2).normal(size=(count, BETAS))
    shaped = np.einsum("jv,vck->jck", regressor, source.directions[order][..., :BETAS])
    regressed = regressor @ source.template[order] + np.einsum("jck,nk->njc", shaped, betas)
    skeleton = source.joints + np.einsum("jck,nk->njc", source.joint_directions, betas)
    unseen = np.einsum("jv,nvc->njc", regressor, source.held_out.vertices[:, order])
    distance = lambda a, b: 1e3 * np.linalg.norm(a - b, axis=-1)  # noqa: E731
    return {"random betas": distance(regressed, skeleton), "unseen people": distance(unseen, source.held_out.joints)}


def _spread(indices: np.ndarray, count: int) -> np.ndarray:
    return indices[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int)]
