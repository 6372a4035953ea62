"""From any format of SMPL-X motion to any other; what the target cannot hold is said, never dropped in silence.

| format     | file                                         | shape | expr. | place | camera | rate | fingers relative to |
| fit        | npz, a clip's folder                         | 10    | 10    | yes   | yes    | yes  | the flat hand       |
| emage      | npz (EMAGE, BEAT2)                           | 300   | 100   | yes   | no     | yes  | the mean hand       |
| lhm        | folder or zip of smplx_params/*.json         | 10    | any   | yes   | yes    | no   | the flat hand       |
| talk       | the reference's talk: lhm, pictures, a sound | 10    | any   | yes   | yes    | no   | the flat hand       |
| talkshow   | float npy (T,265)                            | 0     | 100   | no    | no     | no   | the mean hand       |
| huge100k   | npy of one body                              | 10    | 10    | yes   | yes    | no   | the mean hand       |
| bvh, gltf  | out only                                     |       |       |       |        |      |                     |
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from configs.schema import Config
from pipelines import formats_bvh, formats_emage, formats_fit, formats_gltf, formats_huge100k, formats_lhm, formats_talkshow
from pipelines.body import body_file, load_body
from pipelines.formats_hands import Context, HandSpace
from pipelines.formats_take import Take, implausible
from pipelines.store import InputRejected

READERS: dict[str, Callable[[Path, Context], Take]] = {
    "fit": formats_fit.read, "emage": formats_emage.read, "lhm": formats_lhm.read, "talk": formats_lhm.read,
    "talkshow": formats_talkshow.read, "huge100k": formats_huge100k.read,
}  # fmt: skip
WRITERS: dict[str, Callable[[Path, Take, Context], list[str]]] = {
    "fit": formats_fit.write, "emage": formats_emage.write, "lhm": formats_lhm.write, "talk": formats_lhm.write_talk,
    "talkshow": formats_talkshow.write, "huge100k": formats_huge100k.write, "bvh": formats_bvh.write, "gltf": formats_gltf.write,
}  # fmt: skip
BY_SUFFIX = {".npz": "fit", ".npy": "talkshow", ".zip": "lhm", "": "lhm", ".bvh": "bvh", ".glb": "gltf"}


@dataclass(frozen=True)
class Conversion:
    """What a conversion did."""

    source_format: str
    target_format: str
    frames: int
    seconds: float
    dropped: list[str] = field(default_factory=list)  # what the target cannot hold
    warnings: list[str] = field(default_factory=list)  # what looks wrong in the source


def context_of(config: Config) -> Context:
    """The configured body and its hands."""
    return Context(load_body(config), HandSpace.load(body_file(config)))


def convert(
    source: Path,
    target: Path,
    reading: Context,
    writing: Context,
    source_format: str | None = None,
    target_format: str | None = None,
) -> Conversion:
    """Read `source`, write `target` (replaced where it exists). Formats are told from contents and from the target's name.

    The contexts hold what files leave open: `reading.rate` and `reading.camera` where the source has none, `writing.rate`
    to resample, `writing.camera`, `writing.hands_pca`. InputRejected, in one line, where a file cannot be used.
    """
    given = source_format or detect(source)
    wanted = target_format or format_of_name(target)
    for name, known, which in ((given, READERS, "read"), (wanted, WRITERS, "written")):
        if name not in known:
            raise InputRejected(f"format: expected one that can be {which} ({', '.join(known)}), got {name!r}")
    take = READERS[given](source, reading)
    wrong = implausible(take)
    dropped = WRITERS[wanted](target, take, writing)
    return Conversion(given, wanted, take.frames, take.seconds, dropped, [wrong] if wrong else [])


def read_take(path: Path, context: Context, source_format: str | None = None) -> Take:
    """Motion in any format."""
    return READERS[source_format or detect(path)](path, context)


def detect(path: Path) -> str:
    """The format of a file or folder by its contents. InputRejected says what was expected where it is none."""
    if path.is_dir():
        if (path / "fit.npz").is_file():
            return "fit"
        if formats_lhm.is_talk(path):
            return "talk"
        if formats_lhm.is_lhm(path):
            return "lhm"
    elif not path.is_file():
        raise InputRejected(f"{path}: expected a file or folder of motion, found nothing")
    elif path.suffix == ".npy":
        return "huge100k" if _pickled(path) else "talkshow"
    elif path.suffix == ".npz":
        keys = _keys(path)
        if "poses" in keys:
            return "emage"
        if "global_orient" in keys:
            return "fit"
        raise InputRejected(f"{path}: expected a fit file (global_orient, …) or EMAGE motion (poses, …), it holds {sorted(keys)[:8]}")
    elif path.suffix == ".zip" and zipfile.is_zipfile(path) and formats_lhm.is_lhm(path):
        return "lhm"
    raise InputRejected(f"{path}: expected a fit file, EMAGE npz, LHM json (folder or zip), TalkSHOW npy, HuGe100K npy or a talk's folder")


def format_of_name(path: Path) -> str:
    """The format that a target's name asks for: `_output.npz` is EMAGE's, any other npz a fit file."""
    if path.name.endswith("_output.npz"):
        return "emage"
    if path.suffix not in BY_SUFFIX:
        raise InputRejected(f"{path}: expected a name that ends in .npz, .npy, .zip, .bvh, .glb or a folder's; or say the format")
    return BY_SUFFIX[path.suffix]


def _keys(path: Path) -> set[str]:
    try:
        with np.load(path, allow_pickle=False) as npz:
            return set(npz.files)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputRejected(f"{path}: expected an npz ({error})") from error


def _pickled(path: Path) -> bool:
    """Whether the npy holds objects."""
    with path.open("rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            return bool(header(stream)[2].hasobject)
        except ValueError as error:
            raise InputRejected(f"{path}: expected an npy ({error})") from error
