"""glTF out (one binary .glb): the skinned body of this shape, its expressions as morph targets, and the motion.

glTF's axes are the body's: y up, metres, facing +z. A skin has eight weights a vertex here (JOINTS_0/1), so none of the
body's is lost; viewers that read the first four show those. Pose correctives are no part of glTF: they are said as dropped.
Written by hand rather than with a library: the container is a header, one JSON and one buffer.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import roma
import torch
from numpy.typing import NDArray

from model.body import JOINT_NAMES
from pipelines.formats_hands import Context
from pipelines.formats_take import Take, fitted, resampled
from pipelines.store import writing

FLOAT, USHORT, UINT = 5126, 5123, 5125
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
COUNTS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
SKIN = [0.80, 0.62, 0.52, 1.0]


class _Buffer:
    """The binary chunk, and the accessors into it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: NDArray[Any], kind: int, target: int | None = None, bounds: bool = False) -> int:
        """Rows [N] or [N, C] as an accessor; returns its index."""
        rows = np.ascontiguousarray(values)
        self.data.extend(b"\0" * (-len(self.data) % 4))
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": rows.nbytes}
        self.views.append(view | ({"target": target} if target else {}))
        self.data.extend(rows.tobytes())
        width = 1 if rows.ndim == 1 else rows.shape[1]
        accessor = {"bufferView": len(self.views) - 1, "componentType": kind, "count": len(rows), "type": COUNTS[width]}
        if bounds:
            flat = rows.reshape(len(rows), -1)
            accessor |= {"min": flat.min(0).tolist(), "max": flat.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write(path: Path, take: Take, context: Context) -> list[str]:
    """The .glb; returns what it cannot hold."""
    body, motion = context.body, resampled(take, context.rate or take.fps)
    said = ["camera"] * (take.camera is not None) + ["confidence"] * (take.confidence is not None)
    said += ["betas: baked into the mesh"] * bool(take.betas.any())
    said += ["pose correctives of the body model"] * (body.pose_basis.numel() > 0)
    said += ["expression: coefficients beyond 10"] * bool(take.expression[:, 10:].any())
    betas = fitted(motion.betas, 10).float()
    rest = body.rest_joints(torch.cat([betas, torch.zeros(10)])).numpy()
    vertices = (body.template + torch.einsum("vck,k->vc", body.shape_dirs[..., :10], betas)).numpy()
    morphs = np.moveaxis(body.shape_dirs[..., 10:].numpy(), 2, 0)  # [10, V, 3]
    buffer = _Buffer()
    attributes = {"POSITION": buffer.add(vertices.astype(np.float32), FLOAT, VERTEX_BUFFER, True)}
    attributes["NORMAL"] = buffer.add(_normals(vertices, body.faces), FLOAT, VERTEX_BUFFER)
    joints, weights = eight_weights(body.skin_weights.numpy())
    for k in range(2):
        attributes[f"JOINTS_{k}"] = buffer.add(joints[:, 4 * k : 4 * k + 4].astype(np.uint16), USHORT, VERTEX_BUFFER)
        attributes[f"WEIGHTS_{k}"] = buffer.add(weights[:, 4 * k : 4 * k + 4], FLOAT, VERTEX_BUFFER)
    primitive = {
        "attributes": attributes, "indices": buffer.add(body.faces.reshape(-1).astype(np.uint32), UINT, INDEX_BUFFER), "material": 0,
        "targets": [{"POSITION": buffer.add(m.astype(np.float32), FLOAT, VERTEX_BUFFER, True)} for m in morphs],
    }  # fmt: skip
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    inverse_bind[:, :3, 3] = -rest
    skin = {
        "joints": list(range(1, len(rest) + 1)),
        "inverseBindMatrices": buffer.add(inverse_bind.transpose(0, 2, 1).reshape(-1, 16), FLOAT),  # by columns
    }
    content = {
        "asset": {"version": "2.0", "generator": "speech-avatar"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [{"name": "body", "mesh": 0, "skin": 0}, *_joint_nodes(rest, body.parents)],
        "meshes": [{"primitives": [primitive], "weights": [0.0] * len(morphs)}],
        "skins": [skin],
        "materials": [{"pbrMetallicRoughness": {"baseColorFactor": SKIN, "metallicFactor": 0.0, "roughnessFactor": 0.8}}],
        "animations": [_animation(motion, rest, len(morphs), buffer)],
        "bufferViews": buffer.views,
        "accessors": buffer.accessors,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    with writing(path) as temporary:
        temporary.write_bytes(_container(content, bytes(buffer.data)))
    return said


def eight_weights(weights: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The eight largest weights of each vertex [V, 8], largest first, summing to 1; joints [V, 8] (0 where the weight is 0)."""
    joints = np.argsort(-weights, axis=1, kind="stable")[:, :8]
    largest = np.take_along_axis(weights, joints, 1)
    largest = largest / largest.sum(1, keepdims=True)
    return np.where(largest > 0, joints, 0), largest.astype(np.float32)


def _normals(vertices: NDArray[np.float32], faces: NDArray[np.int64]) -> NDArray[np.float32]:
    """Area-weighted unit normals [V, 3]."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    sums = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(sums, faces[:, k], np.cross(b - a, c - a))
    length = np.linalg.norm(sums, axis=1, keepdims=True)
    # glTF wants unit normals: a vertex that no face has gets any
    return np.where(length > 0, sums / np.maximum(length, 1e-12), [0.0, 0.0, 1.0]).astype(np.float32)


def _joint_nodes(rest: NDArray[np.float32], parents: list[int]) -> list[dict[str, Any]]:
    """Nodes 1..J."""
    nodes = []
    for j, parent in enumerate(parents):
        bone = rest[j] - (rest[parent] if parent >= 0 else 0)
        node: dict[str, Any] = {"name": JOINT_NAMES[j], "translation": bone.tolist()}
        children = [c + 1 for c, p in enumerate(parents) if p == j]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _animation(motion: Take, rest: NDArray[np.float32], morphs: int, buffer: _Buffer) -> dict[str, Any]:
    time = buffer.add(((np.arange(motion.frames) + 0.5) / float(motion.fps)).astype(np.float32), FLOAT, None, True)
    quaternions = roma.rotvec_to_unitquat(motion.pose).numpy()  # xyzw, as glTF has them
    # neighbours on one hemisphere: viewers interpolate the four numbers as they are
    signs = np.cumprod(np.where((quaternions[1:] * quaternions[:-1]).sum(-1, keepdims=True) < 0, -1.0, 1.0), axis=0)
    quaternions[1:] *= signs
    place = (motion.transl.numpy() + rest[0]).astype(np.float32)
    faces = fitted(motion.expression, morphs).numpy().astype(np.float32).reshape(-1)
    tracks = [(j + 1, "rotation", buffer.add(quaternions[:, j].astype(np.float32), FLOAT)) for j in range(len(rest))]
    tracks += [(1, "translation", buffer.add(place, FLOAT)), (0, "weights", buffer.add(faces, FLOAT))]
    return {
        "name": "motion",
        "samplers": [{"input": time, "output": output, "interpolation": "LINEAR"} for _, _, output in tracks],
        "channels": [{"sampler": i, "target": {"node": node, "path": kind}} for i, (node, kind, _) in enumerate(tracks)],
    }


def _container(content: dict[str, Any], data: bytes) -> bytes:
    """Header, JSON chunk, binary chunk, each padded to four bytes."""
    text = json.dumps(content, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    total = 12 + 8 + len(text) + 8 + len(data)
    return (
        b"glTF"
        + struct.pack("<II", 2, total)
        + struct.pack("<I4s", len(text), b"JSON")
        + text
        + struct.pack("<I4s", len(data), b"BIN\0")
        + data
    )
