"""Train what tells directions and lengths of bones: `python -m samples.build_fit_lift` writes samples/body/fit_lift.npz.

People other than the embedded talks' speakers are drawn; a network learns the true directions of their bones from what
the detector says of them, a linear map the true lengths from proportions in the picture. Half of the people tell how well
either does on the other half. Further people, for whom both err as they will for anybody, teach what the reach of wrists
adds (`--arms`: that alone, the rest stays as the file has it). Needs espeak-ng; some ten seconds a person, less with what `--kept` holds.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from model.body import Body
from model.fit_features import FACE_SHAPE, MIRROR, Array, clip_features, face_shape, proportions, unit
from model.fit_lift import BONES, FARTHEST, LENGTHS, Lift, longer_arm
from model.fit_priors import joint_index
from model.fit_shape import log_lengths
from pipelines.landmarks import Landmarks
from samples.builders.people import embedded_body
from samples.builders.strangers import Draw, Stranger, strangers

OUT = Path(__file__).parent / "body" / "fit_lift.npz"
SHORT = (  # seed, people, pixels
    (71_001, 21, 400), (72_001, 19, 448), (72_101, 22, 448), (73_001, 24, 400), (74_001, 111, 420), (76_001, 27, 420), (77_001, 27, 448),
)  # fmt: skip
DRAWS = (  # long and sparse, short and dense, in between; whole bodies, halves, and people behind desks
    Draw(first=50_001, people=99, frames=50, step=2, start=0, side=384, whole=8),
    Draw(first=60_001, people=96, frames=40, step=1, start=30, side=448, whole=9),
    Draw(first=70_001, people=59, frames=36, step=2, start=20, side=400, whole=9),
    *(Draw(first, people, 24, 3, 10, side, whole=7) for first, people, side in SHORT),
    Draw(first=75_001, people=37, frames=24, step=3, start=10, side=400, whole=10**6, desk=(0.5, 0.75)),
)
REACH_DRAWS = (  # people whose wrists teach the last map
    Draw(first=80_001, people=24, frames=75, step=1, start=0, side=448, whole=10**6),
    Draw(first=81_001, people=104, frames=24, step=3, start=5, side=448, whole=12),
)
NETWORKS, HIDDEN, STEPS, BATCH = 4, 64, 3000, 256
RATE, DECAY, NOISE, DROPPED = 4e-3, 0.1, 0.15, 0.1
LEAST_VISIBLE = 0.5  # of shoulders and elbows
RIDGE, REACH_RIDGE, COMPONENTS, TENTHS = 20.0, 3.0, 16, 10


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
    """`NETWORKS` networks; same examples, same weights."""
    rows = lambda e, x: x[:, e.good].reshape(-1, x.shape[-1])  # noqa: E731
    inputs = np.concatenate([rows(e, e.features) for e in examples])
    targets = np.concatenate([rows(e, e.directions) for e in examples])
    mean, scale = np.nanmean(inputs, 0), np.nanstd(inputs, 0) + 1e-4
    x = torch.from_numpy(np.nan_to_num(np.clip((inputs - mean) / scale, -FARTHEST, FARTHEST)).astype(np.float32))
    y = torch.from_numpy(targets)
    networks = []
    for index in range(NETWORKS):
        torch.manual_seed(seed + index)
        layers = [torch.nn.Linear(a, b) for a, b in pairwise((x.shape[1], HIDDEN, HIDDEN, y.shape[1]))]
        parameters = [p for layer in layers for p in (layer.weight, layer.bias)]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
        for _ in range(STEPS):
            pick = torch.randint(len(x), (BATCH,))
            hidden = x[pick] + NOISE * torch.randn(BATCH, x.shape[1])
            for layer in layers[:-1]:
                hidden = torch.nn.functional.dropout(torch.nn.functional.silu(layer(hidden)), DROPPED)
            loss = torch.nn.functional.smooth_l1_loss(layers[-1](hidden), y[pick], beta=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        networks.append([p.detach().numpy() for p in parameters])
    names = ("first", "first_bias", "second", "second_bias", "out", "out_bias")
    stacked = {name: np.stack(values) for name, values in zip(names, zip(*networks, strict=True), strict=True)}
    return {"mean": mean, "scale": scale, **stacked}


def train_lengths(found: Array, faces: Array, lengths: Array) -> dict[str, Array]:
    """Ridge regression of lengths [N, L] from proportions [N, P] and face shapes [N, 3 K], of which the first components count.

    Covariance: of the error in a tenth of the people when the others tell.
    """
    usual, middle, count = np.nanmean(found, 0), lengths.mean(0), found.shape[1]
    x = np.nan_to_num(np.concatenate([found - usual, faces], 1))
    far = FARTHEST * x.std(0)
    x = np.clip(x, -far, far)
    components = np.linalg.svd(x[:, count:], full_matrices=False)[2][:COMPONENTS]
    known = np.concatenate([x[:, :count], x[:, count:] @ components.T], 1)
    scale = known.std(0) + 1e-6

    def solve(rows: Array) -> tuple[Array, Array]:
        a = known[rows] / scale
        centre = a.mean(0)
        slope = np.linalg.solve((a - centre).T @ (a - centre) + RIDGE * np.eye(a.shape[1]), (a - centre).T @ (lengths[rows] - middle))
        return slope.T / scale, (lengths[rows] - a @ slope).mean(0)

    everyone = np.random.default_rng(0).permutation(len(x))
    off = []
    for part in np.array_split(everyone, TENTHS):
        slope, bias = solve(np.setdiff1d(everyone, part))
        off.append(known[part] @ slope.T + bias - lengths[part])
    slope, bias = solve(everyone)
    whole = np.concatenate([slope[:, :count], slope[:, count:] @ components], 1)
    covariance = np.cov(np.concatenate(off).T)
    return {"usual": usual, "spread": far / FARTHEST, "length": whole, "length_bias": bias, "length_covariance": covariance}


def train_reach(lift: Lift, people: list[tuple[Landmarks, Array]]) -> Lift:
    """`lift` with the map from the wrists' reach to the error of its lengths, learned from landmarks and true log lengths [L].

    Ridge regression; covariance as in `train_lengths`.
    """
    far, off = [], []
    for found, lengths in people:
        directions = lift.directions(found)
        said = lift.lengths(proportions(found, directions), face_shape(found, lift.face))
        far.append(longer_arm(found, directions, said))
        off.append(lengths - said)
    reach, error = np.array(far), np.array(off)
    reach, error = reach[np.isfinite(reach)], error[np.isfinite(reach)]
    usual, spread = reach.mean(), reach.std()
    x = np.clip((reach - usual) / spread, -FARTHEST, FARTHEST)

    def solve(rows: Array) -> tuple[Array, Array]:
        bias = error[rows].mean(0)
        return x[rows] @ (error[rows] - bias) / (x[rows] @ x[rows] + REACH_RIDGE), bias

    everyone = np.random.default_rng(0).permutation(len(x))
    left = []
    for part in np.array_split(everyone, TENTHS):
        slope, bias = solve(np.setdiff1d(everyone, part))
        left.append(error[part] - x[part, None] * slope - bias)
    slope, bias = solve(everyone)
    told = {"arm_usual": usual, "arm_spread": spread, "arm": slope, "arm_bias": bias, "arm_covariance": np.cov(np.concatenate(left).T)}
    return replace(lift, **{name: np.asarray(value, np.float32) for name, value in told.items()})


def usual_face(clips: list[Landmarks]) -> Array:  # [K, 3]
    """The mean shape of faces, about its middle; two eyes' distance is 1."""
    first = next(c.face[i, FACE_SHAPE] for c in clips for i in range(len(c.face)) if np.isfinite(c.face[i]).all())
    usual = first.astype(np.float64) / np.linalg.norm(first[-1] - first[-2])
    for _ in range(2):
        usual = usual - usual.mean(0)
        usual = usual + np.nanmean([face_shape(c, usual) for c in clips], 0).reshape(usual.shape)
        usual /= np.linalg.norm(usual[-1] - usual[-2])
    return usual - usual.mean(0)


