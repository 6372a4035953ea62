"""Records → metadata: pictures inline and small, numbers plottable, units merged with their reasons."""

import base64
import io
import re
from pathlib import Path

import pytest
from dagster import MetadataValue
from PIL import Image

from assets_defs.metadata import PREVIEW_PIXELS, code_version, inline_picture, merged, metadata_of
from pipelines.store import Record


def record(unit="u", status="ok", reason="", **facts) -> Record:
    return Record("stage", unit, "1", "in", status, f"out-{unit}", reason, 2.0, facts)


def test_facts_become_typed_metadata():
    shown = metadata_of(
        record(clips=3, path="/tmp/x", losses={"l1": 0.5, "ssim": float("inf")}, versions={"a": "b"}, metrics={"psnr": 20.0}, table="|a|")
    )
    assert shown["clips"] == MetadataValue.int(3)
    assert shown["path"] == MetadataValue.path("/tmp/x")
    assert shown["losses/l1"] == MetadataValue.float(0.5)
    assert shown["losses/ssim"] == MetadataValue.text("inf")
    assert shown["versions"] == MetadataValue.json({"a": "b"})
    assert shown["psnr"] == MetadataValue.float(20.0)
    assert shown["table"] == MetadataValue.md("|a|")
    assert shown["work_seconds"] == 2.0


def test_a_preview_is_shown_inline_and_small(tmp_path):
    Image.new("RGBA", (3000, 1000), "red").save(tmp_path / "big.png")
    text = inline_picture(tmp_path / "big.png").value
    data = text.split("base64,")[1].rstrip(")")
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert max(picture.size) == PREVIEW_PIXELS
    assert "preview" not in metadata_of(record(preview=str(tmp_path / "gone.png")))


def test_units_merge_into_one_record_that_depends_on_every_good_one():
    bad = record("c", "rejected", "scan c: no | body")
    whole = merged("scan_renders", [record("a", views=2, embedded=True), record("b", views=3), bad])
    assert (whole.status, whole.facts["views"], whole.facts["units"], whole.facts["rejected"]) == ("ok", 5, 2, 1)
    assert "scan c: no \\| body" in whole.facts["table"]
    assert "embedded" not in whole.facts
    assert whole.output_hash != merged("scan_renders", [record("a")]).output_hash
    assert whole.output_hash == merged("scan_renders", [record("b"), record("a")]).output_hash
    assert merged("scan_renders", [bad]).status == "rejected"
    assert merged("scan_renders", []).reason == "scan_renders: nothing to work on"


def test_code_versions_come_from_the_pipelines_own_line():
    text = (Path(__file__).parents[3] / "pipelines" / "cut.py").read_text()
    version = re.search(r'^CODE_VERSION = "(.*?)"', text, re.MULTILINE).group(1)
    assert code_version("cut", "cut") == f"{version}+{version}"
    with pytest.raises(ValueError, match="expected a line CODE_VERSION"):
        code_version("store")
