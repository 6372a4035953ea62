"""What the report says that each side learned from, told by its weights."""

import torch

from configs.schema import Config
from pipelines.checkpoints import save_weights, weights_file
from pipelines.learned import NAMES, learned
from pipelines.store import Store

SIDE = NAMES["end_to_end"]


def stage2(path, steps, start=None, data="a1"):
    training = {"start_from": start, "steps": steps, "batch": 2, "windows": 4}
    config = Config.model_validate({"stage2_training": training} if start or steps else {}).model_dump(mode="json")
    save_weights(path, torch.nn.Linear(1, 1), {"stage": "stage2", "step": steps, "config": config, "data": {"motions": data}})


def test_training_that_went_on_is_told_after_what_it_began_with(tmp_path):
    store = Store(Config(workspace=str(tmp_path / "workspace")))
    assert learned(store) == {}
    shipped = tmp_path / "shipped.safetensors"
    stage2(shipped, 4000)
    stage2(weights_file(store, "stage2"), 90, str(shipped), "b2")
    found = learned(store)[SIDE]
    assert (found["data"], found["steps"]) == ("motions a1, then motions b2", "4,000, then 90")
    # a copy learned nothing itself
    stage2(weights_file(store, "stage2"), 0, str(shipped), "b2")
    assert learned(store)[SIDE]["steps"] == "4,000"


def test_weights_that_replaced_what_they_began_with_say_so(tmp_path):
    store = Store(Config(workspace=str(tmp_path / "workspace")))
    stage2(weights_file(store, "stage2"), 300, str(weights_file(store, "stage2")))
    assert learned(store)[SIDE]["data"] == "after earlier weights, motions a1"
    stage2(weights_file(store, "stage2"), 300, str(tmp_path / "gone.safetensors"))
    assert learned(store)[SIDE]["data"] == "after earlier weights, motions a1"
