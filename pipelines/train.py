"""The training process: `python -m pipelines.train --stage stage1 --config FILE`, one per device under torch.distributed.run.

DeepSpeed (ZeRO) holds optimiser and gradients; what is learned lies in steps_stage1.py and steps_stage2.py. Everything random
follows from (seed, step, process) and the learning rate from the step, so a run that was killed goes on from its last
saved state as if it had never stopped. On several machines start this module under torchrun on each, with one shared
workspace; `pipelines.launch` starts it on one.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from configs.places import from_project
from configs.schema import Config, TrainConfig, load_config
from pipelines.ahead import ahead
from pipelines.checkpoints import (
    Stage,
    begin_with,
    data_versions,
    device_name,
    run_id,
    save_weights,
    training_config,
    training_inputs,
    weights_file,
)
from pipelines.datasets import Draw
from pipelines.optimizer import make_optimizer
from pipelines.pipes import open_progress
from pipelines.provenance import commit
from pipelines.store import Store
from pipelines.tasks import Task, learn_parts, make_task
from pipelines.training_log import TrainingLog, learning_rate
from pipelines.watchdog import watch
from pipelines.weight_average import WeightAverage

KEPT_STATES = 2
COMPLETE = "complete"  # file that marks a state whose every part was written
SO_FAR = "so_far.safetensors"  # the weights at the last saved state, of a run that may never end


def main() -> None:
    """Entry point of one process; exits 1 with one line `error: …` after the traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=["stage1", "stage2"], required=True)
    parser.add_argument("--config", required=True, help="resolved configuration, YAML")
    arguments = parser.parse_args()
    watch()
    try:
        config = load_config(arguments.config)
        with open_progress(int(os.environ.get("RANK", "0"))) as say:
            train(config, Store(config), arguments.stage, say)
    except Exception as error:
        traceback.print_exc()
        print(f"error: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        sys.stdout.flush()
        os._exit(1)  # a peer may wait in a collective: do not wait for it


def train(config: Config, store: Store, stage: Stage, say: Callable[[str], None]) -> None:
    """Train a stage from its last saved state to `steps`, then export its weights."""
    settings = training_config(config, stage)
    rank, world, device = _start_processes()
    torch.manual_seed(config.seed)
    task = make_task(stage, config, store).to(device)
    begin_with(config, stage, task.network)
    learn_parts(task.network, settings.learned)
    task.begin()
    engine = _engine(task, settings, device)
    states = store.checkpoint(stage) / "deepspeed" / run_id(config, store, stage)
    average = WeightAverage(task.network, settings.average)
    start, spent = _resume(engine, average, states, rank)
    log = TrainingLog(store.checkpoint(stage), stage, start, settings.steps, say) if rank == 0 else None
    if start and log:
        print(f"{stage} goes on from step {start}/{settings.steps}", flush=True)
    sums: dict[str, Tensor] = {}
    began, count, done = time.perf_counter(), 0, start
    elapsed = lambda: spent + time.perf_counter() - began  # noqa: E731

    def about(step: int, seconds: float) -> dict[str, Any]:
        return {
            "stage": stage, "step": step, "seconds": seconds, "resumed_from": start, "processes": world,
            "samples_per_second": (step - start) * settings.batch * world / max(1e-9, seconds - spent),
            "device": device_name(), "rasterizer": task.rasterizer, "commit": commit(), "data": data_versions(store, stage),
        }  # fmt: skip

    def made(step: int, seconds: float) -> dict[str, Any]:
        """What the weights file says of itself."""
        body = training_inputs(config, store, stage)["body"]
        return {**about(step, seconds), **task.about(), "body": body, "config": config.model_dump(mode="json")}

    draw, steps = Draw(config.seed, settings.batch, rank, start, settings.steps), settings.steps
    for step, batch in zip(range(start, settings.steps), ahead(task.batches(draw), depth=2), strict=True):
        rate = learning_rate(step, steps, settings.warmup, settings.learning_rate)
        for group in engine.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(hash((config.seed, step, rank)) % 2**63)
        losses = engine(batch.to(device), step / steps)
        engine.backward(losses["total"])
        engine.step()
        sums = {k: sums.get(k, torch.zeros((), device=device)) + v.detach() for k, v in losses.items()}
        count += 1
        done = step + 1
        steps = steps_within(settings, done, elapsed(), device, world)
        average.update(done)
        if done % settings.log_every == 0 or done == steps:
            means = _mean(sums, count, world)
            if log:
                log.steps = steps
                log.losses(done, means, rate)
            sums, count = {}, 0
        if done % settings.save_every == 0 or done == steps:
            _save(engine, average, states, done, elapsed(), rank)
            if log:
                with average.shown():
                    save_weights(store.checkpoint(stage) / SO_FAR, task.network, made(done, elapsed()))
                    log.validation(done, *task.validate())
            dist.barrier()
        if done == steps:
            break
    if log:
        with average.shown():
            save_weights(weights_file(store, stage), task.network, made(done, elapsed()))
        log.close(about(done, elapsed()))
    dist.barrier()
    dist.destroy_process_group()


def steps_within(settings: TrainConfig, step: int, spent: float, device: torch.device, world: int) -> int:
    """How many steps there will be: those asked for, or as many as the first process' clock leaves time for."""
    if settings.seconds is None:
        return settings.steps
    if world > 1:
        clock = torch.tensor(spent, dtype=torch.float64, device=device)
        dist.broadcast(clock, 0)
        spent = clock.item()
    used = spent / settings.seconds
    return min(settings.steps, step if used >= 1 else math.ceil(step / used))


def _start_processes() -> tuple[int, int, torch.device]:
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    rank, world, local = (int(os.environ.get(n, d)) for n, d in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
        device, backend = torch.device("cuda", local), "nccl"
    else:
        device, backend = torch.device("cpu"), "gloo"
        # else DeepSpeed compiles a shared-memory extension with g++ when it starts
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    dist.init_process_group(backend, device_id=device if device.type == "cuda" else None)
    deepspeed.init_distributed(dist_backend=backend, auto_mpi_discovery=False, verbose=False)
    return rank, world, device


def _engine(task: Task, settings: TrainConfig, device: torch.device) -> Any:
    import deepspeed

    path = from_project(settings.deepspeed)
    if not path.is_file():
        raise ValueError(f"deepspeed: expected a configuration file, got {settings.deepspeed} which does not exist")
    options = json.loads(path.read_text()) | {"train_micro_batch_size_per_gpu": settings.batch, "gradient_accumulation_steps": 1}
    if device.type == "cpu":
        options.pop("torch_autocast", None)
    stage = options.get("zero_optimization", {}).get("stage", 0)
    if settings.optimizer == "muon" and stage:
        raise ValueError(
            f"optimizer muon: expected ZeRO stage 0, which keeps matrices whole, got {stage} in {settings.deepspeed}; choose zero0.json"
        )
    # an optimiser made by DeepSpeed would compile fused kernels
    optimizer = make_optimizer(task, settings)
    return deepspeed.initialize(model=task, model_parameters=optimizer.param_groups, optimizer=optimizer, config=options)[0]


def _resume(engine: Any, average: WeightAverage, states: Path, rank: int) -> tuple[int, float]:
    """Load the newest complete state: its step and the seconds spent until then; states of other runs are removed."""
    if rank == 0 and states.parent.is_dir():
        for other in states.parent.iterdir():
            if other != states:
                shutil.rmtree(other, ignore_errors=True)
    dist.barrier()
    whole = sorted(p.name for p in states.glob("step*") if (p / COMPLETE).is_file())
    if not whole:
        return 0, 0.0
    path, client = engine.load_checkpoint(str(states), tag=whole[-1], load_module_strict=False)
    if path is None:
        raise ValueError(f"state {states / whole[-1]} could not be read; remove the folder to train from the start")
    average.load(client["average"])
    return int(client["step"]), float(client["seconds"])


def _save(engine: Any, average: WeightAverage, states: Path, step: int, seconds: float, rank: int) -> None:
    tag = f"step{step:08d}"
    client = {"step": step, "seconds": seconds, "average": average.state()}
    engine.save_checkpoint(str(states), tag=tag, client_state=client, save_latest=False, exclude_frozen_parameters=True)
    dist.barrier()
    if rank == 0:
        (states / tag / COMPLETE).touch()
        for old in sorted(states.glob("step*"))[:-KEPT_STATES]:
            shutil.rmtree(old, ignore_errors=True)


def _mean(sums: dict[str, Tensor], count: int, world: int) -> dict[str, float]:
    """Mean losses since the last call over all processes. ValueError where one is not finite."""
    total = torch.stack([v.float() for v in sums.values()])
    dist.all_reduce(total)
    means = dict(zip(sums, (total / (count * world)).tolist(), strict=True))
    bad = [name for name, value in means.items() if value != value or abs(value) == float("inf")]
    if bad:
        raise ValueError(f"training diverged: {', '.join(bad)} not finite; lower the learning rate or look at the data")
    return means


if __name__ == "__main__":
    main()
