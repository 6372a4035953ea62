"""Dagster as a user meets it: the documented line, the command line, `dagster dev` from its start to a clean end."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest
from dagster import AssetKey, DagsterInstance

ROOT = Path(__file__).parents[2]
MARK = "SPEECH_AVATAR_TEST"
LINE = 'eval "$({python} -m assets_defs.demo --env --config {config})"'  # as in the README
NODES = "{assetNodes {assetKey {path} groupName}}"
ENDED = """{runsOrError(filter: {statuses: [FAILURE, SUCCESS]}) {
  ... on Runs {results {status pipelineName tags {key value}}}}}"""
OBSERVED = """{assetNodeOrError(assetKey: {path: "talk_videos"}) {
  ... on AssetNode {assetObservations {metadataEntries {label ... on TextMetadataEntry {text}}}}}}"""


@pytest.fixture
def workspace(tmp_path):
    """A configuration with an empty inbox and an environment that names nothing of Dagster's."""
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps({"workspace": str(tmp_path / "workspace"), "talks": {"include_samples": False}}))
    env = {k: v for k, v in os.environ.items() if not k.startswith(("DAGSTER_", "SPEECH_AVATAR_"))}
    return config, env | {MARK: uuid.uuid4().hex}


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ask(port: int, query: str) -> dict:
    body = json.dumps({"query": query}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return json.loads(response.read())["data"]


def wait_for(process: subprocess.Popen, log: Path, question, seconds: float = 150):
    end = time.time() + seconds
    while time.time() < end:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError):
            if answer := question():
                return answer
        time.sleep(0.5)
    raise AssertionError(f"no answer in {seconds} s:\n{log.read_text()}")


@pytest.mark.slow
def test_after_the_documented_line_assets_materialise_by_name(workspace):
    config, env = workspace
    line = LINE.format(python=sys.executable, config=config)
    script = f"{line} && dagster asset materialize --select body_model"
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with DagsterInstance.from_config(str(config.parent / "workspace" / "dagster")) as instance:
        event = instance.get_latest_materialization_event(AssetKey("body_model"))
        assert event is not None
        metadata = event.asset_materialization.metadata
    assert metadata["vertices"].value > 9_930
    assert metadata["preview"].value.startswith("![preview.png](data:image/png;base64,")


@pytest.mark.slow
def test_dagster_dev_serves_the_graph_judges_a_new_file_and_stops_without_leftovers(workspace, tmp_path):
    config, env = workspace
    home = tmp_path / "workspace" / "dagster"
    inbox = tmp_path / "workspace" / "inbox"
    home.mkdir(parents=True)
    inbox.mkdir()
    (home / "dagster.yaml").write_text((ROOT / "configs" / "dagster.yaml").read_text())
    env |= {"DAGSTER_HOME": str(home), "SPEECH_AVATAR_CONFIG": str(config)}
    log, port = tmp_path / "log.txt", free_port()
    with log.open("w") as stream:
        # no module named: `dagster dev` finds it in pyproject.toml
        words = [sys.executable, "-m", "dagster", "dev", "--port", str(port)]
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        nodes = wait_for(process, log, lambda: ask(port, NODES)["assetNodes"])
        groups = {node["assetKey"]["path"][0]: node["groupName"] for node in nodes}
        assert len(groups) == 18
        assert groups["stage2_checkpoint"] == "training"

        (inbox / "not a 'video'.mp4").write_bytes(b"no video at all")
        runs = wait_for(process, log, lambda: ask(port, ENDED)["runsOrError"]["results"])
        assert [(run["pipelineName"], run["status"]) for run in runs] == [("talk", "FAILURE")]
        tags = {tag["key"]: tag["value"] for tag in runs[0]["tags"]}
        assert tags["dagster/partition"].startswith("not_a_video")
        reasons = ask(port, OBSERVED)["assetNodeOrError"]["assetObservations"][0]["metadataEntries"]
        assert "not a 'video'.mp4" in next(entry["text"] for entry in reasons if entry["label"] == "reason")
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        end = time.time() + 20
        while (left := marked(env[MARK])) and time.time() < end:
            time.sleep(0.5)
        for one in left:
            one.kill()
    assert process.returncode is not None
    assert not left, left
