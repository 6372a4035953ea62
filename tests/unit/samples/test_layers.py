"""Cutting layers and laying out the texture."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from samples.builders import atlas
from samples.builders.layers import Layer, border_edges, carried, clip, hemmed, push_out, refine, select_faces
from samples.builders.lofts import lying_on, tube


def grid(side: int = 12) -> Layer:
    """A unit square in the x-y plane, normals along +z."""
    x, y = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    index = np.arange(side * side).reshape(side, side)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, c), (a, c, d))])
    rest = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], 1)
    weights = np.stack([x.ravel(), 1 - x.ravel()], 1)
    return Layer("cloth", rest, np.repeat(rest[..., None], 20, 2), weights, faces, {"height": y.ravel()})


def area(layer: Layer) -> float:
    a, b, c = (layer.rest[layer.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def test_clip_cuts_along_the_line_and_loses_nothing() -> None:
    cloth = grid()
    line = cloth.rest @ np.array([0.7, 1.0, 0]) - 0.63
    kept, rest = clip(cloth, line), clip(cloth, -line)
    assert (kept.rest @ np.array([0.7, 1.0, 0]) - 0.63).min() > -1e-12
    assert area(kept) + area(rest) == pytest.approx(1.0)
    assert area(kept) > 0.2
    assert (kept.normals()[:, 2] > 0.99).all()  # windings stay


def test_clip_mixes_weights_directions_and_masks_like_positions() -> None:
    cloth = grid()
    kept = clip(cloth, cloth.rest[:, 0] - 0.123)
    np.testing.assert_allclose(kept.weights, np.stack([kept.rest[:, 0], 1 - kept.rest[:, 0]], 1), atol=1e-12)
    np.testing.assert_allclose(kept.dirs[..., 7], kept.rest, atol=1e-12)
    np.testing.assert_allclose(kept.masks["height"], kept.rest[:, 1], atol=1e-12)


def test_select_faces_drops_unused_points() -> None:
    cloth = grid()
    part = select_faces(cloth, np.arange(len(cloth.faces)) < 5)
    assert len(part.faces) == 5
    np.testing.assert_allclose(part.rest[part.faces], cloth.rest[cloth.faces[:5]])
    assert len(part.rest) == len(np.unique(cloth.faces[:5]))


def test_push_out_moves_along_the_normal() -> None:
    np.testing.assert_allclose(push_out(grid(), 0.01).rest[:, 2], 0.01)


def test_refine_splits_marked_edges_and_keeps_the_surface_whole() -> None:
    cloth = grid()
    fine = refine(cloth, np.abs(cloth.rest[:, 0] - 0.5) < 0.15)
    assert len(fine.faces) > 1.5 * len(cloth.faces)
    assert area(fine) == pytest.approx(1.0)
    assert (fine.normals()[:, 2] > 0.99).all()
    assert len(border_edges(fine.faces)) >= len(border_edges(cloth.faces))
    rim = fine.rest[np.unique(border_edges(fine.faces))][:, :2]
    assert (np.isclose(rim, 0) | np.isclose(rim, 1)).any(1).all()  # no cracks inside


def test_hem_turns_every_open_edge_in() -> None:
    cloth = grid()
    turned = hemmed(cloth, 0.01)
    assert len(turned.faces) == len(cloth.faces) + 2 * len(border_edges(cloth.faces))
    np.testing.assert_allclose(turned.rest[len(cloth.rest) :, 2], -0.01, atol=1e-9)


def test_anchors_are_cut_and_blended_like_positions() -> None:
    """A point's share of the body vertices reproduces its place, after cutting, refining and carrying."""
    cloth = grid()
    cloth = replace(cloth, anchors=sparse.identity(len(cloth.rest), format="csr"))
    rest, fine = cloth.rest, refine(cloth, cloth.rest[:, 0] < 0.4)
    kept = clip(fine, fine.rest[:, 0] - 0.123)
    np.testing.assert_allclose(kept.anchors @ rest, kept.rest, atol=1e-12)
    new = carried("patch", np.array([[0.4, 0.4, 0.01]]), np.zeros((0, 3), int), cloth)
    assert new.anchors.sum() == pytest.approx(1)
    np.testing.assert_allclose(new.anchors @ rest, [[0.4, 0.4, 0]], atol=0.05)


def test_tube_is_closed_and_faces_outwards() -> None:
    path = np.stack([np.zeros(9), np.linspace(0, 1, 9), np.zeros(9)], 1)
    points, faces = tube(path, np.full(9, 0.1), 12)
    assert not len(border_edges(faces))
    a, b, c = (points[faces[:, k]] for k in range(3))
    volume = (np.cross(a, b) * c).sum() / 6
    assert volume == pytest.approx(12 / 2 * np.sin(2 * np.pi / 12) * 0.01, rel=1e-6)


def test_cloth_that_lies_on_another_is_outside_it() -> None:
    below = grid()
    dented = replace(below, name="scarf", rest=below.rest - np.array([0, 0, 0.02]) * np.sin(9 * below.rest[:, :1]))
    assert lying_on(dented, [below], 0.004, smooth=0).rest[:, 2].min() > 0.0039


def test_packed_charts_do_not_overlap_and_keep_their_shape() -> None:
    cloth = grid()
    moved = [cloth.rest * scale for scale in (1.0, 0.3, 0.5, 0.2, 0.7)]
    charts = [c for k, p in enumerate(moved) for c in atlas.projected_charts(p, cloth.faces, k * len(cloth.faces), 100)]
    layout = atlas.pack(charts, 5 * len(cloth.faces), 256)
    assert layout.uv.min() >= 0
    assert layout.uv.max() <= 1
    drawn = np.bincount(atlas.texels(layout).face // len(cloth.faces), minlength=5)
    scale = drawn[0]
    np.testing.assert_allclose(drawn / scale, [1, 0.09, 0.25, 0.04, 0.49], atol=0.02)  # an overlap would eat texels
    assert drawn.sum() > 0.45 * 256**2


def test_texture_shows_each_place_its_own_colour() -> None:
    cloth = grid()
    layout = atlas.pack(atlas.projected_charts(cloth.rest, cloth.faces, 0, 100), len(cloth.faces), 128)
    found = atlas.texels(layout)
    place = np.einsum("nk,nkc->nc", found.barycentric, cloth.rest[cloth.faces[found.face]])
    image = atlas.fill(layout, found, np.concatenate([place[:, :2], np.zeros((len(place), 1))], 1)) / 255
    corners = layout.uv[layout.uv_faces]  # [F, 3, 2]
    pixels = (corners.mean(1) * [128, -128] + [0, 128]).astype(int)
    middle = cloth.rest[cloth.faces].mean(1)
    np.testing.assert_allclose(image[pixels[:, 1], pixels[:, 0], :2], middle[:, :2], atol=0.02)
