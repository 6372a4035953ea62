"""Corpora of embedded people and talks in any amount, packed as the shards that training reads.

A corpus folder is a workspace: `speech/` holds what was said (a score a talk; needs the TTS), `talks/` and `people/` what
was drawn from it, `shards/` the whole, ready to travel. Every item follows from (seed, number) alone, is written whole or
not at all, and is not made twice; so a build that was stopped goes on, and equal specifications give equal shards.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from configs.schema import Config, ScansConfig
from model.audio_encoders import make_audio_encoder
from model.mesh_raster import Lights, reaching_light, render_mesh
from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.body import body_hash
from pipelines.scan_views import make_views
from pipelines.shards import Sample, write_shards
from pipelines.store import Record, Store, hash_files, write_json, writing
from pipelines.view_sets import View, cameras_json
from samples.builders.cast import LICENCE
from samples.builders.looks import random_look
from samples.builders.people import Person, embedded_body, make_person
from samples.builders.stances import random_stance
from samples.builders.talks import Film, Score, make_score, plan_talk, render_talk
from samples.builders.truth import load_masks

TEXTURE_SIZE = 512  # texels: pictures of 256 pixels show no more
WEBP = {"lossless": True, "method": 0}  # lossy ones lose fine cloth: at quality 56 SSIM .984; more effort: 3/5 of the size, 9 times as long
FEATURE_STEPS = 64  # of audio features in a unit, which are about standard normal
FILM = Film(crf=32, sound_rate=16_000, sound_bits=32_000)
GRID = 2.0**-11  # radians and metres that the truth's motion is rounded to, which compresses


@dataclass(frozen=True)
class CorpusSpec:
    """What a corpus holds; everything in it follows from these."""

    people: int
    views: int  # pictures of each person
    talks: int
    speakers: int  # who give the talks, in turn
    seconds: float  # of a talk, about
    size: int  # side of all pictures, pixels
    seed: int = 0
    held_out: float = 0.15  # share of speakers and of people
    stances: int = 2  # in which each person is photographed, with as many pictures of each
    half_bodies: int = 4  # one in so many of a stance's pictures shows the upper half, the others the whole body; 0: none
    skirts: float = 0.0  # share of people chosen for wearing one, beside those who do by chance

    def __post_init__(self) -> None:
        if self.talks and not 1 <= self.speakers <= self.talks:
            raise ValueError(f"corpus: expected 1 to {self.talks} speakers for {self.talks} talks, got {self.speakers}")
        if min(self.people, self.talks) < 0 or self.size % 2:
            raise ValueError("corpus: expected people and talks of 0 or more and an even size")
        if not 0 <= self.skirts <= 1:
            raise ValueError(f"corpus: expected a share of people in skirts of 0 to 1, got {self.skirts}")
        if self.stances < 1 or self.views % self.stances or self.views < 4 * self.stances:
            raise ValueError(f"corpus: expected as many pictures of each stance, at least 4, got {self.views} of {self.stances} stances")

    @property
    def views_of_a_stance(self) -> int:
        return self.views // self.stances

    def share(self, parts: int) -> CorpusSpec:
        """One of so many parts of it."""
        return replace(self, people=self.people // parts, talks=self.talks // parts, speakers=max(1, self.speakers // parts))


PRESETS = {"small": CorpusSpec(people=300, views=16, talks=200, speakers=60, seconds=10.0, size=256)}


class Corpus:
    """A corpus in a folder. ValueError where the folder holds another one or something else."""

    def __init__(self, folder: Path, spec: CorpusSpec):
        self.folder, self.spec = folder, spec
        self.config = _config(folder, spec)
        self.store = Store(self.config)
        about = {"spec": asdict(spec), "body": body_hash(self.config)}
        path = folder / "corpus.json"
        if path.is_file():
            found = json.loads(path.read_text())
            if found != about:
                flat = lambda x: {**x["spec"], "body": x["body"]}  # noqa: E731
                other = {k: v for k, v in flat(found).items() if v != flat(about)[k]}
                wanted = {k: flat(about)[k] for k in other}
                raise ValueError(f"corpus: {folder} holds one of {other}, expected {wanted}; choose another folder or empty it")
        elif folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"corpus: expected {folder} to be empty or to hold corpus.json, it has other files; choose another folder")
        else:
            write_json(path, about)

    def speech(self, talk: str) -> Path:
        return self.folder / "speech" / f"{talk}.npz"

    def talk(self, talk: str) -> Path:
        return self.folder / "talks" / talk

    def person(self, person: str) -> Path:
        return self.folder / "people" / person

    @property
    def talks(self) -> list[str]:
        """Ids that name the speaker, then the talk."""
        return [f"s{i % self.spec.speakers:04d}_t{i:05d}" for i in range(self.spec.talks)]

    @property
    def people(self) -> list[str]:
        return [f"p{i:05d}" for i in range(self.spec.people)]

    def frames(self, talk: str) -> int:
        return Score.load(self.speech(talk)).frames

    def speak(self, workers: int) -> None:
        """Say what is not said yet (needs the TTS)."""
        self._each(_say, [t for t in self.talks if not self.speech(t).is_file()], "speech", workers)

    def draw(self, workers: int) -> None:
        """Draw the talks and people that are not drawn yet."""
        self._each(_film, [t for t in self.talks if not self.talk(t).is_dir()], "talks", workers)
        self._each(_photograph, [p for p in self.people if not self.person(p).is_dir()], "people", workers)

    def pack(self) -> dict[str, Record]:
        """Write the shards, by kind."""
        folders = {"talks": [self.talk(t) for t in self.talks], "scans": [self.person(p) for p in self.people]}
        records = {}
        for kind, every in folders.items():
            samples = [Sample(f.name, f.name.split("_")[0], partial(_members, f)) for f in every]
            inputs = [hash_files(sorted(f.iterdir()), self.folder) for f in every]
            records[kind] = write_shards(self.config, self.store, kind, samples, [], inputs)  # type: ignore[arg-type]
        return records

    def _each(self, make: Callable[[Path, CorpusSpec, str], None], items: list[str], text: str, workers: int) -> None:
        """`make` every item in worker processes. What fails is told at the end, the rest is kept."""
        jobs = [(make, self.folder, self.spec, item) for item in items]
        failed = [line for line in track(_parallel(jobs, workers), text, total=len(jobs), disable=not jobs) if line]
        if failed:
            more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
            raise RuntimeError(f"corpus: {len(failed)} of {len(jobs)} {text} failed: {'; '.join(failed[:3])}{more}")


def _config(folder: Path, spec: CorpusSpec) -> Config:
    each = spec.views_of_a_stance
    half = each // spec.half_bodies if spec.half_bodies else 0
    return Config.model_validate({
        "workspace": str(folder), "seed": spec.seed, "shards": {"held_out": spec.held_out, "target_mb": 16},
        "scans": {"views": each - half, "half_body_views": half, "size": spec.size},
    })  # fmt: skip


def measured(corpus: Corpus) -> float:
    """Megabytes of the packed shards."""
    return sum(path.stat().st_size for path in corpus.folder.glob("shards/*/*")) / 1e6


def _parallel(jobs: list[Any], workers: int) -> Iterable[str]:
    if not jobs or workers < 2:
        yield from map(_attempt, jobs)
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), _one_thread) as pool:
        yield from pool.imap_unordered(_attempt, jobs)


def _one_thread() -> None:
    import numba

    numba.set_num_threads(1)
    torch.set_num_threads(1)


def _attempt(job: tuple[Callable[[Path, CorpusSpec, str], None], Path, CorpusSpec, str]) -> str:
    """Empty, or why the item could not be made, in one line."""
    make, folder, spec, item = job
    try:
        make(folder, spec, item)
    except Exception as error:  # a corpus of thousands does not stop at one
        return f"{item}: {type(error).__name__}: {' '.join(str(error).split())}"
    return ""


def _say(folder: Path, spec: CorpusSpec, talk: str) -> None:
    speaker, number = _numbers(talk)
    plan = plan_talk(_seed(spec, 2, number), speaker=_seed(spec, 1, speaker), seconds=spec.seconds)
    with writing(folder / "speech" / f"{talk}.npz") as temporary:
        make_score(plan).save(temporary)


def _film(folder: Path, spec: CorpusSpec, talk: str) -> None:
    """A clip's folder as the talk pipeline leaves it (pipelines/clips.py), with the truth in place of a fit."""
    score = Score.load(folder / "speech" / f"{talk}.npz")
    person, config = make_person(score.plan.look, TEXTURE_SIZE), _config(folder, spec)
    with writing(folder / "talks" / talk) as temporary:
        temporary.mkdir()
        video, truth = temporary / "clip.mp4", temporary / "fit.npz"
        render_talk(score, person, video, size=spec.size, masks=True, truth=truth, film=FILM, threads=1)
        masks = np.packbits(load_masks(truth).reshape(score.frames, -1), axis=1)
        _save(temporary / "mask.npz", mask=masks, shape=np.array([score.frames, spec.size, spec.size]))
        with np.load(truth, allow_pickle=False) as npz:  # the second draw can be had again from the score
            kept = {k: npz[k] for k in npz.files if not k.startswith(("oracle_", "masks"))}
        _save(truth, **{k: np.round(v / GRID).astype(np.float32) * np.float32(GRID) if k in SMPLX_SHAPES else v for k, v in kept.items()})
        encode = make_audio_encoder(config.audio)
        heard = encode(score.audio, score.fps, score.frames)
        features = (np.round(heard * FEATURE_STEPS) / FEATURE_STEPS).astype(np.float16)
        rate = np.array([score.fps.numerator, score.fps.denominator])
        _save(temporary / "features.npz", features=features, fps=rate, encoder=np.array(encode.name), dim=np.array(encode.dim))
        about = {
            "talk": talk, "clip": talk, "speaker": talk.split("_")[0], "licence": LICENCE, "language": score.plan.voice.language,
            "fps": str(score.fps), "frames": score.frames, "size": spec.size, "masker": "rendered",
        }  # fmt: skip
        write_json(temporary / "clip.json", about)


