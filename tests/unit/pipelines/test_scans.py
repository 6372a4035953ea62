import json
import pickle
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from configs.schema import Config, load_config
from model.types import SMPLX_SHAPES
from pipelines.scan_views import make_views
from pipelines.scans import LIGHTS, list_subjects, load_mesh, load_scan, render_scan, render_views, unpack
from pipelines.shards import write_scan_shards
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


def test_a_scan_in_centimetres_beside_a_fit_in_metres_is_found_out(make_config, people, body):
    obj = people / "0124" / "0124.obj"
    lines = obj.read_text().splitlines()
    large = [" ".join(["v", *(f"{100 * float(x):.3f}" for x in line.split()[1:])]) if line.startswith("v ") else line for line in lines]
    fit = people / "smplx" / "0124" / "smplx_param.pkl"
    before, _ = load_scan(obj, fit, body=body)
    obj.write_text("\n".join(large))
    after, _ = load_scan(obj, fit, body=body)
    np.testing.assert_allclose(after.vertices, before.vertices, atol=1e-4)
    given, _ = load_scan(obj, fit, unit=0.01, body=body)
    np.testing.assert_allclose(given.vertices, before.vertices, atol=1e-4)


def test_a_body_that_does_not_lie_in_its_scan_is_refused(make_config, people):
    fit = people / "smplx" / "0124" / "smplx_param.pkl"
    arrays = pickle.loads(fit.read_bytes())
    fit.write_bytes(pickle.dumps({**arrays, "transl": arrays["transl"] + 3}))
    config = make_config(scans={"root": str(people)})
    record = render_scan(config, Store(config), "0124")
    assert record.status == "rejected"
    assert "0% of its joints inside" in record.reason


def test_a_pickle_that_would_run_code_is_refused(make_config, people):
    (people / "smplx" / "0124" / "smplx_param.pkl").write_bytes(pickle.dumps({"betas": np.zeros(10), "run": print}))
    config = make_config(scans={"root": str(people)})
    record = render_scan(config, Store(config), "0124")
    assert record.status == "rejected"
    assert "builtins.print" in record.reason or "print" in record.reason


def test_a_scan_without_a_body_is_drawn_where_that_is_asked_for(make_config, people):
    for fit in (people / "smplx").rglob("*.pkl"):
        fit.unlink()
    config = make_config(scans={"root": str(people), "require_smplx": False, "half_body_views": 2})
    store = Store(config)
    record = render_scan(config, store, "0124")
    assert record.status == "ok"
    assert record.facts["smplx"] is False
    views = parse_cameras((store.scan("0124") / "cameras.json").read_text())
    assert [v.kind for v in views] == ["full"] * 4
    assert not (store.scan("0124") / "smplx.npz").exists()
    left_out = write_scan_shards(config, store).facts
    assert left_out["samples"] == 0


def test_distance_azimuth_elevation_and_background_are_as_configured(make_config, people, body):
    chosen = {"distance": 3.5, "azimuth": 20.0, "elevation": 25.0, "background": (0.2, 0.6, 1.0), "lights": "overcast"}
    config = make_config(scans={"root": str(people), "half_body_views": 0, **chosen})
    store = Store(config)
    assert render_scan(config, store, "0124").facts["lights"] == "overcast"
    mesh, params = load_scan(people / "0124" / "0124.obj", people / "smplx" / "0124" / "smplx_param.pkl")
    middle = torch.from_numpy(mesh.vertices.max(0) + mesh.vertices.min(0)).float() / 2
    lifts = []
    for view in parse_cameras((store.scan("0124") / "cameras.json").read_text()):
        centre = -view.camera.w2c[:3, :3].T @ view.camera.w2c[:3, 3]
        away = centre - middle
        torch.testing.assert_close(away.norm(), torch.tensor(3.5), atol=1e-4, rtol=0)
        lifts.append(float(torch.rad2deg(torch.asin(away[1] / 3.5))))
        picture = np.asarray(Image.open(store.scan("0124") / "render" / view.file))
        assert (picture[picture[..., 3] == 0] == [51, 153, 255, 0]).all()
    assert max(np.abs(lifts)) <= 25.01
    assert np.ptp(lifts) > 20
    first = make_views(mesh.vertices, params, body, config.scans)[0]
    assert abs(first.azimuth - 20) < 3  # the cameras stand round the scan's box, azimuths are seen from the pelvis


