"""Tiny corpora for the tests of scans, shards and training: two-second talks and coarse people, made in a second."""

from __future__ import annotations

import json
import pickle
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from configs.schema import Config
from model.body import Body
from model.mesh_raster import render_mesh
from model.types import Camera, SmplxParams
from pipelines.formats import make_camera, save_fit
from pipelines.media import write_video, write_wav
from pipelines.store import Store, write_json

FPS, FRAMES, SIDE, AUDIO = Fraction(25), 24, 64, 12
SUBJECTS = ("0124", "0125", "0126")  # 0125 is held out
SPEAKERS = ("speaker15", "speaker18")  # speaker18 is held out


@pytest.fixture(scope="session")
def tiny_settings() -> dict:
    """A configuration that trains in seconds."""
    training = {"steps": 6, "batch": 1, "views": 2, "render_size": 32, "save_every": 2, "log_every": 1, "warmup": 1}
    return {
        "scans": {"views": 4, "half_body_views": 1, "size": 64, "focal": 312.5},
        "shards": {"held_out": 0.3, "target_mb": 0.05},
        "stage1": {
            "image": {"image_size": 64, "patch": 16, "depth": 1}, "width": 32, "heads": 2, "smplx_tokens": 28,
            "smplx_layers": 1, "pixel_channels": 8, "triplane_resolution": 16, "triplane_tokens": 4, "triplane_channels": 8,
            "fusion_layers": 1, "gaussians": 512,
        },
        "stage2": {
            "width": 32, "heads": 2, "layers": 1, "flow_width": 32, "flow_layers": 1, "window": 16, "flow_steps": 2,
            "appearance_tokens": 2, "appearance_resolution": 8,
        },
        "stage1_training": training,
        "stage2_training": {**{k: v for k, v in training.items() if k != "views"}, "motion_steps": 2},
    }  # fmt: skip


@pytest.fixture
def make_config(tmp_path, tiny_settings):
    """Function (**sections) → configuration whose workspace is this test's folder."""

    def make(**sections) -> Config:
        merged = {k: {**tiny_settings.get(k, {}), **v} if isinstance(v, dict) else v for k, v in sections.items()}
        return Config.model_validate({"workspace": str(tmp_path / "workspace"), **tiny_settings, **merged})

    return make


@pytest.fixture(scope="session")
def tiny_wav2vec2(tmp_path_factory):
    """A folder with a randomly initialised model of wav2vec2's layout, and the model."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    model = Wav2Vec2Model(config).eval()
    folder = tmp_path_factory.mktemp("wav2vec2")
    model.save_pretrained(folder)
    return SimpleNamespace(folder=str(folder), model=model)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory, tiny_settings, body, write_people, write_talks) -> Path:
    """A workspace with rendered scans, talks and all shards; copy it (`corpus`)."""
    from pipelines.scans import list_subjects, render_scan
    from pipelines.shards import write_idol_shards, write_scan_shards, write_talk_shards

    root = tmp_path_factory.mktemp("corpus")
    scans = {**tiny_settings["scans"], "root": str(write_people(root / "people", body))}
    config = Config.model_validate({**tiny_settings, "workspace": str(root / "workspace"), "scans": scans})
    store = Store(config)
    for subject in list_subjects(config, store):
        assert render_scan(config, store, subject).status == "ok"
    write_talks(store, body)
    for write in (write_scan_shards, write_talk_shards, write_idol_shards):
        assert write(config, store).status == "ok"
    return root


@pytest.fixture
def corpus(corpus_folder, make_config) -> tuple[Config, Store]:
    """Configuration and store of this test's own copy of the corpus."""
    config = make_config(scans={"root": str(corpus_folder / "people")})
    store = Store(config)
    shutil.copytree(corpus_folder / "workspace", store.root)
    return config, store


