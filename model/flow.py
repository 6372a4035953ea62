"""Speech → motion by conditional flow matching, chunk after chunk: one network, the same offline and as a stream.

A causal transformer reads one token a chunk (8 frames): what the sound says until `look_ahead` frames after it, the
motion before it, the reference pose and, where given, the speaker's style. Its state conditions a small network that
draws the chunk's surprises (model.motion_spline) out of noise along a learned flow, in few steps. The mouth is a
regression from the sound, frame by frame. Training sees all chunks at once, after true pasts and after pasts that are off as
its own draws are (model.flow_pasts); generation keeps `memory` chunks. Where the talk's last pose is given, it leads there.
Axes: B batch, T frames, K chunks, A audio features, w width, C flow channels, M mouth channels, S noise draws a chunk.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import Stage2Config
from model.flow_layers import CausalBlock, Ending, Flow, Hearing
from model.flow_pasts import follow, off_by, partly_own
from model.flow_types import Chunk, Drawn, State, Windows
from model.geometry import full_precision
from model.layers import RMSNorm
from model.motion_space import BODY, FACE_START, HAND, ROOT, MotionSpace, Still
from model.motion_spline import CHUNK, NEW, PAST, SEED, SPAN, TAIL, Surprises, chunked, knot_matrix

SMALL = 0.005  # radians or metres; channels that vary less count for little
STYLE_DROPPED = 0.5  # share of training windows whose style is hidden: at work there is mostly none
AUDIO_DROPPED = 0.1  # whose sound is hidden, for guidance
PAST_NOISE = 0.03  # standard deviation, of the channels' own, added to the motion that is read
ENDS_TOLD = 0.3  # share of training windows that are told where one of their chunks ends
EXPRESSIVE = 3.0  # weight of eyes, lids and brows, which are few and rarely move
SHAPELY = 1.5  # weight of the hands' shapes, whose bursts are drawn too small the longest
SWEEPING = 3.0  # added weight of the axis along which the upper body moves most, and of others by how much they move: strokes
ARRIVAL = ((0.9, 1.0, 1.0, 1.0), (0.05, 0.2, 0.45, 0.7))  # how far knots are brought to the end pose: the last chunk's, the one before
TOLD = 3.0  # standard deviations that a reference is described by at most: pictures misread what people hardly move by many
MISREAD = 0.06  # radians: how far off the descriptions of half of the references are in training, as a body found in a picture is
FURTHEST = 8.0  # standard deviations from the reference beyond which the network does not see
SHARPNESS = 4.0  # weight of the mouth's moves from frame to frame, which are small numbers but close lips


class Generator(nn.Module):
    """Speech to channels of motion."""

    audio_mean: Tensor
    audio_scale: Tensor
    knot_matrix: Tensor
    heat: Tensor

    def __init__(self, config: Stage2Config, audio_dim: int):
        super().__init__()
        if config.window % CHUNK:
            raise ValueError(f"stage 2: window must be a multiple of {CHUNK} frames, got {config.window}")
        self.config, self.audio_dim = config, audio_dim
        self.space = MotionSpace(config.mouth)
        channels, width = self.space.channels, config.width
        self.surprises = Surprises(channels)
        self.register_buffer("audio_mean", torch.zeros(audio_dim))
        self.register_buffer("audio_scale", torch.ones(audio_dim))
        self.register_buffer("knot_matrix", knot_matrix(SEED + config.window + TAIL).float(), persistent=False)
        self.register_buffer("heat", torch.ones(channels))  # of each channel's noise, see pipelines.calibration
        self.hearing = Hearing(audio_dim, width, config.look_ahead)
        self.silent = nn.Parameter(torch.randn(width) * 0.02)  # stands for sound that is not told
        described = 2 * channels + 2 * self.space.mouth_channels
        self.reference_in = nn.Linear(described, width)
        self.style_in = nn.Linear(3 * channels, width)
        self.no_style = nn.Parameter(torch.zeros(width))
        self.sound_in = nn.Linear(CHUNK * width, width)
        self.past_in = nn.Linear((1 + NEW) * channels, width)
        self.ending = Ending(channels, width)
        self.blocks = nn.ModuleList(CausalBlock(width, config.heads) for _ in range(config.layers))
        self.norm = RMSNorm(width)
        self.flow = Flow(NEW * channels, width, config.flow_width, config.flow_layers)
        self.mouth = nn.Sequential(nn.Linear(2 * width, width), nn.GELU(), nn.Linear(width, self.space.mouth_channels))
        self.usual_mouth = nn.Parameter(torch.zeros(self.space.mouth_channels))  # how far from the reference's to the mean
        for value in self.mouth[-1].parameters():
            nn.init.zeros_(value)

    @property
    def past_frames(self) -> int:
        """Frames of sound before a frame that it depends on."""
        return self.hearing.before

    # --- training

    def learn(self, windows: Windows, draws: int, own: float = 0.0) -> Drawn:
        """Losses and clean estimates of windows; chance comes from torch's generator of the device.

        `own`: share of steps in which half of the windows go on from what the network draws itself, close to the truth.
        """
        audio, batch = windows.audio, len(windows.audio)
        rand = lambda *shape: torch.rand(*shape, device=audio.device)  # noqa: E731
        with full_precision(audio):
            knots = self.knot_matrix @ (windows.motion - windows.origin[:, None])
        past, new = chunked(knots[:, 3 : 3 + PAST + NEW * (self.config.window // CHUNK)])
        heard = self.hear(audio)
        told = torch.where((rand(batch, 1, 1) < AUDIO_DROPPED), self.silent.to(heard.dtype), heard)
        described = self.describe(self._misread(windows.still), windows.style, rand(batch, 1) >= STYLE_DROPPED)
        # an end pose for some: where a chunk of theirs ends
        chunks = torch.arange(new.shape[1], device=audio.device)
        last = (rand(batch) * new.shape[1]).long()
        left = torch.where(rand(batch, 1) < ENDS_TOLD, last[:, None] - chunks, -1)  # [B, K]
        end = new[torch.arange(batch, device=audio.device), last, -1]
        gap = off_by(past, rand(batch, 1, 1, 1))
        if own and torch.rand(()).item() < own:  # of the CPU's generator: which kind of step it is, is known without waiting
            with torch.no_grad():
                context = self._contexts(told, past, described, end, left, False)
                drawn = partly_own(self.flow, self.surprises, context, past, new)
                gap[:, 1:, NEW:] += torch.where(rand(batch, 1, 1, 1) < 0.5, drawn - new, 0)[:, :-1]
            torch.clear_autocast_cache()  # weights that were cast without gradients would get none below
        past, new = past + gap, new + follow(gap)
        target = self.surprises.whiten(new, past)
        noisy = past + PAST_NOISE * self.space.scale * torch.randn_like(past[:, :, :1])
        context = self._contexts(told, noisy, described, end, left, True)
        context = context[:, :, None].expand(-1, -1, draws, -1)  # [B, K, S, w]
        goal = target.flatten(2)[:, :, None].expand(-1, -1, draws, -1)
        start = torch.randn_like(goal)
        time = torch.sigmoid(torch.randn(goal.shape[:-1], device=audio.device))[..., None]
        mixed = torch.lerp(start, goal, time)
        speed = self.flow(mixed, time, context).float()
        weights = self.space.scale.square() / (self.space.scale.square() + SMALL**2)
        certain = windows.confidence.unflatten(1, (-1, CHUNK)).amin(-1)[:, :, None, None]
        weights = weights.clone()
        weights[FACE_START:] *= EXPRESSIVE
        weights[HAND] *= SHAPELY
        weights[BODY] *= 1 + SWEEPING * self.space.scale[BODY] / self.space.scale[BODY].amax()
        weights = (weights / weights.mean()).repeat(NEW) * certain
        surprise = (mixed + (1 - time) * speed)[:, :, 0].unflatten(-1, (NEW, -1))  # the clean estimate of the first draw
        estimate = torch.cat([past[:, :, NEW - SPAN :], self.surprises.colour(surprise, past)], 2)
        mouth = self.speak(F.dropout(heard, self.config.dropout, self.training), described, windows.still)
        wrong = (mouth + windows.still.mouth[:, None] - windows.mouth) / self.space.mouth_scale
        wrong = wrong * windows.confidence[..., None]
        losses = {
            "smplx_flow": weights * (speed - (goal - start)).square(), "smplx_mouth": wrong.square(),
            "velocity_mouth": SHARPNESS * wrong.diff(dim=1).square(),
            "velocity_mouth_change": SHARPNESS * wrong.diff(dim=1).diff(dim=1).square(),
        }  # fmt: skip
        return Drawn(losses, estimate, mouth, heard)

    # --- pieces

    def hear(self, audio: Tensor) -> Tensor:  # [B, before + T + look_ahead, A] → [B, T, w]
        if audio.shape[-1] != self.audio_dim or audio.shape[1] <= self.past_frames + self.config.look_ahead:
            wanted = f"[B, {self.past_frames} + T + {self.config.look_ahead}, {self.audio_dim}]"
            raise ValueError(f"stage 2: expected audio {wanted}, got {tuple(audio.shape)}")
        return self.hearing((audio - self.audio_mean) / self.audio_scale)

    def describe(self, still: Still, style: Tensor | None, shown: Tensor | None = None) -> Tensor:  # [B, w]
        scale, mouth = self.space.scale, self.space.mouth_scale
        channels, lips = (
            (x / most.clamp(min=SMALL)).clamp(-TOLD, TOLD) for x, most in ((still.channels, scale), (still.mouth, mouth))
        )
        seen = torch.cat([channels, torch.tanh(channels), lips, torch.tanh(lips)], -1)
        out = self.reference_in(seen.to(self.reference_in.weight.dtype))
        own = self.no_style.expand_as(out) if style is None else self.style_in(style.to(out.dtype))
        return out + (own if shown is None else torch.where(shown, own, self.no_style.to(own.dtype)))

    def _misread(self, still: Still) -> Still:
        """Half of the references as if found in a picture."""
        noise = MISREAD * torch.randn_like(still.channels) * (torch.rand_like(still.channels[:, :1]) < 0.5)
        noise[:, :ROOT] = 0
        return replace(still, channels=still.channels + noise)

    def speak(self, heard: Tensor, described: Tensor, still: Still) -> Tensor:
        """[B, T, w], [B, w] → residuals of the mouth to the reference's [B, T, M]."""
        both = torch.cat([heard, described[:, None].expand(-1, heard.shape[1], -1).to(heard.dtype)], -1)
        usual = self.usual_mouth * (self.space.mouth_mean - still.mouth)
        return usual[:, None] + self.mouth(both).float() * self.space.mouth_scale

    def _contexts(self, heard: Tensor, past: Tensor, described: Tensor, end: Tensor, left: Tensor, learning: bool) -> Tensor:
        """What all chunks of windows are drawn from, [B, K, w]; arguments as of `_tokens`."""
        tokens = F.dropout(self._tokens(heard, past, described, end, left), self.config.dropout, self.training and learning)
        chunks = torch.arange(tokens.shape[1], device=tokens.device)
        near = (chunks[:, None] >= chunks) & (chunks[:, None] - chunks < self.config.memory)
        for block in self.blocks:
            tokens = block(tokens, tokens, (chunks, chunks), near)
        return F.dropout(self.norm(tokens), self.config.dropout, self.training and learning)

    def _tokens(self, heard: Tensor, past: Tensor, described: Tensor, end: Tensor | None = None, left: Tensor | None = None) -> Tensor:
        """[B, K · CHUNK, w], [B, K, PAST, C], [B, w], [B, C], [B, K] (chunks until the end; below 0: none) → tokens [B, K, w]."""
        step = self.surprises.spread[:, 0, 0].clamp(min=1e-4) * 4
        place = (past[:, :, -1] / self.space.scale.clamp(min=SMALL)).clamp(-FURTHEST, FURTHEST)
        moves = past[:, :, -NEW - 1 :].diff(dim=2) / step
        read = torch.cat([place, torch.asinh(moves).flatten(2)], -1)
        sound = self.sound_in(heard.unflatten(1, (-1, CHUNK)).flatten(2))
        tokens = sound + self.past_in(read.to(sound.dtype)) + described[:, None]
        if end is None or left is None:
            return tokens
        gap = ((end[:, None] - past[:, :, -1]) / self.space.scale.clamp(min=SMALL)).clamp(-FURTHEST, FURTHEST)
        return tokens + self.ending(gap.to(sound.dtype), left)

    # --- generation

    def begin(self, still: Still, style: Tensor | None = None, seed: int = 0, end: Tensor | None = None, chunks: int = 0) -> State:
        """A generation for people in rows that starts at their references; row i draws from `seed` + i.

        `end` [B, C]: the residual that the last of `chunks` chunks ends in.
        """
        batch, device = len(still.raw), still.raw.device
        described = self.describe(still, style)
        rows = 2 if self.guided else 1
        memory = [described.new_zeros(rows * batch, 0, self.config.width) for _ in self.blocks]
        noise = [torch.Generator().manual_seed(seed + row) for row in range(batch)]
        knots = torch.zeros(batch, PAST, self.space.channels, device=device)
        return State(still, knots, memory, described, noise, end, chunks)

    def proceed(self, state: State, heard: Tensor) -> Chunk:
        """The next chunk, for its sound [B, CHUNK, w] as `hear` tells it; `state` is moved on."""
        told = torch.cat([heard, self.silent.to(heard.dtype).expand_as(heard)]) if self.guided else heard
        twice = (lambda x: torch.cat([x, x])) if self.guided else (lambda x: x)
        end, left = None, None
        if state.end is not None:
            end = twice(state.end)
            left = torch.full((len(end), 1), state.left - 1, device=end.device)
        token = self._tokens(told, twice(state.knots)[:, None], twice(state.described), end, left)
        for index, block in enumerate(self.blocks):
            seen = torch.cat([state.memory[index], token], 1)[:, -self.config.memory :]
            state.memory[index] = seen
            times = torch.arange(seen.shape[1], device=seen.device)
            token = block(token, seen, (times[-1:], times), None)
        surprise = self._draw(self.norm(token)[:, 0], state.noise)
        new = self.surprises.colour(surprise.unflatten(-1, (NEW, -1)), state.knots)
        if state.end is not None:
            if 1 <= state.left <= len(ARRIVAL):  # what is left of the way, so that it is met whatever was drawn
                new = torch.lerp(new, state.end[:, None].expand_as(new), new.new_tensor(ARRIVAL[state.left - 1])[:, None])
            state.left -= 1
        knots = torch.cat([state.knots, new], 1)
        state.knots = knots[:, -PAST:]
        return Chunk(self.surprises.frames(knots[:, -SPAN:]), self.speak(heard, state.described, state.still))

    def _draw(self, context: Tensor, noise: list[torch.Generator]) -> Tensor:
        """Surprises [B, NEW · C] along the flow, by Euler steps."""
        steps, size = self.config.flow_steps, NEW * self.space.channels
        heat, guidance = self.heat.repeat(NEW) * self._of_parts(self.config.temperature), self._of_parts(self.config.guidance)
        x = torch.stack([torch.randn(size, generator=g) for g in noise]).to(context.device) * heat

        def speed(x: Tensor, time: float) -> Tensor:
            if not self.guided or time >= self.config.guided_until:
                return self.flow(x, x.new_full((len(x), 1), time), context[: len(x)]).float()
            both = torch.cat([x, x])
            told, silent = self.flow(both, both.new_full((len(both), 1), time), context).float().chunk(2)
            return torch.lerp(silent, told, guidance)

        for step in range(steps):
            x = x + speed(x, step / steps) / steps
        return x

    @property
    def guided(self) -> bool:
        return any(g != 1 for g in self.config.guidance)

    def _of_parts(self, values: tuple[float, float, float]) -> Tensor:  # [NEW · C]
        """Numbers of root and body, hands, face as those of every channel of a chunk."""
        counts = torch.tensor([HAND.start, FACE_START - HAND.start, self.space.channels - FACE_START], device=self.heat.device)
        return self.heat.new_tensor(values).repeat_interleave(counts, output_size=self.space.channels).repeat(NEW)

    # --- constants

    @torch.no_grad()
    def amplify(self, gain: Tensor) -> None:
        """Let each channel move `gain` [C] times as far: the network hears and draws the same numbers of other units."""
        self.space.scale.mul_(gain)
        self.surprises.amplify(gain)

    @torch.no_grad()
    def fit(self, clips: list[tuple[Tensor, Tensor]]) -> None:
        """Surprises and the sound's scale of clips' flow channels [T, C] and audio [T, A]; `space` is fitted before."""
        sound = torch.cat([a for _, a in clips]).float()
        self.audio_mean.copy_(sound.mean(0))
        self.audio_scale.copy_(sound.std(0).clamp(min=1e-3))
        long = self.knot_matrix.shape[1]
        windows = []
        for channels, _ in clips:
            centred = channels - channels.mean(0)
            rows = (torch.arange(0, max(len(centred) - long, 0) + 1, long // 2)[:, None] + torch.arange(long)).clamp(max=len(centred) - 1)
            windows.append(centred[rows])
        knots = self.knot_matrix @ torch.cat(windows)
        self.surprises.fit(knots[:, 3 : -TAIL // 2])
