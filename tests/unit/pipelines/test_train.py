import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import pairwise

import numpy as np
import psutil
import pytest
import safetensors.torch
import torch
import yaml

from configs.places import from_project
from configs.schema import LossConfig, load_config
from pipelines import steps_stage1, train
from pipelines.ahead import ahead
from pipelines.body import body_hash
from pipelines.checkpoints import begin_with, load_stage1, load_stage2, read_about, run_id, save_weights, weights_file
from pipelines.export import export_half
from pipelines.launch import run_training
from pipelines.processes import ProcessFailed
from pipelines.tasks import learn_parts, make_task
from pipelines.training_log import TrainingLog, learning_rate


@pytest.fixture
def stage1_weights(corpus):
    """The corpus with untrained stage-1 weights in place, for what needs a file and no training."""
    config, store = corpus
    torch.manual_seed(0)
    task = make_task("stage1", config, store)
    about = {"stage": "stage1", "config": config.model_dump(mode="json"), "body": _body(config)}
    save_weights(weights_file(store, "stage1"), task.network, about)
    return config, store


def _body(config):
    from pipelines.body import body_hash

    return body_hash(config)


def test_stage1_learns_one_batch(corpus):
    config, store = corpus
    torch.manual_seed(0)
    task = make_task("stage1", config, store)
    batch = task.batches(_draw()).at(0).to("cpu")
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    totals = []
    for _ in range(12):
        torch.manual_seed(0)
        losses = task(batch, 0.0)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        totals.append(losses["total"].item())
    assert totals[-1] < 0.7 * totals[0]
    assert {"l1", "ssim", "mask", "smplx", "vertices", "regulariser"} <= set(losses)
    late = task(batch, 0.9)
    assert {"l1_predicted", "ssim_predicted", "mask_predicted"} <= set(late)
    figures, picture = task.validate()
    assert all(np.isfinite(list(figures.values())))
    assert picture.ndim == 3


def test_bodies_of_all_pictures_that_are_given_are_learned(corpus, monkeypatch):
    monkeypatch.setattr(steps_stage1, "SEVERAL_SHARE", 1.0)
    config, store = corpus
    torch.manual_seed(0)
    task = make_task("stage1", config, store)
    batch = task.batches(_draw()).at(0).to("cpu")
    assert batch.images.shape[1] == 2
    true = steps_stage1.in_camera(task.network, batch.view_params[:, :2], batch.input_cameras.w2c)
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)

    def errors():  # metres of joints, of each picture
        with torch.no_grad():
            found = task.network.encode_several(batch.images, batch.input_cameras, corrected=False).bodies
            guess, target = (steps_stage1.joints_of(task.network, p) for p in (found, true))
        return (guess - guess[:, :, :1] - target + target[:, :, :1]).norm(dim=-1).mean((0, 2))

    before = errors()
    for _ in range(12):
        torch.manual_seed(0)
        optimizer.zero_grad()
        task(batch, 0.0)["total"].backward()
        optimizer.step()
    assert (errors() < 0.8 * before).all()


def test_parts_are_learned_alone_and_bodies_not_drawn_that_are_not_learned(corpus):
    config, store = corpus
    torch.manual_seed(0)
    task = make_task("stage1", config, store)
    learn_parts(task.network, ["corrections", "head.out"])
    learned = {name for name, p in task.network.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learned} == {"corrections", "head"}
    assert "head.hidden.weight" not in learned
    losses = task(task.batches(_draw()).at(0).to("cpu"), 0.0)
    assert {"l1", "regulariser"} <= set(losses)
    assert not {"smplx", "l1_predicted"} & set(losses)
    losses["total"].backward()
    assert {name for name, p in task.network.named_parameters() if p.grad is not None} == learned
    with pytest.raises(ValueError, match="got heart which no learned parameter has"):
        learn_parts(task.network, ["corrections", "heart"])