def train(examples: list[Example]) -> tuple[Lift, Array, Array]:
    """The maps; how far directions [D, 3] (root mean square) and lengths [L] (standard deviation) are off in other people."""
    blank = dict.fromkeys((f.name for f in fields(Lift)), np.zeros((1, 1), np.float32))
    halves = [examples[::2], examples[1::2]]
    face = usual_face([e.stranger[0] for e in examples])
    found, faces, lengths, off = [], [], [], []
    for taught, asked in (halves, halves[::-1]):
        half = Lift(**{**blank, **train_network(taught)})
        for e in asked:
            directions = half.directions(e.stranger[0])
            found.append(proportions(e.stranger[0], directions))
            faces.append(face_shape(e.stranger[0], face))
            lengths.append(e.lengths)
            read = np.stack([half.read(x).reshape(len(x), -1) for x in e.features])
            off.append((read - e.directions)[:, e.good].reshape(-1, len(BONES), 3))
    told = {"face": face, **train_lengths(np.array(found), np.array(faces), np.array(lengths)), **train_network(examples)}
    whole = Lift(**blank | {name: values.astype(np.float32) for name, values in told.items()})
    return whole, np.sqrt(np.square(np.concatenate(off)).mean(0)), np.sqrt(np.diag(whole.length_covariance))


