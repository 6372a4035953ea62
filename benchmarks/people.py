"""The embedded people, held against what their makers promise: body, renderer, talks, and detectors made for real people.

People and talks are fresh: their seeds were used for nothing else. Contact sheets (people, garments, a talk, an open mouth)
are written beside the figures with `--sheets FOLDER`. About 25 minutes on two cores; `--people 6` for a short look.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.mesh_render import camera_error_px, render_fps
from benchmarks.people_seen import detection_rates
from benchmarks.report import Figure, arguments, device_name, publish
from pipelines import media
from samples.builders import body_figures, sheets
from samples.builders.corpus import PRESETS, Corpus, measured
from samples.builders.people import make_person
from samples.builders.talk_figures import arms_inside, closed_share, mouth_corr
from samples.builders.talks import Score, make_score, plan_talk, render_talk

FRESH = 500_000_000  # seeds of people and talks that nothing else uses
SECONDS = 3.0  # of the talks that detectors see
LONGER = 10.0  # of those whose mouths are measured
SHEET_PEOPLE = 100


def fresh_scores(count: int, seconds: float, first: int = 0) -> list[Score]:
    """Talks of `count` speakers who give no other."""
    seeds = range(FRESH + first, FRESH + first + count)
    return [make_score(plan_talk(seed, seconds=seconds, framing="half")) for seed in track(seeds, "speech", total=count)]


def of_body() -> list[Figure]:
    return [
        Figure("joint_error_mean_mm", body_figures.joint_error_mean_mm(), "mm", "<= 5"),
        Figure("joint_error_max_mm", body_figures.joint_error_max_mm(), "mm", "<= 10"),
        Figure("pc1_share", body_figures.pc1_share(), "of variance", "<= 0.7"),
        Figure("head_identity_rms_mm", body_figures.head_identity_rms_mm(), "mm", ">= 3"),
        Figure("volume_lost_90deg_elbow", body_figures.volume_lost_90deg_elbow(), "of volume"),
        Figure("volume_lost_90deg_elbow_before", body_figures.volume_lost_90deg_elbow_before(), "of volume"),
        Figure("landmark_error_px", body_figures.landmark_error_px(), "px", "<= 4"),
    ]


def of_renderer() -> list[Figure]:
    return [
        Figure("camera_error_px", camera_error_px(), "px", "<= 0.1"),
        Figure("render_fps_512", render_fps(512), "frames/s", ">= 25"),
    ]


def of_speech(count: int) -> list[Figure]:
    scores = fresh_scores(count, LONGER, 1000)
    own = [mouth_corr(score) for score in scores]
    other = [mouth_corr(score, heard=scores[i - 1]) for i, score in enumerate(scores)]
    arms = arms_inside([score.plan.seed for score in scores])
    return [
        Figure("mouth_corr", float(np.mean(own)), "r"),
        Figure("mouth_corr_mismatched", float(np.mean(other)), "r"),
        Figure("closed_share", float(np.nanmean([closed_share(score) for score in scores])), "of p, b, m"),
        Figure("arms_in_trunk_mm", arms["trunk_mm"], "mm"),
        Figure("arms_in_arms_mm", arms["arms_mm"], "mm"),
    ]


def of_detectors(count: int) -> list[Figure]:
    rates = detection_rates(fresh_scores(count, SECONDS))
    bars = {"pose_rate": 0.99, "face_rate": 0.97, "hand_rate": 0.85, "speech_rate": 0.95}
    return [Figure(name, rates[name], "share", f">= {bar}") for name, bar in bars.items()]


def of_corpus(folder: Path | None) -> list[Figure]:
    """Size of `small` and the speed of building it: of the one in `folder`, else of a sixteenth of it, made here."""
    small = PRESETS["small"]
    if folder is not None:
        return [Figure("corpus_mb", measured(Corpus(folder, small)), "MB", "<= 60")]
    share = 16
    with TemporaryDirectory() as made:
        part = Corpus(Path(made), small.share(share))
        part.speak(1)
        start = time.process_time()
        part.draw(1)
        pictures = part.spec.people * part.spec.views + sum(part.frames(talk) for talk in part.talks)
        speed = pictures / (time.process_time() - start)
        part.pack()
        size = measured(part) * share
    return [Figure("corpus_mb", size, "MB", "<= 60"), Figure("build_fps_per_core", speed, "frames/s")]


def write_sheets(folder: Path) -> None:
    """people.png, garments.png, talk.png (every 10th frame) and mouth.png (an open mouth close up)."""
    folder.mkdir(parents=True, exist_ok=True)
    save = lambda name, picture: Image.fromarray(picture).save(folder / name)  # noqa: E731
    people = track(range(FRESH, FRESH + SHEET_PEOPLE), "people")
    save("people.png", sheets.tiled((sheets.person_cell(make_person(seed, 512), 240) for seed in people), 10))
    save("garments.png", sheets.style_sheet())
    save("mouth.png", sheets.open_mouth(make_person(FRESH)))
    score = fresh_scores(1, 6.0, 2000)[0]
    with TemporaryDirectory() as made:
        video = Path(made) / "talk.mp4"
        render_talk(score, make_person(score.plan.look), video, size=256)
        save("talk.png", sheets.tiled(list(media.frames(video))[::10], 8))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=60, help="fresh people that the detectors see")
    parser.add_argument("--corpus", type=Path, metavar="FOLDER", help="a built `small` corpus to measure")
    parser.add_argument("--sheets", type=Path, metavar="FOLDER", help="write contact sheets here")
    options = parser.parse_args()
    start = time.perf_counter()
    figures = [*of_renderer(), *of_body(), *of_speech(max(2, options.people // 4)), *of_detectors(options.people)]
    figures += of_corpus(options.corpus)
    if options.sheets:
        write_sheets(options.sheets)
    publish(
        "people", figures, device=device_name(), config={"people": options.people}, seconds=time.perf_counter() - start, path=options.json
    )


if __name__ == "__main__":
    main()
