"""Audio features and shards: how fast windows of talks are read, whether a stream agrees with the file, what a lack costs.

The talks are the embedded ones with their true fits; masks are ovals about the person. wav2vec2 is randomly initialised in
its published sizes: time and agreement do not depend on what was learnt. About two minutes on two cores.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.report import Figure, arguments, device_name, publish
from configs.schema import Config
from model.audio_encoders import OfflineEncoder
from model.audio_offline import loudness_factor
from model.audio_stream import AudioStream, OfflineStream, RunningLevel, Wav2Vec2Stream
from model.audio_wav2vec2 import LIVE, SAMPLE_RATE, Features, Sound, Wav2Vec2Encoder
from pipelines import media
from pipelines.audio_features import features_talk
from pipelines.people import iterate_people
from pipelines.shard_folder import ShardFolder
from pipelines.shards import write_talk_shards
from pipelines.splits import SPLITS
from pipelines.store import Store, hash_file
from pipelines.windows import ClipWindows, collate_windows

TALKS = Path(__file__).parents[1] / "samples" / "talks"
FIT_KEYS = (
    "global_orient", "body_pose", "left_hand_pose", "right_hand_pose", "jaw_pose", "leye_pose", "reye_pose", "expression",
    "betas", "transl", "focal", "principal", "image_size", "w2c", "confidence", "fps",
)  # fmt: skip
FPS = Fraction(25)
CORES = 2
BOUND = 1e-4  # that `model.audio_stream` states
SETTLED = 5.0  # seconds of speech after which a stream's level is looked at


def figures(quick: bool = False) -> list[Figure]:
    """All figures of this file; `quick`: of the shards alone, over two talks, to see whether they run."""
    names = sorted(path.stem for path in TALKS.glob("*.mp4"))
    with TemporaryDirectory() as folder:
        root = Path(folder)
        if quick:
            return of_shards(root, names[:2])
        missing = Figure("missing_model", missing_model_seconds(root), "s", "<= 1.5")
        return [*of_shards(root, names), *of_streams(root), *of_speed(root), missing]


def of_shards(root: Path, names: list[str]) -> list[Figure]:
    first, second = (write_shards(root / f"{i}", order) for i, order in enumerate((names, names[::-1])))
    same = {p.name: hash_file(p) for p in first.iterdir()} == {p.name: hash_file(p) for p in second.iterdir()}
    manifest = json.loads((first / "manifest.json").read_text())
    seconds = sum(manifest["statistics"][split]["seconds"] for split in SPLITS)
    wall, processor = cost(lambda: read_windows(first))
    crops_wall, crops_processor = cost(
        lambda: [person.bytes for split in SPLITS for person in iterate_people(first, split, 256)]
    )
    return [
        Figure("shard_determinism", float(same), "1: same bytes in another order", "== 1"),
        Figure("window_reader", round(seconds / wall, 1), "x real time, 256 px, 2 workers", ">= 10"),
        Figure("window_reader_processor", round(seconds / (processor / CORES), 1), "x real time, by processor time of 2 cores"),
        Figure("crop_reader", round(seconds / crops_wall, 1), "x real time, 256 px, 1 process"),
        Figure("crop_reader_processor", round(seconds / crops_processor, 1), "x real time, by processor time of 1 core"),
    ]


def of_streams(root: Path) -> list[Figure]:
    audio = np.concatenate([media.read_audio(path) for path in sorted(TALKS.glob("*.mp4"))])
    tiny = save_wav2vec2(root / "tiny", hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    level = loudness_factor(audio)
    found = [
        Figure("stream_offline_difference", difference(OfflineStream(FPS, level), OfflineEncoder(), audio), "of a value", f"<= {BOUND}")
    ]
    for name, windows in (("", None), ("_live", LIVE)):
        encoder = Wav2Vec2Encoder(str(tiny), True, windows)
        value = difference(Wav2Vec2Stream(encoder, FPS), encoder, audio)
        found.append(Figure(f"stream_wav2vec2{name}_difference", value, "of a value", f"<= {BOUND}"))
        found.append(Figure(f"stream_wav2vec2{name}_latency", round(Wav2Vec2Stream(encoder, FPS).latency, 2), "s"))
    found.append(Figure("stream_offline_latency", round(OfflineStream(FPS).latency, 3), "s"))
    found.append(Figure("stream_level_error", max(map(level_error, sorted(TALKS.glob("*.mp4")))), f"dB after {SETTLED:g} s, unknown level"))
    return found


def of_speed(root: Path) -> list[Figure]:
    audio = media.read_audio(min(TALKS.glob("*.mp4")))
    base = Wav2Vec2Encoder(str(save_wav2vec2(root / "base")), True)
    found = []
    for name, encoder in (("offline", OfflineEncoder()), ("wav2vec2_base", base)):
        sound = np.tile(audio, 6) if name == "offline" else audio
        frames = int(len(sound) * FPS / SAMPLE_RATE)
        wall, _ = cost(lambda encoder=encoder, sound=sound, frames=frames: encoder(sound, FPS, frames))  # type: ignore[misc]
        found.append(
            Figure(f"features_{name}", round(len(sound) / SAMPLE_RATE / wall, 1), f"x real time, {torch.get_num_threads()} threads")
        )
    return found


def missing_model_seconds(root: Path) -> float:
    """Until the one line is out, in a fresh process whose hub cannot be reached."""
    code = """if True:
        import time
        from configs.schema import AudioConfig
        from model.audio_encoders import make_audio_encoder
        begun = time.perf_counter()
        try: make_audio_encoder(AudioConfig(encoder="wav2vec2"))
        except ValueError: print(time.perf_counter() - begun)
    """
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        own = {"HF_ENDPOINT": f"http://127.0.0.1:{closed.getsockname()[1]}", "HF_HOME": str(root / "hub")}
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | own
        return round(
            float(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout), 3
        )


def write_shards(workspace: Path, names: list[str]) -> Path:
    """Shards of the embedded talks as if each was one clip, made in the order of `names`."""
    config = Config.model_validate({"workspace": str(workspace), "talks": {"include_samples": False}, "shards": {"target_mb": 1.0}})
    store = Store(config)
    for name in names:
        folder, truth = store.clip(name, f"{name}-000"), np.load(TALKS / "truth" / f"{name}.npz", allow_pickle=False)
        folder.mkdir(parents=True)
        count, about = len(truth["transl"]), {"talk": name, "speaker": name.split("_")[0]}
        (store.talk(name) / "talk.json").write_text(json.dumps(about))
        (folder / "clip.json").write_text(json.dumps({**about, "fps": str(FPS), "frames": count}))
        (folder / "clip.mp4").write_bytes((TALKS / f"{name}.mp4").read_bytes())
        media.write_wav(folder / "audio.wav", media.read_audio(TALKS / f"{name}.mp4"))
        np.savez_compressed(folder / "fit.npz", **{key: truth[key] for key in FIT_KEYS})
        width, height = truth["image_size"].tolist()
        masks = np.stack([np.packbits(mask) for mask in ovals(count, width, height)])
        np.savez_compressed(folder / "mask.npz", mask=masks, shape=np.array([count, height, width]))
        features_talk(config, store, name)
    assert write_talk_shards(config, store).facts["samples"] == len(names)
    return store.shards("talks")


def ovals(count: int, width: int, height: int) -> Iterator[np.ndarray]:  # [H, W] bool
    y, x = np.mgrid[:height, :width]
    for index in range(count):
        middle = width * (0.5 + 0.05 * np.sin(index / 10))
        yield ((x - middle) / (0.3 * width)) ** 2 + ((y - 0.6 * height) / (0.55 * height)) ** 2 < 1


def read_windows(shards: Path) -> None:
    for split in SPLITS:
        if not ShardFolder(shards).names(split):
            continue
        windows = ClipWindows(shards, split, frames=50, size=256, seed=0)
        for _ in DataLoader(windows, 4, num_workers=CORES, collate_fn=collate_windows):
            pass


def cost(work: object) -> tuple[float, float]:
    """Seconds on the clock, and of processor time of this process and those it waited for; the better of two runs."""
    assert callable(work)
    runs = []
    for _ in range(2):
        used, begun = processor_seconds(), time.perf_counter()
        work()
        runs.append((time.perf_counter() - begun, processor_seconds() - used))
    return min(r[0] for r in runs), min(r[1] for r in runs)


def processor_seconds() -> float:
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def difference(stream: AudioStream, encoder: OfflineEncoder | Wav2Vec2Encoder, audio: Sound) -> float:
    """Largest difference of any value between a stream in chunks of 40 ms and the encoder on the whole."""
    chunks: list[Features] = [stream.push(audio[i : i + 640]) for i in range(0, len(audio), 640)]
    got = np.concatenate([*chunks, stream.finish()])
    return float(np.abs(got - encoder(audio, FPS, len(got))).max())


def level_error(path: Path) -> float:
    """dB between the level that a stream has found and that of the whole file."""
    audio, running = media.read_audio(path), RunningLevel()
    running.hear(audio[: int(SETTLED * SAMPLE_RATE)])
    return round(abs(20 * float(np.log10(running.factor / loudness_factor(audio)))), 2)


def save_wav2vec2(folder: Path, **sizes: int) -> Path:
    """A randomly initialised model in transformers' format; by default of the size of wav2vec2-base."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(0)
    Wav2Vec2Model(Wav2Vec2Config(num_conv_pos_embedding_groups=16, **sizes)).save_pretrained(folder)
    return folder


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--quick", action="store_true", help="two talks and their shards alone: whether it runs")
    options = parser.parse_args()
    begun = time.perf_counter()
    found = figures(options.quick)
    publish("talks_data", found, device=device_name(), config={}, seconds=time.perf_counter() - begun, path=options.json)


if __name__ == "__main__":
    main()
