import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.scans import list_subjects, load_mesh, render_scan, unpack
from pipelines.store import Store
from pipelines.view_sets import parse_cameras, parse_params


@pytest.fixture
def people(tmp_path, body, write_people):
    return write_people(tmp_path / "people", body, ("0124", "0125"))


def test_views_show_the_body_where_its_parameters_say(make_config, people, body):
    config = make_config(scans={"root": str(people)})
    store = Store(config)
    assert list_subjects(config, store) == ["0124", "0125"]
    record = render_scan(config, store, "0125")
    assert record.status == "ok"
    assert record.facts["views"] == 5
    folder = store.scan("0125")
    views = parse_cameras((folder / "cameras.json").read_text())
    params = parse_params((folder / "smplx.npz").read_bytes())
    joints = body.joints(params[None])[0]
    for view in views:
        alpha = np.asarray(Image.open(folder / "render" / view.file))[..., 3]
        pixels, depth = view.camera.project(joints[[12, 15, 16, 17]])  # neck, head and shoulders lie inside the flesh
        assert (depth > 0).all()
        x, y = pixels.floor().long().T
        assert (alpha[y, x] > 0).all(), view.file
    full = [v for v in views if v.kind == "full"]
    assert [round(v.azimuth) % 360 for v in full] == [0, 90, 180, 270]
    assert all(abs(v.azimuth) <= 40 for v in views if v.kind == "half")


def test_a_scan_in_other_units_gives_the_same_pictures(make_config, people, tmp_path, body, write_people):
    large = write_people(tmp_path / "large", body, ("0124",), scale=100.0)
    pictures, params = [], []
    for name, root in (("a", people), ("b", large)):
        config = make_config(scans={"root": str(root)}, workspace=str(tmp_path / name))
        assert render_scan(config, Store(config), "0124").status == "ok"
        folder = Store(config).scan("0124")
        pictures.append(np.asarray(Image.open(folder / "render" / "001.png")).astype(int))
        params.append(parse_params((folder / "smplx.npz").read_bytes()))
    assert np.abs(pictures[0] - pictures[1]).mean() < 0.5
    torch.testing.assert_close(params[0].transl, params[1].transl, atol=1e-5, rtol=0)


def test_a_second_run_does_nothing_and_another_size_renders_again(make_config, people):
    config = make_config(scans={"root": str(people)})
    first = render_scan(config, Store(config), "0124")
    assert render_scan(config, Store(config), "0124") == first
    other = make_config(scans={"root": str(people), "views": 2})
    assert render_scan(other, Store(other), "0124").facts["views"] == 3


def test_scans_of_no_use_are_recorded_with_the_reason(make_config, people):
    (people / "smplx" / "0124" / "smplx_param.pkl").unlink()
    (people / "0125" / "material.mtl").unlink()
    (people / "0125" / "skin.png").unlink()
    config = make_config(scans={"root": str(people)})
    for subject, reason in (("0124", "SMPL-X parameters"), ("0125", "texture")):
        record = render_scan(config, Store(config), subject)
        assert record.status == "rejected"
        assert reason in record.reason
        assert "\n" not in record.reason


def test_seams_of_the_texture_do_not_split_the_surface(people, body):
    mesh = load_mesh(people / "0124" / "0124.obj")
    assert len(mesh.vertices) <= len(body.template)
    assert mesh.uv_faces is not None
    assert mesh.uv_faces.shape == mesh.faces.shape == body.faces.shape


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    for name in ("../evil.obj", "/evil.obj", "a/../../evil.obj"):
        archive = tmp_path / "people.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(name, "x")
        with pytest.raises(ValueError, match="refused"):
            unpack(archive, tmp_path / "inside" / "people")
        assert not list(tmp_path.rglob("evil.obj"))
        assert not (tmp_path / "inside" / "people").exists()


def test_cameras_json_states_its_convention(make_config, people):
    config = make_config(scans={"root": str(people)})
    render_scan(config, Store(config), "0124")
    data = json.loads((Store(config).scan("0124") / "cameras.json").read_text())
    assert "OpenCV" in data["convention"]
    rotation = np.array(data["views"][1]["w2c"])[:3, :3]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) > 0
