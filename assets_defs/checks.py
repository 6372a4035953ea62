"""Blocking checks before training: no NaN, no empty split, sound in sync, fits that follow their pictures.

A check on a talk's own assets fails that talk alone; one on the shards stops the run before it trains.
"""

import io
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetCheckSeverity, PreviewWarning, asset_check

from assets_defs.resources import Settings
from assets_defs.scans import scan_shards
from assets_defs.talks import TALKS, clip_fits, talk_clips, talk_shards
from pipelines.store import Store

# Checks per talk and Pipes are marked as previews; the pinned Dagster runs both, and every command would say so twice.
warnings.filterwarnings("ignore", category=PreviewWarning)

MAX_RESIDUAL = 60.0  # median distance of the fitted body from its landmarks, millimetres; beyond it a fit is lost
MIN_CONFIDENCE = 0.3  # mean over a clip's frames, 0..1; below it arms are hidden or the fit is lost


def has_clips(store: Store, talk: str) -> AssetCheckResult:
    count = len(store.clips(talk))
    return AssetCheckResult(passed=count > 0, metadata={"clips": count})


def in_sync(store: Store, talk: str) -> AssetCheckResult:
    from pipelines.sync import MAX_OFFSET_MS, clip_sync

    found = {clip.name: clip_sync(clip).worst for clip in store.clips(talk)}
    late = {name: value for name, value in found.items() if value > MAX_OFFSET_MS}
    about: dict[str, Any] = {"clips": len(found), "asked_ms": MAX_OFFSET_MS, "highest_ms": max(found.values(), default=0.0)}
    return AssetCheckResult(passed=not late, metadata={**about, "out_of_sync_ms": late})


def finite(store: Store, talk: str) -> AssetCheckResult:
    fits = _fits(store, talk)
    bad = [name for name, path in fits.items() if not_finite(path.read_bytes())]
    return AssetCheckResult(passed=not bad, metadata={"clips": len(fits), "not_finite": bad})


def follow(store: Store, talk: str) -> AssetCheckResult:
    return _residuals(store, [f"{talk}/{name}" for name in _fits(store, talk)])


def see_arms(store: Store, talk: str) -> AssetCheckResult:
    return _confidence({name: path.read_bytes() for name, path in _fits(store, talk).items()})


@asset_check(asset=talk_clips, partitions_def=TALKS, blocking=True)
def talk_has_clips(context: AssetCheckExecutionContext, settings: Settings) -> AssetCheckResult:
    """The talk gave at least one clip."""
    return has_clips(settings.load()[1], context.partition_key)


@asset_check(asset=talk_clips, partitions_def=TALKS, blocking=True)
def clips_are_in_sync(context: AssetCheckExecutionContext, settings: Settings) -> AssetCheckResult:
    """Sound and pictures of every clip begin together and last as long, to 10 ms."""
    return in_sync(settings.load()[1], context.partition_key)


@asset_check(asset=clip_fits, partitions_def=TALKS, blocking=True)
def fits_are_finite(context: AssetCheckExecutionContext, settings: Settings) -> AssetCheckResult:
    """No NaN and no infinity in any fit of the talk."""
    return finite(settings.load()[1], context.partition_key)


@asset_check(asset=clip_fits, partitions_def=TALKS, blocking=True)
def fits_follow_their_pictures(context: AssetCheckExecutionContext, settings: Settings) -> AssetCheckResult:
    """At least one of the talk's fits lies close to its landmarks."""
    return follow(settings.load()[1], context.partition_key)


@asset_check(asset=clip_fits, partitions_def=TALKS)
def fits_see_the_arms(context: AssetCheckExecutionContext, settings: Settings) -> AssetCheckResult:
    """A warning where no fit of the talk is sure of its arms: a head and shoulders teach no gestures."""
    return see_arms(settings.load()[1], context.partition_key)


