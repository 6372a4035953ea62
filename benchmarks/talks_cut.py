"""How well talks are cut: masks against the truth, sound against picture, seconds accounted for, memory and time.

Talks of unseen speakers are rendered with their silhouettes (about 20 s each; kept in `--talks`). A long talk is five
minutes (one of them, 256 pixels wide, and a silent slide for the rest) over and over: whether memory is flat show the
peaks of a short and of a long one. Its seconds per second are those of looking; `seconds_per_video_second` is of clips.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config
from pipelines import ingest, media
from pipelines.clips import crop_picture, read_masks
from pipelines.cut import cut_talk
from pipelines.cut_crops import Crop
from pipelines.store import Record, Store

SEEDS = range(7200, 7210)  # the masks' settings were chosen on 7100 to 7109
FULL_BODY = (7202, 7205, 7209)  # the others are half-body talks
SECONDS = 5.0
FLASH_RATES = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))
FLASHES = 48
LONG_MINUTES = (10.0, 20.0)
PIECE_SECONDS, PIECE_SIDE = 300.0, 256


def figures(
    talks: Path | None = None,
    seeds: tuple[int, ...] = tuple(SEEDS),
    minutes: tuple[float, ...] = LONG_MINUTES,
    hour: bool = False,
    print_row: Callable[[str], None] = lambda row: None,
) -> list[Figure]:
    """All of them. `talks`: where rendered talks are kept (none: they are made anew); `minutes`: lengths of long talks."""
    with tempfile.TemporaryDirectory() as scratch:
        rendered = render(Path(scratch) / "talks" if talks is None else talks, seeds)
        found = [*masks_and_seconds(rendered, Path(scratch) / "masks", print_row), *sync(Path(scratch) / "sync")]
        for length in (*minutes, *((60.0,) if hour else ())):
            found += long_talk(rendered[0], length, Path(scratch) / f"long{length:g}")
        return found


def render(folder: Path, seeds: tuple[int, ...]) -> list[Path]:
    """Talks with silhouettes in their truth, beside them as .npz."""
    from samples.builders.people import make_person
    from samples.builders.talks import make_score, plan_talk, render_talk

    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for seed in seeds:
        plan = plan_talk(seed, seconds=SECONDS, framing="full" if seed in FULL_BODY else "half")
        path = folder / f"{plan.id}.mp4"
        if not path.with_suffix(".npz").is_file():
            render_talk(make_score(plan), make_person(plan.look), path, masks=True)
        out.append(path)
    return out


def masks_and_seconds(talks: list[Path], workspace: Path, print_row: Callable[[str], None]) -> list[Figure]:
    """Overlap with the truth (mean over frames, then talks), and what cutting costs and loses."""
    from samples.builders.truth import load_masks

    config, store = _workspace(workspace)
    for talk in talks:
        (store.inbox / talk.name).write_bytes(talk.read_bytes())
    overlaps, lost, spent, length = {}, 0.0, 0.0, 0.0
    for talk in talks:
        start = time.perf_counter()
        record = _cut(config, store, talk.stem)
        spent += time.perf_counter() - start
        length += ingested(store, talk.stem)
        lost = max(lost, abs(accounted(store, talk.stem) - ingested(store, talk.stem)))
        truth = load_masks(talk.with_suffix(".npz"))
        rate = media.probe(talk).fps
        rows = [row for clip in store.clips(talk.stem) for row in clip_overlaps(clip, truth, rate)]
        if rows:
            overlaps[talk.stem] = float(np.mean(rows))
        print_row(f"{talk.stem}: {record.status} {record.reason} mask IoU {np.mean(rows) if rows else float('nan'):.4f}")
    values = list(overlaps.values())
    return [
        Figure("mask_iou", float(np.mean(values)), "IoU", ">= 0.95"),
        Figure("mask_iou_worst_talk", min(values), "IoU"),
        Figure("mask_talks", len(values), "talks", ">= 8"),
        Figure("accounted_error", round(lost, 6), "s", "<= 0.0205"),  # of a frame, no more than half is rounded away
        Figure("seconds_per_video_second", spent / length, "s"),
    ]


def clip_overlaps(clip: Path, truth: np.ndarray, rate: Fraction) -> Iterator[float]:
    """Intersection over union of each frame of a clip, in its pixels; `truth` [T, H, W] at the talk's `rate`."""
    about = json.loads((clip / "clip.json").read_text())
    crop, fps = Crop(**about["crop"]), Fraction(about["fps"])
    for index, mask in enumerate(read_masks(clip / "mask.npz")):
        shown = int((about["start"] + (index + 0.5) / float(fps) - media.TIE_SECONDS) * rate)  # on screen at the centre
        picture = truth[min(shown, len(truth) - 1), ..., None].repeat(3, -1).astype(np.uint8) * 255
        true = crop_picture(picture, crop, about["size"])[..., 0] > 127
        yield float((mask & true).sum() / max((mask | true).sum(), 1))


