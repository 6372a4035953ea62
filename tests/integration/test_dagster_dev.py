"""Dagster as a user meets it: the documented line, the command line, `dagster dev` from its start to a clean end, a
training run that is cancelled, killed, and taken up again."""

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
import yaml
from dagster import AssetKey, DagsterInstance

ROOT = Path(__file__).parents[2]
MARK = "SPEECH_AVATAR_TEST"
LINE = 'eval "$({python} -m assets_defs.demo --env --config {config})"'  # as in the README
NODES = "{assetNodes {assetKey {path} groupName}}"
ENDED = """{runsOrError(filter: {statuses: [FAILURE, SUCCESS]}) {
  ... on Runs {results {status pipelineName tags {key value}}}}}"""
LAUNCH = """mutation {launchPipelineExecution(executionParams: {mode: "default", runConfigData: {}, selector: {
  repositoryLocationName: "assets_defs.definitions", repositoryName: "__repository__", pipelineName: "__ASSET_JOB",
  assetSelection: [{path: "stage1_checkpoint"}]}}) {__typename ... on LaunchRunSuccess {run {runId}}}}"""
TERMINATE = 'mutation {terminateRun(runId: "%s") {__typename}}'
STATUS = '{runOrError(runId: "%s") {... on Run {status}}}'
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


@contextlib.contextmanager
def dagster_dev(config: Path, env: dict[str, str]):
    """A running `dagster dev`: a function that asks its GraphQL until there is an answer. No process may outlive it."""
    root = config.parent
    home = root / "workspace" / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "configs" / "dagster.yaml").read_text())
    env = env | {"DAGSTER_HOME": str(home), "SPEECH_AVATAR_CONFIG": str(config)}
    log, port = root / "log.txt", free_port()
    with log.open("w") as stream:
        # no module named: `dagster dev` finds it in pyproject.toml
        words = [sys.executable, "-m", "dagster", "dev", "--port", str(port)]
        process = subprocess.Popen(words, cwd=ROOT, env=env, stdout=stream, stderr=stream, start_new_session=True)
    try:
        yield lambda query, pick: wait_for(process, log, lambda: pick(ask(port, query)))
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        left = remaining(env[MARK])
        for one in left:
            one.kill()
    assert process.returncode is not None
    assert not left, left


def remaining(mark: str, seconds: float = 20) -> list[psutil.Process]:
    """Processes still there after some time to end in."""
    end = time.time() + seconds
    while (left := marked(mark)) and time.time() < end:
        time.sleep(0.5)
    return left


@pytest.mark.slow
def test_dagster_dev_serves_the_graph_judges_a_new_file_and_stops_without_leftovers(workspace, tmp_path):
    config, env = workspace
    inbox = tmp_path / "workspace" / "inbox"
    inbox.mkdir(parents=True)
    with dagster_dev(config, env) as answer:
        nodes = answer(NODES, lambda data: data["assetNodes"])
        groups = {node["assetKey"]["path"][0]: node["groupName"] for node in nodes}
        assert len(groups) == 18
        assert groups["stage2_checkpoint"] == "training"

        (inbox / "not a 'video'.mp4").write_bytes(b"no video at all")
        runs = answer(ENDED, lambda data: data["runsOrError"]["results"])
        assert [(run["pipelineName"], run["status"]) for run in runs] == [("talk", "FAILURE")]
        tags = {tag["key"]: tag["value"] for tag in runs[0]["tags"]}
        assert tags["dagster/partition"].startswith("not_a_video")
        observation = answer(OBSERVED, lambda data: data["assetNodeOrError"]["assetObservations"])[0]
        reason = next(entry["text"] for entry in observation["metadataEntries"] if entry["label"] == "reason")
        assert "not a 'video'.mp4" in reason


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_is_cancelled_killed_and_taken_up_again(workspace, tmp_path):
    config, env = workspace
    settings = yaml.safe_load((ROOT / "configs" / "debug.yaml").read_text())
    settings |= {"workspace": str(tmp_path / "workspace"), "talks": {"include_samples": False}}
    settings["stage1_training"] |= {"steps": 40, "save_every": 4}
    config.write_text(yaml.safe_dump(settings))
    losses = tmp_path / "workspace" / "checkpoints" / "stage1" / "metrics.jsonl"

    def steps() -> int:
        return len(losses.read_text().splitlines()) if losses.is_file() else 0

    def materialise(selection: str) -> subprocess.Popen:
        line = LINE.format(python=sys.executable, config=config)
        script = f"{line} && exec dagster asset materialize --select {selection}"
        return subprocess.Popen(["bash", "-c", script], cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    made = materialise("body_model,scan_renders,scan_shards")
    assert made.wait(300) == 0, made.stdout.read()

    with dagster_dev(config, env) as answer:  # the button "Terminate"
        answer(NODES, lambda data: data["assetNodes"])
        run = answer(LAUNCH, lambda data: data["launchPipelineExecution"].get("run"))["runId"]
        answer(NODES, lambda _: steps() >= 2)
        trainers = [p for p in marked(env[MARK]) if "pipelines.train" in p.cmdline()]
        assert trainers
        answer(TERMINATE % run, lambda data: data["terminateRun"]["__typename"] == "TerminateRunSuccess")
        answer(STATUS % run, lambda data: data["runOrError"]["status"] == "CANCELED")
        _, alive = psutil.wait_procs(trainers, 20)
        assert not alive

    killed = materialise("stage1_checkpoint")
    end = time.time() + 200
    while steps() < 10 and time.time() < end and killed.poll() is None:
        time.sleep(0.2)
    for process in marked(env[MARK]):
        process.kill()
    assert killed.wait() != 0
    assert remaining(env[MARK]) == []

    again = materialise("stage1_checkpoint")
    assert again.wait(300) == 0, again.stdout.read()
    summary = json.loads((losses.parent / "summary.json").read_text())
    assert summary["step"] == 40
    assert 4 <= summary["resumed_from"] < 40
