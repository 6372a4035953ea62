import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch

from model.mesh_raster import render_mesh
from pipelines import idol
from pipelines.media import write_video
from pipelines.people import iterate_people
from pipelines.scans import look_at
from pipelines.shards import write_idol_shards
from pipelines.store import InputRejected, Store
from pipelines.view_sets import SMPLX_SHAPES

VIEWS, WIDTH, HEIGHT = 6, 80, 112


@pytest.fixture
def write_sample(body):
    """Function (root, batch, name, c2w) that writes one sample in HuGe100K's layout: a turntable video and its npy."""

    def write(root, batch, name, c2w=False, broken=False):
        from model.types import Camera, SmplxParams

        folder = root / batch / "images0"
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        (folder / "param").mkdir(exist_ok=True)
        params = SmplxParams.zeros()
        params.body_pose[15, 2] = -0.9
        params.transl[1] = 0.3
        vertices = body.vertices(params[None])[0].numpy()
        colours = np.full((len(vertices), 3), 90, np.uint8)
        frames, poses = [], []
        for i in range(VIEWS):
            camera = look_at(torch.from_numpy(vertices.mean(0)), 2 * np.pi * i / VIEWS, 0.0, 3.0, 150.0, WIDTH)
            intrinsics = camera.intrinsics.clone()
            intrinsics[1, 2] = HEIGHT / 2
            camera = Camera(camera.w2c, intrinsics, torch.tensor([WIDTH, HEIGHT]))
            out = render_mesh(vertices, body.faces, camera, vertex_colors=colours, background=np.ones(3), lights=None)
            frames.append((out.rgb * 255).astype(np.uint8))
            extrinsic = camera.w2c.inverse() if c2w else camera.w2c
            poses.append((extrinsic.numpy(), np.array([150.0, 150.0, WIDTH / 2, HEIGHT / 2], np.float32)))
        write_video(folder / "videos" / f"{name}.mp4", np.stack(frames), Fraction(24))
        parts = [np.ones(1) if n == "scale" else getattr(params, n).reshape(-1).numpy() for n, _ in idol.PARTS]
        value = {"smpl_params": np.concatenate(parts).astype(np.float32), "poses": poses[: 2 if broken else None]}
        np.save(folder / "param" / f"{name}.npy", np.array(value, dtype=object), allow_pickle=True)
        return params

    return write


def test_without_a_folder_there_are_no_samples(make_config):
    config = make_config()
    record = write_idol_shards(config, Store(config))
    assert (record.status, record.facts["samples"]) == ("ok", 0)


def test_samples_become_view_sets_whose_body_lies_in_the_picture(make_config, tmp_path, write_sample, body):
    root = tmp_path / "huge100k"
    write_sample(root, "flux_batch1", "man with 'hat'")
    write_sample(root, "deepfashion", "woman", c2w=True)
    write_sample(root, "deepfashion", "bad", broken=True)
    config = make_config(idol={"root": str(root)}, shards={"held_out": 0.0, "target_mb": 1.0})
    record = write_idol_shards(config, Store(config))
    assert record.facts["samples"] == 2
    assert "bad" in record.facts["left_out"][0]["id"]
    assert "2 frames" in record.facts["left_out"][0]["reason"]
    for person in iterate_people(Store(config).shards("idol"), "train", 64):
        assert len(person.images) == VIEWS
        assert 0 in person.inputs
        joints = body.joints(person.params)[:, [0, 3, 6, 12]]  # pelvis to neck
        pixels, depth = person.cameras.project(joints)
        assert (depth > 1).all()
        x, y = pixels.floor().long().unbind(-1)
        frames = torch.arange(VIEWS)[:, None].expand_as(x)
        assert (person.images[frames, y, x, 3] > 128).all(), "alpha covers the trunk in every view"
        share = (person.images[..., 3] > 128).float().mean().item()
        assert 0.05 < share < 0.5, "and not the backdrop"


def test_limit_is_kept_and_a_missing_folder_is_one_line(make_config, tmp_path, write_sample):
    for name in ("a", "b"):
        write_sample(tmp_path / "root", "flux_batch1", name)
    config = make_config(idol={"root": str(tmp_path / "root"), "limit": 1})
    assert len(idol.list_samples(config)) == 1
    with pytest.raises(ValueError, match="HuGe100K"):
        idol.list_samples(make_config(idol={"root": str(tmp_path / "none")}))


def test_code_in_a_param_file_is_not_run(tmp_path, write_sample):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    write_sample(tmp_path, "flux_batch1", "a")
    video, param = next(iter((tmp_path / "flux_batch1/images0/videos").iterdir())), tmp_path / "evil.npy"
    param.write_bytes(pickle.dumps({"smpl_params": Evil(), "poses": []}))
    with pytest.raises(InputRejected):
        idol.read_sample(video, param, None)


def test_parts_are_all_of_smplx():
    assert {n for n, _ in idol.PARTS} == {*SMPLX_SHAPES, "scale"}
    assert sum(n for _, n in idol.PARTS) == 189
