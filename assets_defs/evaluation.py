"""Evaluation assets: metrics on held-out subjects and speakers only, and the video of a person speaking."""

from dagster import AssetExecutionContext, MaterializeResult, asset

from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings
from assets_defs.scans import idol_shards, scan_shards
from assets_defs.talks import talk_shards
from assets_defs.training import POOL, stage1_checkpoint, stage2_checkpoint


@asset(
    group_name="evaluation",
    deps=[stage1_checkpoint, scan_shards, idol_shards],
    code_version=code_version("evaluate"),
    pool=POOL,
    kinds={"pytorch"},
)
def stage1_evaluation(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Image and body figures on held-out subjects and views, beside their trivial rows."""
    from pipelines.evaluate import evaluate_stage1

    return recorded(context, settings, evaluate_stage1)


@asset(
    group_name="evaluation",
    deps=[stage2_checkpoint, talk_shards],
    code_version=code_version("evaluate"),
    pool=POOL,
    kinds={"pytorch"},
)
def stage2_evaluation(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Motion, lip and image figures on held-out speakers, beside truth, other speech's truth and a frozen pose."""
    from pipelines.evaluate import evaluate_stage2

    return recorded(context, settings, evaluate_stage2)


@asset(
    group_name="evaluation",
    deps=[stage2_checkpoint, talk_shards],
    code_version=code_version("speak"),
    pool=POOL,
    kinds={"pytorch"},
)
def speaking_video(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """A held-out person's picture and another's speech → mp4, by the trained networks."""
    from pipelines.speak import speaking_video as make_video

    return recorded(context, settings, make_video)
