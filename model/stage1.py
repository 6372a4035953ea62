"""Stage 1: one picture of a person, or several → SMPL-X tokens and a canonical triplane → Gaussians that skinning poses.

`encode` reads the picture (`encode_several` more of them), draws the person as read beside it and corrects what differs;
`canonical` gives the anchors' features of that, `gaussians` decodes them, `pose` moves the Gaussians with any SMPL-X
parameters. Identity lives in template space throughout.
Axes: B batch, N Gaussians (= anchors), K SMPL-X tokens, d width, F anchor features, S picture side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Stage1Config
from model.anchors import Anchors, Stance
from model.body import Body
from model.cloth_pattern import ClothPattern
from model.feedback import Correction, Exchange, differences
from model.geometry import apply_matrices, full_precision, quaternion_multiply, rotate, soft_bound, working_dtype
from model.image_encoders import make_image_encoder
from model.layers import Block, RMSNorm
from model.smplx_tokens import SmplxDecoder, SmplxQueries
from model.triplane import PlaneSampler, Triplane
from model.types import AvatarTokens, Camera, GaussianCloud, SmplxParams, TensorGroup
from model.visibility import OUTLINE, ColorFill, blank_background, coverage, edge_distances, sight

FEATURES = 64  # learned features of an anchor, before its four picture values
EDGES = 3  # features of an anchor that say how far the outline is, outward, inward and far outward
PICTURE = 4  # anchor features after the learned: RGB (the picture's where the anchor is seen, else a guess), and how well it is seen
OUTPUTS = 14  # of the head, which `GaussianHead.decode` takes; the last three are colours
PATTERN = 2  # what anchors hear of the pattern of their cloth: how it differs from its mean there, and how strong it is
PATTERN_UNIT = 0.1  # of colour differences in these
CLOTH = (0.008, 0.004)  # metres of cloth over the middle of a Gaussian, of the skin's and of the sheet's
STEEPEST = 0.25  # cosine of the line of sight to the normal beyond which it is taken for no flatter
ANCHOR_CODE = 12  # learned channels that tell anchors apart
SCALE_SHAPE = (0.5, 0.5, 0.2)  # initial Gaussian, in units of the anchor spacing: flat on the surface
SCALE_DOWN, SCALE_UP = 0.25, 1.2  # largest change of its log: smaller ones would leave holes between neighbours
OFFSET_STEP = 0.02  # metres of offset a unit of the head's output: a Gaussian off its place hides another, so they learn slowly
COVERED_OFFSET = 0.08  # metres, largest of the legs' skin where there is a sheet for skirts: trousers need no more
COLOR_GAIN = 1.0  # of the change to the first guess of a colour, in its logit


@dataclass(frozen=True)
class Encoding(TensorGroup):
    """All that stage 1 knows of the person in a picture."""

    tokens: AvatarTokens  # smplx [B, K, d], triplane [B, 3, C, R, R]
    params: SmplxParams  # [B] in the camera frame of the picture, the first where there are several
    bodies: SmplxParams  # [B, V] as read off all pictures, each in its camera's frame
    image_tokens: Tensor  # [B, P, d]
    pixels: Tensor  # [B, N, P'] what the picture shows at each anchor; zero where hidden, but for the guessed colour
    focal_over_size: Tensor  # [B] of the picture's camera
    principal: Tensor  # [B, 2] principal point from the picture's centre, in picture sides
    learned: Tensor  # [B, N, FEATURES] of the anchors, read off triplane and pixels
    change: Tensor  # [B, N, OUTPUTS] what corrections add to the head's outputs


@dataclass(frozen=True)
class Reading(TensorGroup):
    """What pictures show at each anchor."""

    values: Tensor  # [B, N, C + 1] features, and the facing
    outline: Tensor  # [B, N, len(OUTLINE) + EDGES + 1] whether the background begins there, how far it is, how much this outline counts
    colors: Tensor  # [B, N, 3]
    seen: Tensor  # [B, N] how well, 0..1
    toward: Tensor  # [B, N, 3] the way to the camera, template space, so long that it leads a metre out of the surface


class Stage1(nn.Module):
    """The image-to-avatar network."""

    def __init__(self, config: Stage1Config, body: Body):
        super().__init__()
        self.config = config
        self.rasterizer = "auto"  # that draws the person beside the picture
        width, heads, channels = config.width, config.heads, config.triplane_channels
        pixel_inputs = config.pixel_channels + 1 + len(OUTLINE) + EDGES + PICTURE
        self.anchors = Anchors(body, config.gaussians, config.triplane_radius, config.skirt)
        self.color_fill = ColorFill(self.anchors.places, self.anchors.sheet)
        self.cloth_pattern = ClothPattern(body, self.anchors.places, self.anchors.sheet, config.patterns) if config.patterns else None
        self.image_encoder = make_image_encoder(config.image, width, heads, config.pixel_channels)
        self.queries = SmplxQueries(config.smplx_tokens, config.smplx_layers, width, heads)
        self.smplx_decoder = SmplxDecoder(body, width)
        self.triplane = Triplane(
            self.anchors.coordinates[: config.gaussians], pixel_inputs, width, channels, config.triplane_resolution, config.triplane_tokens
        )
        self.sample_planes = PlaneSampler(self.anchors.coordinates, config.triplane_resolution)
        self.fusion = nn.ModuleList(Block(width, heads, cross=True) for _ in range(config.fusion_layers))
        self.fusion_norm = RMSNorm(width)
        self.whole = nn.Linear(width, channels)  # what concerns all anchors: light, skin, clothes as a whole
        self.anchor_code = nn.Parameter(torch.randn(config.gaussians, ANCHOR_CODE) * 0.02)
        self.heard_of_pattern = PATTERN if config.patterns else 0
        inputs = 3 * channels + pixel_inputs + self.heard_of_pattern
        self.anchor_features = _features(inputs + ANCHOR_CODE, 2 * FEATURES)
        self.skirt_features = _features(inputs, FEATURES) if config.skirt else None
        self.head = GaussianHead(config.max_offset, config.max_scale)
        self.exchange = Exchange(self.anchors.neighbours, self.color_fill)
        self.corrections = nn.ModuleList(Correction(FEATURES, OUTPUTS, FEATURES) for _ in range(config.corrections))

    @property
    def body(self) -> Body:
        return self.anchors.body

    def encode(
        self,
        image: Tensor,  # [B, 3, S, S] 0..1, one person on white
        camera: Camera,  # [B] of the picture; only its intrinsics and size are used
        params: SmplxParams | None = None,  # [B] true SMPL-X in the camera frame: where to read the picture (training)
        corrected: bool = True,  # whether drawings of the avatar beside the picture correct it
    ) -> Encoding:
        """`params` of the result are the predicted ones whether or not true ones are given for the pixel alignment."""
        one = lambda x: x[:, None]  # noqa: E731
        return self.encode_several(image[:, None], camera.map(one), None if params is None else params.map(one), corrected)

    def encode_several(
        self,
        images: Tensor,  # [B, V, 3, S, S] of one person each, in any poses
        cameras: Camera,  # [B, V]
        params: SmplxParams | None = None,  # [B, V] each in its camera's frame
        corrected: bool = True,  # as above
    ) -> Encoding:
        """Several pictures of a person: each anchor is read where it is seen best. Tokens and body are the first picture's."""
        batch, views = images.shape[:2]
        flat = lambda x: x.flatten(0, 1)  # noqa: E731
        first = lambda x: x.unflatten(0, (batch, views))[:, 0]  # noqa: E731
        features = self.image_encoder(flat(images))
        focal_over_size, principal = view_of(cameras.map(flat))
        smplx = self.queries(features.tokens)
        predicted = self.smplx_decoder(smplx, focal_over_size, principal)
        aligned = (predicted if params is None else params.map(flat)).detach()
        every = lambda x: x.unflatten(0, (batch, views))  # noqa: E731
        with full_precision(images), torch.no_grad():
            stance = self.anchors.stance(aligned.map(Tensor.float))
        blank = blank_background(flat(images).float())
        cover = coverage(flat(images).float(), blank)
        reading = self._read_picture(flat(images), blank, stance, focal_over_size, principal, features=(features.map, cover)).map(every)
        pixels = self._join(reading)
        image_tokens = every(features.tokens).flatten(1, 2)
        tokens = AvatarTokens(first(smplx), self._fuse(pixels, first(smplx), image_tokens))
        planes = self.sample_planes(tokens.triplane).flatten(2)
        with torch.no_grad():  # colours again, from where the Gaussians have moved to: clothes and hair lie off the body
            plain = pixels.new_zeros(*pixels.shape[:2], self.heard_of_pattern)
            alone = self.head.decode(self.head.outputs(self._learned(planes, pixels, plain)), _guess(pixels), self.anchors)
            offsets = (alone.means - self.anchors.points.rest).repeat_interleave(views, 0)
            again = self._read_picture(flat(images), blank, stance, focal_over_size, principal, offsets).map(every)
            colors, pattern = self._join_colors(again, alone)
            pixels = torch.cat([pixels[..., :-PICTURE], colors.to(pixels)], -1)
        learned = self._learned(planes, pixels, pattern)
        change = learned.new_zeros(*learned.shape[:2], OUTPUTS)
        if corrected:
            pictures = torch.cat([images.float(), every(cover)], 2)
            here = cameras.at_origin().resized(images.shape[-1], images.shape[-2])
            change = self._corrected(change, learned, _guess(pixels), stance, here, pictures)
        view = first(focal_over_size), first(principal)
        return Encoding(tokens, predicted.map(first), predicted.map(every), image_tokens, pixels, *view, learned, change)

    def decode_smplx(
        self,
        smplx_tokens: Tensor,  # [..., K, d]
        focal_over_size: Tensor,  # [...]
        principal: Tensor | None = None,  # [..., 2]; none: the picture's centre
    ) -> SmplxParams:  # [...] in the camera frame of the picture
        return self.smplx_decoder(smplx_tokens, focal_over_size, principal)

    def canonical(self, encoding: Encoding) -> Tensor:
        """Anchor features [B, N, F]: `FEATURES` learned channels, the picture's RGB and how well it is seen, and the change."""
        return torch.cat([encoding.learned, encoding.pixels[..., -PICTURE:].float(), encoding.change], -1)

    def gaussians(self, features: Tensor) -> GaussianCloud:
        """Anchor features [B, N, F] → Gaussians [B, N] in template space, in the anchors' order."""
        return self.head(features, self.anchors)

    def pose(self, cloud: GaussianCloud, params: SmplxParams) -> GaussianCloud:
        """Canonical Gaussians [B or 1, N] moved by SMPL-X parameters [B] into the space of the parameters."""
        return self.anchors.posed_cloud(cloud, params)[0]

    def offsets(self, cloud: GaussianCloud) -> Tensor:
        """How far canonical Gaussians have moved from where they start at their anchors, [B, N, 3] metres."""
        return cloud.means.float() - self.anchors.home

    def _learned(
        self,
        planes: Tensor,  # [B, N, 3 C] read off the planes
        pixels: Tensor,  # [B, N, P']
        pattern: Tensor,  # [B, N, PATTERN], of no width where patterns are not heard of
    ) -> Tensor:  # [B, N, FEATURES]
        skin, dtype = self.anchors.skin, working_dtype(self.anchor_code)
        read = torch.cat([x.to(dtype) for x in (planes, pixels, pattern)], -1)
        learned = self.anchor_features(torch.cat([read[:, :skin], self.anchor_code.to(dtype).expand(len(planes), -1, -1)], -1))
        if self.skirt_features is not None:
            learned = torch.cat([learned, self.skirt_features(read[:, skin:])], 1)
        return learned.float()

    def _corrected(
        self,
        change: Tensor,  # [B, N, OUTPUTS] to the head's outputs
        learned: Tensor,  # [B, N, FEATURES]
        guess: Tensor,  # [B, N, 3] of the colours
        stance: Stance,  # [B × V] in the cameras' frames
        cameras: Camera,  # [B, V] at their origins
        pictures: Tensor,  # [B, V, 4, S, S] colours and coverage
    ) -> Tensor:  # [B, N, OUTPUTS]
        """The change after all rounds: each draws the avatar in its pictures' places and hears what differs."""
        drawn = self.head.outputs(learned).detach()
        for correction in self.corrections:
            y = drawn + change.detach()
            heard = differences(self.anchors, self.head.decode(y, guess, self.anchors), stance, cameras, pictures, self.rasterizer)
            change = change + correction(learned, y, heard, self.exchange)
        return change

    def _read_picture(
        self,
        image: Tensor,  # [B, 3, S, S]
        blank: Tensor,  # [B, 1, S, S] of `blank_background`
        stance: Stance,  # [B] in the camera's frame
        focal_over_size: Tensor,
        principal: Tensor,
        offsets: Tensor | None = None,  # [B, N, 3] of the Gaussians from the surface; none: they lie on it
        features: tuple[Tensor, Tensor] | None = None,  # [B, C, S/4, S/4], and coverage [B, 1, S, S]; none: only colours are wanted
    ) -> Reading:
        with full_precision(image), torch.no_grad():
            image = image.float()
            means, turns = self.anchors.posed(offsets, stance)
            view = sight(means, turns, self.anchors.frames[..., 2], focal_over_size, principal, self.anchors.skin)
            colors, seen = _read(image, view.places), view.seen * (_read(blank, view.places)[..., 0] < 0.25)
            if features is None:
                sight_line = rotate(turns, -F.normalize(means, dim=-1), back=True)
                toward = sight_line / view.facing.clamp(min=STEEPEST)[..., None]
                return Reading(colors[..., :0], colors[..., :0], colors, seen, toward)
            rim = view.inside * (1 - view.facing.abs()) + 1e-3  # an outline tells most where the surface turns away
            empty = _read(blank, view.outline.flatten(1, 2)).unflatten(1, view.outline.shape[1:3])[..., 0]
            edges = edge_distances(features[1], view.places, view.step)
            inside = view.inside[..., None]
            outline = torch.cat([empty * inside, edges * inside, rim[..., None]], -1)
        with full_precision(image):
            return Reading(torch.cat([_read(features[0], view.places), view.facing[..., None]], -1), outline, colors, seen, colors[..., :0])

    def _join(self, reading: Reading) -> Tensor:
        """What V pictures show at the anchors, [B, V, N, ...] each → [B, N, channels + facing 1 + outline + edges + RGB 3 + seen 1]."""
        with full_precision(reading.seen):
            share, best = _shares(reading.seen)
            joined = (reading.values * share[..., None]).sum(1) * best[..., None]
            rims = _shares(reading.outline[..., -1])[0][..., None]
            outline = (reading.outline[..., :-1] * rims).sum(1)
            return torch.cat([joined, outline, self._join_colors(reading)[0]], -1)

    def _join_colors(
        self,
        reading: Reading,  # [B, V, N, ...] each
        alone: GaussianCloud | None = None,  # [B, N] what was read; none: patterns are not sought
    ) -> tuple[Tensor, Tensor]:  # [B, N, RGB 3 + seen 1], [B, N, PATTERN], of no width where patterns are not heard of
        with full_precision(reading.seen):
            share, best = _shares(reading.seen)
            colors = (reading.colors * share[..., None]).sum(1)
            if self.cloth_pattern is None or alone is None:
                nothing = colors.new_zeros(*best.shape, self.heard_of_pattern)
                return torch.cat([self.color_fill(colors, best), best[..., None]], -1), nothing
            depth = torch.where(self.anchors.sheet > 0, CLOTH[1], CLOTH[0])[:, None]
            seen_at = alone.means + depth * (reading.toward * share[..., None]).sum(1)
            places = alone.means + depth * self.anchors.frames[..., 2]
            there, here, strength = self.cloth_pattern(colors, best * alone.opacities, seen_at, places)
            # what is no pattern is filled in, and the pattern goes on
            filled = self.color_fill(colors - there, best) + torch.lerp(here, there, best[..., None])
            pattern = torch.cat([here.mean(-1, keepdim=True), strength], -1) / PATTERN_UNIT
            return torch.cat([filled, best[..., None]], -1), pattern

    def _fuse(self, pixels: Tensor, smplx: Tensor, image_tokens: Tensor) -> Tensor:  # [B, 3, C, R, R]
        pixels = pixels[:, : self.anchors.skin]
        # hidden anchors count a little, so that a texel nobody sees still knows that it is on the body
        scattered = self.triplane.scatter(pixels, pixels[..., -1] + 0.02, working_dtype(image_tokens))
        x = torch.cat([self.triplane.to_tokens(scattered), smplx], 1)
        for block in self.fusion:
            x = block(x, image_tokens)
        x = self.fusion_norm(x)
        count = x.shape[1] - smplx.shape[1]
        planes = self.triplane.to_planes(x[:, :count], scattered)
        whole = self.whole(x[:, count:].mean(1))
        return (planes + whole[:, None, :, None, None]).float()


