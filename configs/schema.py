"""Every setting of the project, typed. Unknown keys are refused; each field's unit stands in its description.

Presets are data: `debug.yaml` (seconds), `sample.yaml` (the demo), `reference.yaml` (full size). Load one with
`load_config("configs/sample.yaml")`. Imports nothing of the project.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo, field_validator, model_validator

EMBEDDED = "embedded"  # stands for the data that ships with the project (package `samples`)


class Section(BaseModel):
    """Base of all sections: immutable, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _fraction(value: Any) -> Fraction:
    return value if isinstance(value, Fraction) else Fraction(str(value))


Parts = Annotated[tuple[float, float, float], BeforeValidator(lambda value: (value,) * 3 if isinstance(value, (int, float)) else value)]
Rate = Annotated[Fraction, BeforeValidator(_fraction), PlainSerializer(str)]


class BodyConfig(Section):
    model_path: str = Field(EMBEDDED, description="SMPL-X-schema npz; 'embedded' for the licence-free one that ships")


class TalksConfig(Section):
    inbox: str = Field("inbox", description="folder watched for videos; relative paths lie in the workspace")
    include_samples: bool = Field(True, description="copy the embedded talks to the inbox when it is first used")
    default_licence: str = Field("unknown", description="licence recorded for videos that state none")
    min_side: int = Field(64, description="shorter side of a usable picture, pixels", ge=2)
    max_megapixels: float = Field(40.0, description="largest usable picture, megapixels (8K: 33)", gt=0)
    download_retries: int = Field(5, description="further tries of a download that broke off", ge=0)
    download_backoff: float = Field(2.0, description="pause before the second try, seconds; doubled each time, 60 at most", ge=0)
    download_timeout: float = Field(30.0, description="silence after which a connection is given up, seconds", gt=0)
    download_hours: float = Field(6.0, description="longest a download may last, hours", gt=0)
    download_rate_mb: float | None = Field(None, description="highest rate of a download, MB/s; none: as fast as it comes", gt=0)
    download_max_mb: float = Field(8000.0, description="largest download, MB", gt=0)
    download_height: int = Field(1080, description="shorter side of the picture preferred where a page offers several (the best of those up to it), pixels", ge=144)


class CutConfig(Section):
    fps: Rate = Field(Fraction(25), description="frame rate of clips, frames per second, rational ('30000/1001')")
    size: int = Field(512, description="side of the square clip, pixels", ge=64)
    min_seconds: float = Field(2.0, description="shortest clip, seconds", gt=0)
    max_seconds: float = Field(20.0, description="longest clip, seconds", gt=0)
    min_person_height: float = Field(0.3, description="person's height in the frame, fraction, below which a stretch is rejected")
    min_person_share: float = Field(0.8, description="share of sampled frames that must show one person")
    min_face_share: float = Field(0.7, description="share of a clip's sampled frames that must show the face", ge=0, le=1)
    min_hand_share: float = Field(0.0, description="share of a clip's sampled frames in which a wrist or finger must be seen inside the picture; 0 keeps heads and shoulders (their fits have no sure arms: confidence near 0), 0.25 suits training on gestures", ge=0, le=1)
    probe_fps: float = Field(2.0, description="frames per second looked at when searching persons, Hz")
    box_margin: float = Field(0.15, description="margin round the person's box, fraction of its longer side")
    shot_threshold: float = Field(27.0, description="scenedetect ContentDetector threshold")
    speech_gap: float = Field(1.5, description="silences shorter than this stay inside a clip, seconds")


class FitConfig(Section):
    iterations: tuple[int, int, int, int] = Field((8, 6, 4, 3), description="steps of the four stages: few frames, body; few frames, all; every frame, annealed; every frame, settled")
    window: int = Field(500, description="longest stretch fitted at once, frames")
    focal_prior: float = Field(1.8, description="initial focal length, fraction of the image's longer side")
    height: Annotated[float, Field(ge=1.0, le=2.3)] | None = Field(None, description="of the person, metres, upright and without shoes, which a picture cannot tell; none: guessed from proportions")


