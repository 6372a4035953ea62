"""How well stage 2 makes speakers talk whom it has never seen: motion against the truth of the same speech.

    python -m benchmarks.stage2 [--config FILE] [--weights FILE] [--clips 16] [--baseline FILE] [--row NAME=FOLDER]
    python -m benchmarks.stage2 --speed-only

Speakers are drawn afresh by the talk generator (motion and sound, no pictures), each with an oracle draw: the generator run
again on the same speech with another seed, which is what a perfect sampler would score. Each starts from the truth's first
frame; ours are means over some draws. `--row` adds another system's motion: a folder of fit files named <clip>.npz (`--list`
writes the clips' speech and truth there for it). FGD is in the latents of an auto-encoder fitted to other drawn talks.
"""

from __future__ import annotations

import dataclasses
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import Figure, arguments, device_name, publish
from benchmarks.stage2_speed import speeds
from benchmarks.talk_scores import SECONDS, Clip, Scorer, draw_clips, ratios
from configs.schema import Config, load_config
from model import metrics, metrics_talk
from model.audio_encoders import SAMPLE_RATE, make_audio_encoder
from model.audio_to_motion import AudioToMotion, rest_of
from model.body import Body
from model.motion import params_from_motion
from model.types import SmplxParams
from pipelines.baseline_training import load_network
from pipelines.checkpoints import load_stage2
from pipelines.nearest import nearest_stretches
from pipelines.store import Store
from samples.builders.people import embedded_body

REFERENCES, REFERENCE_SPEAKER = 24, 800_000  # drawn talks that FGD's encoder is fitted to and the nearest clip is taken from
DRAW = 1000  # seeds between draws of the same clips
SHIFT = 1  # clips further on whose truth a mismatched figure is taken with


def perform_with(generator: Any, body: Body, clips: list[Clip], seed: int = 0, chunk: int | None = None) -> list[SmplxParams]:
    """Motion [T] for each clip from its first frame, all clips at once; as a stream of `chunk` frames where that is given."""
    from model.talking import Motion, Talk

    device = next(generator.parameters()).device
    longest = max(len(c.features) for c in clips)
    # shorter clips go on with their last frame, and are cut
    padded = [np.concatenate([c.features, np.repeat(c.features[-1:], longest - len(c.features), 0)]) for c in clips]
    features = torch.from_numpy(np.stack(padded)).to(device)
    reference = SmplxParams.cat([c.truth[:1] for c in clips]).to(device)
    talk = Talk(generator, body, reference, seed=seed)
    pieces = features.split(chunk or longest, 1)
    parts = [part for part in (*(talk.push(p) for p in pieces), talk.finish()) if part is not None]
    made = Motion.cat(parts, 1).params.to("cpu")
    return [made[i, : len(c.features)] for i, c in enumerate(clips)]


def two_stage(network: AudioToMotion, clips: list[Clip], seed: int = 0) -> list[SmplxParams]:
    """The baseline's motion [T] for each clip, placed where the truth's first frame stands, with its shape."""
    made = [network.generate(torch.from_numpy(clip.features).float(), seed + i) for i, clip in enumerate(clips)]
    return [params_from_motion(vector, rest_of(clip.truth[:1])) for vector, clip in zip(made, clips, strict=True)]


def control_rows(clips: list[Clip], corpus: list[Clip]) -> dict[str, list[SmplxParams]]:
    """Rows that need no network: the truth, the oracle draw, another clip's truth, a frozen pose, the nearest training clip."""
    fill = lambda p, count: p[torch.arange(count) % len(p.transl)]  # noqa: E731
    other = [fill(clips[(i + 1) % len(clips)].truth, len(c.features)) for i, c in enumerate(clips)]
    rows = {
        "truth": [c.truth for c in clips], "oracle": [c.oracle for c in clips], "other clip": other,
        "frozen": [c.truth[:1].map(lambda x, n=len(c.features): x.expand(n, *x.shape[1:])) for c in clips],
    }  # fmt: skip
    if corpus:
        rows["nearest clip"] = [nearest(c, corpus) for c in clips]
    return rows


def nearest(clip: Clip, corpus: list[Clip]) -> SmplxParams:
    """The training motion whose sound is most like the clip's (pipelines/nearest.py)."""
    place = nearest_stretches({clip.name: clip.features}, {c.name: c.features for c in corpus})[clip.name]
    other = next(c for c in corpus if c.name == place.clip)
    return other.truth[torch.from_numpy(place.frames(len(clip.features), len(other.features)))]


