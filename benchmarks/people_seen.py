"""How often detectors made for real people find the embedded ones, on talk frames of people that were never tuned for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.progress import track

from model.body import HANDS, Body
from model.mesh_raster import project_vertices, rasterize_mesh
from model.types import Camera, SmplxParams
from pipelines import media
from pipelines.cut import find_speech
from pipelines.formats import load_fit
from pipelines.landmarks import detect
from samples.builders.people import embedded_body, make_person
from samples.builders.speech import SAMPLE_RATE, SILENCE
from samples.builders.talks import Score, render_talk

FRAMES = 12  # of each talk, evenly spread over its seconds
MARGIN = 6  # pixels: a hand nearer to the picture's edge is not wholly visible
HIDDEN = 0.05  # share of a hand's points that may lie behind something else


def hands_wholly_visible(body: Body, params: SmplxParams, camera: Camera) -> np.ndarray:  # [T, 2] bool, left and right
    """Whether each hand lies inside the picture and nothing but itself is in front of it."""
    width, height = camera.size.tolist()
    weights = body.skin_weights.numpy()
    owner = np.stack([weights[:, list(HANDS[side])].sum(1) > 0.5 for side in ("left", "right")])  # [2, V]
    of_face = owner[:, body.faces].all(-1)  # [2, F]
    out = np.zeros((len(params.transl), 2), bool)
    with torch.no_grad():
        vertices = body.vertices(params).numpy()
    for t, posed in enumerate(vertices):
        pixels, depth = project_vertices(posed, camera)
        seen, _, _ = rasterize_mesh(pixels, depth, body.faces, height, width)
        for side in range(2):
            places = pixels[owner[side]]
            inside = (places >= MARGIN).all(1) & (places < np.array([width, height]) - MARGIN).all(1)
            if inside.all():
                face = seen[places[:, 1].astype(int), places[:, 0].astype(int)]
                others = (face >= 0) & ~of_face[side][face]
                out[t, side] = others.mean() <= HIDDEN
    return out


def detection_rates(scores: Iterable[Score], size: int = 512) -> dict[str, float]:
    """Shares 0..1: frames with a pose and with a face, wholly visible hands found, and spoken time marked as speech."""
    found: dict[str, list[float]] = {"pose_rate": [], "face_rate": [], "hand_rate": []}
    marked = spoken = 0.0
    with TemporaryDirectory() as folder:
        for score in track(list(scores), "detecting"):
            video, truth = Path(folder) / "talk.mp4", Path(folder) / "talk.npz"
            render_talk(score, make_person(score.plan.look), video, size=size, truth=truth)
            fit = load_fit(truth)
            chosen = np.linspace(0, len(fit.params.transl) - 1, FRAMES).astype(int)
            pictures = [p for i, p in enumerate(media.frames(video)) if i in set(chosen.tolist())]
            marks = detect([p for p in pictures for _ in range(2)], fit.fps)  # twice: tracking begins anew at a jump
            rows = np.arange(FRAMES) * 2 + 1
            found["pose_rate"] += (~np.isnan(marks.pose[rows, 0, 0])).tolist()
            found["face_rate"] += (~np.isnan(marks.face[rows, 0, 0])).tolist()
            visible = hands_wholly_visible(embedded_body(), fit.params[torch.from_numpy(chosen)], fit.camera)
            hands = np.stack([marks.left_hand[rows, 0, 0], marks.right_hand[rows, 0, 0]], 1)
            found["hand_rate"] += (~np.isnan(hands))[visible].tolist()
            hit, total = speech_marked(score)
            marked, spoken = marked + hit, spoken + total
    return {**{k: float(np.mean(v)) for k, v in found.items()}, "speech_rate": marked / spoken}


def speech_marked(score: Score) -> tuple[float, float]:
    """Seconds of speech that silero-vad marks, and seconds of speech."""
    mark = _samples(find_speech(score.audio), len(score.audio))
    truth = _samples([(p.start, p.end) for p in score.phones if p.name != SILENCE], len(score.audio))
    return float((mark & truth).sum()) / SAMPLE_RATE, float(truth.sum()) / SAMPLE_RATE


def _samples(spans: list[tuple[float, float]], count: int) -> np.ndarray:  # [count] bool: inside one of the spans, seconds
    out = np.zeros(count, bool)
    for start, end in spans:
        out[round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)] = True
    return out
