import numpy as np
import torch

from benchmarks.people_seen import hands_wholly_visible
from model.types import Camera, SmplxParams

TURNED = torch.tensor([0.0, np.pi / 2, 0.0])


def facing(distance: float) -> Camera:
    """A camera in front of the T-pose, 200 × 200 pixels."""
    w2c = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    w2c[2, 3] = distance
    return Camera(w2c, torch.tensor([[200.0, 0, 100], [0, 200, 100], [0, 0, 1]]), torch.tensor([200, 200]))


def test_hands_count_as_visible_inside_the_picture_and_in_front(body):
    still = SmplxParams.zeros(2)
    side_on = SmplxParams(**{**still.__dict__, "global_orient": torch.stack([torch.zeros(3), TURNED])})
    front, side = hands_wholly_visible(body, side_on, facing(3.0))
    assert front.all()
    assert not side[0], "the trunk hides the far hand"
    assert not hands_wholly_visible(body, still, facing(1.2)).any(), "too close: the hands are out of the picture"