def idle_and_draws(generator: Any, body: Body, clips: list[Clip], truth_speed: float, fps: float, encoder: Any) -> list[Figure]:
    """Hands in ten seconds of silence against those of talk (idle life is some, gestures are not); how far two draws differ."""
    silent = encoder(np.zeros(int(10 * SAMPLE_RATE), np.float32), Fraction(fps), int(10 * fps))
    quiet = perform_with(generator, body, [dataclasses.replace(c, features=silent) for c in clips])
    joints = [body.to("cpu").joints(p)[int(2 * fps) :].numpy() for p in quiet]
    speed = float(np.mean([metrics_talk.wrist_speed(j, fps).mean() for j in joints]))
    device = next(generator.parameters()).device
    first, second = (perform_with(generator, body.to(device), clips[:4], seed=s) for s in (100, 200))
    body.to("cpu")
    apart = [metrics.mpjpe(body.joints(a)[:, [20, 21]], body.joints(b)[:, [20, 21]]) for a, b in zip(first, second, strict=True)]
    return [
        Figure("silence_hand_speed", round(speed / truth_speed, 4), "of talk's"),
        Figure("draws_wrists_apart", round(1000 * float(np.mean(apart)), 1), "mm"),
    ]


# --- figures

BARS = {
    "jitter_excess": "<= 0.2", "mouth_corr_ratio": ">= 0.93", "mouth_corr_mismatched": "<= 0.05", "mouth_lag_ms": "<= 20",
    "closure_ratio": ">= 0.92", "false_closure_ratio": "<= 1.2", "stroke_response_ratio": ">= 0.7",
    "stroke_response_ratio_mismatched": "<= 0.1", "fgd_over_frozen": "<= 0.08", "fgd_ratio": "<= 0.5", "seam_ratio": "<= 1.05",
    "foot_sliding_mm_s": "<= 5",
}  # fmt: skip
WITHIN = ("jaw_amplitude", "hand_speed", "l1div", "blink_rate")  # each to be within .85–1.15 of the truth's


