"""wav2vec2's files: from a folder or the hub's cache on this machine, else from the hub; a lack is one line, at once.

Whether the files can be had is found out before anything heavy is imported, and the hub is asked once, for
`ANSWER_SECONDS` at most, before its own client with its retries is let loose.
"""

from __future__ import annotations

import os
import queue
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ANSWER_SECONDS = 1.0  # a hub that says nothing for so long counts as out of reach
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def load_wav2vec2(source: str, local_files_only: bool) -> tuple[Any, bool]:
    """(transformers model, whether its input is normalised). Errors: ValueError, one line, where it cannot be had."""
    folder = find_files(source, local_files_only)
    from transformers import Wav2Vec2Model
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # what is missing is told below
    try:
        loaded: Any = Wav2Vec2Model.from_pretrained(str(folder), local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise _refusal(source, f"cannot be loaded from {folder} ({_first_line(error)})") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    model, about = loaded
    lacking = [key for key in about["missing_keys"] if key != "masked_spec_embed"]  # that one is for training alone
    if lacking:
        raise _refusal(source, f"has no weights for {len(lacking)} of its tensors ({sorted(lacking)[0]}); it is of another kind")
    return model.eval().requires_grad_(False), _normalizes(folder)


def find_files(source: str, local_files_only: bool) -> Path:
    """The folder of config.json and weights, downloaded if that is needed and allowed. Errors: ValueError."""
    folder = Path(source).expanduser()
    if folder.is_dir() or source.startswith((".", "/", "~")) or source.count("/") > 1:
        if not (folder / "config.json").is_file():
            raise ValueError(f"audio.model: expected a folder with a wav2vec2 model, {folder} has no config.json")
        if not _complete(folder):
            raise _refusal(source, f"cannot be loaded from {folder} (no {' or '.join(WEIGHTS)})")
        return folder
    try:
        cached = _snapshot(source, local=True)
    except (OSError, ValueError):
        cached = None
    if cached is not None and _complete(cached):
        return cached
    if local_files_only or _set("HF_HUB_OFFLINE") or _set("TRANSFORMERS_OFFLINE"):
        raise _refusal(source, "is not on this machine, and the hub may not be asked (local_files_only or HF_HUB_OFFLINE is set)")
    why = _hub_refuses(source)
    if why is None:
        try:
            place = _snapshot(source, local=False)
            if _complete(place):
                return place
            why = "it holds no " + " or ".join(WEIGHTS)
        except (OSError, ValueError, RuntimeError) as error:
            why = _first_line(error)
    raise _refusal(source, f"is not on this machine, and the hub did not give it ({why})")


def _refusal(source: str, why: str) -> ValueError:
    advice = "download it, name a local folder in audio.model, or set audio.encoder to 'offline'"
    return ValueError(f"audio.model: wav2vec2 model {source!r} {why}; {advice}")


def _complete(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (*WEIGHTS, *(f"{name}.index.json" for name in WEIGHTS)))


def _hub_refuses(source: str) -> str | None:
    """Why the hub will not give the model, or None where it may. Asked in a thread: looking up its name can hang."""
    from huggingface_hub import constants

    answer: queue.Queue[str | None] = queue.Queue()

    def ask() -> None:
        url = constants.HUGGINGFACE_CO_URL_TEMPLATE.format(repo_id=source, revision="main", filename="config.json")
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_SECONDS):
                answer.put(None)
        except urllib.error.HTTPError:
            answer.put(None)  # it is there: its own client finds the words for what it refuses
        except (OSError, ValueError) as error:
            answer.put(f"{constants.ENDPOINT}: {getattr(error, 'reason', error)}")

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=ANSWER_SECONDS)
    except queue.Empty:
        return f"{constants.ENDPOINT} did not answer within {ANSWER_SECONDS:g} s"


def _snapshot(source: str, local: bool) -> Path:
    """The folder of a hub model's files; of two kinds of weights the one that cannot carry code is taken if it is there."""
    from huggingface_hub import snapshot_download

    place = Path()
    for weights in WEIGHTS:
        patterns = ["config.json", "preprocessor_config.json", weights]
        place = Path(snapshot_download(source, allow_patterns=patterns, local_files_only=local))
        if (place / weights).is_file():
            break
    return place


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def _normalizes(folder: Path) -> bool:
    """What the model's feature extractor says of normalisation; true where it says nothing, as in transformers."""
    from transformers import Wav2Vec2FeatureExtractor

    if not (folder / "preprocessor_config.json").is_file():
        return True
    return bool(Wav2Vec2FeatureExtractor.from_pretrained(str(folder)).do_normalize)


def _set(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in ("1", "true", "yes", "on")