def sync(workspace: Path) -> list[Figure]:
    """White flashes with clicks at their start, in talks of several rates: how far apart they come out of the cut."""
    offsets = {rate: flash_offsets(workspace / f"{float(rate):.2f}", rate) for rate in FLASH_RATES}
    halved = flash_offsets(workspace / "50", Fraction(50))  # every second picture is left out: 0 or 20 ms late
    worst = max(abs(float(np.mean(rows))) for rows in offsets.values())
    apart = max(float(np.abs(rows).max()) for rows in offsets.values())
    return [
        Figure("av_offset_ms", 1e3 * worst, "ms", "<= 10"),
        Figure("av_offset_same_rate_ms", 1e3 * float(np.abs(offsets[Fraction(25)]).max()), "ms", "<= 10"),
        Figure("av_offset_largest_ms", 1e3 * apart, "ms"),  # with half a frame of rounding where rates differ
        Figure("av_offset_50_fps_ms", 1e3 * float(np.mean(halved)), "ms"),
    ]


def flash_offsets(folder: Path, rate: Fraction) -> list[float]:
    """Seconds that each flash comes after its click, in a clip written of a whole talk. A flash is at a frame's start."""
    from pipelines.clips import Source, write_clip
    from pipelines.cut_plan import PlannedClip

    folder.mkdir(parents=True)
    config = Config.model_validate({"cut": {"size": 64}}).cut
    rng = np.random.default_rng(0)
    starts = np.round((0.7 + np.arange(FLASHES) * 0.6 + rng.uniform(0, 0.2, FLASHES)) * float(rate)).astype(int)
    count = int(starts[-1] + rate)
    seconds = float(count / rate)
    sound = np.zeros(round(seconds * media.SAMPLE_RATE), np.float32)
    for start in starts:
        at = round(float(start / rate) * media.SAMPLE_RATE)
        sound[at : at + 80] = 0.9
    lit = {int(s) + k for s in starts for k in range(round(rate / 8))}
    pictures = (np.full((64, 64, 3), 230 if i in lit else 20, np.uint8) for i in range(count))
    media.write_video(folder / "talk.mp4", pictures, rate, sound)
    talk: dict[str, Any] = dict.fromkeys(("talk", "speaker", "licence", "language", "file", "sha"), "flash")
    source = Source(talk, folder / "talk.mp4", media.read_audio(folder / "talk.mp4"), (64, 64))
    first = 7  # a clip that does not begin with the talk
    planned = PlannedClip(first, round(seconds * config.fps) - 1, Crop(0, 0, 64))
    write_clip(folder / "clips" / "clip", source, planned, config, _Everything())
    level = np.array([p.mean() for p in media.frames(folder / "clips" / "clip" / "clip.mp4")])
    wav = np.abs(media.read_audio(folder / "clips" / "clip" / "audio.wav"))
    seen = (np.flatnonzero(np.diff((level > 120).astype(int)) > 0) + 1) / float(config.fps)
    loud = np.flatnonzero(wav > 0.4) / media.SAMPLE_RATE
    heard = loud[np.diff(loud, prepend=-1.0) > 0.3]
    assert len(seen) == len(heard) == FLASHES, f"{len(seen)} flashes, {len(heard)} clicks of {FLASHES}"
    return list(seen - heard)


def long_talk(talk: Path, minutes: float, workspace: Path) -> list[Figure]:
    """Peak memory and time of cutting a talk of so many minutes, in a process of its own."""
    _, store = _workspace(workspace)
    long_piece(talk, workspace / "piece.mp4")
    repeat(workspace / "piece.mp4", minutes * 60, store.inbox / "long.mp4")
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_cut_long, args=(workspace, there))
    process.start()
    there.close()  # so that nobody waits for the answer of a process that died
    peak, spent, length, lost = here.recv()
    process.join()
    name = "hour" if minutes == 60 else f"long{minutes:g}min"
    return [
        Figure(f"{name}_peak_gb", peak, "GB", "<= 2"),
        Figure(f"{name}_seconds_per_video_second", spent / length, "s"),
        Figure(f"{name}_accounted_error", round(lost, 6), "s", "<= 0.0205"),
    ]


