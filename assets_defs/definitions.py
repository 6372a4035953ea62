"""`defs`: everything that Dagster loads. `export DAGSTER_MODULE_NAME=assets_defs.definitions` points every command here."""

from __future__ import annotations

from dagster import Definitions, multiprocess_executor

from assets_defs import baseline, body, evaluation, scans, talks, training
from assets_defs.automation import inbox_sensor, refresh_job, refresh_schedule, talk_job
from assets_defs.backfill import backfill_job
from assets_defs.checks import CHECKS
from assets_defs.resources import Settings

ASSETS = [
    body.body_model,
    talks.talk_videos,
    talks.talk_clips,
    talks.clip_fits,
    talks.clip_audio_features,
    talks.talk_shards,
    scans.scan_renders,
    scans.scan_shards,
    scans.idol_shards,
    training.stage1_checkpoint,
    training.stage2_checkpoint,
    evaluation.stage1_evaluation,
    evaluation.stage2_evaluation,
    evaluation.speaking_video,
    baseline.baseline_motion,
    baseline.baseline_retargeted_motion,
    baseline.baseline_video,
    baseline.baseline_comparison,
]

defs = Definitions(
    assets=ASSETS,
    asset_checks=CHECKS,
    jobs=[talk_job, backfill_job, refresh_job],
    sensors=[inbox_sensor],
    schedules=[refresh_schedule],
    resources={"settings": Settings()},
    # a step is a process of its own: what it held is freed, and a crash in it spares the rest
    executor=multiprocess_executor.configured({"max_concurrent": 2}),
)
