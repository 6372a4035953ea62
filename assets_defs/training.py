"""Training assets: DeepSpeed ranks in a process group of their own; logs stream home, cancelling ends the group."""

from typing import Literal

from dagster import (
    AssetExecutionContext,
    MaterializeResult,
    PipesTempFileContextInjector,
    PipesTempFileMessageReader,
    asset,
    open_pipes_session,
)

from assets_defs.body import body_model
from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings
from assets_defs.scans import idol_shards, scan_shards
from assets_defs.talks import talk_shards

POOL = "gpu"


@asset(
    group_name="training",
    deps=[body_model, scan_shards, idol_shards, talk_shards],
    code_version=code_version("checkpoints"),
    pool=POOL,
    kinds={"deepspeed"},
)
def stage1_checkpoint(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Picture → SMPL-X and triplane tokens → Gaussians. Resumes from the last saved step."""
    return _train(context, settings, "stage1")


@asset(
    group_name="training",
    deps=[stage1_checkpoint, talk_shards],
    code_version=code_version("checkpoints"),
    pool=POOL,
    kinds={"deepspeed"},
)
def stage2_checkpoint(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Reference picture and speech → tokens of the following frames. Resumes from the last saved step."""
    return _train(context, settings, "stage2")


def _train(context: AssetExecutionContext, settings: Settings, stage: Literal["stage1", "stage2"]) -> MaterializeResult:
    """Progress comes through Pipes from rank 0, every raw line at debug level; the materialisation is reported here alone
    (a second report, by the training process, would raise)."""
    from pipelines.launch import run_training

    with open_pipes_session(context, PipesTempFileContextInjector(), PipesTempFileMessageReader()) as session:
        env = dict(session.get_bootstrap_env_vars())
        return recorded(
            context,
            settings,
            lambda config, store: run_training(config, store, stage, on_line=context.log.debug, env=env),
        )
