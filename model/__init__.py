"""Tensors in, tensors out: body, geometry, encoders, networks, Gaussians, rasterisers, losses, metrics.

Knows no paths, no Dagster, no DeepSpeed; may import `configs` only. Axis legend used throughout:
B batch, T frames, C cameras, N Gaussians, J joints (55), V vertices, P surface points, H W pixels.
"""
