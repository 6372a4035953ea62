"""Networks small enough for tests."""

from configs.schema import ImageEncoderConfig, Stage1Config


def tiny_stage1(size: int, gaussians: int) -> Stage1Config:
    """Stage 1 for pictures of `size` pixels a side."""
    return Stage1Config(
        image=ImageEncoderConfig(image_size=size, depth=1), width=32, heads=4, smplx_tokens=32, smplx_layers=1,
        pixel_channels=8, triplane_resolution=16, triplane_tokens=4, triplane_channels=8, fusion_layers=1, gaussians=gaussians,
    )  # fmt: skip
