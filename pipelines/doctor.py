"""Which real components are here (SMPL-X, wav2vec2, Sapiens, gsplat, CUDA, FFmpeg), and what is used instead."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from configs.schema import EMBEDDED, Config


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    component: str
    found: bool
    detail: str
    used: str


def examine(config: Config) -> list[Finding]:
    """Look for each component that `config` names; nothing is downloaded or trained."""
    return [_smplx(config), _wav2vec2(config), _sapiens(config), _cuda(), _gsplat(), _ffmpeg()]


def _smplx(config: Config) -> Finding:
    from model.body import Body

    path = config.body.model_path
    if path == EMBEDDED:
        return Finding("SMPL-X", False, "body.model_path is 'embedded'", "the licence-free body that ships")
    try:
        body = Body.load(Path(path))
    except (OSError, KeyError, ValueError) as error:
        return Finding("SMPL-X", False, f"{path}: {error}", "nothing: give an existing file or 'embedded'")
    return Finding("SMPL-X", True, f"{path}, {len(body.template)} vertices", path)


def _wav2vec2(config: Config) -> Finding:
    name = config.audio.model
    wanted = config.audio.encoder == "wav2vec2"
    if (Path(name) / "config.json").is_file():
        return Finding("wav2vec2", True, name, name if wanted else "offline features (audio.encoder is 'offline')")
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "config.json") if not Path(name).is_absolute() else None
    found = isinstance(cached, str)
    detail = cached if isinstance(cached, str) else f"{name} is neither a local folder nor in the hub's cache"
    used = "offline features (audio.encoder is 'offline')"
    if wanted:
        used = name if found else "the hub is asked for it; offline: nothing, set audio.encoder to 'offline'"
    return Finding("wav2vec2", found, detail, used)


def _sapiens(config: Config) -> Finding:
    image = config.stage1.image
    if image.kind != "sapiens":
        return Finding("Sapiens", False, "stage1.image.kind is 'vit'", "compact ViT, trained with stage 1")
    found = bool(image.path) and Path(str(image.path)).is_file()
    return Finding("Sapiens", found, str(image.path), str(image.path) if found else "nothing: give the TorchScript file or kind 'vit'")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("CUDA", False, f"torch {torch.__version__} sees no GPU", "CPU")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Finding("CUDA", True, f"torch {torch.__version__}", names)


def _gsplat() -> Finding:
    import torch

    from model.rasterize import choose_backend

    found = importlib.util.find_spec("gsplat") is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Finding("gsplat", found, "installed" if found else "not installed (pip install '.[gpu]')", choose_backend("auto", device))


def _ffmpeg() -> Finding:
    import av

    missing = [name for name in ("libx264", "aac") if name not in av.codecs_available]
    versions = ".".join(map(str, av.library_versions["libavcodec"]))
    detail = f"PyAV {av.__version__}, libavcodec {versions}" + (f", lacks {missing}" if missing else ", H.264 and AAC")
    return Finding("FFmpeg", not missing, detail, "the libraries inside PyAV; no program is needed")
