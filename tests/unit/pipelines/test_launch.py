import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from dagster_pipes import encode_param

from pipelines.launch import command, environment, run_training
from pipelines.pipes import open_progress
from pipelines.processes import ProcessFailed, end_processes, follow
from pipelines.store import Store
from pipelines.watchdog import RUN_VARIABLE

# a parent that starts a grandchild in a session of its own, as torch's agent does, and prints its pid
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("pid", child.pid, flush=True)
{rest}
"""


def script(rest: str) -> list[str]:
    return [sys.executable, "-c", FAMILY.format(rest=rest)]


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_lines_come_as_they_are_written_and_grandchildren_end_with_the_run():
    lines = []
    follow(script("print('last', end='')"), lines.append, os.environ)
    assert lines[1] == "last"
    assert gone(int(lines[0].split()[1])), "it held the pipe open and outlived its parent"


def test_an_exception_in_the_listener_ends_everyone():
    pids = []

    def stop(line):
        pids.append(int(line.split()[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(script("time.sleep(600)"), stop, os.environ)
    assert gone(pids[0])


def test_a_process_that_ignores_sigterm_is_killed():
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, RUN_VARIABLE: "mark"})
    assert process.stdout.readline()
    end_processes(process, "mark")
    assert process.poll() == -signal.SIGKILL


def test_failure_is_one_line_with_the_cause():
    code = "print('noise'); print('error: ValueError: too hot'); raise SystemExit(3)"
    with pytest.raises(ProcessFailed, match=r"^it ended with code 3: ValueError: too hot$"):
        follow([sys.executable, "-c", code], lambda line: None, os.environ)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ending_the_launcher_leaves_nobody(tmp_path, how):
    """SIGKILL cannot be caught: then the worker's watchdog must notice."""
    worker = "from pipelines.watchdog import watch; import time; watch(); print('up', flush=True); time.sleep(600)"
    agent = f"""
    import subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", {worker!r}], start_new_session=True)
    print("pid", child.pid, flush=True)
    child.wait()
    """
    launcher = f"""
    import os, sys
    from pipelines.processes import follow
    follow([sys.executable, "-c", {textwrap.dedent(agent)!r}], lambda line: print(line, flush=True), os.environ)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(launcher)], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline(), process.stdout.readline()]
    worker_pid = next(int(line.split()[1]) for line in lines if line.startswith("pid"))
    process.send_signal(how)
    assert process.wait(20) != 0
    assert gone(worker_pid)


def test_the_command_starts_torch_distributed_run_with_the_processes_asked_for(make_config):
    config = make_config(stage1_training={"processes": 2})
    words = command(config, "stage1", "c.yaml")
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert words[words.index("--nproc-per-node") + 1] == "2"
    env = environment(config, "stage1", {"DAGSTER_PIPES_CONTEXT": "x"})
    assert env["DAGSTER_PIPES_CONTEXT"] == "x"


def test_without_shards_nothing_is_started(make_config):
    config = make_config()
    with pytest.raises(ValueError, match="expected shards"):
        run_training(config, Store(config), "stage1")
    with pytest.raises(ValueError, match="expected shards"):
        run_training(config, Store(config), "stage2")


@pytest.fixture
def pipes_files(tmp_path, monkeypatch):
    """The files of a Dagster Pipes session, named in the environment as Dagster does; returns that of the messages."""
    context = {
        "asset_keys": None, "code_version_by_asset_key": None, "provenance_by_asset_key": None, "partition_key": None,
        "partition_key_range": None, "partition_time_window": None, "run_id": "r", "job_name": None, "retry_number": 0, "extras": {},
    }  # fmt: skip
    (tmp_path / "context").write_text(json.dumps(context))
    messages = tmp_path / "messages"
    messages.touch()
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"path": str(tmp_path / "context")}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(messages)}))
    return messages


def test_only_the_first_process_reports_to_dagster(pipes_files):
    with open_progress(1) as say:
        say("from the second")
    assert not pipes_files.read_text()
    with open_progress(0) as say:
        say("step 1/6")
    messages = [json.loads(line) for line in pipes_files.read_text().splitlines()]
    assert [m["method"] for m in messages] == ["opened", "log", "closed"]
    assert messages[1]["params"]["message"] == "step 1/6"


def test_without_dagster_nothing_is_opened(monkeypatch):
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT", raising=False)
    with open_progress(0) as say:
        say("step 1/6")
