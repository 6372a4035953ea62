"""Train the network that tells where arms point: `python -m samples.build_fit_arms` writes samples/body/arm_directions.npz.

People other than the embedded talks' speakers are drawn; the network learns the true directions of their arms from what
the detector says of them. Needs espeak-ng; about 15 s a person.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from model.body import Body
from model.fit_arms import ARMS, FARTHEST_FEATURE, FEATURES, OUTPUTS, arm_features, unit
from model.types import Camera, SmplxParams
from pipelines.landmarks import Landmarks
from samples.build_fit_offsets import strangers
from samples.builders.people import embedded_body

OUT = Path(__file__).parent / "body" / "arm_directions.npz"
SHOULDERS, ELBOWS, WRISTS = (16, 17), (18, 19), (20, 21)
HIDDEN, STEPS, BATCH, NOISE, DECAY = 16, 1200, 256, 0.2, 0.1
LEAST_VISIBLE = 0.3


def examples(body: Body, found: Landmarks, params: SmplxParams, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, F] of the arms seen, and their true directions [N, 6]."""
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ camera.w2c[:3, :3]
    joints = (body.joints(params) @ upright.T).numpy()
    features, inputs, targets = arm_features(found.pose, found.pose_world), [], []
    for side, chain in enumerate(ARMS):
        mirror = np.array([-1.0, 1.0, 1.0]) if side else np.ones(3)
        upper = unit(joints[:, ELBOWS[side]] - joints[:, SHOULDERS[side]]) * mirror
        lower = unit(joints[:, WRISTS[side]] - joints[:, ELBOWS[side]]) * mirror
        places = found.pose[:, list(chain), :2]
        inside = ((places > 0) & (places < found.size)).all((1, 2))
        good = inside & (found.visibility[:, list(chain)] > LEAST_VISIBLE).all(1)
        good &= ~np.isnan(features[:, side]).any(1)
        inputs.append(features[good, side])
        targets.append(np.concatenate([upper, lower], 1)[good])
    return np.concatenate(inputs), np.concatenate(targets)


def train(inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Weights of `model.fit_arms.ArmDirections`; same examples, same weights."""
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-6
    x = torch.from_numpy(((inputs - mean) / scale).clip(-FARTHEST_FEATURE, FARTHEST_FEATURE)).float()
    y = torch.from_numpy(targets).float()
    torch.manual_seed(0)
    first, last = torch.nn.Linear(FEATURES, HIDDEN), torch.nn.Linear(HIDDEN, OUTPUTS)
    optimizer = torch.optim.AdamW([*first.parameters(), *last.parameters()], weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=STEPS)
    for _ in range(STEPS):
        pick = torch.randint(len(x), (BATCH,))
        guess = last(torch.nn.functional.silu(first(x[pick] + NOISE * torch.randn(BATCH, FEATURES))))
        loss = torch.nn.functional.smooth_l1_loss(guess, y[pick], beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    arrays = {"mean": mean, "scale": scale, "hidden": first.weight, "hidden_bias": first.bias}
    arrays |= {"out": last.weight, "out_bias": last.bias}
    return {n: (v.detach().numpy() if isinstance(v, torch.Tensor) else v).astype(np.float32) for n, v in arrays.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the directions of arms.")
    parser.add_argument("--people", type=int, default=60, help="people drawn")
    parser.add_argument("--frames", type=int, default=60, help="frames drawn per person")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    options = parser.parse_args()
    body = embedded_body()
    rows = [examples(body, *x) for x in track(strangers(options.people, options.frames), total=options.people)]
    inputs, targets = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    np.savez(options.out, **train(inputs, targets))
    print(f"{options.out}: learned from {len(inputs)} arms")


if __name__ == "__main__":
    main()
