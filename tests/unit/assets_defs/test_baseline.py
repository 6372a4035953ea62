"""A check-out's progress and failures in the Dagster run that waits for it."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from dagster import DagsterInstance, materialize

from assets_defs.baseline import baseline_motion
from assets_defs.resources import Settings
from pipelines import baseline
from pipelines.baseline_checkouts import emage_motion
from pipelines.convert import context_of
from pipelines.store import Record

_spec = importlib.util.spec_from_file_location("checkouts", Path(__file__).parents[1] / "pipelines" / "checkouts.py")
checkouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(checkouts)


@pytest.mark.parametrize("fault", ["", "fails"])
def test_lines_progress_and_failure_of_a_check_out_come_home(tmp_path, monkeypatch, fault):
    installed = checkouts.write_checkouts(tmp_path / "baseline")
    checkouts.break_it(installed["pantomatrix"], fault)
    (tmp_path / "config.yaml").write_text(json.dumps({"workspace": str(tmp_path / "workspace"), "baseline": installed}))

    def motion(config, store, home):
        emage_motion(config.baseline, {"a": np.full(16000, 0.1, np.float32)}, tmp_path / "out", context_of(config), home)
        return Record("baseline_motion", "all", "1", "", "ok", "0123456789abcdef")

    monkeypatch.setattr(baseline, "motion", motion)
    with DagsterInstance.ephemeral(str(tmp_path)) as instance:
        settings = Settings(config=str(tmp_path / "config.yaml"))
        result = materialize([baseline_motion], instance=instance, resources={"settings": settings}, raise_on_error=False)
        assert result.success == (not fault)
        messages = [(r.level, r.user_message) for r in instance.all_logs(result.run_id)]
        assert (10, "loading weights no environment of ours") in messages  # every line, at debug level
        assert any(level == 20 and "EMAGE: Inference: 0%" in text for level, text in messages)  # progress, through Pipes
        if fault:
            failure = result.failure_data_for_node("baseline_motion").user_failure_data
            assert failure.description == "EMAGE ended with code 1: RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB"
