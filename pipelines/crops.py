"""Person-centred square crops on white, with the camera following: what every picture goes through before the network."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model.types import Camera

MARGIN = 0.1  # of the person's longer side, on each side
OPAQUE = 128  # alpha from which a pixel belongs to the person


def person_box(alpha: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box (left, top, right, bottom), ends exclusive, of alpha [..., H, W] uint8 over all leading axes; none where empty."""
    seen = (alpha >= OPAQUE).reshape(-1, *alpha.shape[-2:]).any(0)
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def square_round(box: tuple[int, int, int, int] | None, width: int, height: int, margin: float = MARGIN) -> tuple[int, int, int]:
    """Left, top and side of the square crop round a person's box in a picture of width × height pixels.

    It is kept inside the picture where it fits: a person cut by the picture's edge must not float above white.
    """
    left, top, right, bottom = box or (0, 0, width, height)
    longest = max(right - left, bottom - top)
    side = min(round(longest * (1 + 2 * margin)), max(width, height))
    place = lambda low, high, limit: _inside(round((low + high - side) / 2), side, limit)  # noqa: E731
    return place(left, right, width), place(top, bottom, height), side


def _inside(start: int, side: int, limit: int) -> int:
    return min(max(start, 0), limit - side) if side <= limit else (limit - side) // 2


def crop(pictures: np.ndarray, square: tuple[int, int, int], size: int) -> Tensor:
    """RGBA [..., H, W, 4] uint8, straight alpha → [..., size, size, 4] uint8, colours laid on white."""
    lead = pictures.shape[:-3]
    source = pictures.reshape(-1, *pictures.shape[-3:])
    out = torch.empty(len(source), size, size, 4, dtype=torch.uint8)
    for i, picture in enumerate(source):  # one by one: wide copies of a whole clip would not fit
        out[i] = cut_square(_on_white(picture), square, size)
    return out.reshape(*lead, size, size, 4)


def _on_white(picture: np.ndarray) -> np.ndarray:
    """RGBA [H, W, 4] uint8, straight alpha → the same with its colours laid on white."""
    out, alpha = np.array(picture, order="C"), picture[..., 3]
    np.copyto(out.view("<u4")[..., 0], np.uint32(0x00FFFFFF), where=alpha == 0)
    rim = (alpha > 0) & (alpha < 255)  # few pixels: sums over all of them take ten times as long
    away = (255 - picture[rim, :3]) * alpha[rim, None].astype(np.uint16)
    out[rim, :3] = 255 - (away + 127) // 255
    return out


def cut_square(picture: np.ndarray, square: tuple[int, int, int], size: int) -> Tensor:
    """RGBA [H, W, 4] uint8, colours on white already → [size, size, 4] uint8; what lies outside is white and empty."""
    (height, width), (left, top, side) = picture.shape[:2], square
    if left >= 0 and top >= 0 and left + side <= width and top + side <= height:
        window = picture[top : top + side, left : left + side]
    else:
        window = np.full((side, side, 4), (255, 255, 255, 0), np.uint8)
        y0, x0 = max(top, 0), max(left, 0)
        part = picture[y0 : max(top + side, 0), x0 : max(left + side, 0)]
        window[y0 - top : y0 - top + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    pixels = torch.from_numpy(window)
    if side == size:
        return pixels.clone()
    # bytes with the channels last: torch's fastest way to resample
    planes = pixels.movedim(-1, 0)[None].contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(planes, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return resized[0].movedim(0, -1)


def shrink(pictures: Tensor, size: int) -> Tensor:
    """Float pictures [..., H, W, C] → [..., size, size, C], antialiased."""
    if pictures.shape[-3:-1] == (size, size):
        return pictures
    flat = pictures.reshape(-1, *pictures.shape[-3:]).movedim(-1, 1)
    flat = F.interpolate(flat, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return flat.movedim(1, -1).reshape(*pictures.shape[:-3], size, size, pictures.shape[-1])


def crop_camera(camera: Camera, square: tuple[int, int, int] | Tensor, size: int) -> Camera:
    """The cameras [...] that see the crops, one or [..., 3] of them, resized to size × size."""
    left, top, side = torch.as_tensor(square).unbind(-1)
    intrinsics = camera.intrinsics.clone()
    intrinsics[..., 0, 2] -= left
    intrinsics[..., 1, 2] -= top
    return Camera(camera.w2c, intrinsics, side[..., None].expand_as(camera.size)).resized(size, size)