class AudioConfig(Section):
    encoder: Literal["offline", "wav2vec2"] = Field("offline", description="'offline': log-mel, pitch, energy, onset; 'wav2vec2': transformers Wav2Vec2Model")
    model: str = Field("facebook/wav2vec2-base-960h", description="wav2vec2 hub id or local folder")
    local_files_only: bool = Field(False, description="never ask the hub for wav2vec2 files")
    window_seconds: float = Field(20.0, description="wav2vec2: states that each window of long sound gives, seconds; shorter sound is one window", gt=0)
    context_seconds: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]] = Field((2.0, 2.0), description="wav2vec2: sound that a window sees before and after them, seconds")


class ScansConfig(Section):
    root: str = Field(EMBEDDED, description="folder in THuman2.1's layout; 'embedded' for the people that ship")
    views: int = Field(12, description="cameras per scan, evenly spread in azimuth", ge=1)
    half_body_views: int = Field(4, description="additional half-body cameras in front of the person; none where a scan has no SMPL-X", ge=0)
    size: int = Field(256, description="side of a rendered view, pixels", ge=16)
    focal: float = Field(1250.0, description="focal length of full-body views, pixels at `size`", gt=0)
    distance: float | None = Field(None, description="from the person's middle to the camera of full-body views, metres; none: what `height_fill` asks for", gt=0)
    azimuth: float = Field(0.0, description="of the first camera, degrees from the person's front towards its left")
    elevation: float = Field(0.0, description="largest camera elevation, degrees", ge=-80, le=80)
    height_fill: float = Field(0.85, description="person's share of the picture's height in full-body views", gt=0, le=1)
    background: tuple[float, float, float] | None = Field(None, description="colour 0..1 of pixels that show no surface (alpha stays 0 there); none: black")
    lights: Literal["auto", "none", "daylight", "overcast", "studio", "evening"] = Field("auto", description="'auto': daylight for the embedded people, whose textures are bare colours; none for scans, whose textures hold their light")
    supersample: int = Field(2, description="samples per pixel and side", ge=1, le=8)
    unit: Literal["auto"] | Annotated[float, Field(gt=0)] = Field("auto", description="metres of one unit of the OBJ; 'auto': by the SMPL-X scale, else by a person's plausible height")
    require_smplx: bool = Field(True, description="reject scans without SMPL-X parameters; false: draw them (front: +z), they are left out of the shards")

    @field_validator("background")
    @classmethod
    def _colour(cls, value: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
        if value is not None and not all(0 <= x <= 1 for x in value):
            raise ValueError(f"scans.background: expected three numbers 0..1, got {value}")
        return value


class IdolConfig(Section):
    root: str | None = Field(None, description="folder in HuGe100K's layout; none: the asset reports 0 samples")
    limit: int | None = Field(None, description="at most this many samples are read")


class ShardsConfig(Section):
    held_out: float = Field(0.3, description="share of speakers and of subjects held out, by hash of the id")
    target_mb: float = Field(64.0, description="size at which a new shard is begun, MB", gt=0)
    url: str | None = Field(None, description="fsspec URL (s3://bucket/prefix, or a folder) where shards are put too, and read where the workspace has none")


class ImageEncoderConfig(Section):
    kind: Literal["vit", "sapiens"] = Field("vit", description="'vit': compact, trained with stage 1; 'sapiens': frozen TorchScript file")
    path: str | None = Field(None, description="Sapiens TorchScript file (kind: sapiens)")
    image_size: int = Field(256, description="side of the square input picture, pixels")
    patch: int = Field(16, description="pixels a token stands for, per side")
    depth: int = Field(4, description="transformer layers (kind: vit)")


class Stage1Config(Section):
    image: ImageEncoderConfig = ImageEncoderConfig()
    width: int = Field(128, description="channels of every token")
    heads: int = Field(4, description="attention heads")
    smplx_tokens: int = Field(80, description="learned queries that become SMPL-X tokens")
    smplx_layers: int = Field(2, description="cross-attention layers of the SMPL-X tokens")
    pixel_channels: int = Field(32, description="channels of the pixel-aligned feature map")
    triplane_resolution: int = Field(64, description="texels per side of a scattered and of an up-sampled plane")
    triplane_tokens: int = Field(16, description="tokens per side of a plane")
    triplane_channels: int = Field(32, description="channels of an up-sampled plane")
    triplane_radius: float = Field(1.4, description="largest half side of the triplane's box, which is fitted to the template, metres")
    fusion_layers: int = Field(2, description="layers of the triplane + SMPL-X token transformer")
    gaussians: int = Field(8192, description="anchors on the template's skin, each one Gaussian")
    skirt: int = Field(0, description="anchors of a sheet of cloth round both legs, from which skirts are made, each one more Gaussian", ge=0)
    patterns: int = Field(0, description="waves at most of the pattern of a garment, which goes on where no picture shows it", ge=0, le=16)
    corrections: int = Field(3, description="how often the avatar is drawn beside its picture and corrected by what differs", ge=0)
    max_offset: float = Field(0.25, description="largest offset of a Gaussian from its anchor, metres: long hair and skirts need much")
    max_scale: float = Field(0.05, description="largest standard deviation of a Gaussian, metres")


class Stage2Config(Section):
    width: int = Field(256, description="channels of a chunk's token")
    heads: int = Field(4, description="attention heads")
    layers: int = Field(3, description="layers of the transformer over chunks of 8 frames")
    flow_width: int = Field(352, description="channels of the network that draws a chunk")
    flow_layers: int = Field(3, description="layers of that network")
    window: int = Field(128, description="frames of a training window, a multiple of 8")
    memory: int = Field(12, description="chunks of 8 frames that generation keeps in mind", ge=1)
    look_ahead: int = Field(6, description="frames of sound after a chunk that it is generated from", ge=0)
    mouth: tuple[int, ...] = Field((1, 2, 3, 4, 5), description="expression coefficients that speech moves: regressed from the sound with the jaw; the others are drawn")
    lasting: tuple[int, ...] = Field((0,), description="expression coefficients, none of the mouth's, that a person keeps through a talk, as a smile: what a picture shows of them stays where the rest of a face is put at rest")
    flow_steps: int = Field(6, description="steps from noise to a chunk", ge=1)
    guidance: Parts = Field((1.25, 1.25, 1.25), description="how much the sound counts in drawing a chunk: root and body, hands, face; 1: as in training; one number for all")
    guided_until: float = Field(1.0, description="share of the way from noise to a chunk along which guidance counts; after it the way is as in training", ge=0, le=1)
    temperature: Parts = Field((1.0, 1.0, 1.0), description="standard deviations of the noise that a chunk is drawn from: root and body, hands, face; one number for all")
    dropout: float = Field(0.1, description="share of what a chunk's token says that is hidden in training", ge=0, lt=1)
    appearance_tokens: int = Field(8, description="coefficients per frame of the identity triplane's change")
    appearance_resolution: int = Field(32, description="texels per side of a plane of that change")

    @field_validator("mouth", "lasting")
    @classmethod
    def _coefficients(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        if len(set(value)) != len(value) or not all(0 <= i < 10 for i in value):
            raise ValueError(f"stage2.{info.field_name}: expected different numbers 0..9, got {value}")
        if info.field_name == "lasting" and (both := set(value) & set(info.data.get("mouth", ()))):
            raise ValueError(f"stage2.lasting: expected none of the mouth's coefficients, got {sorted(both)}")
        return value


class LossConfig(Section):
    l1: float = Field(1.0, description="weight of the pixel L1 loss")
    l2: float = Field(0.0, description="weight of the pixels' squared error")
    ssim: float = Field(0.1, description="weight of 1 - SSIM")
    mask: float = Field(0.5, description="weight of the alpha L1 loss")
    face: float = Field(0.0, description="weight of the pixel L1 round the lips, its mean there (stage 2): they are a two-hundredth of the picture")
    smplx: float = Field(1.0, description="weight of the SMPL-X parameter loss (geodesic, shape, translation)")
    vertices: float = Field(1.0, description="weight of the vertex/joint L1 loss, per metre")
    token: float = Field(0.1, description="weight of the token loss (stage 2: encoder tokens of the true frame)")
    velocity: float = Field(1.0, description="weight of the joint velocity loss, per metre (stage 2)")
    regulariser: float = Field(0.1, description="weight on Gaussian offsets and scales")
    coherence: float = Field(0.05, description="weight on Gaussians that go another way than their neighbours, or along the skin")
    chamfer: float = Field(0.0, description="weight of the chamfer distance to scan points (needs a scan)")


class TrainConfig(Section):
    start_from: str | None = Field(None, description="weights file whose values training begins with; none: random ones")
    learned: tuple[str, ...] = Field((), description="what of the network is trained, by the beginnings of its parameters' names, as `corrections`; none: all of it")
    steps: int = Field(400, description="optimiser steps; 0: the weights of start_from as they are", ge=0)
    seconds: float | None = Field(None, description="training ends after so long, by the clock, where that is before `steps`, its learning rate fallen by then: such a run is not the same twice; none: `steps` alone decide", gt=0)
    batch: int = Field(2, description="samples per process and step")
    views: int = Field(2, description="pictures rendered per sample: the input view and novel ones (stage 1)")
    render_size: int = Field(128, description="side of the rendered pictures, pixels")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="'muon': Muon for the matrices inside the network, AdamW for the rest, at one step size; needs ZeRO stage 0 (configs/deepspeed/zero0.json)")
    learning_rate: float = Field(4e-4, description="step size of the optimiser")
    warmup: int = Field(20, description="steps of linear warm-up")
    weight_decay: float = Field(0.02, description="decoupled weight decay")
    average: float = Field(0.99, description="decay a step of the running mean of the weights, which is what is exported; 0: the last weights", ge=0, lt=1)
    save_every: int = Field(50, description="steps between saved states")
    log_every: int = Field(10, description="steps between logged losses")
    processes: int = Field(1, description="processes per node (GPUs where there are any)")
    deepspeed: str = Field("configs/deepspeed/cpu.json", description="DeepSpeed configuration file")
    rasterizer: Literal["auto", "torch", "numba", "gsplat", "diff_gaussian_rasterization"] = Field("auto", description="'auto': gsplat on CUDA, numba on a CPU")
    loss: LossConfig = LossConfig()

    @model_validator(mode="after")
    def _some_weights(self) -> TrainConfig:
        if not self.steps and self.start_from is None:
            raise ValueError("training: 0 steps take weights as they are, expected start_from to name some, got none")
        return self


class Stage2TrainConfig(TrainConfig):
    amplitudes: Literal["weights", "data"] = Field("weights", description="how far each channel of motion moves when training begins with start_from: as in those weights, or as in the data, channel by channel, before the first step (fits move hands and eyes less than people do)")
    windows: int = Field(8, description="windows of motion without pictures learned beside each sample with pictures", ge=1)
    draws: int = Field(4, description="draws of noise that each chunk of a window is learned from", ge=1)
    own_share: float = Field(0.25, description="share of steps in which half of the windows go on from what the network draws itself", ge=0, le=1)
    pixel_frames: int = Field(1, description="frames of a sample that are drawn for the pixel loss", ge=1)
    pixel_pose: Literal["estimated", "true"] = Field("estimated", description="the bodies that are drawn for the pixel loss: those made from the sound, or the true ones, where appearance alone is left to explain the picture")
    motion_steps: int = Field(0, description="first steps that learn motion alone, with no picture drawn", ge=0)


class EvaluationConfig(Section):
    max_clips: int = Field(8, description="held-out clips evaluated")
    max_frames: int = Field(150, description="frames per clip evaluated")
    image_frames: int = Field(12, description="frames per clip that are rendered for image figures")
    render_size: int = Field(256, description="side of the rendered pictures, pixels")
    truth: str | None = Field(EMBEDDED, description="folder of <talk>.npz with true motion, phones and a second draw of it, where there are any (else clips are judged by their fits); 'embedded' for those of the embedded talks")


class BaselineConfig(Section):
    motion: Literal["own", "emage"] = Field("own", description="speech → motion: 'own': a network trained here on the same shards; 'emage': PantoMatrix's, from its check-out")
    avatar: Literal["own", "lhm"] = Field("own", description="picture and motion → video: 'own': stage 1's canonical avatar, skinned; 'lhm': LHM's, from its check-out")
    pantomatrix: str | None = Field(None, description="folder of a check-out of PantoMatrix (motion: emage)")
    pantomatrix_python: str | None = Field(None, description="interpreter of its environment; none: .venv/bin/python in the check-out")
    lhm: str | None = Field(None, description="folder of a check-out of LHM (avatar: lhm)")
    lhm_python: str | None = Field(None, description="interpreter of its environment; none: .venv/bin/python in the check-out")
    lhm_model: str = Field("LHM-500M", description="name that inference.sh is called with")
    time_limit: float = Field(7200.0, description="longest that one command of a check-out may run, seconds", gt=0)
    avatar_steps: int = Field(120, description="optimiser steps that fit an avatar to each evaluated clip: the ceiling in the table of what each stage loses", ge=1)
    start_from: str | None = Field(None, description="weights of the audio-to-motion network that training begins with (pipelines.baseline_training writes them); its sizes are theirs; none: random ones")
    codes: int = Field(128, description="codes of a codebook; each body part has two (own motion)", ge=2)
    steps: int = Field(300, description="optimiser steps of the audio-to-motion network; 0: the weights of start_from as they are", ge=0)
    width: int = Field(128, description="channels of the audio-to-motion network")
    layers: int = Field(3, description="layers of the audio-to-motion network")
    batch: int = Field(8, description="windows per step")
    learning_rate: float = Field(2e-3, description="AdamW step size")

    @model_validator(mode="after")
    def _some_weights(self) -> BaselineConfig:
        if not self.steps and self.start_from is None:
            raise ValueError("baseline: 0 steps take weights as they are, expected start_from to name some, got none")
        return self


class SpeakConfig(Section):
    image: str | None = Field(None, description="picture of a person; none: a frame of a held-out talk")
    audio: str | None = Field(None, description="speech file; none: the speech of another held-out talk")
    size: int = Field(512, description="side of the video, pixels (even)")
    focal: float = Field(1.6, description="focal length assumed for a picture, fraction of its longer side")


class Config(Section):
    """The whole configuration; `workspace` holds every file that a run writes."""

    workspace: str = Field("workspace", description="folder for all outputs; relative to the current folder")
    seed: int = Field(0, description="seed of every random choice")
    body: BodyConfig = BodyConfig()
    talks: TalksConfig = TalksConfig()
    cut: CutConfig = CutConfig()
    fit: FitConfig = FitConfig()
    audio: AudioConfig = AudioConfig()
    scans: ScansConfig = ScansConfig()
    idol: IdolConfig = IdolConfig()
    shards: ShardsConfig = ShardsConfig()
    stage1: Stage1Config = Stage1Config()
    stage1_training: TrainConfig = TrainConfig()
    stage2: Stage2Config = Stage2Config()
    stage2_training: Stage2TrainConfig = Stage2TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    baseline: BaselineConfig = BaselineConfig()
    speak: SpeakConfig = SpeakConfig()


def load_config(path: str | Path) -> Config:
    """Read a YAML preset. Errors: ValueError names the file, the key, and what was expected."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"config: expected a YAML file, got {path} which does not exist; presets lie in configs/")
    data = yaml.safe_load(path.read_text()) or {}
    try:
        return Config.model_validate(data)
    except ValueError as error:
        raise ValueError(f"config {path}: {error}") from error
