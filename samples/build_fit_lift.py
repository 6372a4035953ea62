"""Train what tells directions and lengths of bones: `python -m samples.build_fit_lift` writes samples/body/fit_lift.npz.

People other than the embedded talks' speakers are drawn; a network learns the true directions of their bones from what
the detector says of them, a linear map the true lengths from proportions in the picture. Half of the people tell how well
either does on the other half. Needs espeak-ng; some ten seconds a person, less with what `--kept` holds.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from model.body import Body
from model.fit_features import MIRROR, Array, clip_features, proportions, unit
from model.fit_lift import BONES, FARTHEST, LENGTHS, Lift
from model.fit_priors import joint_index
from model.fit_shape import log_lengths
from samples.builders.people import embedded_body
from samples.builders.strangers import Draw, Stranger, strangers

OUT = Path(__file__).parent / "body" / "fit_lift.npz"
DRAWS = (  # long and sparse, short and dense
    Draw(first=50_001, people=99, frames=50, step=2, start=0, side=384, whole=8),
    Draw(first=60_001, people=96, frames=40, step=1, start=30, side=448, whole=9),
)
NETWORKS, HIDDEN, STEPS, BATCH = 3, 32, 1500, 256
RATE, DECAY, NOISE, DROPPED = 4e-3, 0.1, 0.3, 0.1
LEAST_VISIBLE = 0.5  # of shoulders and elbows
RIDGE = 5.0


@dataclass(frozen=True)
class Example:
    """One person: what the network reads of them and what it should say."""

    stranger: Stranger
    features: Array  # [S, T, F]
    directions: Array  # [S, T, 3 D] as of a left side
    good: Array  # [T] bool
    lengths: Array  # [L] logarithms

    @classmethod
    def of(cls, body: Body, stranger: Stranger) -> Example:
        found, params, camera = stranger
        upright = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ camera.w2c[:3, :3]
        joints = (body.joints(params) @ upright.T).numpy()
        sides = []
        for side in (0, 1):
            named = [[joint_index(_other(name) if side else name) for name in bone] for bone in BONES]
            bones = np.stack([unit(joints[:, b] - joints[:, a]) for a, b in named], 1)
            sides.append((bones * (MIRROR if side else 1)).reshape(len(bones), -1))
        good = np.isfinite(found.pose[:, 0, 0]) & (found.visibility[:, 11:15].min(1) > LEAST_VISIBLE)
        lengths = log_lengths(body, params.betas[0].double())[0].numpy()
        return cls(stranger, clip_features(found), np.stack(sides).astype(np.float32), good, lengths)


def _other(name: str) -> str:
    return name.replace("left_", "*").replace("right_", "left_").replace("*", "right_")


def train_network(examples: list[Example], seed: int = 0) -> dict[str, Array]:
    """`NETWORKS` networks side by side, which is one wide network; same examples, same weights."""
    rows = lambda e, x: x[:, e.good].reshape(-1, x.shape[-1])  # noqa: E731
    inputs = np.concatenate([rows(e, e.features) for e in examples])
    targets = np.concatenate([rows(e, e.directions) for e in examples])
    mean, scale = np.nanmean(inputs, 0), np.nanstd(inputs, 0) + 1e-4
    x = torch.from_numpy(np.nan_to_num(np.clip((inputs - mean) / scale, -FARTHEST, FARTHEST)).astype(np.float32))
    y = torch.from_numpy(targets)
    layers = []
    for index in range(NETWORKS):
        torch.manual_seed(seed + index)
        first, last = torch.nn.Linear(x.shape[1], HIDDEN), torch.nn.Linear(HIDDEN, y.shape[1])
        optimizer = torch.optim.AdamW([*first.parameters(), *last.parameters()], lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
        for _ in range(STEPS):
            pick = torch.randint(len(x), (BATCH,))
            hidden = torch.nn.functional.silu(first(x[pick] + NOISE * torch.randn(BATCH, x.shape[1])))
            guess = last(torch.nn.functional.dropout(hidden, DROPPED))
            loss = torch.nn.functional.smooth_l1_loss(guess, y[pick], beta=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        layers.append([p.detach().numpy() for p in (first.weight, first.bias, last.weight, last.bias)])
    hidden_, bias, out, out_bias = ([layer[i] for layer in layers] for i in range(4))
    return {
        "mean": mean, "scale": scale, "hidden": np.concatenate(hidden_), "hidden_bias": np.concatenate(bias),
        "out": np.concatenate(out, 1) / NETWORKS, "out_bias": np.mean(out_bias, 0),
    }  # fmt: skip


def train_lengths(found: Array, lengths: Array) -> dict[str, Array]:
    """Ridge regression of lengths [N, L] from proportions [N, P]; its covariance from leaving out one person after the other."""
    usual = np.nanmean(found, 0)
    x, middle = np.nan_to_num(found - usual), lengths.mean(0)
    spread = x.std(0) + 1e-6

    def solve(rows: Array) -> tuple[Array, Array]:
        a = x[rows] / spread
        slope = np.linalg.solve(a.T @ a + RIDGE * np.eye(a.shape[1]), a.T @ (lengths[rows] - middle))
        return slope.T / spread, (lengths[rows] - a @ slope).mean(0)

    everyone = np.arange(len(x))
    off = []
    for i in everyone:
        slope, bias = solve(everyone[everyone != i])
        off.append(slope @ x[i] + bias - lengths[i])
    slope, bias = solve(everyone)
    return {"usual": usual, "length": slope, "length_bias": bias, "length_covariance": np.cov(np.array(off).T)}


def train(examples: list[Example]) -> tuple[Lift, Array, Array]:
    """The maps; how far directions [D, 3] (root mean square) and lengths [L] (standard deviation) are off in other people."""
    blank = {f.name: np.zeros((1, 1), np.float32) for f in fields(Lift)}
    halves = [examples[::2], examples[1::2]]
    found, lengths, off = [], [], []
    for taught, asked in (halves, halves[::-1]):
        half = Lift(**{**blank, **train_network(taught)})
        for e in asked:
            directions = half.directions(e.stranger[0])
            found.append(proportions(e.stranger[0], directions))
            lengths.append(e.lengths)
            read = np.stack([half.read(x).reshape(len(x), -1) for x in e.features])
            off.append((read - e.directions)[:, e.good].reshape(-1, len(BONES), 3))
    of_lengths = train_lengths(np.array(found), np.array(lengths))
    whole = Lift(**{n: v.astype(np.float32) for n, v in {**blank, **train_network(examples), **of_lengths}.items()})
    return whole, np.sqrt(np.square(np.concatenate(off)).mean(0)), np.sqrt(np.diag(whole.length_covariance))


def save(path: Path, lift: Lift) -> None:
    """Large matrices in half precision, which costs nothing."""
    arrays = {f.name: getattr(lift, f.name) for f in fields(lift)}
    np.savez_compressed(path, **{n: v.astype(np.float16) if n in ("hidden", "out") else v for n, v in arrays.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train directions and lengths of bones.")
    parser.add_argument("--people", type=int, help="people of each draw (none: all)")
    parser.add_argument("--kept", type=Path, help="folder that keeps what the detector found, for the next call")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    options = parser.parse_args()
    body = embedded_body()
    draws = [replace(d, people=min(d.people, options.people or d.people)) for d in DRAWS]
    everyone = ((draw, person) for draw in draws for person in strangers(draw, options.kept))
    examples = [Example.of(body, person) for _, person in track(everyone, total=sum(d.people for d in draws))]
    lift, directions, lengths = train(examples)
    save(options.out, lift)
    print(f"{options.out}: learned from {len(examples)} people; in people not learned from, off by")
    for (a, b), (x, y, z) in zip(BONES, directions, strict=True):
        print(f"  {a} → {b}: {x:.3f}, {y:.3f}, {z:.3f} of the bone along x, y, z")
    for (a, b), share in zip(LENGTHS, lengths, strict=True):
        print(f"  length {a} - {b}: {share:.1%}")


if __name__ == "__main__":
    main()
