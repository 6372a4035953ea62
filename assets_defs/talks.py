"""Talk assets: one dynamic partition a talk (never a clip), then one set of shards of all talks.

A talk of no use fails its partition with one line and leaves the others alone: shards take the talks that have clips.
"""

from collections.abc import Callable

from dagster import AssetExecutionContext, DynamicPartitionsDefinition, MaterializeResult, asset

from assets_defs.body import body_model
from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings
from configs.schema import Config
from pipelines.store import Record, Store

TALKS = DynamicPartitionsDefinition(name="talks")


def ingest(config: Config, store: Store, talk: str) -> Record:
    from pipelines.ingest import ingest_talk

    return ingest_talk(config, store, talk)


def cut(config: Config, store: Store, talk: str) -> Record:
    from pipelines.contact_sheets import with_reasons
    from pipelines.cut import cut_talk

    return with_reasons(cut_talk(config, store, talk))


def fit(config: Config, store: Store, talk: str) -> Record:
    from pipelines.contact_sheets import with_pictures
    from pipelines.fit import fit_talk

    return with_pictures(config, store, talk, fit_talk(config, store, talk))


def features(config: Config, store: Store, talk: str) -> Record:
    from pipelines.audio_features import features_talk

    return features_talk(config, store, talk)


# What makes each asset of a talk, in lineage order: for the assets below and for backfills (assets_defs/backfill.py).
WORK: dict[str, Callable[[Config, Store, str], Record]] = {
    "talk_videos": ingest,
    "talk_clips": cut,
    "clip_fits": fit,
    "clip_audio_features": features,
}


@asset(group_name="talks", partitions_def=TALKS, code_version=code_version("ingest"), kinds={"ffmpeg"})
def talk_videos(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """A talk's video as it came to the inbox: probed, hashed, with its speaker and licence."""
    return _one_talk(context, settings)


@asset(group_name="talks", partitions_def=TALKS, deps=[talk_videos], code_version=code_version("cut"), kinds={"ffmpeg"})
def talk_clips(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Clips of one shot, one person, speech: square video, 16 kHz wav, person mask; why each other stretch was left out."""
    return _one_talk(context, settings)


@asset(
    group_name="talks",
    partitions_def=TALKS,
    deps=[talk_clips, body_model],
    code_version=code_version("fit"),
    kinds={"pytorch"},
)
def clip_fits(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """SMPL-X parameters and camera of every frame of every clip, with a confidence per frame."""
    return _one_talk(context, settings)


@asset(
    group_name="talks",
    partitions_def=TALKS,
    deps=[talk_clips],
    code_version=code_version("audio_features"),
    kinds={"numpy"},
)
def clip_audio_features(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Speech features at the clip's frame rate: wav2vec2, or the offline encoder (its name is in the metadata)."""
    return _one_talk(context, settings)


@asset(
    group_name="talks",
    deps=[talk_clips, clip_fits, clip_audio_features],
    code_version=code_version("shards"),
    kinds={"webdataset"},
)
def talk_shards(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """WebDataset shards of all talks that have clips, split by speaker, with a manifest."""
    from pipelines.shards import write_talk_shards

    return recorded(context, settings, write_talk_shards)


def _one_talk(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    work, talk = WORK[context.asset_key.to_user_string()], context.partition_key
    return recorded(context, settings, lambda config, store: work(config, store, talk))
