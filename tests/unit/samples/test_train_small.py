import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from configs.schema import Config, TrainConfig
from model.stage1 import Stage1
from pipelines.body import body_hash
from pipelines.checkpoints import read_about, save_weights
from pipelines.processes import ProcessFailed
from samples.builders.corpus import Corpus
from samples.train_small import SKIRTS, Leg, small_legs, train_legs
from tests.tiny import tiny_stage1

SIZE, COUNT = 64, 600


def tiny(leg):
    """A leg with hardly any work."""
    training = leg.config.stage1_training.model_dump() | {"batch": 2, "views": 2, "render_size": 32, "optimizer": "adamw"}
    training |= {"deepspeed": "configs/deepspeed/cpu.json"}
    changes = {"stage1": tiny_stage1(SIZE, COUNT), "stage1_training": TrainConfig.model_validate(training)}
    return Leg(leg.name, replace(leg.spec, people=2, views=8, size=SIZE), leg.config.model_copy(update=changes))


def test_the_legs_of_the_shipped_weights_are_those_of_the_presets(tmp_path):
    first, many, whole = small_legs(tmp_path, [1000, 2600, 350], 85)
    assert [leg.spec.seed for leg in (first, many, whole)] == [85, 86, 87]
    assert [leg.spec.half_bodies for leg in (first, many, whole)] == [4, 4, 0]
    assert [leg.spec.skirts for leg in (first, many, whole)] == [SKIRTS, SKIRTS, 0]
    assert first.config.stage1_training == many.config.stage1_training
    assert whole.config.stage1_training.learned == ("corrections", "head", "skirt_features")
    assert len({leg.config.workspace for leg in (first, many, whole)}) == 3


@pytest.mark.slow
def test_legs_follow_each_other_and_end_by_the_clock(tmp_path, body):
    legs = [tiny(leg) for leg in small_legs(tmp_path, [2, 2, 2], 85)]
    torch.manual_seed(0)
    start = tmp_path / "start.safetensors"
    config = Config(stage1=legs[0].config.stage1)
    about = {"stage": "stage1", "config": config.model_dump(mode="json"), "body": body_hash(config)}
    save_weights(start, Stage1(legs[0].config.stage1, body), about)
    lines = []
    end = time.time() + 240
    trained = train_legs(legs, str(start), end, 2, lines.append)
    assert time.time() < end + 15
    about = read_about(trained)
    assert about["step"] > 0
    assert about["config"]["stage1_training"]["start_from"].endswith("many/checkpoints/stage1/stage1.safetensors")
    assert [line for line in lines if line.endswith("people drawn")] == [f"{leg.name}: 2 people drawn" for leg in legs]


def test_people_that_cannot_be_drawn_end_it_with_the_reason(tmp_path):
    leg, *_ = small_legs(tmp_path, [1, 1, 1], 85)
    spec = replace(leg.spec, views=8, size=16)
    Corpus(Path(leg.config.workspace), spec)
    (tmp_path / "first" / "people").write_text("in the way")
    with pytest.raises(ProcessFailed, match=r"draw\.log"):
        train_legs([replace(leg, spec=spec)], "nothing.safetensors", time.time() + 10, 1)
    assert "1 of 1 people failed" in (tmp_path / "first" / "draw.log").read_text()
