import torch

from model.visibility import EDGE_STEP, EDGE_STEPS, EDGE_UNIT, blank_background, coverage, edge_distances

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