def photograph(person: Person, params: SmplxParams, lights: Lights, scans: ScansConfig) -> list[tuple[View, NDArray[np.uint8]]]:
    """RGBA pictures [H, W, 4] of a person in the pose `params` [1], one a view of `scans`."""
    vertices = person.vertices(params)[0]
    reaching = reaching_light(vertices, person.faces, lights)
    look = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces, "lights": lights, "reaching": reaching}
    pictures = []
    for view in make_views(vertices, params[0], embedded_body(), scans):
        seen = render_mesh(vertices, person.faces, view.camera, **look)
        picture = np.round(np.concatenate([seen.rgb, seen.alpha[..., None]], -1).clip(0, 1) * 255).astype(np.uint8)
        picture[picture[..., 3] == 0] = 0  # colours that nobody sees cost bytes
        pictures.append((view, picture))
    return pictures


def _photograph(folder: Path, spec: CorpusSpec, name: str) -> None:
    seed = _person_seed(spec, int(name[1:]))
    person, rng = make_person(seed, TEXTURE_SIZE), np.random.default_rng([seed, 41])
    lights = Lights(ambient=rng.uniform(0.45, 0.6), key_intensity=rng.uniform(0.4, 0.6))
    scans, pictures, bodies = _config(folder, spec).scans, [], []
    for _ in range(spec.stances):
        params = random_stance(person, rng)
        turned = scans.model_copy(update={"azimuth": rng.uniform(0, 360 / scans.views)})
        pictures += photograph(person, params, lights, turned)
        bodies += [params] * spec.views_of_a_stance
    params = SmplxParams.cat(bodies)
    views = [replace(view, file=f"{index:03d}.webp") for index, (view, _) in enumerate(pictures)]
    with writing(folder / "people" / name) as temporary:
        temporary.mkdir()
        for view, (_, picture) in zip(views, pictures, strict=True):
            Image.fromarray(picture).save(temporary / view.file, **WEBP)
        (temporary / "cameras.json").write_text(json.dumps(cameras_json(views), separators=(",", ":")))
        _save(temporary / "smplx.npz", **{n: getattr(params, n).numpy() for n in SMPLX_SHAPES})


def _save(path: Path, **arrays: np.ndarray) -> None:
    """An npz that `np.load` reads, a third smaller than numpy's own; same arrays, same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            stream = io.BytesIO()
            np.save(stream, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), stream.getvalue(), zipfile.ZIP_LZMA)


def _numbers(talk: str) -> tuple[int, int]:
    speaker, number = talk.split("_")
    return int(speaker[1:]), int(number[1:])


def _members(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _person_seed(spec: CorpusSpec, number: int) -> int:
    """The first of ever more seeds, where the person is one of those that wear a skirt, whose person does."""
    seeds = (_seed(spec, 3, number, *turn) for turn in chain([()], zip(count())))
    chosen = int((number + 1) * spec.skirts) > int(number * spec.skirts)
    return next(seed for seed in seeds if not chosen or random_look(seed).skirt is not None)


def _seed(spec: CorpusSpec, *words: int) -> int:
    """A person's or talk's own seed; the shipped samples use those below 1000."""
    return 1000 + int(np.random.default_rng([spec.seed, *words]).integers(1 << 30))