def save(path: Path, lift: Lift) -> None:
    """Large matrices in half precision, which costs nothing."""
    arrays = {f.name: getattr(lift, f.name) for f in fields(lift)}
    np.savez_compressed(path, **{n: v.astype(np.float16) if n in ("first", "second", "out") else v for n, v in arrays.items()})


def main() -> None:
    parser = argparse.ArgumentParser(description="Train directions and lengths of bones.")
    parser.add_argument("--people", type=int, help="people of each draw (none: all)")
    parser.add_argument("--kept", type=Path, help="folder that keeps what the detector found, for the next call")
    parser.add_argument("--arms", type=Path, metavar="FILE", help="learn what wrists tell alone; the rest is this file's")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    options = parser.parse_args()
    body = embedded_body()

    def drawn(draws: tuple[Draw, ...]) -> Iterator[Stranger]:
        few = [replace(d, people=min(d.people, options.people or d.people)) for d in draws]
        everyone = (person for draw in few for person in strangers(draw, options.kept))
        return iter(track(everyone, total=sum(d.people for d in few)))

    if options.arms is None:
        examples = [Example.of(body, person) for person in drawn(DRAWS)]
        lift, directions, lengths = train(examples)
        print(f"learned from {len(examples)} people; in people not learned from, off by")
        for (a, b), (x, y, z) in zip(BONES, directions, strict=True):
            print(f"  {a} → {b}: {x:.3f}, {y:.3f}, {z:.3f} of the bone along x, y, z")
        for (a, b), share in zip(LENGTHS, lengths, strict=True):
            print(f"  length {a} - {b}: {share:.1%}")
    else:
        lift = Lift.load(options.arms)
    people = [(found, log_lengths(body, params.betas[0].double())[0].numpy()) for found, params, _ in drawn(REACH_DRAWS)]
    lift = train_reach(lift, people)
    save(options.out, lift)
    print(f"{options.out}: wrists of {len(people)} further people; in people not learned from, off by")
    for (a, b), share in zip(LENGTHS, np.sqrt(np.diag(lift.arm_covariance)), strict=True):
        print(f"  length {a} - {b}: {share:.1%}")


if __name__ == "__main__":
    main()
