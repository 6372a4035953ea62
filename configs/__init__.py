"""Settings: the typed schema and its presets. Imports nothing of the project."""

from configs.schema import Config, load_config

__all__ = ["Config", "load_config"]
