"""Weights on disk: safetensors with what made them (configuration, data versions, commit), and what a training run hangs on.

`checkpoints/<stage>/<stage>.safetensors`; its metadata entry `about` is JSON. `stage2.safetensors` also holds the
stage-1 weights it was trained on, so that one file speaks; an exported one leaves them to the `stage1.safetensors` beside it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from configs.places import from_project
from configs.schema import Config, Stage1Config, Stage2Config, TrainConfig
from model.stage1 import Stage1
from model.stage2 import Stage2
from pipelines.body import body_hash, load_body
from pipelines.manifests import Kind, read_manifest
from pipelines.store import Store, hash_file, hash_json, writing

CODE_VERSION = "4"  # of the training code: raise it when a change makes old weights out of date
Stage = Literal["stage1", "stage2"]
DATA: dict[Stage, tuple[Kind, ...]] = {"stage1": ("scans", "idol", "talks"), "stage2": ("talks", "motions")}
STAGE1 = "stage1."  # what the names of stage 1's tensors begin with in stage 2


def training_config(config: Config, stage: Stage) -> TrainConfig:
    return config.stage1_training if stage == "stage1" else config.stage2_training


def weights_file(store: Store, stage: Stage) -> Path:
    return store.checkpoint(stage) / f"{stage}.safetensors"


def data_versions(store: Store, stage: Stage) -> dict[str, str]:
    """Hash of each shard set that the stage reads. ValueError where none was written."""
    manifests = {kind: read_manifest(store, kind) for kind in DATA[stage]}
    versions: dict[str, str] = {kind: manifest["hash"] for kind, manifest in manifests.items() if manifest is not None}
    if not versions:
        raise ValueError(f"{stage}: expected shards of {' or '.join(DATA[stage])} under {store.shards('scans').parent}, got none")
    return versions


def training_inputs(config: Config, store: Store, stage: Stage) -> dict[str, Any]:
    """All that the weights depend on; its hash names the run, so that only the same run is resumed or skipped."""
    about: dict[str, Any] = {
        "stage": stage, "code": CODE_VERSION, "seed": config.seed, "body": body_hash(config),
        "data": data_versions(store, stage), "training": training_config(config, stage).model_dump(mode="json"),
        "stage1": config.stage1.model_dump(mode="json"),
    }  # fmt: skip
    begin = training_config(config, stage).start_from
    if begin is not None:
        about["start_from"] = hash_file(_existing(from_project(begin), stage))
    if stage == "stage2":
        about["stage2"] = config.stage2.model_dump(mode="json")
        about["weights"] = hash_file(_existing(weights_file(store, "stage1"), "stage1"))
    return about


def run_id(config: Config, store: Store, stage: Stage) -> str:
    return hash_json(training_inputs(config, store, stage))


def begin_with(config: Config, stage: Stage, network: nn.Module) -> None:
    """Fill a fresh network with the weights that the configuration starts from, if it names any.

    Errors: ValueError where they are of another stage, body or size.
    """
    begin = training_config(config, stage).start_from
    if begin is not None:
        path, _ = _open(config, from_project(begin), stage)
        _fill(network, path)


def save_weights(path: Path, network: nn.Module, about: dict[str, Any]) -> None:
    """Write a network's weights and what made them."""
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with writing(path) as temporary:
        safetensors.torch.save_file(state, temporary, metadata={"about": json.dumps(about, sort_keys=True)})


def read_about(path: Path) -> dict[str, Any]:
    """The metadata of a weights file. ValueError where it is none of ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["about"])
    except (KeyError, OSError, ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path}: expected weights written by this project's training, got something else ({error})") from error


def load_stage1(config: Config, source: Store | Path | str, device: str = "cpu") -> Stage1:
    """Stage 1 in eval mode, from a store's checkpoint or a weights file; the network's sizes come from the file."""
    path, about = _open(config, source, "stage1")
    network = Stage1(Stage1Config.model_validate(about["config"]["stage1"]), load_body(config))
    return _filled(network, path, device)


def load_stage2(config: Config, source: Store | Path | str, device: str = "cpu") -> Stage2:
    """Stage 2 with its stage 1, in eval mode, from a store's checkpoint or a weights file."""
    path, about = _open(config, source, "stage2")
    stage1 = Stage1(Stage1Config.model_validate(about["config"]["stage1"]), load_body(config))
    network = Stage2(Stage2Config.model_validate(about["config"]["stage2"]), stage1, about["audio_dim"])
    if "stage1_beside" in about:
        beside = path.with_name("stage1.safetensors")
        if not beside.is_file() or fingerprint(safetensors.torch.load_file(beside)) != about["stage1_beside"]:
            state = "does not hold them" if beside.is_file() else "does not exist"
            raise ValueError(f"{path}: expected the stage-1 weights it was trained with in {beside}, which {state}; put them there")
        _fill(stage1, beside)
    return _filled(network, path, device)


def fingerprint(state: dict[str, Tensor]) -> str:
    """Hash of a network's tensors, rounded to half precision."""
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode() + (value.half() if value.is_floating_point() else value).contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _open(config: Config, source: Store | Path | str, stage: Stage) -> tuple[Path, dict[str, Any]]:
    path = _existing(weights_file(source, stage) if isinstance(source, Store) else Path(source), stage)
    about = read_about(path)
    if about.get("stage") != stage:
        raise ValueError(f"{path}: expected weights of {stage}, got those of {about.get('stage')}")
    if about["body"] != body_hash(config):
        raise ValueError(f"{path}: it was trained with body {about['body']}, the configured one is {body_hash(config)}; train again")
    return path, about


def _existing(path: Path, stage: Stage) -> Path:
    if not path.is_file():
        raise ValueError(f"weights of {stage}: expected {path}, it does not exist; train {stage} first")
    return path


def _filled(network: Any, path: Path, device: str) -> Any:
    _fill(network, path)
    return network.to(device).eval()


def _fill(network: nn.Module, path: Path) -> None:
    """Stage 1 inside stage 2 stays as it is where the file leaves it out."""
    state = safetensors.torch.load_file(path)
    inside = any(k.startswith(STAGE1) for k in state)
    try:
        missing, unexpected = network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path}: weights do not fit the network: {str(error).splitlines()[1].strip()}") from error
    needed = {k for k, _ in network.named_parameters() if inside or not k.startswith(STAGE1)}
    wrong = [*unexpected, *(k for k in missing if k in needed)]
    if wrong:
        raise ValueError(f"{path}: weights do not fit the network, first of {len(wrong)}: {wrong[0]}")


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
