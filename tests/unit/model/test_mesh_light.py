"""How light reaches a mesh past itself, against places where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.mesh_render import grid_faces, level_camera, sphere
from model.mesh_light import DAYLIGHT, Lights, light_reaching
from model.mesh_raster import reaching_light, render_mesh, vertex_normals

ABOVE = replace(DAYLIGHT, key=(0.0, 1.0, 0.0), key_softness=0.3)


def floor(side: float = 2.0, points: int = 81) -> tuple[np.ndarray, np.ndarray]:
    """A level square, fronts up."""
    x, z = (g.reshape(-1) for g in np.meshgrid(*[np.linspace(-side / 2, side / 2, points)] * 2))
    return np.stack([x, np.zeros_like(x), z], -1), grid_faces(points, points)[:, ::-1]


def merged(*meshes: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(len(v) for v, _ in meshes)])
    return np.concatenate([v for v, _ in meshes]), np.concatenate([f + s for (_, f), s in zip(meshes, starts, strict=False)])


def test_all_light_reaches_a_floor_and_a_ball_that_stand_alone() -> None:
    for mesh in (floor(), sphere(0.5, np.zeros(3), 64)):
        reaching = reaching_light(*mesh, ABOVE)
        assert reaching[:, [0, 2]].min() > 0.97
        assert reaching.max() <= 1 + 1e-6


def test_a_board_over_a_floor_casts_a_soft_shadow() -> None:
    """Lamp of angular radius asin 0.3 overhead; board of half side 0.3 at height 0.4: penumbra 0.3 ± 0.4 · 0.3."""
    ground, (board, faces) = floor(), floor(0.6, 31)
    vertices, triangles = merged(ground, (board + [0, 0.4, 0], faces))
    reaching = reaching_light(vertices, triangles, ABOVE)[: len(ground[0])]
    across = np.abs(ground[0][:, 2]) < 1e-9
    x, key, sky = ground[0][across, 0], reaching[across, 2], reaching[across, 0]
    assert key[np.abs(x) < 0.12].max() < 0.05
    assert key[np.abs(x) > 0.5].min() > 0.95
    assert 0.25 < np.interp(0.3, x, key) < 0.75
    right = key[x >= 0]
    assert (np.diff(right) > -0.02).all()
    assert len(set(right.round(2))) > 5
    # seen from below its middle the board takes 0.36 of the sky
    assert abs(sky[np.abs(x) < 0.05].mean() - 0.64) < 0.08
    assert sky[np.abs(x) > 0.9].min() > 0.9


def test_a_corner_sees_half_of_the_sky() -> None:
    ground = floor(2.0, 101)
    wall = (ground[0][:, [1, 0, 2]] + [-1, 1, 0], ground[1][:, ::-1])  # x = -1, fronts towards +x
    vertices, faces = merged(ground, wall)
    normals = vertex_normals(vertices, faces)
    sky = light_reaching(vertices, normals, faces, ABOVE)[: len(ground[0]), 0]
    near = (np.abs(ground[0][:, 0] + 0.9) < 0.02) & (np.abs(ground[0][:, 2]) < 0.3)
    assert 0.4 < sky[near].mean() < 0.65  # an endless wall would leave half
    assert sky[ground[0][:, 0] > 0.9].mean() > 0.85


def test_fronts_and_backs_are_told_apart() -> None:
    """Inside a closed ball nothing arrives, outside everything."""
    vertices, faces = sphere(0.5, np.zeros(3), 48)
    used = np.linalg.norm(vertex_normals(vertices, faces), axis=1) > 0.5  # points doubled at the poles belong to no face
    reaching = reaching_light(vertices, faces, ABOVE)[used]
    assert reaching[:, 0].min() > 0.97
    assert reaching[:, 1].max() < 0.15
    assert reaching[:, 1].mean() < 0.005
    turned = reaching_light(vertices, faces[:, ::-1], ABOVE)[used]
    np.testing.assert_allclose(turned[:, :2], reaching[:, 1::-1], atol=0.02)


def test_light_found_once_gives_the_picture_that_finding_it_again_does() -> None:
    vertices, faces = merged(floor(), sphere(0.3, np.array([0.0, 0.3, 0.0]), 32))
    view = level_camera(np.array([0.0, 0.2, 0.0]), 2.5, 90, 72)
    look = {"vertex_colors": np.full_like(vertices, 0.8)}
    again = render_mesh(vertices, faces, view, **look)
    once = render_mesh(vertices, faces, view, reaching=reaching_light(vertices, faces), **look)
    np.testing.assert_allclose(once.rgb, again.rgb, atol=0.04)  # the cells of the height maps lie elsewhere
    plain = render_mesh(vertices, faces, view, lights=replace(DAYLIGHT, occlusion=0, shadow=0), **look)
    assert plain.rgb.sum() > once.rgb.sum()


def test_a_soft_lamp_reaches_round_the_horizon() -> None:
    """Light on a ball: a point gives max(0, cos); a disc fades over its radius, and is the same well above the horizon."""
    vertices, faces = sphere(0.5, np.array([0.0, 0.0, 0.0]), 96)
    view = level_camera(np.zeros(3), 3.0, 200, 96)
    only = Lights(ambient=0, sky=0, key=(1, 0, 0), key_intensity=1, fill_intensity=0, occlusion=0, shadow=0)
    hard, soft = (
        render_mesh(vertices, faces, view, vertex_colors=np.ones_like(vertices), lights=replace(only, key_softness=s)) for s in (0.0, 0.3)
    )
    cosine, seen = hard.normals[..., 0], hard.alpha == 1
    np.testing.assert_allclose(hard.rgb[seen, 0], np.maximum(cosine[seen], 0), atol=0.02)
    np.testing.assert_allclose(soft.rgb[seen & (cosine > 0.35), 0], hard.rgb[seen & (cosine > 0.35), 0], atol=0.02)
    assert 0.05 < soft.rgb[seen & (np.abs(cosine) < 0.02), 0].mean() < 0.1  # 0.3 / 4
    assert soft.rgb[seen & (cosine < -0.35), 0].max() == 0


def test_lights_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Lights.occlusion: expected 0..1"):
        Lights(occlusion=1.5)
    with pytest.raises(ValueError, match="direction towards the lamp"):
        Lights(key=(0.0, 0.0, 0.0))
