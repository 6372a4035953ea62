"""OBJ files as they come: several textures, no MTL, odd units, broken ones."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from model.mesh_raster import render_mesh
from pipelines.obj import read_mtl, read_obj
from pipelines.scan_mesh import load_mesh, metres_per_unit
from pipelines.store import InputRejected

SQUARE = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FACES = "f 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
COLORS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


@pytest.fixture
def write(tmp_path):
    """Function (obj text, mtl text, pictures) → path of the OBJ."""

    def make(obj: str, mtl: str | None = None, pictures: tuple[str, ...] = ()):
        folder = tmp_path / "person"
        folder.mkdir(exist_ok=True)
        (folder / "person.obj").write_text(obj)
        if mtl is not None:
            (folder / "person.mtl").write_text(mtl)
        for name in pictures:
            Image.new("RGB", (32, 16), COLORS[name.split(".")[0]]).save(folder / name)
        return folder / "person.obj"

    return make


def test_polygons_negative_indices_and_colours_are_read(write):
    text = "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv 0 1 0 1 1 1\nv 0.5 2 0 0 0 0\n"
    text += "f 1 2 3 4\nf -2 -3 -1\nf 1//1 2//1 3//1 5//1 4//1\n"
    obj = read_obj(write(text))
    assert obj.faces.tolist() == [[0, 1, 2], [0, 2, 3], [3, 2, 4], [0, 1, 2], [0, 2, 4], [0, 4, 3]]
    assert obj.colors[:3].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert obj.uv_faces is None
    mesh = load_mesh(write(text))
    assert mesh.texture is None
    assert sorted(map(tuple, mesh.colors[:, :2])) == sorted(map(tuple, obj.colors[:, :2]))


def test_each_material_shows_its_own_texture(write, make_view):
    """Three squares side by side: two pictures, one of them used beyond 0..1 as a repeating one, and a plain colour."""
    parts, first = [], 0
    for x, (name, shift) in zip((-2.5, 0, 2.5), (("a", 0), ("b", 3), ("c", 0)), strict=True):
        square = [f"v {x + u} {v} 0" for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        square += [f"vt {u + shift} {v - shift}" for u, v in ((0, 0), (1, 0), (1, 1), (0, 1))]
        i = [first + k for k in (1, 2, 3, 4)]
        parts += [*square, f"usemtl {name}", "f {0}/{0} {1}/{1} {2}/{2} {3}/{3}".format(*i)]
        first += 4
    mtl = "newmtl a\nKd 1 1 1\nmap_Kd -s 1 1 1 red.png\nnewmtl b\nmap_Kd C:\\scans\\green.png\nnewmtl c\nKd 0 0 1\n"
    mesh = load_mesh(write("mtllib person.mtl\n" + "\n".join(parts), mtl, ("red.png", "green.png")))
    seen = render_mesh(
        mesh.vertices, mesh.faces, make_view(), texture=mesh.texture, uv=mesh.uv, uv_faces=mesh.uv_faces, lights=None
    )
    for column, name in zip((14, 32, 50), COLORS, strict=True):
        block = seen.rgb[26:38, column - 4 : column + 4]
        np.testing.assert_allclose(block, np.broadcast_to(np.array(COLORS[name]) / 255, block.shape), atol=1e-5)


def test_without_an_mtl_the_picture_beside_the_obj_is_its_texture(write):
    assert load_mesh(write("mtllib lost.mtl\nusemtl m\n" + SQUARE + FACES, None, ("green.png",))).texture[0, 0, 1] == 255
    with pytest.raises(InputRejected, match=r"which of blue.png, green.png is its texture"):
        load_mesh(write(SQUARE + FACES, None, ("blue.png",)))


def test_faces_without_area_are_dropped_and_counted(write):
    mesh = load_mesh(write(SQUARE + FACES + "f 1/1 1/1 2/2\nf 1/1 2/2 2/2\n", None, ("red.png",)))
    assert (len(mesh.faces), mesh.dropped) == (2, 2)


def test_what_is_broken_is_said_in_one_line(write):
    cases = {
        SQUARE + "f 1/1 1/1 2/2\n": "faces that all have no area",
        SQUARE.replace("v 1 1 0", "v 1 nan 0") + FACES: "1 of 4 that hold NaN",
        SQUARE + "f 1/1 2/2 9/3\n": "point outside its 4 vertices",
        SQUARE + "f 1/1 2/2\n": "3 corners or more",
        SQUARE + "f a b c\n": "expected face corners",
        SQUARE.replace("v 1 1 0", "v 1 1") + FACES: "'v' line",
        SQUARE: "0 faces",
        "mtllib person.mtl\nusemtl m\n" + SQUARE + FACES: "texture 'gone.png' of material 'm' is missing",
        "mtllib person.mtl\nusemtl m\n" + SQUARE + FACES + "usemtl n\n" + FACES: "which person.mtl does not define",
    }
    for text, message in cases.items():
        with pytest.raises(InputRejected, match=message) as caught:
            load_mesh(write(text, "newmtl m\nmap_Kd gone.png\n" if "n\nf" not in text else "newmtl m\nmap_Kd red.png\n", ("red.png",)))
        assert "\n" not in str(caught.value)


def test_a_texture_outside_the_folder_is_not_opened(write, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    obj = write("mtllib person.mtl\nusemtl m\n" + SQUARE + FACES, "newmtl m\nmap_Kd ../secret.png\n")
    with pytest.raises(InputRejected, match="missing"):
        load_mesh(obj)


def test_materials_are_read_with_options_and_spaces(tmp_path):
    path = tmp_path / "a.mtl"
    path.write_text("newmtl skin\nKd 0.5 0.25 1\nmap_Kd -blendu on -o 0 0 0 my skin 1.png\nnewmtl plain\nKd 1 0 0\n")
    materials = read_mtl(path)
    assert materials["skin"].picture == "my skin 1.png"
    assert materials["plain"].picture is None
    assert materials["plain"].color == (1, 0, 0)


def test_the_unit_is_the_one_that_makes_a_person():
    assert [metres_per_unit(h, "x") for h in (1.75, 175, 1750, 0.9, 110)] == [1, 0.01, 0.001, 1, 0.01]
    for height in (0.2, 7.9, 1e5):
        with pytest.raises(InputRejected, match=r"set scans.unit"):
            metres_per_unit(height, "x")


@pytest.fixture
def make_view():
    from benchmarks.mesh_render import level_camera

    return lambda: level_camera(np.array([0.0, 0, 0]), 8.0, 58.0, 64)
