"""The mesh renderer against figures worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.mesh_render import camera_error_px
from model.mesh_raster import Lights, project_vertices, rasterize_mesh, render_frames, render_mesh
from model.mesh_visibility import sample_places
from model.types import Camera


def camera(focal: float = 100.0, width: int = 64, height: int = 48, w2c: np.ndarray | None = None) -> Camera:
    intrinsics = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    pose = torch.eye(4) if w2c is None else torch.as_tensor(w2c, dtype=torch.float32)
    return Camera(pose, intrinsics, torch.tensor([width, height]))


def sphere(radius: float, centre: tuple[float, float, float], rings: int = 96) -> tuple[np.ndarray, np.ndarray]:
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
    index = np.arange(theta.size).reshape(theta.shape)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])
    return points * radius + centre, faces


def test_projection_is_opencv() -> None:
    pixels, depth = project_vertices([[0.1, 0.2, 2.0]], camera(focal=100, width=64, height=48))
    np.testing.assert_allclose(pixels, [[32 + 5, 24 + 10]])
    np.testing.assert_allclose(depth, [2.0])


def test_triangle_covers_the_pixel_centres_inside_it() -> None:
    corners = np.array([[2.0, 1.0], [12.0, 1.0], [2.0, 11.0]])
    face_id, barycentric, depth = rasterize_mesh(corners, np.ones(3), [[0, 1, 2]], 16, 16)
    y, x = np.mgrid[:16, :16] + 0.5
    inside = (x >= 2) & (y >= 1) & (x + y <= 13)
    np.testing.assert_array_equal(face_id == 0, inside)
    positions = barycentric[inside] @ corners
    np.testing.assert_allclose(positions, np.stack([x[inside], y[inside]], -1), atol=1e-5)
    assert np.isinf(depth[~inside]).all()


def test_barycentrics_and_depth_are_perspective_right() -> None:
    view = camera()
    triangle = np.array([[-0.4, -0.3, 1.5], [0.5, -0.2, 4.0], [-0.1, 0.6, 2.5]])
    pixels, depth = project_vertices(triangle, view)
    face_id, barycentric, z = rasterize_mesh(pixels, depth, [[0, 1, 2]], 48, 64)
    y, x = np.nonzero(face_id == 0)
    assert len(x) > 100
    points = barycentric[y, x].astype(np.float64) @ triangle
    back, back_depth = project_vertices(points, view)
    np.testing.assert_allclose(back, np.stack([x, y], -1) + 0.5, atol=1e-3)
    np.testing.assert_allclose(back_depth, z[y, x], rtol=1e-5)


def test_nearer_triangle_wins_whatever_the_order() -> None:
    square = np.array([[0.0, 0], [8, 0], [0, 8]])
    pixels, depth = np.concatenate([square, square]), np.array([2.0, 2, 2, 1, 1, 1])
    for faces, winner in (([[0, 1, 2], [3, 4, 5]], 1), ([[3, 4, 5], [0, 2, 1]], 0)):
        face_id, _, z = rasterize_mesh(pixels, depth, faces, 8, 8)
        assert set(face_id[face_id >= 0]) == {winner}
        assert z[face_id >= 0].max() == 1


def test_sphere_silhouette_is_the_analytic_circle() -> None:
    """A sphere of radius r at distance d on the axis has a silhouette of radius f·r/sqrt(d² − r²)."""
    radius, distance, focal = 0.5, 3.0, 400.0
    vertices, faces = sphere(radius, (0, 0, distance))
    out = render_mesh(vertices, faces, camera(focal, 200, 160), vertex_colors=np.ones_like(vertices), supersample=4)
    measured = np.sqrt(out.alpha.sum() / np.pi)
    assert abs(measured - focal * radius / np.sqrt(distance**2 - radius**2)) < 0.1
    rows, columns = np.nonzero(out.alpha > 0.5)
    np.testing.assert_allclose([(columns + 0.5).mean(), (rows + 0.5).mean()], [100, 80], atol=0.05)
    assert abs(out.depth.min() - (distance - radius)) < 1e-3


def test_spheres_and_a_chessboard_lie_where_the_camera_says() -> None:
    assert camera_error_px() < 0.1


def test_camera_motion_equals_inverse_scene_motion() -> None:
    vertices, faces = sphere(0.3, (0.1, -0.1, 2.0), 24)
    angle = 0.3
    motion = np.eye(4)
    motion[::2, ::2][:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    motion[:3, 3] = (0.2, -0.1, 0.4)
    colors = (vertices - vertices.min(0)) / np.ptp(vertices, 0)
    moved = vertices @ motion[:3, :3].T + motion[:3, 3]
    one = render_mesh(moved, faces, camera(), vertex_colors=colors, lights=None)
    two = render_mesh(vertices, faces, camera(w2c=motion), vertex_colors=colors, lights=None)
    np.testing.assert_allclose(one.alpha, two.alpha, atol=0.26)  # a sample on an edge may fall either way
    assert np.abs(one.rgb - two.rgb).mean() < 1e-3


def test_texture_is_looked_up_with_v_upwards() -> None:
    square = np.array([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]])  # y down: the first is the upper left
    uv = np.array([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32] = (255, 0, 0)  # upper left
    texture[32:, 32:] = (0, 0, 255)
    out = render_mesh(square, [[0, 1, 2], [0, 2, 3]], camera(64, 64, 64), texture=texture, uv=uv, lights=None)
    np.testing.assert_allclose(out.rgb[16, 16], (1, 0, 0), atol=1e-6)
    np.testing.assert_allclose(out.rgb[48, 48], (0, 0, 1), atol=1e-6)
    np.testing.assert_allclose(out.rgb[16, 48], (0, 0, 0), atol=1e-6)


def test_lights_follow_the_normal_and_background_fills_the_rest() -> None:
    square = np.array([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0.5, 0.5, 2], [-0.5, 0.5, 2]])
    lights = Lights(ambient=0.2, sky=0.0, key=(0, 0, -1), key_intensity=0.5, fill=(0, 0, 1), fill_intensity=0.3)
    arguments = {"vertex_colors": np.full((4, 3), 0.5), "lights": lights, "background": (0.0, 1.0, 0.0)}
    out = render_mesh(square, [[0, 1, 2], [0, 2, 3]], camera(64, 64, 64), **arguments)
    np.testing.assert_allclose(out.rgb[32, 32], 0.5 * (0.2 + 0.5), atol=1e-6)  # the visible side faces -z
    np.testing.assert_allclose(out.rgb[0, 0], (0, 1, 0))


def test_triangles_behind_the_camera_are_not_drawn() -> None:
    behind = np.array([[-1.0, -1, -2], [1, -1, 2], [1, 1, 2]])
    assert render_mesh(behind, [[0, 1, 2]], camera(), vertex_colors=np.ones((3, 3))).alpha.max() == 0


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="expected vertex_colors"):
        render_mesh(np.zeros((3, 3)), [[0, 1, 2]], camera())
    with pytest.raises(ValueError, match="one camera"):
        render_mesh(np.zeros((3, 3)), [[0, 1, 2]], camera()[None], vertex_colors=np.ones((3, 3)))


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_samples_share_no_row_and_no_column(side) -> None:
    places = sample_places(side)
    assert places.shape == (side**2, 2)
    for axis in range(2):
        np.testing.assert_allclose(np.sort(places[:, axis]), (np.arange(side**2) + 0.5) / side**2)


def test_edges_are_smooth_and_cover_what_the_triangle_covers() -> None:
    triangle = np.array([[-0.5, -0.4, 1.0], [0.45, -0.37, 1.0], [-0.46, 0.5, 1.0]])
    out = render_mesh(triangle, [[0, 1, 2]], camera(40, 48, 48), vertex_colors=np.ones((3, 3)), lights=None)
    assert set(np.unique(out.alpha)) == {0, 0.25, 0.5, 0.75, 1}
    pixels, _ = project_vertices(triangle, camera(40, 48, 48))
    area = abs(np.linalg.det(pixels[1:] - pixels[0])) / 2
    assert abs(out.alpha.sum() - area) < 0.01 * area


def test_normals_depth_and_parts_of_a_sphere() -> None:
    centre = np.array([0.1, -0.05, 2.0])
    vertices, faces = sphere(0.5, tuple(centre), 64)
    parts = (vertices[faces].mean(1)[:, 1] > centre[1]).astype(np.uint8) * 7  # y down: 7 is the lower half
    out = render_mesh(vertices, faces, camera(60), vertex_colors=np.ones_like(vertices), part_ids=parts)
    seen = out.alpha == 1
    y, x = np.nonzero(seen)
    rays = np.stack([(x + 0.5 - 32) / 60, (y + 0.5 - 24) / 60, np.ones(len(x))], -1)
    normals = (rays * out.depth[seen][:, None] - centre) / 0.5
    facing = -(normals * rays).sum(1) / np.linalg.norm(rays, axis=1)
    clear = facing > 0.4
    np.testing.assert_allclose(out.normals[seen][clear], normals[clear], atol=0.06)  # depth is the nearest of a pixel's faces
    assert out.parts is not None
    np.testing.assert_array_equal(out.parts[seen], parts[out.faces[seen]])
    assert (out.parts[out.alpha == 0] == -1).all()
    assert set(out.parts[:20, 32][out.alpha[:20, 32] == 1]) == {0}
    assert not out.normals[out.alpha == 0].any()


def test_a_texture_too_fine_for_the_picture_turns_grey() -> None:
    square = np.array([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]])
    uv = np.array([[0.0, 1], [1, 1], [1, 0], [0, 0]])
    fine = np.repeat((np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, -1)
    out = render_mesh(square, [[0, 1, 2], [0, 2, 3]], camera(32, 32, 32), texture=fine, uv=uv, lights=None)
    np.testing.assert_allclose(out.rgb[out.alpha == 1], 0.5, atol=0.01)


def test_frames_come_in_order_and_as_single_pictures_do() -> None:
    vertices, faces = sphere(0.3, (0, 0, 2.0), 16)
    moving = np.stack([vertices + [0.05 * i, 0, 0] for i in range(9)])
    look = {"vertex_colors": np.full_like(vertices, 0.7), "supersample": 2}
    grounds = [np.full((48, 64, 3), i / 9) for i in range(9)]
    cameras = Camera.cat([camera(100 + i)[None] for i in range(9)])
    frames = list(render_frames(moving, faces, cameras, backgrounds=grounds, threads=3, **look))
    assert len(frames) == 9
    for i, frame in enumerate(frames):
        one = render_mesh(moving[i], faces, camera(100 + i), background=grounds[i], **look)
        np.testing.assert_array_equal(frame.rgb, one.rgb)
        np.testing.assert_array_equal(frame.depth, one.depth)
    with pytest.raises(ValueError, match="expected a camera a frame"):
        list(render_frames(moving, faces, cameras[:4], **look))


def test_bad_input_is_one_clear_line() -> None:
    triangle, white = np.array([[-1.0, -1, 2], [1, -1, 2], [1, 1, 2]]), np.ones((3, 3))
    broken = triangle.copy()
    broken[1, 2] = np.nan
    cases = (
        ((broken, [[0, 1, 2]]), {}, "1 of 3 that hold NaN"),
        ((triangle, [[0, 1, 3]]), {}, "faces must index 3 vertices"),
        ((triangle, [[0, 1, 2]]), {"part_ids": [0, 1]}, "part_ids must be \\[1\\]"),
        ((triangle, [[0, 1, 2]]), {"background": np.zeros((4, 4, 3))}, "background must be"),
        ((triangle, [[0, 1, 2]]), {"backend": "opengl"}, "'numba' or 'pytorch3d'"),
    )
    for mesh, arguments, message in cases:
        with pytest.raises(ValueError, match=message) as caught:
            render_mesh(*mesh, camera(), vertex_colors=white, **arguments)
        assert "\n" not in str(caught.value)


def test_pytorch3d_says_how_to_get_it_or_finds_the_same_faces() -> None:
    vertices, faces = sphere(0.5, (0.1, 0, 2.0), 24)
    look = {"vertex_colors": np.ones_like(vertices), "lights": None}
    try:
        import pytorch3d  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="pytorch3d, which is not installed"):
            render_mesh(vertices, faces, camera(), backend="pytorch3d", **look)
        return
    ours, theirs = (render_mesh(vertices, faces, camera(), backend=b, **look) for b in ("numba", "pytorch3d"))
    assert np.abs(ours.alpha - theirs.alpha).mean() < 0.01