class GaussianHead(nn.Module):
    """Features of an anchor → its Gaussian, relative to the anchor's place, spacing and local frame."""

    def __init__(self, max_offset: float, max_scale: float):
        super().__init__()
        self.max_offset, self.max_scale = max_offset, max_scale
        self.hidden = nn.Linear(FEATURES, FEATURES)
        self.out = nn.Linear(FEATURES, OUTPUTS)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor, anchors: Anchors) -> GaussianCloud:
        learned, picture, change = features.tensor_split((FEATURES, FEATURES + PICTURE), -1)
        return self.decode(self.outputs(learned) + change, picture[..., :3], anchors)

    def outputs(self, learned: Tensor) -> Tensor:  # [B, N, FEATURES] → float32 [B, N, OUTPUTS]
        return self.out(F.gelu(self.hidden(F.gelu(learned.to(self.out.weight.dtype))))).float()

    def decode(
        self,
        y: Tensor,  # [B, N, OUTPUTS] offset 3, log scale 3, rotation 4, opacity, change of colour 3; zeros: an anchor as it is
        base: Tensor,  # [B, N, 3] first guess of the colour
        anchors: Anchors,
    ) -> GaussianCloud:
        with full_precision(y):
            y, base = y.float(), base.float().clamp(0.03, 0.97)
            limit = torch.where(anchors.covered, COVERED_OFFSET, self.max_offset)[:, None]
            local = soft_bound(OFFSET_STEP * y[..., :3], limit)
            means = anchors.home + apply_matrices(anchors.frames, local)
            stretch = torch.where(y[..., 3:6] < 0, SCALE_DOWN, SCALE_UP)
            stretch = stretch * torch.tanh(y[..., 3:6] / stretch)
            scales = anchors.spacing[:, None] * y.new_tensor(SCALE_SHAPE) * torch.exp(stretch)
            scales = self.max_scale * torch.tanh(scales / self.max_scale)
            turn = F.normalize(y[..., 6:10] + y.new_tensor([1.0, 0.0, 0.0, 0.0]), dim=-1)
            rotations = quaternion_multiply(anchors.frame_quaternions.expand_as(turn), turn)
            opacity = torch.sigmoid(y[..., 10] + anchors.opacity)
            colors = torch.sigmoid(torch.logit(base) + COLOR_GAIN * y[..., 11:14])
        return GaussianCloud(means, rotations, scales, opacity, colors)


def _features(inputs: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, FEATURES))


def _guess(pixels: Tensor) -> Tensor:  # [B, N, P'] → [B, N, 3]
    """First guess of the colours."""
    return pixels[..., -PICTURE : 3 - PICTURE]


def _shares(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [B, V, N] of V pictures → their shares [B, V, N], in which the largest count most, and the largest [B, N]."""
    squares = weights.square()
    return squares / squares.sum(1, keepdim=True).clamp(min=1e-12), weights.amax(1)


def _read(maps: Tensor, places: Tensor) -> Tensor:
    """Bilinear values of maps [B, C, H, W] at places [B, N, 2] in -1..1 → float32 [B, N, C]."""
    return F.grid_sample(maps.float(), places[:, None], padding_mode="border", align_corners=False)[:, :, 0].mT


def view_of(camera: Camera) -> tuple[Tensor, Tensor]:
    """Focal length ÷ picture side [...], and the principal point from the picture's centre in sides [..., 2]."""
    width = camera.size[..., 0].float()
    intrinsics = camera.intrinsics.float()
    return intrinsics[..., 0, 0] / width, intrinsics[..., :2, 2] / width[..., None] - 0.5
