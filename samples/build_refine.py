"""Learn what refining needs: `python -m samples.build_refine` writes samples/body/refine.npz for stage 1's shipped weights.

People that stage 1 was not trained on and that no benchmark asks about are drawn in pictures as of the benchmark, stage 1
and mediapipe read them, and their errors are measured; a small network learns where joints are on seven of eight people,
its errors are measured on the others. `--more` people are for the network alone: nobody reads their pictures. Four seconds
a person (`--more`: two) and a quarter of an hour of training on one core; `--kept` holds pictures and landmarks for the
next call, `--points` takes the network of an earlier file, `--go-on` trains it further. New weights of stage 1 want a new file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from configs.places import PROJECT
from configs.schema import Config, ScansConfig
from model.body import JOINT_NAMES, Body
from model.fit_layout import named_point, stack
from model.mesh_raster import Lights
from model.metrics import pa_mpjpe
from model.refine import (
    BONES,
    LANDMARKS,
    POINTS,
    UNKNOWNS,
    Errors,
    Refiner,
    Seen,
    flipped,
    load_points,
    mirrored,
    other_side,
    pixels_of,
    rays,
)  # fmt: skip
from model.refine_points import BODY, KIND, RIGHT, ROOM, SIDE, STEP, WIDE, JointPoints, PatchSource
from model.types import Camera, SmplxParams
from pipelines import crops
from pipelines.checkpoints import load_stage1
from pipelines.landmarks import detect
from pipelines.refine import STILL, read_body
from samples.builders.corpus import photograph
from samples.builders.people import embedded_body, make_person
from samples.builders.stances import random_stance

OUT = Path(__file__).parent / "body" / "refine.npz"
WEIGHTS = PROJECT / "samples" / "weights" / "stage1.safetensors"
FIRST, MORE, STANCES, TURN = 88_000_000, 88_001_000, 5, 50.0  # seeds of the first people; pictures of each; degrees from the front
OTHERS = 8  # every eighth person is not learned from
STEPS, BATCH, JOINTS_OF_ONE, RATE, DECAY = 5500, 128, 8, 2e-3, 0.05
SHRINK = 0.8  # how far correlations are drawn to zero: more of them guess how far away a body stands from what does not say it
LIMBS = {4: 1.3, 5: 1.3, 7: 1.3, 8: 1.3, 10: 1.3, 11: 1.3, 18: 2.0, 19: 2.0, 20: 2.0, 21: 2.0}  # joints that are asked about more often
MIRROR = torch.tensor([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Pictures:
    """N pictures of people with what mediapipe finds in them, and the truth in the cameras' frames."""

    person: NDArray[np.int64]  # [N]
    pictures: NDArray[np.uint8]  # [N, SIDE, SIDE, 4]
    intrinsics: Tensor  # [N, 3, 3]
    true: SmplxParams  # [N]
    seen: Seen  # [N]

    def __getitem__(self, rows: NDArray[np.int64]) -> Pictures:
        return Pictures(self.person[rows], self.pictures[rows], self.intrinsics[rows], self.true[rows], self.seen[rows])


def draw(seed: int, landmarks: bool) -> Iterator[dict[str, Any]]:
    """Pictures of one person, each in another stance, with or without what mediapipe finds in them."""
    person, rng = make_person(seed, 512), np.random.default_rng([seed, 43])
    for _ in range(STANCES):
        stance = random_stance(person, rng)
        lights = Lights(ambient=rng.uniform(0.45, 0.6), key_intensity=rng.uniform(0.4, 0.6))
        ring = ScansConfig.model_validate({"views": 1, "half_body_views": 0, "azimuth": rng.uniform(-TURN, TURN), "size": SIDE})
        ((view, picture),) = photograph(person, stance, lights, ring)
        square = crops.square_round(crops.person_box(picture[..., 3]), SIDE, SIDE)
        cut, camera = crops.crop(picture, square, SIDE).numpy(), crops.crop_camera(view.camera, square, SIDE)
        blank = {"lp": np.full((33, 3), np.nan), "vis": np.zeros(33), "world": np.zeros((33, 3))}
        if landmarks:
            found = detect([np.ascontiguousarray(cut[..., :3])] * STILL, Fraction(25))
            blank = {"lp": found.pose[-1], "vis": found.visibility[-1], "world": found.pose_world[-1]}
        yield blank | {
            "pic": cut, "w2c": camera.w2c.numpy(), "K": camera.intrinsics.numpy(), "pose": stance.full_pose[0].numpy(),
            "betas": stance.betas[0].numpy(), "expr": stance.expression[0].numpy(), "transl": stance.transl[0].numpy(),
        }  # fmt: skip