def figures(table: dict[str, dict[str, float]], baseline: str | None) -> list[Figure]:
    """The issue's figures of our row, offline but for seams, which are the stream's."""
    found = ratios(table, "ours, offline")
    found["seam_ratio"] = ratios(table, "ours, stream")["seam_ratio"]
    found["jitter_excess"] = abs(found["jitter_ratio"] - 1)
    if baseline is not None:
        found["fgd_ratio"] = found["fgd_over_frozen"] / ratios(table, baseline)["fgd_over_frozen"]
    units = {"mouth_lag_ms": "ms", "foot_sliding_mm_s": "mm/s"}
    out = [Figure(n, round(v, 4), units.get(n, ""), BARS.get(n)) for n, v in found.items()]
    return [*out, *(Figure(f"{n}_excess", round(abs(found[n] - 1), 4), "", "<= 0.15") for n in WITHIN)]


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def print_table(table: dict[str, dict[str, float]]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table("row", *table["truth"])
    for name, row in table.items():
        shown.add_row(name, *(f"{v:.4g}" for v in row.values()))
    Console(stderr=True, width=240).print(shown)


def read_row(folder: Path, clips: list[Clip]) -> list[SmplxParams]:
    """Another system's motion: <clip>.npz fit files. ValueError names one that is missing or too short."""
    from pipelines.formats import load_fit

    found = []
    for clip in clips:
        path = folder / f"{clip.name}.npz"
        if not path.is_file():
            raise ValueError(f"--row: expected {path}, it does not exist; `--list {folder}` writes the speech to make it from")
        params = load_fit(path).params
        if len(params.transl) < len(clip.features):
            raise ValueError(f"--row: {path}: expected {len(clip.features)} frames, got {len(params.transl)}")
        found.append(params[: len(clip.features)])
    return found


def list_clips(config: Config, folder: Path, clips: list[Clip]) -> None:
    """Write <clip>.wav and truth/<clip>.npz."""
    from pipelines.formats import make_camera, save_fit
    from pipelines.media import write_wav

    (folder / "truth").mkdir(parents=True, exist_ok=True)
    camera = make_camera(torch.eye(4), torch.full((2,), 800.0), torch.full((2,), 256.0), torch.tensor([512, 512]))
    for clip in clips:
        write_wav(folder / f"{clip.name}.wav", clip.audio)
        save_fit(folder / "truth" / f"{clip.name}.npz", clip.truth, camera, torch.ones(len(clip.features)), config.cut.fps)


def main() -> None:
    parser = arguments("Stage 2 on unseen speakers")
    parser.add_argument("--config", type=Path, default=Path("configs/small_stage2.yaml"))
    parser.add_argument("--weights", type=Path, help="stage 2 safetensors; default: the workspace's")
    parser.add_argument("--clips", type=int, default=16, help="unseen speakers, a clip each")
    parser.add_argument("--draws", type=int, default=3, help="of ours for each clip, with other seeds; figures are their means")
    parser.add_argument("--row", action="append", default=[], metavar="NAME=FOLDER", help="another system's motion, 'baseline' for one")
    parser.add_argument("--baseline", type=Path, help="weights of pipelines.baseline_training: adds the row 'two-stage'")
    parser.add_argument("--list", type=Path, metavar="FOLDER", help="write the clips' speech and truth there and stop")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--guidance", type=float, nargs=3, metavar=("BODY", "HANDS", "FACE"), help="instead of the weights'")
    parser.add_argument("--temperature", type=float, nargs=3, metavar=("BODY", "HANDS", "FACE"), help="instead of the weights'")
    parser.add_argument("--guided-until", type=float, help="instead of the weights'")
    parser.add_argument("--steps", type=int, help="of the flow, instead of the weights'")
    parser.add_argument("--speed-only", action="store_true", help="no scores: frames a second, first frame, memory, cost against length")
    options = parser.parse_args()
    start, config = time.perf_counter(), load_config(options.config)
    if options.speed_only:
        baseline = load_network(options.baseline)[0] if options.baseline else None
        found = speeds(config, load_stage2(config, options.weights or Store(config), options.device), baseline=baseline)
        spent = time.perf_counter() - start
        publish("stage2_speed", found, device=device_name(options.device), config={}, seconds=spent, path=options.json)
        return
    clips = draw_clips(config, options.clips)
    if options.list:
        list_clips(config, options.list, clips)
        return
    stage2 = load_stage2(config, options.weights or Store(config), options.device)
    given = {n: getattr(options, n) for n in ("guidance", "temperature", "guided_until")} | {"flow_steps": options.steps}
    stage2.generator.config = stage2.config.model_copy(update={n: v for n, v in given.items() if v is not None})
    body = embedded_body()
    others = draw_clips(config, REFERENCES, first=REFERENCE_SPEAKER, oracle=False)
    scorer = Scorer(config, body, clips, [c.truth for c in others])
    rows = control_rows(clips, others)
    body.to(options.device)
    ours = {
        "ours, offline": [perform_with(stage2.generator, body, clips, DRAW * i) for i in range(options.draws)],
        "ours, stream": [perform_with(stage2.generator, body, clips, DRAW * i, chunk=5) for i in range(options.draws)],
    }
    body.to("cpu")
    pairs = zip(*(draws[0] for draws in ours.values()), strict=True)
    gap = max(float((a.full_pose - b.full_pose).abs().max()) for a, b in pairs)
    for name, _, folder in (r.partition("=") for r in options.row):
        rows[name] = read_row(Path(folder), clips)
    if options.baseline:
        rows["two-stage"] = two_stage(load_network(options.baseline)[0], clips)
    table = {}
    for name, draws in ({name: [played] for name, played in rows.items()} | ours).items():
        table[name], table[f"{name} mismatched"] = (_mean([scorer.row(d, shift) for d in draws]) for shift in (0, SHIFT))
    print_table(table)
    other = next((n for n in ("two-stage", "baseline") if n in rows), None)
    found = [*figures(table, other), Figure("stream_error_rad", gap, "rad", "<= 1e-4")]
    encoder, fps = make_audio_encoder(config.audio), float(config.cut.fps)
    found += idle_and_draws(stage2.generator, body.to(options.device), clips, table["truth"]["hand_speed"], fps, encoder)
    about = {"clips": len(clips), "draws": options.draws, "seconds": SECONDS}
    about |= {"autoencoder": scorer.autoencoder.weights_hash(), "rows": table}
    publish("stage2", found, device=device_name(options.device), config=about, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
