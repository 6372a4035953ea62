"""How fast stage 1 is: a picture to an avatar, and training, at the shipped size and at configs/reference.yaml's.

Model FLOP utilisation is counted FLOPs ÷ time ÷ the rate of a large bf16 matrix product measured in the same run.
Counted are the matrix products, convolutions and attention of the network: forward and backward of what is learned,
forward alone of the frozen encoder. Not counted, but in the time of a whole step: Gaussian rendering, losses, skinning,
optimiser. Batches are made up and lie on the device; one picture a person is given. Without Sapiens' file (`--encoder`),
a transformer of its shape with random weights stands in, and names say `stand_in`. On a CPU only the shipped size is
measured; `--tiny` rehearses everything there in miniature.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from benchmarks.report import Figure, arguments, device_name, publish, timings
from benchmarks.sapiens_stand_in import SAPIENS_1B, TINY, write_stand_in
from configs.places import PROJECT
from configs.schema import Config, load_config
from model.stage1 import Stage1
from model.types import Camera, SmplxParams
from pipelines.checkpoints import load_stage1
from pipelines.datasets import ViewBatch
from pipelines.steps_stage1 import Stage1Task
from pipelines.store import Store
from pipelines.view_table import SURFACE

WEIGHTS = PROJECT / "samples" / "weights" / "stage1.safetensors"
GOOD_BATCH = 8  # people a step at reference size that keep an 80 GB device busy
DISTANCE = 3.0  # metres from camera to person
BAR = ">= 35"  # percent of the measured peak


def made_up_batch(config: Config, body_height: float, device: str) -> ViewBatch:
    """Noise as pictures of upright people in front of their cameras, as training would get it."""
    settings = config.stage1_training
    people, views, side, drawn = settings.batch, settings.views, config.stage1.image.image_size, settings.render_size
    with torch.device(device):
        params = upright(people, views)
        cameras = level_cameras(people, views, drawn, body_height)
        one = lambda x: x[:, :1]  # noqa: E731
        return ViewBatch(
            torch.rand(people, 1, 3, side, side), cameras.map(one).resized(side, side), torch.rand(people, views, drawn, drawn, 3),
            torch.rand(people, views, drawn, drawn, 1), cameras, params, torch.ones(people), torch.randn(people, SURFACE, 3) * 0.3,
        )  # fmt: skip


def upright(people: int, views: int) -> SmplxParams:  # [people, views] facing the camera, which looks along +z with y down
    lead = (people, views)
    pose = torch.zeros(*lead, 55, 3)
    pose[..., 0, 0] = torch.pi
    return SmplxParams.from_pose(pose, torch.zeros(*lead, 10), torch.zeros(*lead, 10), torch.tensor([0.0, 0.0, DISTANCE]).expand(*lead, 3))


def level_cameras(people: int, views: int, side: int, height: float) -> Camera:  # [people, views]
    focal = 0.85 * side * DISTANCE / height
    intrinsics = torch.tensor([[focal, 0, side / 2], [0, focal, side / 2], [0, 0, 1]])
    lead = (people, views)
    return Camera(torch.eye(4).expand(*lead, 4, 4), intrinsics.expand(*lead, 3, 3), torch.tensor([side, side]).expand(*lead, 2))


def picture_to_avatar(network: Stage1, name: str, device: str, bar: str | None = None) -> list[Figure]:
    """Milliseconds from a cropped picture on the device to canonical Gaussians, and the most memory that it took."""
    side = network.config.image.image_size
    with torch.device(device):
        picture, camera = torch.rand(1, 3, side, side), level_cameras(1, 1, side, 1.7).map(lambda x: x[:, 0])
    begin_memory(device)

    @torch.no_grad()
    def call() -> None:
        network.gaussians(network.canonical(network.encode(picture, camera)))

    spent = timings(call, 20, 6.0, waiting(device)).wall
    return [Figure(f"{name}_avatar_ms", median(spent), "ms", bar), Figure(f"{name}_avatar_peak_gb", peak_memory(device), "GB")]


def training(task: Stage1Task, config: Config, name: str, device: str, peak: float, bar: str | None) -> list[Figure]:
    """Pictures a second, utilisation and memory of whole steps and of the network's part of them alone."""
    network, settings = task.network, config.stage1_training
    batch = made_up_batch(config, 1.7, device)
    one = batch.input_cameras[:, 0].map(lambda x: x[:1])
    tflop = counted(lambda: network_alone(network, batch.images[:1, 0], one).backward())
    network.zero_grad(set_to_none=True)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-6)
    rows = [Figure(f"{name}_counted_tflop_per_image", tflop, "TFLOP")]
    bodies: list[tuple[str, Callable[[], Tensor], str | None]] = [
        ("", lambda: task(batch, 0.0)["total"], bar),
        ("_network", lambda: network_alone(network, batch.images[:, 0], batch.input_cameras[:, 0]), None),
    ]
    for suffix, loss, needed in bodies:
        begin_memory(device)
        seconds = step_seconds(network, optimizer, loss, device)
        rate = settings.batch / seconds
        rows += [
            Figure(f"{name}_train{suffix}_images_per_s", rate, "1/s"),
            Figure(f"{name}_train{suffix}_mfu", 100 * rate * tflop / peak, "%", needed),
            Figure(f"{name}_train{suffix}_peak_gb", peak_memory(device), "GB"),
        ]
    return rows