def collect(body: Body, people: int, kept: Path, first: int = FIRST) -> Pictures:
    kept.mkdir(parents=True, exist_ok=True)
    parts = []
    for seed in track(range(first, first + people), "people"):
        path = kept / f"{seed}.npz"
        if not path.exists():
            rows = list(draw(seed, first == FIRST))
            np.savez_compressed(path, **{k: np.stack([r[k] for r in rows]) for k in rows[0]})
        with np.load(path) as npz:
            parts.append({k: npz[k] for k in ("pic", "w2c", "K", "pose", "betas", "expr", "transl", "lp", "vis", "world")})
    all_of = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
    f32 = {k: torch.from_numpy(all_of[k]).float() for k in ("w2c", "K", "pose", "betas", "expr", "transl")}
    true = body.moved(SmplxParams.from_pose(f32["pose"], f32["betas"], f32["expr"], f32["transl"]), f32["w2c"])
    seen = Seen.of(all_of["lp"], all_of["vis"], all_of["world"], f32["K"])
    person = np.repeat(np.arange(people), [len(p["pic"]) for p in parts])
    return Pictures(person, all_of["pic"], f32["K"], true, seen)


def learn_offsets(body: Body, upright: SmplxParams, seen: Seen) -> Tensor:
    """[K, 3] where mediapipe puts its landmarks, template space: least squares over people and both sides, robustly."""
    points = stack([named_point(body, name) for name in LANDMARKS.values()])
    transforms = body.kinematics(roma.rotvec_to_rotmat(upright.full_pose), upright.shape_coefficients, upright.transl)[1]
    turns = torch.einsum("pj,bjk->bpk", points.weights, transforms.flatten(2)).unflatten(2, (3, 4))[..., :3]
    places = body.posed_points(points, upright)
    away = -places[..., 2:]
    ray = torch.cat([places[..., :1], -places[..., 1:2]], -1) / away
    lens = torch.zeros(*ray.shape[:2], 2, 3)
    lens[..., 0, 0], lens[..., 1, 1], lens[..., 2] = 1.0, -1.0, ray
    slope, off, offsets = lens @ turns, (seen.landmarks - ray) * away, torch.zeros(POINTS, 3)
    for k, o in enumerate(other_landmarks()):
        a = torch.cat([slope[:, k].reshape(-1, 3), (slope[:, o] * MIRROR).reshape(-1, 3)])
        b = torch.cat([off[:, k].flatten(), off[:, o].flatten()])
        weight = torch.ones_like(b)
        for _ in range(5):
            offsets[k] = torch.linalg.solve((a * weight[:, None]).T @ a + 0.5 * torch.eye(3), (a * weight[:, None]).T @ b)
            weight = (1 + ((b - a @ offsets[k]) / 0.03).square()) ** -2
    return offsets


def other_landmarks() -> list[int]:
    index, special = list(LANDMARKS), {0: 0, 2: 5, 5: 2}
    return [index.index(special.get(i, i + (1 if i % 2 else -1))) for i in index]


def both_ways(off: Tensor) -> Tensor:
    """Residuals [N, M], and what they would be in the mirror: [2 N, M]."""
    landmarks, bones, joints = off.split([2 * POINTS, len(BONES), 2 * BODY], 1)
    turn = torch.tensor([-1.0, 1.0])
    swapped = [BONES.index(_other_bone(b)) if _other_bone(b) in BONES else BONES.index(_other_bone(b)[::-1]) for b in BONES]
    sign = torch.tensor([1.0 if _other_bone(b) in BONES else -1.0 for b in BONES])
    body = [JOINT_NAMES.index(other_side(JOINT_NAMES[j])) for j in range(BODY)]
    mirror = [
        (landmarks.unflatten(1, (-1, 2))[:, other_landmarks()] * turn).flatten(1), bones[:, swapped] * sign,
        (joints.unflatten(1, (-1, 2))[:, body] * turn).flatten(1),
    ]  # fmt: skip
    return torch.cat([off, torch.cat(mirror, 1)])


