"""Kill -9 at any moment of a batch: the next run ends with the same data as one that nobody disturbed."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines import media

ROOT = Path(__file__).parents[3]
RATE = Fraction(25)
KILLS = 10
# runs batches in forks of itself, so that the libraries are read but once; prints what each came to
SCRIPT = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
import cv2, torch, onnxruntime, mediapipe, silero_vad, scenedetect, yt_dlp
from configs.schema import Config
from pipelines import ingest
from pipelines.cut import cut_talk
from pipelines.store import Store, hash_files

inbox, root, kills = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

def store_of(name):
    talks = {"include_samples": False, "download_rate_mb": 0.3, "download_backoff": 0.01}
    config = Config.model_validate({"workspace": str(root / name), "talks": talks, "cut": {"size": 96}})
    return config, Store(config)

def batch(name):
    config, store = store_of(name)
    for stage in (ingest.ingest_talk, cut_talk):
        for talk in ingest.discover(config, store):
            stage(config, store, talk)

def start(name):
    child = os.fork()
    if not child:
        try:
            batch(name)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child

def whole(name):
    began = time.monotonic()
    assert os.waitpid(start(name), 0)[1] == 0, f"{name}: the batch failed"
    return time.monotonic() - began

def outcome(name):
    store = store_of(name)[1]
    records = {}
    for path in sorted((root / name / "records").rglob("*.json")):
        if not path.name.startswith("."):
            record = json.loads(path.read_text())
            records[f"{record['stage']} {record['unit']}"] = [record[k] for k in ("status", "input_hash", "output_hash", "reason")]
    hidden = lambda p: any(part.startswith(".") for part in p.relative_to(root / name).parts)
    files = [p for folder in ("talks", "downloads") for p in (root / name / folder).rglob("*") if p.is_file() and not hidden(p)]
    return {"records": records, "files": hash_files([p for p in files if p.name != "download.json"], root / name), "count": len(files)}

def prepare(name):
    shutil.copytree(inbox, root / name / "inbox")

prepare("first"), prepare("calm")
whole("first")  # longer than all others: libraries are read
seconds = whole("calm")
results = {"calm": outcome("calm"), "first": outcome("first"), "seconds": seconds, "killed": []}
chance = random.Random(7)
for number in range(kills):
    name = f"killed{number}"
    moment, alive = seconds * (number + chance.random()) / kills, False
    while not alive:  # a machine that got faster since: once more, earlier
        shutil.rmtree(root / name, ignore_errors=True)
        prepare(name)
        child = start(name)
        time.sleep(moment)
        alive = os.waitpid(child, os.WNOHANG) == (0, 0)
        moment *= 1 if alive else 0.6
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    left = outcome(name)
    whole(name)
    results["killed"].append({"moment": round(moment, 2), "left": len(left["records"]), **outcome(name)})
    shutil.rmtree(root / name)
print(json.dumps(results))
"""


@pytest.fixture
def web(tmp_path):
    """Address of a folder served over HTTP."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", folder
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_killed_at_ten_moments_ends_with_the_same_data(tmp_path, web):
    address, folder = web
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    write_talk(inbox / "here.mp4", "speaker15_radio", 2.4)
    write_talk(folder / "there.mp4", "speaker16_bread", 2.4)
    noise = np.random.default_rng(0).integers(0, 255, (30, 64, 96, 3), np.uint8)
    media.write_video(inbox / "noise.mp4", noise, RATE, np.zeros(19200, np.float32))
    (inbox / "empty.mp4").touch()
    (inbox / "talks.csv").write_text(f"file,url,speaker\nhere.mp4,,Ada\n,{address}/there.mp4,Grace\nnobody.mp4,,\n")
    command = [sys.executable, "-c", SCRIPT, str(inbox), str(tmp_path / "work"), str(KILLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=880)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    calm = results["calm"]
    assert len(calm["records"]) == 10
    assert sum(status == "ok" for status, *_ in calm["records"].values()) == 5, calm["records"]  # three ingested, two cut
    assert results["first"] == calm
    told = [(k["moment"], k["left"]) for k in results["killed"]]
    print(f"{results['seconds']:.1f} s undisturbed; killed at (s, records so far): {told}")
    for killed in results["killed"]:
        assert {key: killed[key] for key in ("records", "files", "count")} == calm, killed["moment"]
    assert len(results["killed"]) == KILLS
    assert len({killed["left"] for killed in results["killed"]}) >= 2  # the moments differ


def write_talk(path: Path, name: str, seconds: float) -> None:
    """The first seconds of an embedded talk, smaller."""
    source = ROOT / "samples" / "talks" / f"{name}.mp4"
    shown = [cv2.resize(p, (256, 256), interpolation=cv2.INTER_AREA) for p in media.frames(source, RATE, 0.0, seconds)]
    media.write_video(path, shown, RATE, media.read_audio(source)[: round(seconds * 16000)])
