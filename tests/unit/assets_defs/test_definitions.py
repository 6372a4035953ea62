"""The graph is a contract: names, groups, lineage; and loading it is light."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from assets_defs.definitions import defs
from assets_defs.lineage import SETTINGS
from configs.schema import Config

ROOT = Path(__file__).parents[3]
GROUPS = {
    "body": {"body_model"},
    "talks": {"talk_videos", "talk_clips", "clip_fits", "clip_audio_features", "talk_shards"},
    "scans": {"scan_renders", "scan_shards"},
    "idol": {"idol_shards"},
    "training": {"stage1_checkpoint", "stage2_checkpoint"},
    "evaluation": {"stage1_evaluation", "stage2_evaluation", "speaking_video"},
    "baseline": {"baseline_motion", "baseline_retargeted_motion", "baseline_video", "baseline_comparison"},
}


@pytest.fixture(scope="module")
def nodes():
    return {node.key.to_user_string(): node for node in defs.resolve_asset_graph().asset_nodes}


def test_names_and_groups(nodes):
    found: dict[str, set[str]] = {}
    for name, node in nodes.items():
        found.setdefault(node.group_name, set()).add(name)
    assert found == GROUPS


def test_one_partition_a_talk(nodes):
    partitioned = {name for name, node in nodes.items() if node.partitions_def is not None}
    assert partitioned == GROUPS["talks"] - {"talk_shards"}
    assert {nodes[name].partitions_def.name for name in partitioned} == {"talks"}


def test_everything_descends_from_the_body_and_ends_in_the_comparison(nodes):
    def ancestors(name):
        parents = {p.to_user_string() for p in nodes[name].parent_keys}
        return parents.union(*(ancestors(p) for p in parents))

    assert ancestors("baseline_comparison") == set(nodes) - {"baseline_comparison"}
    assert ancestors("stage2_checkpoint") >= GROUPS["body"] | GROUPS["talks"] | GROUPS["scans"] | GROUPS["idol"]
    for name in ("clip_fits", "scan_renders", "idol_shards", "stage1_checkpoint"):
        assert "body_model" in ancestors(name)


def test_each_has_a_code_version_a_description_and_known_settings(nodes):
    assert set(SETTINGS) == set(nodes)
    assert {section for sections in SETTINGS.values() for section in sections} <= set(Config.model_fields)
    assert not [name for name, node in nodes.items() if not node.code_version or not node.description]


def test_nothing_trains_by_itself(nodes):
    assert not [name for name, node in nodes.items() if node.automation_condition]
    assert nodes["stage1_checkpoint"].pools == nodes["stage2_checkpoint"].pools == {"gpu"}
    assert defs.resolve_schedule_def("refresh_schedule").default_status.value == "STOPPED"
    assert "stage1_checkpoint" not in {k.to_user_string() for k in defs.resolve_job_def("talk").asset_layer.executable_asset_keys}


def test_checks_block_before_training():
    graph = defs.resolve_asset_graph()
    blocking = {key.asset_key.to_user_string() for key in graph.asset_check_keys if graph.get(key).blocking}
    assert blocking == {"talk_clips", "clip_fits", "talk_shards", "scan_shards"}


def test_loading_imports_no_torch():
    heavy = ("torch", "numpy", "mediapipe", "deepspeed", "av", "transformers", "smplx")
    code = f"import sys, assets_defs.definitions as d; d.defs.resolve_all_job_defs(); print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_every_way_in_names_one_module():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert project["tool"]["dagster"]["module_name"] == "assets_defs.definitions"
    assert workspace["load_from"] == [{"python_module": "assets_defs.definitions"}]
