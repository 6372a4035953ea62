import torch

from model.visibility import EDGE_STEP, EDGE_STEPS, EDGE_UNIT, FAR_STEP, FAR_STEPS, blank_background, coverage, edge_distances

SIDE, RADIUS = 96, 30.3  # pixels


def disc(color=(0.3, 0.5, 0.2)):  # [1, 1, SIDE, SIDE] its alpha, and the picture of it on white
    fine = (torch.arange(SIDE * 8) + 0.5) / 8 - SIDE / 2
    alpha = ((fine**2 + fine[:, None] ** 2).sqrt() < RADIUS).float()[None, None]
    alpha = torch.nn.functional.avg_pool2d(alpha, 8)
    return alpha, 1 - alpha * (1 - torch.tensor(color).view(1, 3, 1, 1))


def test_coverage_tells_how_much_of_a_pixel_the_person_covers():
    alpha, image = disc()
    found = coverage(image, blank_background(image))
    rim = (alpha > 0.02) & (alpha < 0.98)
    assert (found - alpha).abs().max() < 0.1
    assert (found - alpha)[rim].abs().mean() < 0.02


def test_the_outline_is_found_to_parts_of_a_pixel():
    """Points inside and outside a disc, outward along its radius; a step is 0.45 pixels."""
    _, image = disc()
    cover, step = coverage(image, blank_background(image)), 0.45
    angles = torch.linspace(0, 6.2, 40)
    ways = torch.stack([angles.cos(), angles.sin()], -1)
    for gap in (0.0, 1.0, 2.5, 6.0):
        place, outward = (2 / SIDE * x[None] for x in ((RADIUS - gap) * ways, step * ways))
        pixels = edge_distances(cover, place, outward)[0, :, 0] * (EDGE_UNIT / EDGE_STEP) * step
        assert (pixels - gap).abs().max() < 0.6
        assert (pixels - gap).abs().mean() < 0.35
    outside = edge_distances(cover, 2 / SIDE * (RADIUS + 2) * ways[None], 2 / SIDE * step * ways[None])[0]
    assert outside[:, 0].max() < 0.02
    assert ((outside[:, 1] * (EDGE_UNIT / EDGE_STEP) * step - 2).abs() < 0.6).all()


def test_where_no_outline_is_near_the_distances_are_the_longest_looked_for():
    inside = edge_distances(torch.ones(1, 1, 8, 8), torch.zeros(1, 3, 2), torch.full((1, 3, 2), 0.01))
    torch.testing.assert_close(inside[..., 0], torch.full((1, 3), EDGE_STEPS[1] * EDGE_STEP / EDGE_UNIT))
    assert inside[..., 1].abs().max() == 0
    torch.testing.assert_close(inside[..., 2], torch.full((1, 3), FAR_STEPS * FAR_STEP / EDGE_UNIT))


def test_an_outline_too_far_for_the_first_steps_is_found_by_the_longer_ones():
    """From within a disc, half a pixel a step: the outline is 25 to 40 steps away, the first 20 end before it."""
    _, image = disc()
    cover, way = coverage(image, blank_background(image)), torch.tensor([1.0, 0.0])
    for away in (12.5, 16.0, 20.0):  # pixels
        place, outward = 2 / SIDE * (RADIUS - away) * way, 2 / SIDE * 0.5 * way
        out, _, far = (edge_distances(cover, place[None, None], outward[None, None])[0, 0] * (EDGE_UNIT / EDGE_STEP) * 0.5).tolist()
        assert abs(out - EDGE_STEPS[1] * 0.5) < 1e-3
        assert abs(out + far - away) < 0.7