def network_alone(network: Stage1, images: Tensor, cameras: Camera) -> Tensor:
    """A scalar that depends on all that stage 1 learns: no rendering, no loss to speak of."""
    encoding = network.encode(images, cameras)
    cloud = network.gaussians(network.canonical(encoding))
    parts = [cloud.means, cloud.rotations, cloud.scales, cloud.opacities, cloud.colors, encoding.params.full_pose, encoding.params.transl]
    return torch.stack([x.float().square().mean() for x in parts]).sum()


def step_seconds(network: nn.Module, optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], device: str) -> float:
    """Mean seconds of a step after three that do not count: loss, gradients, clipping, optimiser, in bf16 on a GPU."""
    wait = waiting(device)

    def step() -> None:
        with half_precision(device):
            value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    wait()
    start = time.perf_counter()
    count = 0
    while count < 3 or (count < 20 and time.perf_counter() - start < 5.0):
        step()
        count += 1
        if count % 3 == 0:
            wait()
    wait()
    return (time.perf_counter() - start) / count


def counted(call: Callable[[], None]) -> float:
    """TFLOP of a call. Attention as two products, so that what flash attention works out twice counts once."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mm: _dense_flops}) as counter, sdpa_kernel(SDPBackend.MATH):
        call()
    return counter.get_total_flops() / 1e12


def _dense_flops(first: Tensor, second: Tensor, *_: object, **__: object) -> int:
    """Of a matrix product; none where the first is sparse: such sums are no matrix products, but would be counted as full ones."""
    return 0 if first.layout != torch.strided else mm_flop(first.shape, second.shape)


_dense_flops._get_raw = True  # type: ignore[attr-defined]  # FlopCounterMode's mark of formulas that want tensors, not shapes


def product_tflops(device: str) -> float:
    """The best rate of a large square matrix product, bf16 on a GPU and float32 on a CPU, TFLOP/s."""
    side, dtype = (8192, torch.bfloat16) if device == "cuda" else (1024, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    repeats = 10

    def products() -> None:
        for _ in range(repeats):
            torch.mm(a, b)

    return 2 * side**3 * repeats / 1e12 / (min(timings(products, 10, 3.0, waiting(device)).wall) / 1e3)


def frozen_encoder(network: Stage1, name: str, device: str, peak: float, batch: int) -> list[Figure]:
    """Milliseconds a picture of the frozen encoder alone, and its utilisation."""
    encoder, side = network.image_encoder, network.config.image.image_size
    pictures = torch.rand(batch, 3, side, side, device=device)
    call = lambda: encoder.frozen_features(pictures)  # type: ignore[operator,union-attr]  # noqa: E731
    tflop = counted(lambda: encoder.frozen_features(pictures[:1]))  # type: ignore[operator,union-attr]
    spent = median(timings(call, 5, 3.0, waiting(device)).wall) / batch
    return [
        Figure(f"{name}_frozen_encoder_ms_per_image", spent, "ms"), Figure(f"{name}_frozen_encoder_tflop_per_image", tflop, "TFLOP"),
        Figure(f"{name}_frozen_encoder_utilisation", 100 * tflop / (spent / 1e3) / peak, "%"),
    ]  # fmt: skip


def waiting(device: str) -> Callable[[], None]:
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def half_precision(device: str) -> AbstractContextManager[object]:
    """As the DeepSpeed configurations for GPUs ask."""
    return torch.autocast("cuda", torch.bfloat16) if device == "cuda" else nullcontext()


def begin_memory(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> float:
    """GB that tensors took at most since `begin_memory`; on a CPU the most that the process ever had."""
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def sized(config: Config, tiny: bool, folder: Path, encoder: Path | None = None) -> Config:
    """A configuration with the embedded body, no data and, for `tiny`, hardly any work."""
    network, settings = config.stage1.model_dump(), config.stage1_training.model_dump()
    if encoder is not None:
        network["image"]["path"] = str(encoder)
    if tiny:
        network |= {"width": 64, "heads": 4, "triplane_resolution": 64, "triplane_tokens": 8, "fusion_layers": 1, "gaussians": 1000}
        network["image"]["image_size"] = 64
        settings |= {"batch": 2, "views": 2, "render_size": 48}
    return Config.model_validate({"workspace": str(folder), "stage1": network, "stage1_training": settings})


def with_batch(config: Config, batch: int) -> Config:
    return config.model_copy(update={"stage1_training": config.stage1_training.model_copy(update={"batch": batch})})


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--encoder", type=Path, help="Sapiens-1B as TorchScript (default: a stand-in of its shape with random weights)")
    parser.add_argument("--batch", type=int, default=GOOD_BATCH, help="people a step at reference size, beside the configured (default: 8)")
    parser.add_argument("--tiny", action="store_true", help="rehearse all of it in miniature")
    options = parser.parse_args()
    start, device, tiny = time.perf_counter(), options.device, options.tiny
    figures = picture_to_avatar(load_stage1(Config(), WEIGHTS, device), "small", device, "<= 3000" if device == "cpu" else None)
    if device == "cuda" or tiny:
        peak = product_tflops(device)
        figures.append(Figure("matrix_product_tflops", peak, "TFLOP/s"))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            figures += small_training(folder, device, tiny, peak)
            figures += reference(folder, options.encoder, device, tiny, peak, 2 if tiny else options.batch)
    config = {"encoder": str(options.encoder or "stand-in"), "tiny": tiny, "torch": torch.__version__}
    publish("stage1_speed", figures, device=device_name(device), config=config, seconds=time.perf_counter() - start, path=options.json)


def small_training(folder: Path, device: str, tiny: bool, peak: float) -> list[Figure]:
    config = sized(load_config(PROJECT / "configs" / "small.yaml"), tiny, folder)
    task = Stage1Task(config, Store(config)).to(device)
    return training(task, config, f"small_batch{config.stage1_training.batch}", device, peak, None)


def reference(folder: Path, encoder: Path | None, device: str, tiny: bool, peak: float, batch: int) -> list[Figure]:
    """At the reference size; training once with the configured batch and once with `batch`, which the bar is for."""
    name, rows = "reference", []
    if encoder is None:
        name, encoder = "reference_stand_in", folder / "stand_in.pt"
        rows.append(Figure(f"{name}_encoder_parameters", write_stand_in(encoder, TINY if tiny else SAPIENS_1B, device), "1e9"))
    config = sized(load_config(PROJECT / "configs" / "reference.yaml"), tiny, folder, encoder)
    task = Stage1Task(config, Store(config)).to(device)
    rows += picture_to_avatar(task.network, name, device)
    rows += frozen_encoder(task.network, name, device, peak, batch)
    sizes = sorted({config.stage1_training.batch, batch})
    for size in sizes:
        rows += training(task, with_batch(config, size), f"{name}_batch{size}", device, peak, BAR if size == batch else None)
    return rows


if __name__ == "__main__":
    main()