def test_chamfer_pulls_gaussians_to_the_scan_and_spares_those_without():
    means = torch.rand(2, 50, 3, requires_grad=True)
    points = torch.stack([means[0].detach() + torch.tensor([0.1, 0.0, 0.0]), torch.full((50, 3), torch.nan)])
    loss = steps_stage1.surface_loss(means, points)
    loss.backward()
    assert 0 < loss.item() < 0.02
    assert means.grad[0].abs().sum() > 0
    assert not means.grad[1].any()
    assert steps_stage1.surface_loss(means, points[1:].expand(2, -1, -1)).item() == 0


@pytest.mark.parametrize("step", [0, 2], ids=["motion alone", "with pixels"])
def test_stage2_learns_motion_and_leaves_stage1_alone(stage1_weights, step):
    config, store = stage1_weights
    motion = LossConfig(l1=0, ssim=0, mask=0, token=0, regulariser=0)
    config = config.model_copy(update={"stage2_training": config.stage2_training.model_copy(update={"loss": motion})})
    torch.manual_seed(0)
    task = make_task("stage2", config, store)
    before = {k: v.clone() for k, v in task.network.stage1.state_dict().items()}
    batch = task.batches(_draw()).at(step)
    assert (batch.pictures is not None) == (step == 2)
    learned = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, 3e-3)
    totals = []
    for _ in range(40):
        torch.manual_seed(0)
        losses = task(batch, 0.0)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        totals.append(losses["total"].item())
    assert totals[-1] < 0.7 * totals[0]
    after = task.network.stage1.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())
    assert task.about() == {"audio_dim": 12}
    figures, _ = task.validate()
    assert figures["frozen_joints_mm"] > 0


def _draw():
    from pipelines.datasets import Draw

    return Draw(0, 2, 0, 0, 3)


def test_weights_carry_what_made_them_and_refuse_another_body(stage1_weights, tmp_path, monkeypatch):
    config, store = stage1_weights
    path = weights_file(store, "stage1")
    assert read_about(path)["config"]["stage1"]["width"] == 32
    # sizes come from the file, not from the configuration in use
    network = load_stage1(config.model_copy(update={"stage1": config.stage1.model_copy(update={"width": 64})}), path)
    assert network.config.width == 32
    assert not network.training
    with pytest.raises(ValueError, match="weights of stage2"):
        load_stage2(config, path)
    with pytest.raises(ValueError, match="train stage2 first"):
        load_stage2(config, store)
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 10)
    with pytest.raises(ValueError, match="something else"):
        load_stage1(config, tmp_path / "junk.safetensors")
    monkeypatch.setattr("pipelines.checkpoints.body_hash", lambda config: "other")
    with pytest.raises(ValueError, match="trained with body"):
        load_stage1(config, store)


def test_a_run_is_named_by_all_that_it_depends_on(stage1_weights):
    config, store = stage1_weights
    same = run_id(config, store, "stage1")
    assert run_id(config.model_copy(update={"fit": config.fit.model_copy(update={"window": 7})}), store, "stage1") == same
    assert run_id(config.model_copy(update={"seed": 5}), store, "stage1") != same
    stage2 = run_id(config, store, "stage2")
    weights_file(store, "stage1").write_bytes(b"other")
    assert run_id(config, store, "stage2") != stage2


def test_training_begins_with_given_weights_in_half_precision(stage1_weights, tmp_path):
    config, store = stage1_weights
    source, half = weights_file(store, "stage1"), tmp_path / "half.safetensors"
    assert export_half(source, half) < 0.6 * source.stat().st_size
    assert read_about(half) == read_about(source) | {"precision": "float16"}
    begun = config.model_copy(update={"stage1_training": config.stage1_training.model_copy(update={"start_from": str(half)})})
    assert run_id(begun, store, "stage1") != run_id(config, store, "stage1"), "what training starts from names the run"
    torch.manual_seed(1)
    task = make_task("stage1", config, store)
    begin_with(begun, "stage1", task.network)
    for name, value in load_stage1(config, source).named_parameters():
        torch.testing.assert_close(task.network.get_parameter(name), value, atol=1e-3, rtol=1e-3)
        assert task.network.get_parameter(name).dtype == torch.float32
    wider = config.model_copy(update={"stage1": config.stage1.model_copy(update={"width": 2 * config.stage1.width})})
    with pytest.raises(ValueError, match=r"half\.safetensors: weights do not fit the network"):
        begin_with(begun, "stage1", make_task("stage1", wider, store).network)


