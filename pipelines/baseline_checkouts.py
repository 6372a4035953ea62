"""The neighbours' own programs: EMAGE (PantoMatrix) and LHM, run from their check-outs by their own interpreters.

Each command line is the one of their README. What they write is checked before anything is made of it: keys, shapes,
rate, and as many frames as the speech is long. `CheckoutFailed` is never recorded as a verdict on the input: the next run
tries again. Nothing of theirs is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from configs.schema import BaselineConfig
from pipelines import formats_emage, media
from pipelines.formats_hands import Context
from pipelines.formats_take import Take, implausible
from pipelines.media import SAMPLE_RATE, Picture, Sound
from pipelines.processes import ProcessFailed, follow
from pipelines.store import InputRejected, hash_file

SCRIPTS = {"pantomatrix": "test_emage_audio.py", "lhm": "inference.sh"}
PAGES = {"pantomatrix": "https://github.com/PantoMatrix/PantoMatrix", "lhm": "https://github.com/aigc3d/LHM"}
LHM_ENVIRONMENT = {"NCCL_IB_DISABLE": "1", "NCCL_P2P_DISABLE": "1"}
MISSING_SECONDS, SURPLUS_SECONDS = 1.0, 0.5  # by which motion may end before the speech, or after it
EMAGE_KEYS = ("betas", "poses", "expressions", "trans", "model", "gender", "mocap_frame_rate")
EMAGE_SHAPES = {"betas": (300,), "poses": (None, 165), "expressions": (None, 100), "trans": (None, 3)}


class CheckoutFailed(RuntimeError):
    """Another project's program could not be run, failed, or wrote what it should not; the message is one line."""


@dataclass(frozen=True)
class Home:
    """Where a run's lines and progress go."""

    on_line: Callable[[str], None] = print  # every line that the program writes
    env: Mapping[str, str] | None = None  # Dagster Pipes' variables


@dataclass(frozen=True)
class Checkout:
    """One check-out, its interpreter, and what tells it from another version of itself."""

    name: str
    folder: Path
    python: Path
    version: str

    @classmethod
    def find(cls, settings: BaselineConfig, name: str) -> Checkout:
        """The configured check-out `pantomatrix` or `lhm`. CheckoutFailed says what is missing and how to get it."""
        given, python = getattr(settings, name), getattr(settings, f"{name}_python")
        if given is None:
            raise CheckoutFailed(f"baseline.{name}: expected the folder of a check-out of {PAGES[name]}, got none; set it, or use 'own'")
        folder = Path(given).expanduser().resolve()
        if not (folder / SCRIPTS[name]).is_file():
            what = f"which has no {SCRIPTS[name]}" if folder.is_dir() else "which does not exist"
            raise CheckoutFailed(f"baseline.{name}: expected a check-out of {PAGES[name]}, got {folder}, {what}; git clone it there")
        own = folder / ".venv" / "bin" / "python"
        chosen = Path(shutil.which(os.path.expanduser(python)) or python).expanduser() if python else own
        if not os.access(chosen, os.X_OK):
            hint = "is not one" if python else "is not there: install its environment or name its interpreter"
            raise CheckoutFailed(f"baseline.{name}_python: expected the interpreter of its environment, {chosen} {hint}")
        return cls(name, folder, chosen.absolute(), version_of(folder, SCRIPTS[name]))

    @property
    def title(self) -> str:
        return {"pantomatrix": "EMAGE", "lhm": "LHM"}[self.name]

    def run(self, words: Sequence[str], settings: BaselineConfig, home: Home, more: Mapping[str, str] | None = None) -> None:
        """A command of the check-out, in its folder, with its interpreter first in PATH."""
        bin_folder = self.python.parent
        env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ.get('PATH', '')}", **(more or {}), **(home.env or {})}
        ours = [sys.executable, "-m", "pipelines.foreign", "--name", self.title, "--folder", str(self.folder)]
        root = str(Path(__file__).resolve().parents[1])
        env["PYTHONPATH"] = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        try:
            follow([*ours, "--time-limit", str(settings.time_limit), "--", *words], home.on_line, env)
        except ProcessFailed as error:
            raise CheckoutFailed(str(error).removeprefix("it ended with code 1: ")) from None


