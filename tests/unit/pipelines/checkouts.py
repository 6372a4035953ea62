"""Stand-ins for check-outs of PantoMatrix and LHM: the same command lines, the same files, a second of work."""

from __future__ import annotations

import sys
from pathlib import Path

EMAGE = '''
import argparse, os, sys, time, wave
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--audio_folder", type=str, default="./examples/audio")
parser.add_argument("OPTION", type=str, default="./examples/motion")
parser.add_argument("--visualization", action="store_true")
args = parser.parse_args()
FAULT = open("fault").read() if os.path.exists("fault") else ""
save = getattr(args, "OPTION".lstrip("-"))
os.makedirs(save, exist_ok=True)
print("loading weights", os.environ.get("VIRTUAL_ENV", "no environment of ours"))
names = sorted(f for f in os.listdir(args.audio_folder) if f.endswith(".wav"))
for i, name in enumerate(names):
    sys.stderr.write(f"\\rInference: {100 * i // len(names)}%|###| {i}/{len(names)}")
    sys.stderr.flush()
    if FAULT == "hangs":
        time.sleep(600)
    if FAULT == "fails":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with wave.open(os.path.join(args.audio_folder, name)) as sound:
        assert sound.getframerate() == 16000 and sound.getnchannels() == 1
        seconds = sound.getnframes() / sound.getframerate()
    t = round(seconds * 30) + (90 if FAULT == "long" else -2)
    poses = np.zeros((t, 55, 3), np.float32)
    poses[:, 16, 2], poses[:, 17, 2] = -1.0, 1.0
    poses[:, 22, 0] = 0.1 + 0.1 * np.sin(np.arange(t))
    if FAULT == "nan":
        poses[3, 4] = np.nan
    columns = 156 if FAULT == "smplh" else 165
    about = dict(betas=np.zeros(300, np.float32), poses=poses.reshape(t, 165)[:, :columns], expressions=np.zeros((t, 100), np.float32),
        trans=np.zeros((t, 3), np.float32), model="smplx2020", gender="neutral", mocap_frame_rate=15 if FAULT == "rate" else 30)
    if FAULT == "keys":
        del about["expressions"]
    if FAULT != "silent":
        np.savez(os.path.join(save, os.path.splitext(name)[0] + "_output.npz"), **about)
open(os.path.join(save, "log.txt"), "w").write("done")
print("generate total 2 seconds motion in 1 seconds")
'''

LHM_SCRIPT = """#!/bin/bash
MODEL_NAME=${1:-LHM-1B}
IMAGE_INPUT=${2:-./train_data/example_imgs/}
MOTION_SEQS_DIR=${3:-./train_data/motion_video/mimo6/smplx_params/}
echo "MODEL_NAME: $MODEL_NAME NCCL_P2P_DISABLE: $NCCL_P2P_DISABLE"
python -m LHM.launch infer.human_lrm model_name=$MODEL_NAME image_input=$IMAGE_INPUT export_video=True \\
        motion_seqs_dir=$MOTION_SEQS_DIR motion_img_dir=None vis_motion=true render_fps=30 motion_video_read_fps=30
"""

LHM_LAUNCH = '''
import json, os, sys
from fractions import Fraction
import av, numpy as np
from PIL import Image

args = dict(word.split("=", 1) for word in sys.argv[2:])
assert args["model_name"] == "LHM-500M" and os.environ["NCCL_P2P_DISABLE"] == os.environ["NCCL_IB_DISABLE"] == "1"
FAULT = open("fault").read() if os.path.exists("fault") else ""
motion = args["motion_seqs_dir"]
rows = [json.load(open(os.path.join(motion, f))) for f in sorted(os.listdir(motion)) if f.endswith(".json")]
clip = os.path.basename(os.path.dirname(motion.rstrip("/")))
for f in os.listdir(args["image_input"]):
    picture = np.asarray(Image.open(os.path.join(args["image_input"], f)).convert("RGB"))
    if FAULT == "fails":
        sys.stderr.write("FileNotFoundError: pretrained_models/sapiens not found\\n")
        os._exit(3)
    target = os.path.join("exps", "videos", "video_human_benchmark", "human-lrm-500M", clip, f.split(".")[0] + ".mp4")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    width, height = (round(2 * c / 16) * 16 for c in rows[0]["princpt"])
    with av.open(target, "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25 if FAULT == "rate" else 30))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for row in rows[: len(rows) // 2 if FAULT == "half" else None]:
            assert len(row["body_pose"]) == 21 and row["pad_ratio"] == 0
            shown = np.asarray(Image.fromarray(picture).resize((width, height)))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
'''


def write_checkouts(root: Path, option: str = "--save_folder") -> dict[str, str]:
    """Folders of both below `root`, with this interpreter as theirs: fields of the section `baseline`."""
    emage, lhm = root / "PantoMatrix", root / "LHM"
    (lhm / "LHM").mkdir(parents=True)
    emage.mkdir()
    (emage / "test_emage_audio.py").write_text(EMAGE.replace("OPTION", option))
    (lhm / "inference.sh").write_text(LHM_SCRIPT)
    (lhm / "LHM" / "launch.py").write_text(LHM_LAUNCH)
    (lhm / "LHM" / "__init__.py").write_text("")
    found = {"pantomatrix": str(emage), "lhm": str(lhm), "pantomatrix_python": sys.executable, "lhm_python": sys.executable}
    return {"motion": "emage", "avatar": "lhm", **found}


def break_it(folder: str, fault: str) -> None:
    """From now on the stand-in has this fault."""
    (Path(folder) / "fault").write_text(fault)