def test_exported_stage2_speaks_with_the_stage1_beside_it(stage1_weights, tmp_path):
    config, store = stage1_weights
    task = make_task("stage2", config, store)
    about = {"stage": "stage2", "config": config.model_dump(mode="json"), "body": body_hash(config), **task.about()}
    whole, half, beside = (tmp_path / name for name in ("whole.safetensors", "half.safetensors", "stage1.safetensors"))
    save_weights(whole, task.network, about)
    export_half(whole, half)
    with pytest.raises(ValueError, match=r"expected the stage-1 weights .* does not exist; put them there"):
        load_stage2(config, half)
    export_half(weights_file(store, "stage1"), beside)
    back, given = load_stage2(config, half).state_dict(), task.network.state_dict()
    assert back.keys() == given.keys()
    for name, value in given.items():
        exact = name.startswith(("generator.space.", "generator.surprises.", "generator.audio_"))
        torch.testing.assert_close(back[name], value, atol=0 if exact else 1e-3, rtol=0 if exact else 1e-3)
    other = {k: v + 1 if v.is_floating_point() else v for k, v in load_stage1(config, store).state_dict().items()}
    safetensors.torch.save_file(other, beside, metadata={"about": json.dumps(read_about(weights_file(store, "stage1")))})
    with pytest.raises(ValueError, match="does not hold them"):
        load_stage2(config, half)


def test_the_shipped_weights_are_those_that_the_demo_starts_from():
    config = load_config("configs/sample.yaml")
    shipped = from_project(config.stage1_training.start_from)
    assert shipped.stat().st_size <= 16e6
    network = load_stage1(config, shipped)
    assert network.config == config.stage1 == load_config("configs/small.yaml").stage1


def test_learning_rate_warms_up_and_falls():
    rates = [learning_rate(i, 100, 10, 1.0) for i in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] < 0.06
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_resumed_log_drops_what_will_be_made_again(tmp_path):
    first = TrainingLog(tmp_path, "stage1", 0, 6, lambda line: None)
    for step in (1, 2, 3):
        first.losses(step, {"total": 1.0 / step}, 0.1)
    first.path.write_text(first.path.read_text() + '{"step": 4, "tot')  # killed while it wrote
    second = TrainingLog(tmp_path, "stage1", 2, 6, lambda line: None)
    assert [json.loads(line)["step"] for line in second.path.read_text().splitlines()] == [1, 2]


def test_a_run_gets_as_many_steps_as_there_is_time_for(corpus):
    settings = corpus[0].stage1_training.model_copy(update={"steps": 100, "seconds": 10.0})
    expected = lambda step, spent: train.steps_within(settings, step, spent, torch.device("cpu"), 1)  # noqa: E731
    assert expected(5, 1.0) == 50
    assert expected(5, 0.01) == 100
    assert expected(30, 10.0) == 30
    assert train.steps_within(settings.model_copy(update={"seconds": None}), 5, 99.0, torch.device("cpu"), 1) == 100


def test_a_fault_in_the_data_reaches_the_training_loop():
    def batches():
        yield 1
        raise ValueError("broken shard")

    stream = ahead(batches(), depth=2)
    assert next(stream) == 1
    with pytest.raises(ValueError, match="broken shard"):
        next(stream)


