"""Tensors in, tensors out: body, geometry, encoders, networks, Gaussians, rasterisers, losses, metrics.

Knows no paths, no Dagster, no DeepSpeed; may import `configs` only. Axis legend used throughout:
B batch, T frames, C cameras, N Gaussians, J joints (55), V vertices, P surface points, H W pixels.
"""

import os

# Read when the first OpenMP library is loaded, hence here, before torch: without it threads of torch's pool spin after
# every operation and hold the cores that the rasterisers' threads need (measured 3 times slower on a busy machine).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
