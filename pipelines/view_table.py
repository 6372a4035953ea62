"""All pictures of stage 1's people as one table for a GPU, where it lies if it fits: a batch is an index.

Axes: M pictures of all people, Q people, B batch, C pictures of a sample, S side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.types import Camera, SmplxParams, TensorGroup
from pipelines.people import People, PersonFrames

SURFACE = 2048  # points of a scan's surface in a sample
DEVICE_SHARE = 0.4  # of a GPU's free memory that the table may fill


@dataclass(frozen=True)
class Views(TensorGroup):
    """Pictures of people before they are cut to size: bytes, a quarter of the memory to move."""

    pictures: Tensor  # [..., S, S, 4] uint8, colours on white, then alpha
    cameras: Camera  # [...] of the pictures
    params: SmplxParams  # [...] world
    confidence: Tensor  # [...] 0..1 of the parameters


def views_of(person: PersonFrames) -> Views:  # [F]
    return Views(person.images, person.cameras, person.params, person.confidence)


def surface_of(person: PersonFrames) -> Tensor:
    """Points of a scan's surface, [SURFACE, 3] world; NaN where there is no scan."""
    if person.points is None:
        return torch.full((SURFACE, 3), torch.nan)
    return person.points[torch.linspace(0, len(person.points) - 1, SURFACE).long()]


class ViewTable:
    """A copy of all people of sources that lie in memory."""

    def __init__(self, sources: list[People]):
        people = [person for source in sources for person in source.cache or []]
        counts = torch.tensor([len(p.images) for p in people])
        starts = (counts.cumsum(0) - counts).tolist()
        self.start = {id(p): start for p, start in zip(people, starts, strict=True)}  # first row of each person
        self.views = Views.cat([views_of(p) for p in people])  # [M]
        self.points = torch.stack([surface_of(p) for p in people])  # [Q, SURFACE, 3]
        self.person = torch.arange(len(people)).repeat_interleave(counts)  # [M]

    def rows(self, person: PersonFrames, indices: list[int]) -> Tensor:  # [len(indices)]
        return self.start[id(person)] + torch.tensor(indices)

    def take(self, rows: Tensor, device: Any) -> tuple[Views, Tensor]:
        """Pictures of rows [B, C] on `device`, and the points of the first one's person [B, SURFACE, 3]."""
        self._move(torch.device(device))
        rows = rows.to(self.points.device, non_blocking=True)
        points = self.points[self.person[rows[:, 0]]]
        return self.views[rows].to(device, non_blocking=True), points.to(device, non_blocking=True)

    def _move(self, device: torch.device) -> None:
        """The whole table to a GPU, once, if it has the room."""
        if device.type != "cuda" or self.points.device.type == "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        if self.views.pictures.numel() < DEVICE_SHARE * free:
            self.views, self.points, self.person = self.views.to(device), self.points.to(device), self.person.to(device)