@pytest.mark.slow
def test_training_ends_with_all_its_outputs_and_a_second_run_does_nothing(corpus):
    config, store = corpus
    lines = []
    record = run_training(config, store, "stage1", lines.append)
    folder = store.checkpoint("stage1")
    assert record.status == "ok"
    assert record.facts["step"] == 6
    assert [json.loads(x)["step"] for x in (folder / "metrics.jsonl").read_text().splitlines() if "total" in x] == [1, 2, 3, 4, 5, 6]
    assert any("step 6/6" in line for line in lines)
    assert list((folder / "tensorboard").iterdir())
    assert list((folder / "pictures").glob("*.png"))
    assert set(read_about(weights_file(store, "stage1"))) >= {"config", "body", "data", "commit", "step"}
    second = []
    assert run_training(config, store, "stage1", second.append) == record
    assert not second
    record = run_training(config, store, "stage2", lines.append)
    assert record.status == "ok"
    network = load_stage2(config, store)
    assert network.audio_dim == 12


@pytest.mark.slow
def test_a_run_with_little_time_ends_with_its_outputs_and_a_learning_rate_that_has_fallen(corpus):
    config, store = corpus
    little = {"steps": 100_000, "seconds": 4.0, "save_every": 50_000, "log_every": 1}
    config = config.model_copy(update={"stage1_training": config.stage1_training.model_copy(update=little)})
    record = run_training(config, store, "stage1", lambda line: None)
    assert 1 < record.facts["step"] < 1000
    assert record.facts["validation"]
    rows = [json.loads(x) for x in (store.checkpoint("stage1") / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert rates[-1] < 0.3 * max(rates)


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_state_and_ends_as_if_never_stopped(corpus, tmp_path):
    config, store = corpus
    config = config.model_copy(update={"stage1_training": config.stage1_training.model_copy(update={"steps": 10})})
    config_file = tmp_path / "config.yaml"
    config_file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    code = (
        "import sys; from configs.schema import load_config; from pipelines.store import Store; "
        "from pipelines.launch import run_training; c = load_config(sys.argv[1]); "
        "run_training(c, Store(c), 'stage1', lambda line: print(line, flush=True))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(config_file)], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "step 5/10" in line:  # states of steps 2 and 4 are on disk
            break
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=15)
    lines = []
    record = run_training(config, store, "stage1", lines.append)
    start = record.facts["resumed_from"]
    assert start in (4, 6, 8), "a step may pass between the line and the kill"
    assert any(f"goes on from step {start}/10" in line for line in lines)
    assert sum("step 1/10" in line for line in lines) == 0
    steps = [json.loads(x)["step"] for x in (store.checkpoint("stage1") / "metrics.jsonl").read_text().splitlines() if "total" in x]
    assert steps == list(range(1, 11))
    interrupted = {k: v.clone() for k, v in load_stage1(config, store).state_dict().items()}
    for folder in (store.checkpoint("stage1"), store.inside("records", "train_stage1")):
        shutil.rmtree(folder)
    run_training(config, store, "stage1", lines.append)
    whole = load_stage1(config, store).state_dict()
    worst = max((whole[k].float() - v.float()).abs().max().item() for k, v in interrupted.items())
    assert worst < 1e-4, "data, chance and learning rate follow from the step"


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_with_an_error_and_no_leftovers(corpus):
    config, store = corpus
    config = config.model_copy(update={"stage1_training": config.stage1_training.model_copy(update={"steps": 400, "processes": 2})})
    killed = []

    def kill_one(line):
        if " step 1/" in line and not killed:
            workers = [p for p in psutil.Process().children(recursive=True) if _is_worker(p)]
            assert len(workers) == 2
            killed.extend(workers)
            os.kill(workers[1].pid, signal.SIGKILL)

    with pytest.raises(ProcessFailed):
        run_training(config, store, "stage1", kill_one)
    assert killed
    assert not [p for p in killed if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _is_worker(process):
    with contextlib.suppress(psutil.Error):  # zombies have no command line
        return "pipelines.train" in process.cmdline() and "torch.distributed.run" not in process.cmdline()
    return False
