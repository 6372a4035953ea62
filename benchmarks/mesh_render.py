"""The mesh renderer's figures: how exact its cameras are, and how fast it draws a dressed person.

`python -m benchmarks.mesh_render [--size 512] [--json PATH]`; `camera_error_px` and `render_fps` serve other benchmarks.
"""

from __future__ import annotations

import time

import cv2
import numpy as np
import roma
import torch

from benchmarks.report import Figure, arguments, device_name, publish
from model.mesh_raster import render_frames, render_mesh
from model.types import Camera

SQUARES = 8  # of the chessboard, a side
TEXELS = 64  # of a square, a side


def camera_error_px() -> float:
    """Worst distance in pixels between where known points are and where the pictures show them.

    Spheres on and off the axis: centre and semi-axes of their outline, measured from the moments of alpha, against the
    ellipse of the cone that touches them. A tilted chessboard: each corner, found to a fraction of a pixel, against
    `Camera.project`. Short and long lenses; default supersampling.
    """
    return max(max(sphere_error(f, d), chessboard_error(f, d)) for f, d in ((300.0, 1.2), (820.0, 2.5), (5000.0, 15.0)))


def render_fps(size: int = 512, seconds: float = 6.0, half_body: bool = True) -> float:
    """Pictures a second of a dressed, moving person with texture, soft shadow and occlusion, over the processors at hand."""
    return render_speed(size, seconds, half_body)[0]


def render_speed(size: int = 512, seconds: float = 6.0, half_body: bool = True) -> tuple[float, float]:
    """Pictures a second, and processor milliseconds a picture, which other work on the machine disturbs less."""
    from samples.builders.people import make_person

    person = make_person(0)
    turn = torch.linspace(0, 2 * np.pi, 12)
    pose = torch.zeros(len(turn), 55, 3)
    pose[:, 16, 2], pose[:, 17, 2] = -1.0 + 0.3 * turn.sin(), 1.0 - 0.3 * turn.cos()  # shoulders
    pose[:, 12, 1] = 0.2 * turn.sin()  # neck
    vertices = person.vertices(person.posing(body_pose=pose[:, 1:22]))
    top, low = vertices[0, :, 1].max(), vertices[0, :, 1].min()
    height = 0.95 if half_body else 1.15 * (top - low)
    camera = level_camera(np.array([0, top - 0.45 * height, 0.0]), 1.6 * height, 1.6 * size, size)
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces, "background": (0.8, 0.8, 0.8)}
    draw = lambda frames: sum(1 for _ in render_frames(frames, person.faces, camera, **look))  # noqa: E731
    draw(vertices[:4])  # compiles
    frames = np.concatenate([vertices] * 2)
    done, start, processor = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        done += draw(frames)
    return done / (time.perf_counter() - start), 1e3 * (time.process_time() - processor) / done


def level_camera(target: np.ndarray, distance: float, focal: float, size: int) -> Camera:
    """A camera in front of `target` (on its +z side), looking along -z; world y up."""
    w2c = torch.diag(torch.tensor([1.0, -1, -1, 1]))
    w2c[:3, 3] = -w2c[:3, :3] @ torch.from_numpy(target + [0, 0, distance]).float()
    return Camera(w2c, lens(focal, size, size), torch.tensor([size, size]))


def lens(focal: float, width: int, height: int) -> torch.Tensor:
    return torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])


def sphere_error(focal: float, distance: float) -> float:
    """Worst error of centre and semi-axes, pixels, over three places in a 320 × 240 picture."""
    camera = Camera(torch.eye(4), lens(focal, 320, 240), torch.tensor([320, 240]))
    radius, worst = 40 * distance / focal, 0.0
    for x, y in ((0.0, 0.0), (0.3, -0.2), (-0.3, 0.15)):
        centre = np.array([x * 320 / focal, y * 240 / focal, 1.0]) * distance
        vertices, faces = sphere(radius, centre)
        alpha = render_mesh(vertices, faces, camera, vertex_colors=np.ones_like(vertices), lights=None).alpha.astype(np.float64)
        rows, columns = np.mgrid[:240, :320] + 0.5
        mass = alpha.sum()
        middle = np.array([(alpha * columns).sum(), (alpha * rows).sum()]) / mass
        off = np.stack([columns - middle[0], rows - middle[1]], -1)
        spread = np.einsum("hw,hwi,hwj->ij", alpha, off, off) / mass - np.eye(2) / 12  # a pixel's own spread
        measured = 2 * np.sqrt(np.linalg.eigvalsh(spread))
        true_middle, true_axes = sphere_outline(centre, radius, focal, (160.0, 120.0))
        worst = max(worst, np.abs(middle - true_middle).max(), np.abs(measured - true_axes).max())
    return float(worst)


