"""Mediapipe: where body, hands and face are in pictures. The only module that imports it, and only when called.

Pictures are uint8 RGB [H, W, 3]; landmark coordinates are pixels of the picture (x right, y down), mediapipe's z in
the same scale; world landmarks are metres about the hips in the camera's axes. What is not found is NaN. Left and right
are the person's own. Legacy Holistic is used because its wheel carries its models: nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.store import writing
from pipelines.stretches import by_stretches

POSE_POINTS, HAND_POINTS, FACE_POINTS = 33, 21, 478
STRETCH = 70  # frames that one Holistic follows, at the end up to a dozen more; a longer clip is shared out between several
# frames that each but the first sees before its stretch: from 4 on faces and hands lie where one Holistic for the whole clip puts
# them (0.03 pixels of 512 off), from 12 on bodies do as nearly as they ever will (1.7 at the start, 1.5 a second later; 3.7 with none)
WARM_UP = 12
MOST_THREADS = 4  # bounds the pictures held: this many stretches and one


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of one person over the T frames of a clip."""

    pose: np.ndarray  # [T, 33, 3] pixels
    visibility: np.ndarray  # [T, 33] 0..1
    pose_world: np.ndarray  # [T, 33, 3] metres
    face: np.ndarray  # [T, 478, 3] pixels
    left_hand: np.ndarray  # [T, 21, 3] pixels
    right_hand: np.ndarray  # [T, 21, 3] pixels
    size: np.ndarray  # [2] int64 width, height, pixels
    fps: np.ndarray  # [2] int64 numerator, denominator

    def __post_init__(self) -> None:
        count = len(self.pose)
        shapes = {
            "pose": (count, POSE_POINTS, 3), "visibility": (count, POSE_POINTS), "pose_world": (count, POSE_POINTS, 3),
            "face": (count, FACE_POINTS, 3), "left_hand": (count, HAND_POINTS, 3),
            "right_hand": (count, HAND_POINTS, 3), "size": (2,), "fps": (2,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"Landmarks.{name}: expected {shape}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.pose)

    def found(self) -> dict[str, float]:
        """Share of frames in which body, face and each hand were found."""
        parts = {"body": self.pose, "face": self.face, "left_hand": self.left_hand, "right_hand": self.right_hand}
        return {name: float((~np.isnan(points[:, 0, 0])).mean()) for name, points in parts.items()}

    def frames(self, start: int, end: int) -> Landmarks:
        """The stretch start..end of the clip."""
        kept = {f.name: getattr(self, f.name)[start:end] for f in fields(self) if f.name not in ("size", "fps")}
        return Landmarks(**kept, size=self.size, fps=self.fps)

    def save(self, path: Path) -> None:
        with writing(path) as temporary:
            np.savez_compressed(temporary, **{f.name: getattr(self, f.name) for f in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Landmarks:
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: npz[f.name] for f in fields(cls)})


def detect(frames: Iterable[np.ndarray], fps: Fraction) -> Landmarks:
    """Run Holistic in video mode over pictures [H, W, 3] of one size that show one person, on all cores.

    Holistic itself uses one core, so stretches of the clip are followed side by side; where they begin does not depend on
    the number of cores, nor does what is found.
    """
    rows = by_stretches(frames, _follow, STRETCH, WARM_UP, min(len(os.sched_getaffinity(0)), MOST_THREADS))
    if not rows:
        raise ValueError("detect: expected at least one frame, got none")
    arrays = {name: np.stack([row[name] for row, _ in rows]).astype(np.float32) for name in rows[0][0]}
    return Landmarks(**arrays, size=np.array(rows[-1][1]), fps=np.array([fps.numerator, fps.denominator]))


class PersonFinder:
    """People in single pictures, for choosing and masking what is worth fitting. Close it, or use it in a `with`."""

    def __init__(self, segment: bool = False, video: bool = False):
        """`segment`: also give masks; `video`: pictures follow one another (faster, smoother)."""
        solutions = _solutions()
        self._pose = solutions.pose.Pose(static_image_mode=not video, model_complexity=1, enable_segmentation=segment)
        # 1: the full-range model, for faces up to some 5 m away
        self._faces = solutions.face_detection.FaceDetection(model_selection=1, min_detection_confidence=0.5)

    def __enter__(self) -> PersonFinder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._pose.close()
        self._faces.close()

    def faces(self, picture: np.ndarray) -> np.ndarray:
        """Boxes [N, 4] (x0, y0, x1, y1) of the faces found, pixels."""
        height, width = picture.shape[:2]
        found = self._faces.process(np.ascontiguousarray(picture)).detections or []
        boxes = [d.location_data.relative_bounding_box for d in found]
        scale = np.array([width, height, width, height], np.float32)
        rows = [(b.xmin, b.ymin, b.xmin + b.width, b.ymin + b.height) for b in boxes]
        return np.array(rows, np.float32).reshape(-1, 4) * scale

    def person(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None] | None:
        """The most prominent person: points [33, 3] (x, y pixels, visibility) and mask [H, W] 0..1; None: nobody."""
        height, width = picture.shape[:2]
        result = self._pose.process(np.ascontiguousarray(picture))
        if result.pose_landmarks is None:
            return None
        points = [(p.x * width, p.y * height, p.visibility) for p in result.pose_landmarks.landmark]
        return np.array(points, np.float32), result.segmentation_mask


def _follow(frames: Iterator[np.ndarray]) -> list[tuple[dict[str, np.ndarray], tuple[int, int]]]:
    """What one Holistic finds in pictures that follow one another, with their width and height."""
    rows = []
    options = {"model_complexity": 1, "refine_face_landmarks": True, "smooth_landmarks": True}
    with _solutions().holistic.Holistic(**options) as holistic:
        for frame in frames:
            size = frame.shape[1], frame.shape[0]
            rows.append((_row(holistic.process(np.ascontiguousarray(frame)), *size), size))
    return rows


def _row(result: Any, width: int, height: int) -> dict[str, np.ndarray]:
    def points(found: Any, count: int, scale: tuple[float, float, float] = (width, height, width)) -> np.ndarray:
        if found is None:
            return np.full((count, 3), np.nan)
        return np.array([(p.x, p.y, p.z) for p in found.landmark]) * scale

    body = result.pose_landmarks
    return {
        "pose": points(body, POSE_POINTS),
        "visibility": np.zeros(POSE_POINTS) if body is None else np.array([p.visibility for p in body.landmark]),
        "pose_world": points(result.pose_world_landmarks, POSE_POINTS, (1.0, 1.0, 1.0)),
        "face": points(result.face_landmarks, FACE_POINTS),
        "left_hand": points(result.left_hand_landmarks, HAND_POINTS),
        "right_hand": points(result.right_hand_landmarks, HAND_POINTS),
    }


def _solutions() -> Any:
    os.environ.setdefault("GLOG_minloglevel", "2")  # its start-up lines say nothing a user can act on
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import mediapipe
    except ImportError as error:
        raise RuntimeError(
            "landmarks need mediapipe 0.10.21 (Python 3.11, numpy 1.26): install requirements.lock"
        ) from error
    return mediapipe.solutions