def _other_bone(bone: tuple[int, int]) -> tuple[int, int]:
    a, b = (i + (1 if i % 2 else -1) for i in bone)
    return a, b


def spread_of(rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = rows.mean(0)
    square = (rows - mean).T @ (rows - mean) / len(rows)
    return mean, (1 - SHRINK) * square + SHRINK * torch.diag(square.diagonal())


def errors_of(body: Body, read: SmplxParams, data: Pictures, rows: NDArray[Any], sure: NDArray[Any]) -> Errors:
    """From pictures `rows`; how joints are off, from `sure` alone (pictures whose joints were looked for; none: unknown)."""
    upright, start = flipped(body, data.true), flipped(body, read)
    offsets = learn_offsets(body, upright[rows], data.seen[rows])
    blank = Errors(offsets, torch.zeros(UNKNOWNS), torch.eye(UNKNOWNS), torch.zeros(1), torch.eye(1))
    refiner = Refiner(body, blank)
    of = lambda p: refiner.unknowns(p)  # noqa: E731
    again = lambda p: flipped(body, mirrored(body, flipped(body, p)))  # noqa: E731
    usual, spread = spread_of(torch.cat([of(upright[rows]) - of(start[rows]), of(again(upright[rows])) - of(again(start[rows]))]))
    off = lambda which: both_ways(refiner.residuals(of(upright[which]), upright[which], data.seen[which])[0])  # noqa: E731
    bias, noise = spread_of(off(rows))
    known = 2 * POINTS + len(BONES)
    if len(sure):
        mean, of_joints = spread_of(off(sure)[:, known:])
    else:
        mean, of_joints = torch.zeros(2 * BODY), torch.eye(2 * BODY)
    return Errors(offsets, usual, spread, torch.cat([bias[:known], mean]), torch.block_diag(noise[:known, :known], of_joints))


def train_points(network: JointPoints, pictures: NDArray[np.uint8], expected: Tensor, true: Tensor, steps: int) -> None:
    """Patches of pictures [N, SIDE, SIDE, 4] round the expected joints [N, J, 2], shifted, mirrored and tinted at random."""
    source = PatchSource(pictures, expected.numpy())
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    torch.manual_seed(0)
    often = torch.ones(BODY)
    for joint, weight in LIMBS.items():
        often[joint] = weight
    network.train()
    for step in track(range(steps), "joints"):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        person = torch.randint(len(true), (BATCH // JOINTS_OF_ONE,)).repeat_interleave(JOINTS_OF_ONE)
        joint = torch.multinomial(often, BATCH, replacement=True)
        shift = WIDE * torch.randint(-ROOM // WIDE + 1, ROOM // WIDE, (BATCH, 2))
        mirror = torch.tensor(RIGHT)[joint] ^ (torch.rand(BATCH) < 0.5)
        patches = source.patches(person, joint, shift, mirror)
        patches[:, [0, 1, 2, 4, 5, 6]] *= 1 + 0.15 * torch.randn(BATCH, 1, 1, 1)
        around = expected[person] + 1.5 * torch.randn(BATCH, BODY, 2)
        bones = network.bones(around, mirror[:, None].expand(-1, BODY))[torch.arange(BATCH), joint]
        target = (true[person, joint] - source.centres[person, joint] - shift) / STEP
        target[:, 0] *= torch.where(mirror, -1.0, 1.0)
        loss = F.smooth_l1_loss(network(patches, torch.tensor(KIND)[joint], bones), target, beta=0.3)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()


def points_found(network: JointPoints, data: Pictures, expected: Tensor, rows: NDArray[Any]) -> Seen:
    joints = network.locate(data.pictures[rows], expected[rows])
    return data.seen[rows].with_joints(rays(joints, data.intrinsics[rows]), torch.ones(joints.shape[:2], dtype=torch.bool))


def save(path: Path, errors: Errors, network: JointPoints) -> None:
    """The network in half precision."""
    arrays = {name: getattr(errors, name).numpy() for name in ("offsets", "usual", "spread", "bias", "noise")}
    arrays |= {f"points.{k}": v.half().numpy() for k, v in network.state_dict().items()}
    np.savez_compressed(path, **arrays)


@torch.no_grad()
def read_all(weights: Path, data: Pictures) -> tuple[Body, SmplxParams]:
    stage1 = load_stage1(Config(), weights)
    images = torch.from_numpy(data.pictures[..., :3]).movedim(-1, 1)
    cameras = Camera(torch.eye(4).expand(len(images), 4, 4), data.intrinsics, torch.full((len(images), 2), SIDE))
    parts = [torch.arange(i, min(i + 16, len(images))) for i in range(0, len(images), 16)]
    read = [read_body(stage1, images[i].float() / 255, cameras[i]) for i in track(parts, "stage 1")]
    return stage1.body, SmplxParams.cat(read)


def likeliest(refiner: Refiner, read: SmplxParams, seen: Seen, rows: NDArray[Any]) -> SmplxParams:
    parts = np.array_split(rows, max(1, len(rows) // 100))
    return SmplxParams.cat([refiner.refined(read[i], seen[i]) for i in parts])


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn what refining needs.")
    parser.add_argument("--people", type=int, default=183, help="people drawn (default: 183)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="stage 1's safetensors (default: the shipped ones)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of the network's training (default: {STEPS})")
    parser.add_argument("--points", type=Path, help="file of an earlier call whose network is taken instead of training one")
    parser.add_argument("--go-on", action="store_true", help="train that network further")
    parser.add_argument("--more", type=int, default=120, help="further people for the network (default: 120)")
    parser.add_argument("--kept", type=Path, default=Path("refine_people"), help="folder that keeps pictures and landmarks")
    parser.add_argument("--out", type=Path, default=OUT, help="file to write")
    options = parser.parse_args()
    data = collect(embedded_body(), options.people, options.kept)
    body, read = read_all(options.weights, data)
    taught, asked = (np.flatnonzero((data.person % OTHERS == OTHERS - 1) == other) for other in (False, True))
    # where joints are expected, as of people whom the errors were not learned from
    halves, nobody = [np.flatnonzero(data.person % 2 == k) for k in (0, 1)], np.zeros(0, np.int64)
    expected = torch.zeros(len(data.person), BODY, 2)
    for rows, others in (halves, halves[::-1]):
        first = likeliest(Refiner(body, errors_of(body, read, data, others, nobody)), read, data.seen, rows)
        expected[rows] = pixels_of(body.joints(first)[:, :BODY], data.intrinsics[rows])
    network = load_points(options.points, body) if options.points else JointPoints(body.parents)
    if options.go_on or not options.points:
        true = pixels_of(body.joints(data.true)[:, :BODY], data.intrinsics)
        more = collect(body, options.more, options.kept / "more", MORE) if options.more else data[taught[:0]]
        places = pixels_of(body.joints(more.true)[:, :BODY], more.intrinsics)
        # where joints of people whom nobody has read are expected: off as in others
        lent = (expected - true)[taught][torch.randint(len(taught), (len(places),))]
        pictures = np.concatenate([data.pictures[taught], more.pictures])
        train_points(network, pictures, torch.cat([expected[taught], places + lent]), torch.cat([true[taught], places]), options.steps)
    found = points_found(network, data, expected, asked)
    joints = data.seen.joints.clone()
    joints[asked] = found.joints
    data = replace(data, seen=replace(data.seen, joints=joints))
    save(options.out, errors_of(body, read, data, np.arange(len(data.person)), asked), network)
    one = data.person[asked] // OTHERS % 2 == 0
    for rows, others in ((asked[one], asked[~one]), (asked[~one], asked[one])):
        after = Refiner(body, errors_of(body, read, data, taught, others)).refined(read[rows], found[np.isin(asked, rows)])
        for name, params in (("stage 1", read[rows]), ("refined", after)):
            off = pa_mpjpe(body.joints(params)[:, :BODY].numpy(), body.joints(data.true[rows])[:, :BODY].numpy())
            print(f"{name}: PA-MPJPE {1e3 * off:.1f} mm in {len(rows)} pictures")


if __name__ == "__main__":
    main()