def sphere_outline(centre: np.ndarray, radius: float, focal: float, principal: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Centre [2] and semi-axes [2] (short, long) of a sphere's picture: rays d with (c·d)² = (|c|² - r²) |d|²."""
    cone = np.outer(centre, centre) - (centre @ centre - radius**2) * np.eye(3)
    turn, shift = cone[:2, :2], cone[:2, 2]
    middle = -np.linalg.solve(turn, shift)
    level = cone[2, 2] + shift @ middle
    return middle * focal + principal, np.sort(np.sqrt(-level / np.linalg.eigvalsh(turn))) * focal


def chessboard_error(focal: float, distance: float) -> float:
    """Worst distance, pixels, between projected inner corners of a tilted board and the homography through those detected.

    The detector alone is off by 0.08 px on a perfect picture; a plane's picture is a homography, which evens that out.
    """
    size = 400
    board = np.indices((SQUARES, SQUARES)).sum(0) % 2
    texture = np.repeat((np.kron(board, np.ones((TEXELS, TEXELS))) * 255).astype(np.uint8)[..., None], 3, -1)
    side = 300 * distance / focal
    at = lambda u, v: np.stack([(u - 0.5) * side, (0.5 - v) * side, np.zeros_like(u)], -1)  # noqa: E731
    u, v = (g.reshape(-1) for g in np.meshgrid(*[np.linspace(0, 1, 2 * SQUARES + 1)] * 2))
    faces = grid_faces(2 * SQUARES + 1, 2 * SQUARES + 1)
    w2c = torch.eye(4)
    w2c[:3, :3] = roma.rotvec_to_rotmat(torch.tensor([0.35, -0.3, 0.2]))
    w2c[:3, 3] = torch.tensor([15 / focal, -9 / focal, 1.0]) * distance
    camera = Camera(w2c, lens(focal, size, size), torch.tensor([size, size]))
    look = {"texture": texture, "uv": np.stack([u, v], -1), "lights": None, "background": (0.5, 0.5, 0.5)}
    seen = render_mesh(at(u, v), faces, camera, **look)
    steps = np.arange(1, SQUARES) / SQUARES
    u, v = (g.reshape(-1) for g in np.meshgrid(steps, steps))
    true = camera.project(torch.from_numpy(at(u, v)).float())[0].numpy()
    grey = np.round(seen.rgb.mean(-1) * 255).astype(np.uint8)
    guess = (true - 0.5).astype(np.float32)[:, None]  # OpenCV has pixel centres at whole numbers
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_COUNT, 100, 1e-4)
    found = cv2.cornerSubPix(grey, guess + 0.7, (6, 6), (-1, -1), stop)[:, 0] + 0.5
    fitted = cv2.findHomography(true, found, 0)[0] @ np.concatenate([true, np.ones((len(true), 1))], 1).T
    return float(np.linalg.norm((fitted[:2] / fitted[2]).T - true, axis=1).max())


def sphere(radius: float, centre: np.ndarray, rings: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """A fine sphere: vertices [V, 3], faces [F, 3], fronts outwards."""
    theta, phi = np.meshgrid(np.linspace(0, np.pi, rings), np.linspace(0, 2 * np.pi, 2 * rings), indexing="ij")
    points = np.stack([np.sin(theta) * np.cos(phi), np.cos(theta), np.sin(theta) * np.sin(phi)], -1).reshape(-1, 3)
    return points * radius + centre, grid_faces(rings, 2 * rings)


def grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles [F, 3] over a grid of points, row by row."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.concatenate([np.stack([a, b, c], -1).reshape(-1, 3), np.stack([a, c, d], -1).reshape(-1, 3)])


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="side of the pictures, pixels")
    options = parser.parse_args()
    start = time.perf_counter()
    figures = [Figure("camera_error", round(camera_error_px(), 4), "px", "<= 0.1")]
    for name, half_body in ((f"render_fps_{options.size}", True), (f"render_fps_{options.size}_full_body", False)):
        speed, processor = render_speed(options.size, half_body=half_body)
        figures.append(Figure(name, round(speed, 2), "frames/s", ">= 25"))
        figures.append(Figure(f"{name}_processor", round(processor, 2), "core ms"))
    about = {"size": options.size}
    publish(
        "mesh_render", figures, device=device_name(), config=about, seconds=time.perf_counter() - start, path=options.json
    )


if __name__ == "__main__":
    main()
