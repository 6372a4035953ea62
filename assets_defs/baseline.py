"""The two-stage system (speech → motion → retargeted motion → avatar) on the same held-out inputs, and the comparison."""

from collections.abc import Callable
from typing import Any

from dagster import (
    AssetExecutionContext,
    Failure,
    MaterializeResult,
    PipesTempFileContextInjector,
    PipesTempFileMessageReader,
    asset,
    open_pipes_session,
)

from assets_defs.body import body_model
from assets_defs.evaluation import speaking_video, stage1_evaluation, stage2_evaluation
from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings
from assets_defs.talks import talk_shards
from assets_defs.training import POOL, stage1_checkpoint


@asset(
    group_name="baseline",
    deps=[body_model, talk_shards],
    code_version=code_version("baseline"),
    pool=POOL,
    kinds={"pytorch"},
)
def baseline_motion(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Speech → SMPL-X motion of the held-out clips, as EMAGE's npz files; by EMAGE's check-out where one is configured."""
    from pipelines.baseline import motion

    return _with_checkouts(context, settings, motion)


@asset(
    group_name="baseline",
    deps=[baseline_motion, stage1_checkpoint, talk_shards],
    code_version=code_version("baseline"),
    kinds={"json"},
)
def baseline_retargeted_motion(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """That motion retargeted and converted to LHM's JSON files."""
    from pipelines.baseline import retarget

    return recorded(context, settings, retarget)


@asset(
    group_name="baseline",
    deps=[baseline_retargeted_motion, stage1_checkpoint, talk_shards],
    code_version=code_version("baseline"),
    pool=POOL,
    kinds={"pytorch"},
)
def baseline_video(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """The canonical avatar of one picture, driven by that motion; LHM's where its check-out is configured."""
    from pipelines.baseline import video

    return _with_checkouts(context, settings, video)


@asset(
    group_name="baseline",
    deps=[baseline_motion, baseline_video, stage1_evaluation, stage2_evaluation, speaking_video],
    code_version=code_version("report"),
    kinds={"html"},
)
def baseline_comparison(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """End-to-end against two-stage: table, plots, side-by-side videos, one report.html that opens offline."""
    from pipelines.report import comparison

    return recorded(context, settings, comparison)


def _with_checkouts(context: AssetExecutionContext, settings: Settings, work: Callable[..., Any]) -> MaterializeResult:
    """Work that may run another project's program: its progress comes through Pipes, every line of it at debug level."""
    from pipelines.baseline_checkouts import CheckoutFailed, Home

    with open_pipes_session(context, PipesTempFileContextInjector(), PipesTempFileMessageReader()) as session:
        home = Home(context.log.debug, dict(session.get_bootstrap_env_vars()))
        try:
            return recorded(context, settings, lambda config, store: work(config, store, home=home))
        except CheckoutFailed as error:
            raise Failure(str(error), allow_retries=False) from None