# The same checks for who goes through talks without Dagster's partitions of a run: (name, blocking, function) by asset.
OF_A_TALK: dict[str, list[tuple[str, bool, Callable[[Store, str], AssetCheckResult]]]] = {
    "talk_clips": [("talk_has_clips", True, has_clips), ("clips_are_in_sync", True, in_sync)],
    "clip_fits": [
        ("fits_are_finite", True, finite),
        ("fits_follow_their_pictures", True, follow),
        ("fits_see_the_arms", False, see_arms),
    ],
}


@asset_check(asset=talk_shards, blocking=True)
def talk_shards_have_clips(settings: Settings) -> AssetCheckResult:
    """At least one clip to train on (motion shards hold such too), and one that is held out, unless `shards.held_out` is 0."""
    config, store = settings.load()
    motions = store.shards("motions")
    others = len(_manifest(motions)["splits"]["train"]) if (motions / "manifest.json").is_file() else 0
    return _has_samples(store.shards("talks"), config.shards.held_out, others)


@asset_check(asset=talk_shards, blocking=True)
def talk_shards_are_finite(settings: Settings) -> AssetCheckResult:
    """No NaN and no infinity in any array of the talk shards."""
    _, store = settings.load()
    return _finite_shards(store.shards("talks"))


@asset_check(asset=talk_shards, blocking=True)
def talk_shards_are_in_sync(settings: Settings) -> AssetCheckResult:
    """In every sample, fit, features and mask have as many frames as the clip."""
    _, store = settings.load()
    return _same_lengths(store.shards("talks"))


@asset_check(asset=talk_shards, blocking=True)
def talk_shards_follow_their_pictures(settings: Settings) -> AssetCheckResult:
    """Half of the packed fits or more lie close to their landmarks."""
    _, store = settings.load()
    splits = _manifest(store.shards("talks"))["splits"]
    return _residuals(store, sorted({*splits["train"], *splits["test"]}), share=0.5)


@asset_check(asset=talk_shards)
def talk_shards_show_arms(settings: Settings) -> AssetCheckResult:
    """A warning where no packed fit is sure of its arms."""
    _, store = settings.load()
    return _confidence(dict(members(store.shards("talks"), "fit.npz")))


@asset_check(asset=scan_shards, blocking=True)
def scan_shards_have_subjects(settings: Settings) -> AssetCheckResult:
    """At least one subject to train on, and one that is held out, unless `shards.held_out` is 0."""
    config, store = settings.load()
    return _has_samples(store.shards("scans"), config.shards.held_out)


@asset_check(asset=scan_shards, blocking=True)
def scan_shards_are_finite(settings: Settings) -> AssetCheckResult:
    """No NaN and no infinity in any array of the scan shards."""
    _, store = settings.load()
    return _finite_shards(store.shards("scans"))


CHECKS = [
    talk_has_clips,
    clips_are_in_sync,
    fits_are_finite,
    fits_follow_their_pictures,
    fits_see_the_arms,
    talk_shards_have_clips,
    talk_shards_are_finite,
    talk_shards_are_in_sync,
    talk_shards_follow_their_pictures,
    talk_shards_show_arms,
    scan_shards_have_subjects,
    scan_shards_are_finite,
]


