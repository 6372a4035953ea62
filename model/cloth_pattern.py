"""Patterns of cloth, continued to where the picture does not show it: stripes, checks and dots go on round the body.

A few plane waves are fitted to the colours that are seen of a garment, unrolled from trunk and limbs, the strongest first
(orthogonal matching pursuit: Pati et al., 1993; waves that go on beyond what is seen: Papoulis, 1975); what no wave explains
is left as it is.
Axes: B batch, N points, P parts of the body, G garments, M points of the largest part, S of them that are used, K waves of a
garment, Q frequencies.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.body import JOINT_NAMES, Body
from model.fixed_sums import KeptDtype
from model.geometry import full_precision

PARTS = ("trunk", "hips", "arms", "legs", "skirt")
ROUND = (0.15, 0.15, 0.055, 0.075, 0.20)  # metres of cloth a radian round each part
GARMENTS = (("trunk", "arms"), ("hips", "legs"), ("skirt",))  # the parts whose cloth has one pattern; tops reach down the hips, too
SAMPLES = 1536  # points of a part that are used, the best seen
LEAST = 60  # of them that are seen, without which a part has no pattern
DETAIL = 6  # functions each way that the shading of a part is made of, which is no pattern
LONGEST, SHORTEST = 7.0, 48.0  # cycles a metre
LOUDER = 6.0  # than waves of its length usually are is a wave of a pattern
EXPLAINS = (0.012, 0.09)  # of the variance at least: a wave along or across, and another
RING = 8.0  # cycles a metre: width of the rings of frequencies over which the usual is a mean
COMMON = 0.5  # of what is seen is explained better by a wave of a pattern
FAINT = 1 / 255  # of a colour: no wave is fainter
BLUR = 0.005  # metres: width of what Gaussians make of a spot, against which waves are drawn the stronger
OUTLIER = 2.5  # standard deviations, at which differences are cut
RIDGE = 0.01  # of the weight, against waves that what is seen does not tell apart
ALIGNED = (1.2, 0.93)  # a wave as good as so far upright or level is: cycles a metre off, share of the power
ZOOMS = (0.25, 0.05, 0.02)  # cycles a metre between the frequencies tried round the best


class Unrolled(NamedTuple):
    """Cloth of the parts laid flat."""

    along: Tensor  # [B, P, M] metres down the trunk or along the limb
    across: Tensor  # [B, P, M] metres round it


class ClothPattern(KeptDtype):
    """Waves in the colours of points on a dressed body."""

    index: Tensor  # [P, M] points of the parts, padded by their first
    given: Tensor  # [P, M] 1 a point, 0 padding
    back: Tensor  # [N] where each point is in the flat `index`
    inside: Tensor  # [N] whether it is there
    kind: Tensor  # [N] 0 trunk, 1 arm, 2 leg: how the point is unrolled
    axis: Tensor  # [N, 2] what it is unrolled round: height or distance aside, and depth, metres
    round: Tensor  # [N]
    member: Tensor  # [G, P] whether the part is of the garment
    frequencies: Tensor  # [Q, 2] cycles a metre, along and across
    usable: Tensor  # [Q]
    ring: Tensor  # [Q, rings] share of each ring
    ring_size: Tensor  # [rings] usable frequencies of each
    table: Tensor  # [frequencies a side]

    def __init__(self, body: Body, places: Tensor, sheet: Tensor, waves: int):
        """Points [N, 3] in template space, whether each lies on the sheet for skirts [N], and how many waves at most a garment has."""
        super().__init__()
        self.waves = waves
        part, kind, axis = _parts(body, places, sheet)
        members = [(part == p).nonzero()[:, 0] for p in range(len(PARTS))]
        most = max(len(m) for m in members)
        index, given = torch.zeros(len(PARTS), most, dtype=torch.long), torch.zeros(len(PARTS), most)
        back = torch.zeros(len(places), dtype=torch.long)
        for p, points in enumerate(members):
            index[p, : len(points)], given[p, : len(points)] = points.cpu(), 1.0
            back[points.cpu()] = p * most + torch.arange(len(points))
        self.samples = min(SAMPLES, most)
        table = torch.arange(SHORTEST + 0.5)
        along, across = torch.meshgrid(table, table, indexing="ij")
        frequencies = torch.stack([torch.stack([along, across], -1), torch.stack([along, -across], -1)]).flatten(0, 2)
        length = torch.linalg.vector_norm(frequencies, dim=-1)
        twice = (torch.arange(len(frequencies)) >= len(frequencies) // 2) & (frequencies == 0).any(-1)
        rings = int(SHORTEST / RING) + 1
        place = (length / RING - 0.5).clamp(0, rings - 1 - 1e-3)
        ring = torch.zeros(len(frequencies), rings).scatter_(1, place.long()[:, None], 1 - place.frac()[:, None])
        ring.scatter_(1, place.long()[:, None] + 1, place.frac()[:, None])
        usable = (length > LONGEST) & (length < SHORTEST) & ~twice
        buffers = {
            "index": index, "given": given, "back": back, "inside": (part >= 0).float(), "kind": kind, "axis": axis,
            "round": torch.tensor([*ROUND, 1.0], device=part.device)[part],
            "member": torch.tensor([[float(p in garment) for p in PARTS] for garment in GARMENTS]),
            "frequencies": frequencies, "usable": usable, "ring": ring, "ring_size": (ring * usable[:, None]).sum(0).clamp(min=1e-6),
            "table": table,
        }  # fmt: skip
        for name, value in buffers.items():
            self.register_buffer(name, value.to(places.device), persistent=False)

    @torch.no_grad()
    def forward(
        self,
        colors: Tensor,  # [B, N, 3] as seen
        weights: Tensor,  # [B, N] 0..1 how well
        seen_at: Tensor,  # [B, N, 3] the places on the cloth where these colours are, template space
        places: Tensor,  # [B, N, 3] of the cloth over the points, template space
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The pattern, a difference of colours, at `seen_at` and at `places`, [B, N, 3] each, and how strong it is there, [B, N, 1]."""
        with full_precision(colors):
            seen, there = self._unrolled(seen_at.float()), self._unrolled(places.float())
            part = lambda x: x[:, self.index.flatten()].unflatten(1, self.index.shape)  # noqa: E731
            weight = part(weights.float()) * self.given
            weight = weight * ((weight > 0.05).sum(-1, keepdim=True) >= LEAST)
            used = weight.topk(self.samples, -1).indices
            of = lambda x: x.gather(2, used.view(*used.shape, *[1] * (x.dim() - 3)).expand(-1, -1, -1, *x.shape[3:]))  # noqa: E731
            fit = _Fit(self, Unrolled(of(seen.along), of(seen.across)), of(weight), of(part(colors.float())))
            frequencies, coefficients = fit.waves()
            blur = torch.exp(-0.5 * (2 * math.pi * BLUR) ** 2 * frequencies.square().sum(-1))
            stronger = coefficients / torch.cat([blur, blur], -1)[..., None]
            made = [torch.cat(_sines(at, frequencies), -1) @ x for at, x in ((seen, coefficients), (there, stronger))]
            strength = made[1].square().mean((2, 3), keepdim=True).sqrt().expand(*made[1].shape[:3], 1)
            first, second, strong = (x.flatten(1, 2)[:, self.back] * self.inside[:, None] for x in (*made, strength))
        return first, second, strong

    def _unrolled(self, places: Tensor) -> Unrolled:  # [B, N, 3]
        x, y, z = places.unbind(-1)
        arm, leg = self.kind == 1, self.kind == 2
        aside = torch.where(arm, y, torch.where(leg, x.abs(), x)) - self.axis[:, 0]
        flat = torch.where(arm, x.abs(), -y), torch.atan2(aside, z - self.axis[:, 1]) * self.round
        return Unrolled(*(t[:, self.index.flatten()].unflatten(1, self.index.shape) for t in flat))


