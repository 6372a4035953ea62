"""BVH out: the skeleton of this shape with its 55 joints, centimetres and degrees, for animation programs.

Joint channels are Z X Y rotations, R = Rz Rx Ry, the root's after its position. A BVH has no surface: shape shows in the
offsets alone, and expressions are lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from model.body import JOINT_NAMES
from pipelines.formats_hands import Context
from pipelines.formats_take import Take, fitted, resampled
from pipelines.store import writing

UNIT = 100.0  # centimetres of a metre


def write(path: Path, take: Take, context: Context) -> list[str]:
    """The file; returns what it cannot hold."""
    motion = resampled(take, context.rate or take.fps)
    said = ["betas: as bone lengths only", "surface"] + ["expression"] * bool(take.expression.any())
    said += ["camera"] * (take.camera is not None) + ["confidence"] * (take.confidence is not None)
    body = context.body
    rest = body.rest_joints(torch.cat([fitted(motion.betas, 10), torch.zeros(10)]).float()).double().numpy()
    lines, order = ["HIERARCHY"], []

    def joint(index: int, depth: int) -> None:
        pad = "\t" * depth
        parent = body.parents[index]
        order.append(index)
        offset = (rest[index] - (rest[parent] if parent >= 0 else 0)) * UNIT
        place = "Xposition Yposition Zposition " if parent < 0 else ""
        lines.append(f"{pad}{'ROOT' if parent < 0 else 'JOINT'} {JOINT_NAMES[index]}")
        lines.append(f"{pad}{{")
        lines.append(f"{pad}\tOFFSET " + " ".join(f"{x:.6f}" for x in (offset if parent >= 0 else 0 * offset)))
        lines.append(f"{pad}\tCHANNELS {6 if place else 3} {place}Zrotation Xrotation Yrotation")
        children = [c for c in range(len(body.parents)) if body.parents[c] == index]
        for child in children:
            joint(child, depth + 1)
        if not children:
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0.000000 2.000000 0.000000", f"{pad}\t}}"])
        lines.append(f"{pad}}}")

    joint(0, 0)
    angles = Rotation.from_rotvec(motion.pose.reshape(-1, 3).numpy()).as_euler("ZXY", degrees=True).reshape(-1, 55, 3)
    place = (motion.transl.numpy() + rest[0]) * UNIT
    rows = np.concatenate([place, angles[:, order].reshape(motion.frames, -1)], 1)
    lines += ["MOTION", f"Frames: {motion.frames}", f"Frame Time: {float(1 / motion.fps):.9f}"]
    lines += [" ".join(f"{x:.6f}" for x in row) for row in rows]
    with writing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    return said
