import pytest
import torch
from torch import nn

from configs.schema import ImageEncoderConfig
from model.image_encoders import SAPIENS_MEAN, SAPIENS_STD, make_image_encoder, square_picture
from model.types import Camera


class TinySapiens(nn.Module):
    """Same interface as the real file: 1024² normalised pictures in, a tuple with one [B, C, 64, 64] map out."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 16, 16)
        self.pos_embed = nn.Parameter(torch.zeros(1, 4096, 24))

    def forward(self, x: torch.Tensor):
        return (self.embed(x) + self.pos_embed.transpose(1, 2).reshape(1, 24, 64, 64),)


@pytest.fixture(scope="module")
def sapiens_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sapiens") / "sapiens_tiny_torchscript.pt2"
    torch.manual_seed(0)
    torch.jit.save(torch.jit.trace(TinySapiens(), torch.zeros(1, 3, 1024, 1024)), str(path))
    return path


def sapiens(path, size=128):
    config = ImageEncoderConfig(kind="sapiens", path=str(path), image_size=size)
    return make_image_encoder(config, 32, 4, 8)


def test_vit_gives_a_token_per_patch_and_a_quarter_size_map():
    encoder = make_image_encoder(ImageEncoderConfig(image_size=64, patch=16, depth=1), 32, 4, 8)
    out = encoder(torch.rand(2, 3, 64, 64))
    assert out.tokens.shape == (2, 16, 32)
    assert out.map.shape == (2, 8, 16, 16)


@pytest.mark.parametrize("patch", [4, 8, 32])
def test_vit_takes_other_patches(patch):
    encoder = make_image_encoder(ImageEncoderConfig(image_size=64, patch=patch, depth=1), 32, 4, 8)
    out = encoder(torch.rand(1, 3, 64, 64))
    assert out.tokens.shape == (1, (64 // patch) ** 2, 32)
    assert out.map.shape[-1] >= 16


def test_vit_map_follows_the_picture():
    """A dot moves the map most where the dot is."""
    torch.manual_seed(0)
    encoder = make_image_encoder(ImageEncoderConfig(image_size=64, patch=16, depth=1), 32, 4, 8)
    blank = torch.ones(1, 3, 64, 64)
    for row, column in ((10, 50), (40, 12)):
        dotted = blank.clone()
        dotted[..., row : row + 4, column : column + 4] = 0
        change = (encoder(dotted).map - encoder(blank).map).abs().sum(1)[0]
        peak = divmod(int(change.argmax()), 16)
        assert abs(peak[0] - (row + 2) / 4) <= 1.5
        assert abs(peak[1] - (column + 2) / 4) <= 1.5


def test_wrong_size_is_refused_with_both_sizes():
    encoder = make_image_encoder(ImageEncoderConfig(image_size=64), 32, 4, 8)
    with pytest.raises(ValueError, match=r"\[B, 3, 64, 64\], got \(1, 3, 64, 48\)"):
        encoder(torch.rand(1, 3, 64, 48))
    with pytest.raises(ValueError, match="power of two"):
        make_image_encoder(ImageEncoderConfig(image_size=64, patch=12), 32, 4, 8)


def test_sapiens_gives_4096_tokens_and_learns_only_its_projection(sapiens_file):
    encoder = sapiens(sapiens_file)
    out = encoder(torch.rand(1, 3, 128, 128))
    assert out.tokens.shape == (1, 4096, 32)
    assert out.map.shape == (1, 8, 32, 32)
    assert not any("embed" in name or "frozen" in name for name in encoder.state_dict())
    (out.tokens.sum() + out.map.sum()).backward()
    assert encoder.project.weight.grad.isfinite().all()
    assert all(not p.requires_grad for p in encoder._frozen[0].parameters())


def test_sapiens_sees_pictures_normalised_as_it_was_trained(tmp_path):
    class Pool(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.adaptive_avg_pool2d(x, 64)

    path = tmp_path / "pool.pt2"
    torch.jit.script(Pool()).save(str(path))
    features = sapiens(path).frozen_features(torch.ones(1, 3, 128, 128))
    expected = (255 - torch.tensor(SAPIENS_MEAN)) / torch.tensor(SAPIENS_STD)
    torch.testing.assert_close(features[0, :, 5, 5], expected)


def test_missing_or_foreign_sapiens_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pt2 which does not exist"):
        sapiens(tmp_path / "nowhere.pt2")
    junk = tmp_path / "junk.pt2"
    junk.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"junk\.pt2 is no TorchScript archive"):
        sapiens(junk)
    with pytest.raises(ValueError, match="needs `path`"):
        make_image_encoder(ImageEncoderConfig(kind="sapiens"), 32, 4, 8)


def test_square_picture_pads_white_and_keeps_projections_on_their_pixels():
    image = torch.zeros(1, 3, 60, 40)
    image[:, :, 30, 20] = 0.5
    intrinsics = torch.tensor([[[80.0, 0, 20], [0, 80, 30], [0, 0, 1]]])
    camera = Camera(torch.eye(4)[None], intrinsics, torch.tensor([[40, 60]]))
    squared, moved = square_picture(image, camera, 120)
    assert squared.shape == (1, 3, 120, 120)
    assert (squared[..., :18] == 1).all()
    assert (squared[..., 22:98].amin() < 0.1)
    point = torch.tensor([[[0.1, -0.2, 2.0]]])
    before, _ = camera.project(point)
    after, _ = moved.project(point)
    torch.testing.assert_close(after, (before + torch.tensor([10.0, 0.0])) * 2)
    assert moved.size.tolist() == [[120, 120]]