def members(folder: Path, ending: str | tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every member of the folder's shards whose name ends so, or in one of these ways."""
    for _, name, data in _members(folder, ending):
        yield name, data


def _members(folder: Path, ending: str | tuple[str, ...]) -> Iterator[tuple[str, str, bytes]]:
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for entry in archive:
                stream = archive.extractfile(entry) if entry.isfile() and entry.name.endswith(ending) else None
                if stream is not None:
                    yield shard.name, entry.name, stream.read()


def not_finite(npz: bytes) -> list[str]:
    """Names of the arrays of an npz file that hold a NaN or an infinity."""
    import numpy as np

    with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
        return [n for n in arrays.files if arrays[n].dtype.kind in "fc" and not np.isfinite(arrays[n]).all()]


def mean_confidence(npz: bytes) -> float:
    """Mean over the frames of a fit file's confidence, 0..1; 0 where it is not a number."""
    import numpy as np

    with np.load(io.BytesIO(npz), allow_pickle=False) as arrays:
        return float(np.nan_to_num(arrays["confidence"]).mean())


def _residuals(store: Store, units: list[str], share: float = 0.0) -> AssetCheckResult:
    """Passes where at least one, and at least `share`, of the fits stay within `MAX_RESIDUAL`."""
    records = {unit: store.read_record("clip_fits", unit) for unit in units}
    found = {unit: float(record.facts["body_mm"]) for unit, record in records.items() if record is not None}
    good = sum(value <= MAX_RESIDUAL for value in found.values())
    worst = dict(sorted(found.items(), key=lambda item: -item[1])[:20])
    about: dict[str, Any] = {"clips": len(units), "good": good, "asked_mm": MAX_RESIDUAL, "highest_mm": worst}
    return AssetCheckResult(passed=good > 0 and good >= share * len(units), metadata=about)


def _confidence(fits: dict[str, bytes]) -> AssetCheckResult:
    """Warns where none of the fits reaches `MIN_CONFIDENCE`."""
    found = {name: round(mean_confidence(data), 4) for name, data in fits.items()}
    good = sum(value >= MIN_CONFIDENCE for value in found.values())
    lowest = dict(sorted(found.items(), key=lambda item: item[1])[:20])
    about: dict[str, Any] = {"clips": len(found), "good": good, "asked": MIN_CONFIDENCE, "lowest": lowest}
    return AssetCheckResult(passed=good > 0, severity=AssetCheckSeverity.WARN, metadata=about)


def _finite_shards(folder: Path) -> AssetCheckResult:
    bad = {name: arrays for name, data in members(folder, ".npz") if (arrays := not_finite(data))}
    return AssetCheckResult(passed=not bad, metadata={"not_finite": dict(list(bad.items())[:20]), "files": len(bad)})


def _same_lengths(folder: Path) -> AssetCheckResult:
    lengths: dict[str, dict[str, int]] = {}
    for shard, name, count in frame_counts(folder):
        key, _, member = name.partition(".")
        lengths.setdefault(f"{shard}/{key}", {})[member] = count
    bad = {sample: counts for sample, counts in lengths.items() if len(set(counts.values())) > 1}
    about: dict[str, Any] = {"samples": len(lengths), "out_of_sync": dict(list(bad.items())[:20])}
    return AssetCheckResult(passed=not bad, metadata=about)


def frame_counts(folder: Path) -> Iterator[tuple[str, str, int]]:
    """Shard, member and number of frames of each member that has one for every frame of its clip."""
    import numpy as np

    arrays = {"fit.npz": "transl", "features.npz": "features"}
    for shard, name, data in _members(folder, (*arrays, "mask.npz", "clip.json")):
        kind = name.partition(".")[2]
        if kind == "clip.json":
            yield shard, name, json.loads(data)["frames"]
            continue
        with np.load(io.BytesIO(data), allow_pickle=False) as npz:
            yield shard, name, int(npz["shape"][0]) if kind == "mask.npz" else len(npz[arrays[kind]])


def _has_samples(folder: Path, held_out: float, others: int = 0) -> AssetCheckResult:
    """`others`: samples to train on that lie elsewhere."""
    splits = _manifest(folder)["splits"]
    train, test = len(splits["train"]) + others, len(splits["test"])
    good = train > 0 and (test > 0 or held_out == 0)
    told = "none is held out: add speakers or subjects, or set shards.held_out to 0 to train without evaluation"
    return AssetCheckResult(passed=good, description=told if train and not good else None, metadata={"train": train, "test": test})


def _fits(store: Store, talk: str) -> dict[str, Path]:
    return {clip.name: clip / "fit.npz" for clip in store.clips(talk) if (clip / "fit.npz").is_file()}


def _manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())