def version_of(folder: Path, script: str) -> str:
    """Its commit; the hash of its script where it is no git repository."""
    run = subprocess.run(["git", "-C", str(folder), "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    top = subprocess.run(["git", "-C", str(folder), "rev-parse", "--show-toplevel"], capture_output=True, text=True, check=False)
    if run.returncode == 0 and Path(top.stdout.strip()).resolve() == folder:
        return run.stdout.strip()
    return f"{script} {hash_file(folder / script)}"


def emage_motion(settings: BaselineConfig, sounds: Mapping[str, Sound], target: Path, context: Context, home: Home) -> Checkout:
    """Speech 16 kHz by name → `target`/<name>_output.npz, by PantoMatrix's `test_emage_audio.py`."""
    checkout = Checkout.find(settings, "pantomatrix")
    # its option was renamed: the script says which one it has
    option = "--save_folder" if "save_folder" in (checkout.folder / SCRIPTS["pantomatrix"]).read_text(errors="replace") else "--save_path"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="emage") as name:
        for stem, sound in sounds.items():
            media.write_wav(Path(name) / f"{stem}.wav", sound)
        words = [str(checkout.python), SCRIPTS["pantomatrix"], "--audio_folder", name, option, str(target.resolve())]
        checkout.run(words, settings, home)
    for stem, sound in sounds.items():
        check_emage(target / f"{stem}_output.npz", len(sound) / SAMPLE_RATE, context)
    for extra in set(target.iterdir()) - {target / f"{stem}_output.npz" for stem in sounds}:
        shutil.rmtree(extra) if extra.is_dir() else extra.unlink()
    return checkout


def check_emage(path: Path, seconds: float, context: Context) -> Take:
    """A motion file as EMAGE should have written it for that much speech. CheckoutFailed names what is otherwise."""
    if not path.is_file():
        raise CheckoutFailed(f"EMAGE: expected {path.name} from it, found none; it ended well, look at its lines above")
    try:
        with np.load(path, allow_pickle=False) as npz:
            shapes = {k: npz[k].shape for k in npz.files}
    except (ValueError, OSError) as error:
        raise CheckoutFailed(f"EMAGE: {path.name}: expected an npz of plain arrays ({error})") from error
    missing = [k for k in EMAGE_KEYS if k not in shapes]
    if missing:
        raise CheckoutFailed(f"EMAGE: {path.name}: expected the keys {', '.join(EMAGE_KEYS)}, it lacks {', '.join(missing)}")
    for key, wanted in EMAGE_SHAPES.items():
        shape = shapes[key]
        if len(shape) != len(wanted) or any(w not in (None, s) for w, s in zip(wanted, shape, strict=True)):
            raise CheckoutFailed(f"EMAGE: {path.name}: expected {key} {str(wanted).replace('None', 'T')}, got {shape}")
    try:
        take = formats_emage.read(path, context)
    except InputRejected as error:
        raise CheckoutFailed(f"EMAGE: {error}") from error
    if take.fps != formats_emage.RATE:
        raise CheckoutFailed(f"EMAGE: {path.name}: expected {formats_emage.RATE} frames/s, got {take.fps}")
    _check_length(f"EMAGE: {path.name}", take.seconds, seconds)
    wrong = implausible(take)
    if wrong:
        raise CheckoutFailed(f"EMAGE: {path.name}: {wrong}")
    return take


def lhm_pictures(settings: BaselineConfig, picture: Picture, motion: Path, side: int, home: Home) -> Iterator[Picture]:
    """A picture of a person and a folder `<clip>/smplx_params` at 30 frames/s → LHM's frames, `side` × `side`."""
    import cv2
    from PIL import Image

    checkout = Checkout.find(settings, "lhm")
    frames = len(list(motion.glob("*.json")))
    stem = motion.parent.name.replace(".", "_")  # LHM calls its video by what stands before the first dot
    with tempfile.TemporaryDirectory(prefix="lhm") as name:
        Image.fromarray(picture).save(Path(name) / f"{stem}.png")
        before = _videos(checkout.folder, stem)
        words = ["bash", "./inference.sh", settings.lhm_model, f"{name}/", str(motion.resolve())]
        checkout.run(words, settings, home, LHM_ENVIRONMENT)
        videos = sorted(_videos(checkout.folder, stem).items() - before.items(), key=lambda item: item[1])
        if not videos:
            raise CheckoutFailed(f"LHM: expected a video {stem}.mp4 under {checkout.folder / 'exps'}, found none; it ended well")
        video = videos[-1][0]
        about = media.probe(video)
        if abs(float(about.fps) - float(formats_emage.RATE)) > 0.01:
            raise CheckoutFailed(f"LHM: {video.name}: expected {formats_emage.RATE} frames/s, got {about.fps}")
        count = 0
        for count, frame in enumerate(media.frames(video), 1):  # noqa: B007
            yield np.asarray(cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        if abs(count - frames) > 1:
            raise CheckoutFailed(f"LHM: {video.name}: expected {frames} frames, one for each JSON file, got {count}")


def _videos(folder: Path, stem: str) -> dict[Path, int]:
    """Videos of that name that LHM has written, and when."""
    return {p: p.stat().st_mtime_ns for p in (folder / "exps").rglob(f"{stem}.mp4")}


def at_rate(pictures: Sequence[Picture], rate: Fraction, frames: int) -> list[Picture]:
    """Pictures at EMAGE's rate → `frames` of them at `rate`: at each frame's middle, the one shown then."""
    times = [(i + 0.5) / float(rate) for i in range(frames)]
    return [pictures[min(int(t * float(formats_emage.RATE)), len(pictures) - 1)] for t in times]


def _check_length(what: str, got: float, speech: float) -> None:
    if not -MISSING_SECONDS <= got - speech <= SURPLUS_SECONDS:
        raise CheckoutFailed(f"{what}: expected motion as long as the speech, {speech:.2f} s, got {got:.2f} s")
