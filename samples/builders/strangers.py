"""People drawn for calibration: what the detector finds of speakers who are in no embedded talk, with the truth.

Kept in a folder if one is given, for drawing and detecting take some ten seconds a person. Needs espeak-ng.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.mesh_raster import render_mesh
from model.types import Camera, SmplxParams
from pipelines.formats import load_fit, save_fit
from pipelines.landmarks import Landmarks, detect
from samples.builders.backdrops import backdrop
from samples.builders.people import Person, make_person
from samples.builders.plan import TalkPlan
from samples.builders.scene import Sensor, Stand, camera_of, lights_of, tint_of
from samples.builders.talks import make_score, perform, plan_talk

FPS = Fraction(25)  # of the talks
WOOD = (112, 84, 62)  # a desk's colour, 0..255


@dataclass(frozen=True)
class Draw:
    """Which people, and how much of each."""

    first: int  # seed
    people: int
    frames: int  # drawn of each person
    step: int  # every how manieth frame of the talk is drawn
    start: int  # the first of them
    side: int  # pixels
    whole: int  # every how manieth person is seen whole, the others to the hips
    least_seconds: float = 5.0
    desk: tuple[float, float] | None = None  # least and largest share of the picture that is above a desk (none: no desks)


Stranger = tuple[Landmarks, SmplxParams, Camera]  # what was found, the parameters [T] shown, the camera


def strangers(draw: Draw, folder: Path | None = None) -> Iterator[Stranger]:
    for seed in range(draw.first, draw.first + draw.people):
        kept = None if folder is None else folder / f"{seed}.npz"
        if kept is not None and kept.exists():
            truth = load_fit(kept)
            yield Landmarks.load(kept.with_suffix(".lm.npz")), truth.params, truth.camera
            continue
        found, params, camera = stranger(draw, seed)
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            found.save(kept.with_suffix(".lm.npz"))
            save_fit(kept, params, camera, torch.ones(len(params.transl)), FPS / draw.step)
        yield found, params, camera


def stranger(draw: Draw, seed: int) -> Stranger:
    seconds = max((draw.start + draw.frames * draw.step) / float(FPS) + 0.5, draw.least_seconds)
    talk = plan_talk(seed, seconds=seconds, fps=FPS, framing="full" if seed % draw.whole == 0 else "half")
    person = make_person(talk.look)
    chosen = slice(draw.start, draw.start + draw.frames * draw.step, draw.step)
    params = perform(make_score(talk), talk.take, person.betas.numpy())[chosen]
    stand = Stand.of(person)
    camera = camera_of(talk.shot, stand, draw.side)
    pictures = _pictures(talk, person, stand, params, camera, draw.side)
    if draw.desk is not None:
        above = np.random.default_rng([seed, 71]).uniform(*draw.desk)
        pictures = (behind_desk(picture, above) for picture in pictures)
    return detect(pictures, FPS / draw.step), params, camera


def behind_desk(picture: NDArray[np.uint8], above: float) -> NDArray[np.uint8]:  # [H, W, 3]
    """The picture with a desk in front of all that is lower than the share `above` of its height."""
    out = picture.copy()
    out[round(above * len(out)) :] = WOOD
    return out


def _pictures(
    talk: TalkPlan, person: Person, stand: Stand, params: SmplxParams, camera: Camera, side: int
) -> Iterator[NDArray[np.uint8]]:
    background = backdrop(talk.shot, side, talk.seed, camera, stand.floor)
    sensor, lights = Sensor(side, talk.seed, tint_of(talk.shot)), lights_of(talk.shot)
    look: dict[str, Any] = {"texture": person.texture, "uv": person.uv, "uv_faces": person.uv_faces}
    for index in range(len(params.transl)):
        vertices = person.vertices(params[index : index + 1])[0]
        seen = render_mesh(vertices, person.faces, camera, background=background, lights=lights, **look)
        yield sensor.develop(seen.rgb, index)
