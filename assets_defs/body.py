"""Asset `body_model`: the SMPL-X file in use. Its hash is the data version that everything below inherits."""

from dagster import AssetExecutionContext, MaterializeResult, asset

from assets_defs.metadata import code_version, recorded
from assets_defs.resources import Settings


@asset(group_name="body", code_version=code_version("body"), kinds={"numpy"})
def body_model(context: AssetExecutionContext, settings: Settings) -> MaterializeResult:
    """The SMPL-X-schema body model file in use, checked, with its counts and a picture."""
    from pipelines.body import body_record

    return recorded(context, settings, body_record, version="hash")