@pytest.fixture(scope="session")
def write_people():
    """Function (folder, body, subjects, scale) that writes THuman2.1's layout: the body itself as a textured scan."""

    def write(root: Path, body: Body, subjects=SUBJECTS, scale: float = 1.0, texture: bool = True) -> Path:
        for number, subject in enumerate(subjects):
            params = posed(number)
            vertices = body.vertices(params[None])[0].numpy() * scale
            folder, fit = root / subject, root / "smplx" / subject
            folder.mkdir(parents=True)
            fit.mkdir(parents=True)
            uv = template_uv(body)
            lines = ["mtllib material.mtl", "usemtl m"] if texture else []
            lines += [f"v {x:.5f} {y:.5f} {z:.5f}" for x, y, z in vertices] + [f"vt {u:.5f} {v:.5f}" for u, v in uv]
            lines += [f"f {a}/{a} {b}/{b} {c}/{c}" for a, b, c in body.faces + 1]
            (folder / f"{subject}.obj").write_text("\n".join(lines))
            if texture:
                (folder / "material.mtl").write_text("newmtl m\nmap_Kd skin.png\n")
                Image.fromarray(texture_of(number)).save(folder / "skin.png")
            arrays = {n: getattr(params, n).reshape(1, -1).numpy() for n in params.__dataclass_fields__}
            arrays["transl"] = arrays["transl"] * scale
            (fit / "smplx_param.pkl").write_bytes(pickle.dumps({**arrays, "scale": np.array([scale], np.float32)}))
        return root

    return write


@pytest.fixture(scope="session")
def write_talks():
    """Function (store, body) that writes accepted clips with fits and features, two speakers, as the talk stages do."""

    def write(store: Store, body: Body, speakers=SPEAKERS, frames: int = FRAMES) -> None:
        camera = make_camera(
            torch.diag(torch.tensor([1.0, -1, -1, 1])),
            torch.tensor([1.6, 1.6]) * SIDE,
            torch.tensor([SIDE / 2] * 2),
            torch.tensor([SIDE] * 2),
        )
        for number, speaker in enumerate(speakers):
            talk, clip = f"{speaker}_talk", f"{speaker}_talk-000"
            folder = store.clip(talk, clip)
            folder.mkdir(parents=True)
            write_json(store.talk(talk) / "talk.json", {"talk": talk, "speaker": speaker})
            params = SmplxParams.cat([posed(number, i / 10, distance=1.5)[None] for i in range(frames)])
            rgb, masks = zip(*(draw(body, params[i], camera, number) for i in range(frames)), strict=True)
            time = np.arange(frames * 640) / 16000
            audio = (0.2 * np.sin(2 * np.pi * 150 * time)).astype(np.float32)
            write_video(folder / "clip.mp4", np.stack(rgb), FPS, audio)
            write_wav(folder / "audio.wav", audio)
            packed = np.packbits(np.stack(masks).reshape(frames, -1), axis=1)
            np.savez(folder / "mask.npz", mask=packed, shape=np.array([frames, SIDE, SIDE]))
            save_fit(folder / "fit.npz", params, camera, torch.full((frames,), 0.9), FPS)
            features = np.random.default_rng(number).normal(size=(frames, AUDIO)).astype(np.float32)
            np.savez(folder / "features.npz", features=features, fps=np.array([25, 1]), encoder="test")
            about = {"talk": talk, "speaker": speaker, "fps": "25", "frames": frames, "size": SIDE}
            (folder / "clip.json").write_text(json.dumps(about))

    return write


def posed(number: int, time: float = 0.0, distance: float = 0.0) -> SmplxParams:
    """A standing person with arms down; `distance` metres in front of a camera at the origin that looks along -z."""
    params = SmplxParams.zeros()
    params.body_pose[15, 2], params.body_pose[16, 2] = -1.0 + 0.8 * np.sin(2 * time), 1.0 - 0.8 * np.sin(2 * time)
    params.jaw_pose[0] = 0.2 + 0.2 * np.sin(5 * time)
    params.betas[0] = 0.5 * (number - 1)
    params.global_orient[1] = 0.3 * number
    params.transl[:] = torch.tensor([0.0, 0.0 if not distance else 0.05, -distance])
    return params


def template_uv(body: Body) -> np.ndarray:
    template = body.template.numpy()
    low, high = template.min(0), template.max(0)
    return ((template - low) / (high - low))[:, :2] * 0.98 + 0.01


def texture_of(number: int) -> np.ndarray:
    """Bands of colour, so that places on the body can be told apart."""
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = np.linspace(40, 220, 64).astype(np.uint8)[:, None]
    image[..., 1] = np.linspace(220, 40, 64).astype(np.uint8)[None]
    image[..., 2] = 60 + 60 * number
    return image


def draw(body: Body, params: SmplxParams, camera: Camera, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame before a grey wall, uint8 [H, W, 3], and the person's mask."""
    vertices = body.vertices(params[None])[0].numpy()
    out = render_mesh(vertices, body.faces, camera, texture=texture_of(number), uv=template_uv(body), background=np.full(3, 0.5))
    return (out.rgb * 255).astype(np.uint8), out.alpha > 0.5
