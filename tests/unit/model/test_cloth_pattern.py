"""Patterns of cloth: they go on where they are not seen, and what is no pattern does not."""

import pytest
import torch

from model.anchors import Anchors
from model.cloth_pattern import PARTS, ClothPattern
from model.stage1 import PATTERN, Stage1
from model.types import Camera, SmplxParams
from tests.tiny import tiny_stage1

SKIN, SHEET = 6144, 2048


@pytest.fixture(scope="module")
def anchors(body):
    return Anchors(body, SKIN, 1.0, SHEET)


@pytest.fixture(scope="module")
def pattern(body, anchors):
    return ClothPattern(body, anchors.places, anchors.sheet, 6)


@pytest.fixture(scope="module")
def flat(pattern, anchors):
    """Metres along and across of all anchors, and their part, -1 where none."""
    unrolled = pattern._unrolled(anchors.places[None])
    part = torch.arange(len(PARTS)).repeat_interleave(pattern.index.shape[1])[pattern.back]
    inside = pattern.inside > 0
    back = lambda x: torch.where(inside, x.flatten()[pattern.back], 0.0)  # noqa: E731
    return back(unrolled.along), back(unrolled.across), torch.where(inside, part, -1)


def front(anchors):
    return ((anchors.frames[..., 2][:, 2] - 0.1) / 0.25).clamp(0, 1)


def painted(how):
    """Two colours mixed by shares [N] in 0..1."""
    first, second = torch.tensor([0.7, 0.2, 0.2]), torch.tensor([0.2, 0.3, 0.7])
    return first + how[:, None] * (second - first)


def behind(anchors, flat, part):
    return (anchors.frames[..., 2][:, 2] < -0.2) & (flat[2] == PARTS.index(part))


def agreement(found, true):
    """Correlation of differences of colours [N, 3] with true ones."""
    found, true = (x - x.mean(0) for x in (found, true))
    return float((found * true).sum() / (found.norm() * true.norm()).clamp(min=1e-9))


STRIPES = {
    "level": lambda along, across: torch.cos(2 * torch.pi * along / 0.06),
    "upright": lambda along, across: torch.cos(2 * torch.pi * across / 0.05),
    "checks": lambda along, across: (torch.cos(2 * torch.pi * along / 0.06) + torch.cos(2 * torch.pi * across / 0.06)) / 2,
    "dots": lambda along, across: torch.cos(2 * torch.pi * along / 0.07) * torch.cos(2 * torch.pi * across / 0.08),
}


@pytest.mark.parametrize("kind", STRIPES)
def test_what_the_front_shows_goes_on_behind(pattern, anchors, flat, kind):
    torch.manual_seed(0)
    colors = painted(0.5 + 0.4 * STRIPES[kind](*flat[:2]))
    shade = 0.1 * anchors.frames[..., 2][:, :1] + 0.02 * torch.randn(len(anchors), 3)
    here = pattern((colors + shade)[None], front(anchors)[None], anchors.places[None], anchors.places[None])[1][0]
    for part in ("trunk", "arms", "legs"):
        hidden = behind(anchors, flat, part)
        assert agreement(here[hidden], colors[hidden]) > 0.9, part
    outside = flat[2] < 0
    assert not here[outside].any()


def test_sheet_has_its_own_pattern(pattern, anchors, flat):
    skirt = flat[2] == PARTS.index("skirt")
    colors = painted(torch.where(skirt, 0.5 + 0.4 * torch.cos(2 * torch.pi * flat[0] / 0.08), 0.5))
    here = pattern(colors[None], front(anchors)[None], anchors.places[None], anchors.places[None])[1][0]
    hidden = behind(anchors, flat, "skirt")
    assert agreement(here[hidden], colors[hidden]) > 0.9
    assert not here[~skirt].any()