def test_every_light_gives_another_picture(make_config, people, body):
    mesh, params = load_scan(people / "0124" / "0124.obj", people / "smplx" / "0124" / "smplx_param.pkl")
    scans = make_config(scans={"views": 1, "half_body_views": 0}).scans
    views = make_views(mesh.vertices, params, body, scans)
    pictures = [render_views(mesh, views, lights, scans)[0] for lights in LIGHTS.values()]
    assert len({round(float(p[p[..., 3] == 255][:, :3].mean()), 1) for p in pictures}) == len(LIGHTS)
    with pytest.raises(ValueError, match=r"scans.background"):
        Config.model_validate({"scans": {"background": (0, 0, 255)}})


def test_the_reference_preset_is_twelve_level_views_at_f_5000(request):
    scans = load_config(request.config.rootpath / "configs" / "reference.yaml").scans
    low, high = np.array([-0.4, 0, -0.2]), np.array([0.4, 1.75, 0.2])
    views = make_views(np.stack([low, high]), None, None, scans)
    assert len(views) == 12
    for i, view in enumerate(views):
        assert view.camera.size.tolist() == [1024, 1024]
        assert view.camera.intrinsics.tolist() == [[5000, 0, 512], [0, 5000, 512], [0, 0, 1]]
        pixels, _ = view.camera.project(torch.tensor([[0.0, 0, 0], [0, 1.75, 0]]))
        torch.testing.assert_close(pixels[0, 1] - pixels[1, 1], torch.tensor(0.85 * 1024), atol=0.1, rtol=0)
        assert round((view.azimuth - 30 * i) % 360) % 360 == 0


def test_an_embedded_person_is_read_back_as_it_was_written(tmp_path, body):
    """Written in THuman2.1's layout by the builder, read by the reader of the real set."""
    from pipelines.view_sets import hands_mean_of
    from samples.build_people import MATERIAL, fit_pickle, jpeg, obj_text, standing
    from samples.builders.people import FOLDER, make_person

    person = make_person(3, texture_size=256)
    params = standing(person)
    vertices = person.vertices(params)[0]
    folder, fit = tmp_path / "0003", tmp_path / "smplx" / "0003" / "smplx_param.pkl"
    folder.mkdir()
    fit.parent.mkdir(parents=True)
    (folder / "0003.obj").write_text(obj_text(person, vertices))
    (folder / "material0.mtl").write_text(MATERIAL)
    (folder / "material0.jpeg").write_bytes(jpeg(person.texture))
    fit.write_bytes(fit_pickle(params))
    mesh, read = load_scan(folder / "0003.obj", fit, hands_mean_of(FOLDER / "SMPLX_NEUTRAL.npz"), body=body)
    assert mesh.dropped < 0.01 * len(person.faces)
    for name in SMPLX_SHAPES:
        torch.testing.assert_close(getattr(read, name), getattr(params, name)[0], atol=1e-6, rtol=0)
    # each written point is one of those read, to the tenth of a millimetre that the file holds
    ours = {tuple(p) for p in np.round(vertices * 1e4).astype(int).tolist()}
    theirs = {tuple(p) for p in np.round(mesh.vertices * 1e4).astype(int).tolist()}
    assert len(ours & theirs) > 0.98 * len(ours)
    assert np.abs(mesh.texture.astype(int) - person.texture).mean() < 6  # JPEG
    assert len(mesh.uv_faces) == len(mesh.faces)
    corners = mesh.uv[mesh.uv_faces].reshape(-1, 2)
    assert corners.min() >= 0
    assert corners.max() <= 1


@pytest.mark.realdata
def test_a_real_head_scan_is_drawn(make_config, realdata):
    scans = {"root": str(realdata), "require_smplx": False, "unit": 0.033, "size": 128, "focal": 600, "lights": "daylight"}
    config = make_config(scans=scans)
    store = Store(config)
    assert list_subjects(config, store) == ["scan_head"]
    record = render_scan(config, store, "scan_head")
    assert record.status == "ok"
    assert record.facts["dropped_faces"] == 7
    assert 0.2 < record.facts["coverage"] < 0.6
    front, back = (np.asarray(Image.open(store.scan("scan_head") / "render" / f"00{i}.png")) for i in (0, 2))
    red = lambda p: p[p[..., 3] == 255][:, :3].mean(0) @ (1, -0.5, -0.5)  # noqa: E731
    assert red(front) > 15  # skin
    assert front.std() != back.std()
    auto = make_config(scans={**scans, "unit": "auto"})
    assert "set scans.unit" in render_scan(auto, Store(auto), "scan_head").reason


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
