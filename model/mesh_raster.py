"""Headless renderer of textured triangle meshes on a CPU.

`render_mesh` draws one picture, `render_frames` many, in threads. Cameras are `model.types.Camera` (OpenCV, pixel
centres at +0.5). UV coordinates follow OBJ files: u to the right, v upwards, (0, 0) at the lower left. Surfaces are
seen and lit from both sides. What is seen is found in `mesh_visibility`, light in `mesh_light`, colour in
`mesh_shading`. Axes: V vertices, F faces, T frames, H × W pixels, S samples a pixel.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.mesh_light import DAYLIGHT, Lights, light_reaching
from model.mesh_shading import Texture, make_texture, shade
from model.mesh_visibility import (
    NEAR,
    project_vertices,
    rasterize_mesh,
    regular_places,
    sample_places,
    seen_sides,
    vertex_normals,
    visible_faces,
)
from model.types import Camera

__all__ = [
    "DAYLIGHT", "NEAR", "Lights", "MeshRender", "Texture", "make_texture", "project_vertices", "rasterize_mesh",
    "reaching_light", "render_frames", "render_mesh", "vertex_normals",
]  # fmt: skip

Array = NDArray[np.generic]
Backend = Literal["numba", "pytorch3d"]


class MeshRender(NamedTuple):
    """A rendered view."""

    rgb: NDArray[np.float32]  # [H, W, 3] 0..1
    alpha: NDArray[np.float32]  # [H, W] covered share of the pixel
    depth: NDArray[np.float32]  # [H, W] metres along the camera's z, of the nearest surface; inf where nothing is
    normals: NDArray[np.float32]  # [H, W, 3] unit, world, towards the camera's side; zero where nothing is
    faces: NDArray[np.int32]  # [H, W] the face that covers most of the pixel; -1 where nothing is
    parts: NDArray[np.int16] | None  # [H, W] that face's part id; -1 where nothing is; none without `part_ids`


def render_mesh(
    vertices: ArrayLike,  # [V, 3] world, metres
    faces: ArrayLike,  # [F, 3]
    camera: Camera,  # one camera; its size is the picture's
    *,
    texture: Array | Texture | None = None,  # [h, w, 3] uint8, or float 0..1
    uv: ArrayLike | None = None,  # [U, 2]
    uv_faces: ArrayLike | None = None,  # [F, 3] indices into uv; none: uv has one row a vertex
    vertex_colors: Array | None = None,  # [V, 3] uint8 or float 0..1, instead of texture
    part_ids: ArrayLike | None = None,  # [F] 0..32767
    background: ArrayLike | None = None,  # [3] or [H, W, 3]; none: the surface's own colour (straight alpha)
    supersample: int = 2,  # S = supersample²
    lights: Lights | None = DAYLIGHT,  # none: colours unlit
    reaching: NDArray[np.float32] | None = None,  # [V, 4] of `reaching_light`; none: found for this picture
    backend: Backend = "numba",  # what finds the visible faces
) -> MeshRender:
    """Render one view, smoothly shaded. ValueError where neither a texture with UVs nor vertex colours are given."""
    points, triangles = _mesh(vertices, faces)
    surface = _surface(texture, uv, uv_faces, vertex_colors, points, triangles)
    pixels, depth = project_vertices(points, camera)
    width, height = (int(x) for x in camera.size)
    if backend == "numba":
        places = sample_places(supersample)
        face_id = visible_faces(pixels, depth, triangles, places, height, width)
    else:
        places, face_id = regular_places(supersample), _pytorch3d_faces(points, triangles, camera, supersample, backend)
    normals = vertex_normals(points, triangles)
    if lights is None or not lights.casts:
        reaching = np.ones((len(points), 4), np.float32)
    elif reaching is None:
        reaching = light_reaching(points, normals, triangles, lights, seen_sides(face_id, pixels, triangles))
    elif reaching.shape != (len(points), 4):
        raise ValueError(f"render_mesh: reaching must be [{len(points)}, 4] (see reaching_light), got {reaching.shape}")
    under = _background(background, height, width)
    rgb, alpha, near, normal, face = shade(
        face_id, places, (pixels, depth, triangles, normals, reaching), surface, (lights or DAYLIGHT).matrix(),
        lights is not None, under, background is not None,
    )  # fmt: skip
    return MeshRender(rgb, alpha, near, normal, face, None if part_ids is None else _parts(part_ids, face, len(triangles)))


def render_frames(
    vertices: Iterable[ArrayLike],  # T of [V, 3], or [T, V, 3]
    faces: ArrayLike,  # [F, 3]
    cameras: Camera,  # one, or [T]
    *,
    backgrounds: Iterable[ArrayLike] | None = None,  # T of them; `background=` is one for all
    threads: int | None = None,  # none: one a processor that this process may use
    **look: Any,  # as for `render_mesh`
) -> Iterator[MeshRender]:
    """Render frames in threads and yield them in order; few are held at once, so that any count may be streamed."""
    threads = threads or len(os.sched_getaffinity(0))
    if look.get("texture") is not None and not isinstance(look["texture"], Texture):
        look["texture"] = make_texture(look["texture"])
    lone = cameras.w2c.dim() == 2
    under = None if backgrounds is None else iter(backgrounds)

    def draw(number: int, frame: ArrayLike, background: dict[str, Any]) -> MeshRender:
        return render_mesh(frame, faces, cameras if lone else cameras[number], **look, **background)

    waiting: deque[Future[MeshRender]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for number, frame in enumerate(vertices):
            if not lone and number >= len(cameras.w2c):
                raise ValueError(f"render_frames: expected a camera a frame (or one), got {len(cameras.w2c)} for more frames")
            background = {} if under is None else {"background": next(under)}
            waiting.append(pool.submit(draw, number, frame, background))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def reaching_light(vertices: ArrayLike, faces: ArrayLike, lights: Lights = DAYLIGHT) -> NDArray[np.float32]:
    """The light that arrives at each vertex [V, 4], to be found once for several views of a still mesh."""
    points, triangles = _mesh(vertices, faces)
    return light_reaching(points, vertex_normals(points, triangles), triangles, lights)


def _mesh(vertices: ArrayLike, faces: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    points, triangles = np.ascontiguousarray(vertices, np.float64), np.ascontiguousarray(faces, np.int64)
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise ValueError(f"a mesh needs vertices [V, 3] and faces [F, 3], got {list(points.shape)} and {list(triangles.shape)}")
    if not np.isfinite(points).all():
        bad = int((~np.isfinite(points)).any(1).sum())
        raise ValueError(f"a mesh needs finite vertices, got {bad} of {len(points)} that hold NaN or infinity")
    if len(triangles) and not 0 <= triangles.min() <= triangles.max() < len(points):
        raise ValueError(f"faces must index {len(points)} vertices, got {triangles.min()}..{triangles.max()}")
    return points, triangles


def _surface(
    texture: Array | Texture | None,
    uv: ArrayLike | None,
    uv_faces: ArrayLike | None,
    vertex_colors: Array | None,
    points: NDArray[np.float64],
    triangles: NDArray[np.int64],
) -> tuple[Array, Array, Array, Array]:
    """Texels, their levels, coordinates and the corners' indices into them, as `shade` reads them."""
    if vertex_colors is not None:
        colors = np.asarray(vertex_colors)
        if colors.shape != points.shape:
            raise ValueError(f"render_mesh: vertex_colors must be {list(points.shape)} like vertices, got {list(colors.shape)}")
        scale = 255 if colors.dtype == np.uint8 else 1
        return np.zeros((1, 3), np.uint8), np.array([[0, 1, 1]]), np.ascontiguousarray(colors, np.float32) / scale, triangles
    if texture is None or uv is None:
        raise ValueError("render_mesh: expected vertex_colors, or texture and uv; got neither")
    coordinates = np.ascontiguousarray(uv, np.float32)
    corners = triangles if uv_faces is None else np.ascontiguousarray(uv_faces, np.int64)
    if corners.shape != triangles.shape:
        raise ValueError(f"render_mesh: uv_faces must be {triangles.shape} like faces, got {corners.shape}")
    if len(corners) and not 0 <= corners.min() <= corners.max() < len(coordinates):
        raise ValueError(f"uv_faces must index {len(coordinates)} rows of uv, got {corners.min()}..{corners.max()}")
    made = texture if isinstance(texture, Texture) else make_texture(texture)
    return made.texels, made.levels, coordinates, corners


def _background(background: ArrayLike | None, height: int, width: int) -> NDArray[np.float32]:
    """[H, W, 3], or [1, 1, 3] for one colour."""
    under = np.zeros(3, np.float32) if background is None else np.ascontiguousarray(background, np.float32)
    if under.shape not in ((3,), (height, width, 3)):
        raise ValueError(f"render_mesh: background must be [3] or [{height}, {width}, 3], got {list(under.shape)}")
    return under.reshape(1, 1, 3) if under.ndim == 1 else under


def _parts(part_ids: ArrayLike, face: NDArray[np.int32], count: int) -> NDArray[np.int16]:
    ids = np.asarray(part_ids)
    if ids.shape != (count,):
        raise ValueError(f"render_mesh: part_ids must be [{count}] like faces, got {list(ids.shape)}")
    return np.append(ids.astype(np.int16), np.int16(-1))[face]


def _pytorch3d_faces(points: Array, faces: Array, camera: Camera, supersample: int, backend: str) -> NDArray[np.int32]:
    if backend != "pytorch3d":
        raise ValueError(f"render_mesh: backend must be 'numba' or 'pytorch3d', got {backend!r}")
    from model.mesh_pytorch3d import visible_faces as find

    return find(points, faces, camera, supersample)