@pytest.mark.parametrize("what", ["plain", "shaded", "noise", "print"])
def test_what_is_no_pattern_does_not_go_on(pattern, anchors, flat, what):
    torch.manual_seed(1)
    normal, place = anchors.frames[..., 2], anchors.places
    share = {
        "plain": torch.zeros(len(anchors)), "shaded": 0.3 * normal[:, 0], "noise": 0.1 * torch.randn(len(anchors)),
        "print": ((place[:, 0].square() + (place[:, 1] + 0.1).square()).sqrt() < 0.06).float(),
    }[what]  # fmt: skip
    here, strength = pattern(painted(share)[None], front(anchors)[None], place[None], place[None])[1:]
    assert float(here.square().mean().sqrt()) < 0.01
    assert float(strength.amax()) < 0.05


def test_nothing_is_made_of_what_is_not_seen(pattern, anchors):
    found = pattern(torch.rand(1, len(anchors), 3), torch.zeros(1, len(anchors)), anchors.places[None], anchors.places[None])
    assert not any(x.any() for x in found)


def test_people_of_a_batch_do_not_mix(pattern, anchors, flat):
    kinds = [painted(0.5 + 0.4 * kind(*flat[:2])) for kind in STRIPES.values()]
    weight, place = front(anchors), anchors.places
    many = pattern(torch.stack(kinds), weight.expand(len(kinds), -1), place.expand(len(kinds), -1, -1), place.expand(len(kinds), -1, -1))
    alone = pattern(kinds[1][None], weight[None], place[None], place[None])
    for together, one in zip(many, alone, strict=True):
        torch.testing.assert_close(together[1], one[0], atol=1e-3, rtol=0)


def test_it_keeps_its_precision_in_a_network_that_is_cast(pattern, anchors, flat):
    colors = painted(0.5 + 0.4 * STRIPES["upright"](*flat[:2]))[None]
    given = colors, front(anchors)[None], anchors.places[None], anchors.places[None]
    before = pattern(*given)
    for x, y in zip(before, pattern.bfloat16()(*given), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("views", [1, 2])
def test_a_network_guesses_stripes_behind_where_it_is_asked_to_hear_of_patterns(body, views):
    """Pictures, one or two the same, of level stripes on all that they show, the body before them."""
    side, focal, away, period = 256, 17 * 256, 34.0, 0.08  # from afar, that all is shown alike
    torch.manual_seed(0)
    plain = Stage1(tiny_stage1(side, 4096), body)
    heard = Stage1(tiny_stage1(side, 4096).model_copy(update={"patterns": 3}), body)
    assert plain.cloth_pattern is None
    assert heard.anchor_features[0].in_features == plain.anchor_features[0].in_features + PATTERN
    rows = (torch.arange(side) + 0.5 - side / 2) * away / focal
    wave = 0.5 + 0.3 * torch.cos(2 * torch.pi * rows / period)
    pictures = wave[:, None].expand(1, views, 3, side, side)
    motion = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).repeat(views, 1, 1)
    motion[:, :3, 3] = torch.tensor([0.0, -0.4, away])
    params = body.moved(SmplxParams.zeros(views), motion).map(lambda x: x[None])
    k = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]]).expand(1, views, 3, 3)
    cameras = Camera(torch.eye(4).expand(1, views, 4, 4), k, torch.tensor([side, side]).expand(1, views, 2))
    with torch.no_grad():
        guess = heard.encode_several(pictures, cameras, params, corrected=False).pixels[0, :, -4]
    anchors = heard.anchors
    behind = (anchors.frames[..., 2][:, 2] < -0.5) & (heard.cloth_pattern.back < heard.cloth_pattern.index.shape[1])
    behind &= heard.cloth_pattern.inside > 0
    true = torch.cos(2 * torch.pi * (-anchors.places[:, 1] - 0.4) / period)[behind]
    found = guess[behind] - guess[behind].mean()
    assert float((found * true).sum() / (found.norm() * true.norm())) > 0.85