class _Fit:
    """The waves of one batch."""

    def __init__(self, pattern: ClothPattern, at: Unrolled, weight: Tensor, colors: Tensor):  # [B, P, S], [B, P, S, 3]
        self.pattern, self.at, self.weight = pattern, at, weight
        self.total = weight.sum(-1).clamp(min=1.0)  # [B, P]
        self.rough = colors - _smooth(at, weight, self.total, colors)  # [B, P, S, 3]
        spread = self._of_garments(torch.einsum("bps,bpsi,bpsj->bpij", weight, self.rough, self.rough).flatten(2)).unflatten(2, (3, 3))
        way = spread.gather(2, spread.diagonal(dim1=2, dim2=3).argmax(-1)[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
        for _ in range(8):  # the way in which a garment's colours differ most: the power method
            way = nn.functional.normalize((spread @ way[..., None])[..., 0], dim=-1)
        signal = (self.rough * self._of_parts(way)[:, :, None]).sum(-1)
        limit = OUTLIER * math.sqrt(math.pi / 2) * (weight * signal.abs()).sum(-1) / self.total
        self.signal = torch.minimum(torch.maximum(signal, -limit[..., None]), limit[..., None])  # [B, P, S]

    def waves(self) -> tuple[Tensor, Tensor]:
        """Frequencies [B, P, 2 K, 2] of each part, and the coefficients [B, P, 4 K, 3] of their cosines, then sines, zero if none."""
        power = lambda x: self._of_garments((self.weight * x.square()).sum(-1, keepdim=True))[..., 0]  # noqa: E731
        variance = power(self.signal).clamp(min=1e-9)  # [B, G]
        seen = self._of_garments(self.total)
        faint = FAINT**2 * seen
        left, rest, alive = variance, self.signal, torch.ones_like(variance, dtype=torch.bool)
        tables = [2 * math.pi * x[..., None] * self.pattern.table for x in self.at]
        sines = [torch.cat([t.cos(), t.sin()], -1) for t in tables]  # [B, P, S, 2 frequencies a side] along, and across
        found: list[Tensor] = []
        taken: list[Tensor] = []
        for _ in range(self.pattern.waves):
            best, loud = self._loudest(rest, sines)
            found.append(self._refined(rest, best))
            tried = torch.stack(taken + [alive], -1)  # [B, G, waves so far]
            functions = self._functions(self._of_parts(torch.stack(found, 2)), self._of_parts(tried.float()))
            after = self.signal - (functions @ self._solved(functions, self.signal[..., None]))[..., 0]
            now = power(after)
            # a print makes waves too, but they spoil most of the rest
            nearer = self._of_garments((self.weight * (after.abs() < rest.abs())).sum(-1))
            straight = (found[-1] == 0).any(-1)
            least = torch.maximum(torch.where(straight, *EXPLAINS) * variance, faint)
            alive = alive & (loud > LOUDER) & (left - now > least) & (nearer > COMMON * seen)
            rest = torch.where(self._of_parts(alive[..., None])[..., :1].bool(), after, rest)
            left = torch.where(alive, now, left)
            taken.append(alive)
            if not alive.is_cuda and not alive.any():  # a GPU would be waited for
                break
        own, chosen = self._of_parts(torch.stack(found, 2)), self._of_parts(torch.stack(taken, -1).float())  # [B, P, K, 2], [B, P, K]
        trunk, hips = PARTS.index("trunk"), PARTS.index("hips")
        others, too = own.clone(), torch.zeros_like(chosen)  # tops reach down the hips
        others[:, hips], too[:, hips] = own[:, trunk], chosen[:, trunk]
        frequencies, chosen = torch.cat([own, others], 2), torch.cat([chosen, too], 2)
        functions = self._functions(frequencies, chosen)
        coefficients = self._solved(functions, self.rough)
        return frequencies, coefficients * torch.cat([chosen, chosen], -1)[..., None]

    def _loudest(self, rest: Tensor, sines: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The frequency [B, G, 2] that stands out most, and by how much [B, G]."""
        pattern, side = self.pattern, len(self.pattern.table)
        products = (sines[0] * (self.weight * rest)[..., None]).mT @ sines[1]
        cc, cs, sc, ss = (products[..., i : i + side, j : j + side].flatten(2) for i in (0, side) for j in (0, side))
        power = torch.cat([(cc - ss).square() + (sc + cs).square(), (cc + ss).square() + (sc - cs).square()], -1)
        power = self._of_garments(power / self.total[..., None]) * pattern.usable  # [B, G, Q]
        usual = power @ pattern.ring / pattern.ring_size
        usual = usual.flip(-1).cummax(-1).values.flip(-1)  # shorter waves are no louder
        loud, at = (power / (usual @ pattern.ring.mT).clamp(min=1e-12)).max(-1)
        return pattern.frequencies[at], loud

    def _refined(self, rest: Tensor, best: Tensor) -> Tensor:  # [B, P, S], [B, G, 2] → [B, G, 2]
        device = best.device
        grid = torch.cartesian_prod(*[torch.arange(-2.0, 3.0, device=device)] * 2)
        for step in ZOOMS:
            tried = best[:, :, None] + step * grid
            power = self._power(rest, tried)
            best = tried.gather(2, power.argmax(-1)[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
        near, share = ALIGNED
        moves = torch.linspace(-0.5, 0.5, 9, device=device)[:, None]
        ways = torch.eye(2, device=device)
        level = torch.cat([best[:, :, None] * way + moves * way for way in ways], 2)
        close = (best.abs() < near).flip(-1).repeat_interleave(len(moves), -1)
        power_level, at = (self._power(rest, level) * close).max(-1)
        chosen = level.gather(2, at[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
        return torch.where((power_level > share * power.amax(-1))[..., None], chosen, best)

    def _power(self, rest: Tensor, frequencies: Tensor) -> Tensor:  # [B, P, S], [B, G, F, 2] → [B, G, F]
        weighted = (self.weight * rest)[:, :, None]
        parts = [(weighted @ x)[:, :, 0].square() for x in _sines(self.at, self._of_parts(frequencies))]
        return self._of_garments((parts[0] + parts[1]) / self.total[..., None])

    def _functions(self, frequencies: Tensor, chosen: Tensor) -> Tensor:  # [B, P, F, 2], [B, P, F] → [B, P, S, 2 F]
        return torch.cat([x * chosen[:, :, None] for x in _sines(self.at, frequencies)], -1)

    def _solved(self, functions: Tensor, values: Tensor) -> Tensor:  # [B, P, S, F], [B, P, S, C] → [B, P, F, C]
        return _least_squares(functions, self.weight, values, RIDGE * self.total)

    def _of_garments(self, x: Tensor) -> Tensor:  # [B, P, ...] → [B, G, ...] sums
        return torch.einsum("gp,bp...->bg...", self.pattern.member, x)

    def _of_parts(self, x: Tensor) -> Tensor:  # [B, G, ...] → [B, P, ...]
        return torch.einsum("gp,bg...->bp...", self.pattern.member, x.float())


def _parts(body: Body, places: Tensor, sheet: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Part of each point [N], -1 if of none, how it is unrolled [N], and round what [N, 2]."""
    joints = body.joint_template[:, :3].to(places)
    shoulder, wrist, hip, knee, ankle, neck, waist = (
        joints[JOINT_NAMES.index(name)]
        for name in ("left_shoulder", "left_wrist", "left_hip", "left_knee", "left_ankle", "neck", "spine1")
    )
    x, y = places[:, 0].abs(), places[:, 1]
    arm, leg = (x > shoulder[0] + 0.02) & (y > shoulder[1] - 0.14), y < hip[1] - 0.11
    part = torch.where(arm, 2, torch.where(leg, 3, torch.where(y < waist[1], 1, 0)))
    part = torch.where((y > neck[1] + 0.01) | (x > wrist[0] + 0.07) | (y < ankle[1] - 0.04), -1, part)
    part = torch.where(sheet > 0, 4, part)
    kind = torch.where(part == 2, 1, torch.where(part == 3, 2, 0))
    axes = places.new_tensor([[0.0, shoulder[2]], [shoulder[1] - 0.004, shoulder[2]], [knee[0], knee[2] + 0.008]])
    return part, kind, axes[kind]


def _sines(at: Unrolled, frequencies: Tensor) -> tuple[Tensor, Tensor]:  # [B, P, F, 2] → [B, P, S, F] twice
    along, across = (2 * math.pi * frequencies).unbind(-1)
    phase = at.along[..., None] * along[:, :, None] + at.across[..., None] * across[:, :, None]
    return phase.cos(), phase.sin()


def _smooth(at: Unrolled, weight: Tensor, total: Tensor, values: Tensor) -> Tensor:  # [B, P, S, C] → the same
    """What Chebyshev polynomials make of the values."""
    sides = []
    for x in at:
        middle = ((weight * x).sum(-1) / total)[..., None]
        reach = ((x - middle).abs() * (weight > 0.05)).amax(-1, keepdim=True).clamp(min=0.02)
        sides.append(torch.cos(torch.arange(DETAIL, device=x.device) * torch.acos(((x - middle) / reach).clamp(-1, 1))[..., None]))
    functions = (sides[0][..., :, None] * sides[1][..., None, :]).flatten(-2)
    return functions @ _least_squares(functions, weight, values, 1e-3 * total)


def _least_squares(functions: Tensor, weight: Tensor, values: Tensor, ridge: Tensor) -> Tensor:
    """Coefficients [B, P, F, C] by which functions [B, P, S, F] make values [B, P, S, C]; weights [B, P, S], ridge [B, P]."""
    weighted = (functions * weight[..., None]).mT
    eye = torch.eye(functions.shape[-1], device=functions.device)
    solved: Tensor = torch.linalg.solve_ex(weighted @ functions + ridge[..., None, None] * eye, weighted @ values)[0]
    return solved