def long_piece(talk: Path, target: Path) -> None:
    """`talk` made small, then a slide in silence, `PIECE_SECONDS` in all."""
    rate = Fraction(25)
    sound = np.zeros(round(PIECE_SECONDS * media.SAMPLE_RATE), np.float32)
    spoken = media.read_audio(talk)
    sound[: len(spoken)] = spoken
    slide = np.full((PIECE_SIDE, PIECE_SIDE, 3), 240, np.uint8)
    slide[40:200:16, 30:200] = 30

    def pictures() -> Iterator[np.ndarray]:
        count = 0
        for picture in media.frames(talk, rate):
            yield cv2.resize(picture, (PIECE_SIDE, PIECE_SIDE), interpolation=cv2.INTER_AREA)
            count += 1
        yield from (slide for _ in range(round(PIECE_SECONDS * rate) - count))

    media.write_video(target, pictures(), rate, sound)


def repeat(talk: Path, seconds: float, target: Path) -> None:
    """The packets of `talk` again and again, without coding them anew."""
    with av.open(str(talk)) as source, av.open(str(target), "w") as out:
        packets = [p for p in source.demux() if p.size]
        length = max(float((p.pts + (p.duration or 0)) * p.time_base) for p in packets if p.stream.type == "video")
        streams = {s.index: out.add_stream_from_template(s) for s in (*source.streams.video, *source.streams.audio)}
        shift, last = 0.0, dict.fromkeys(streams, -(2**62))
        while shift < seconds:
            for packet in packets:
                copied = av.Packet(bytes(packet))
                step = round(shift / packet.time_base)
                copied.pts, copied.dts = packet.pts + step, (packet.dts if packet.dts is not None else packet.pts) + step
                if copied.dts <= last[packet.stream.index]:  # the encoder's filling at a joint
                    continue
                last[packet.stream.index] = copied.dts
                copied.time_base, copied.duration, copied.is_keyframe = packet.time_base, packet.duration, packet.is_keyframe
                copied.stream = streams[packet.stream.index]
                out.mux(copied)
            shift += length


def ingested(store: Store, talk: str) -> float:
    """The talk's length, seconds."""
    return float(json.loads((store.talk(talk) / "talk.json").read_text())["seconds"])


def accounted(store: Store, talk: str) -> float:
    """Seconds in clips and in rejected stretches."""
    stretches = [json.loads((c / "clip.json").read_text()) for c in store.clips(talk)]
    stretches += json.loads((store.talk(talk) / "rejected.json").read_text())
    return float(sum(s["end"] - s["start"] for s in stretches))


class _Everything:
    """A masker to whom all is a person."""

    name = "everything"

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        return np.ones(picture.shape[:2], np.float32)

    def follow(self, pictures: Any) -> Any:
        return map(self, pictures)


def _workspace(folder: Path) -> tuple[Config, Store]:
    config = Config.model_validate({"workspace": str(folder), "talks": {"include_samples": False}})
    store = Store(config)
    store.inbox.mkdir(parents=True)
    return config, store


def _cut(config: Config, store: Store, talk: str) -> Record:
    ingest.ingest_talk(config, store, talk)
    return cut_talk(config, store, talk)


def _cut_long(workspace: Path, answer: Any) -> None:
    config = Config.model_validate({"workspace": str(workspace), "talks": {"include_samples": False}})
    store = Store(config)
    start = time.perf_counter()
    record = _cut(config, store, "long")
    spent = time.perf_counter() - start
    assert record.status == "ok", record.reason
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts in KB
    length = ingested(store, "long")
    answer.send((peak, spent, length, abs(accounted(store, "long") - length)))


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--talks", type=Path, help="folder in which rendered talks are kept for the next time")
    parser.add_argument("--minutes", type=float, nargs="*", default=LONG_MINUTES, help="lengths of the long talks")
    parser.add_argument("--hour", action="store_true", help="also cut a talk of an hour")
    options = parser.parse_args()
    start = time.perf_counter()
    found = figures(options.talks, minutes=tuple(options.minutes), hour=options.hour, print_row=print)
    about = {"seeds": list(SEEDS), "minutes": list(options.minutes), "hour": options.hour}
    publish("talks_cut", found, device=device_name(), config=about, seconds=time.perf_counter() - start, path=options.json)


if __name__ == "__main__":
    main()
