"""The one resource, `Settings`: which configuration a run uses, and the store of its workspace."""

from __future__ import annotations

import os
from pathlib import Path

from dagster import ConfigurableResource

from configs.schema import Config, load_config
from pipelines.store import Store

CONFIG_VARIABLE = "SPEECH_AVATAR_CONFIG"
DEFAULT_CONFIG = "configs/sample.yaml"
ROOT = Path(__file__).resolve().parents[1]


def config_path(given: str = "") -> Path:
    """The YAML preset: `given`, else the environment's SPEECH_AVATAR_CONFIG, else the sample preset.

    A relative path is looked up in the current folder, then in the project's root.
    """
    path = Path(given or os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG).expanduser()
    return path if path.is_absolute() or path.is_file() else ROOT / path


class Settings(ConfigurableResource):
    """The configuration in use. `config` may be set per run in the launchpad; it is read anew by every run."""

    config: str = ""

    def load(self) -> tuple[Config, Store]:
        config = load_config(config_path(self.config))
        return config, Store(config)
