"""Scan assets: multi-view renders of textured scans, their shards, and HuGe100K's samples as shards of the same form."""

from dagster import AssetExecutionContext, MaterializeResult, asset

from assets_defs.body import body_model
from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings
from configs.schema import Config
from pipelines.store import Record, Store


@asset(group_name="scans", deps=[body_model], code_version=code_version("scans"), kinds={"numpy"})
def scan_renders(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """Pictures with alpha, exact cameras and the SMPL-X body of each scan (THuman2.1's layout or the embedded people)."""
    from pipelines.scans import list_subjects, render_scan

    def render_all(config: Config, store: Store) -> list[Record]:
        subjects = list_subjects(config, store)
        records = []
        for number, subject in enumerate(subjects, 1):
            records.append(render_scan(config, store, subject))
            context.log.info(f"{subject} ({number} of {len(subjects)}): {records[-1].status} {records[-1].reason}")
        return records

    return recorded(context, settings, render_all)


@asset(group_name="scans", deps=[scan_renders], code_version=code_version("shards"), kinds={"webdataset"})
def scan_shards(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """WebDataset shards of all rendered scans, split by subject, with a manifest."""
    from pipelines.shards import write_scan_shards

    return recorded(context, settings, write_scan_shards)


@asset(group_name="idol", deps=[body_model], code_version=code_version("shards"), kinds={"webdataset"})
def idol_shards(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """HuGe100K's samples as shards; none where `idol.root` is not configured."""
    from pipelines.shards import write_idol_shards

    return recorded(context, settings, write_idol_shards)
