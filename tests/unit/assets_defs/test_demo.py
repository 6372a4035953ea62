"""The demo's orchestration: what is out of date runs, once; what is bad is reported and left out.

Each test is a story of several calls, since a call with nothing to do is cheap and one with all to do is not.
"""

from pathlib import Path

from dagster import AssetKey
from rich.console import Console

from assets_defs.demo import materialise_all, results
from assets_defs.resources import Settings


def run(bench):
    config, store = Settings().load()
    outcomes = materialise_all(bench.instance, config, store, Console(quiet=True))
    return {name: outcome.states for name, outcome in outcomes.items()}, outcomes


def test_only_what_changed_runs(bench):
    bench.drop("a")
    first, outcomes = run(bench)
    assert {name: states for name, states in first.items() if set(states) != {"made"}} == {}, outcomes
    assert [name for name, _ in results(bench.instance)] == ["speaking_video", "baseline_comparison"]
    event = bench.instance.get_latest_materialization_event(AssetKey("stage1_evaluation"))
    assert event.asset_materialization.metadata["psnr"].value == 21.5
    assert event.asset_materialization.metadata["odd"].value == "nan", "the UI cannot read a NaN number"

    before = bench.versions()
    second, _ = run(bench)
    assert {name for states in second.values() for name in states} == {"up to date"}
    assert bench.versions() == before

    (video,) = (path for name, path in results(bench.instance) if name == "speaking_video")
    Path(video).unlink()
    states, _ = run(bench)
    assert states["speaking_video"] == {"made": 1}, "what was deleted is made again"
    assert states["stage2_checkpoint"] == states["baseline_comparison"] == {"up to date": 1}

    bench.configure(evaluation={"max_clips": 3})
    states, _ = run(bench)
    made = {name for name, state in states.items() if state == {"made": 1}}
    assert {"stage1_evaluation", "stage2_evaluation"} <= made
    assert not made & {"talk_clips", "stage1_checkpoint", "talk_shards"}

    bench.configure(cut={"min_seconds": 1.0})
    states, _ = run(bench)
    assert states["talk_videos"] == {"up to date": 1}
    assert states["talk_clips"] == states["clip_fits"] == states["talk_shards"] == {"made": 1}
    assert states["stage1_checkpoint"] == {"up to date": 1}, "what was packed is the same, so nothing trains"

    before = bench.versions()
    bench.drop("b")
    states, _ = run(bench)
    assert states["talk_videos"] == {"up to date": 1, "made": 1}
    assert states["scan_shards"] == {"up to date": 1}
    assert states["talk_shards"] == states["stage2_checkpoint"] == {"made": 1}
    after = bench.versions()
    assert all(after[unit] == version for unit, version in before.items() if unit[1] == "a")


def test_bad_talks_are_left_out_and_bad_shards_train_nothing(bench):
    bench.drop("a", "lost")
    bench.drop("b", "hidden arms")
    bench.drop("c", "bad")
    bench.drop("d", "silent")
    states, outcomes = run(bench)
    assert states["talk_videos"] == {"made": 3, "rejected": 1}
    assert states["talk_clips"] == {"made": 2, "left out": 1, "rejected": 1}
    assert states["clip_fits"] == {"check failed": 1, "made": 1, "left out": 2}
    assert states["talk_shards"] == states["stage1_checkpoint"] == states["baseline_comparison"] == {"made": 1}
    assert outcomes["talk_videos"].lines == ["c: 'c.mp4': expected a video, got something else"]

    runs = bench.instance.get_runs_count()
    states, _ = run(bench)
    assert states["talk_videos"] == {"up to date": 3, "rejected": 1}
    assert states["clip_fits"] == {"check failed": 1, "up to date": 1, "left out": 2}
    assert bench.instance.get_runs_count() == runs, "what was judged is not tried again"

    bench.drop("b", "lost as well")
    bench.drop("c", "nan")
    states, outcomes = run(bench)
    assert states["talk_videos"] == {"up to date": 2, "made": 2}
    assert states["talk_shards"] == {"check failed": 1}
    assert "talk_shards_are_finite" in outcomes["talk_shards"].lines[0]
    assert "talk_shards_follow_their_pictures" in outcomes["talk_shards"].lines[0]
    assert states["stage1_checkpoint"] == {"waits": 1}
    states, _ = run(bench)
    assert states["talk_shards"] == {"check failed": 1}, "a failed check still stands at the next call"
    assert states["stage2_checkpoint"] == {"waits": 1}
