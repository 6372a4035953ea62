"""Stand-ins for the pipelines: they keep the records, files and rejections of the real ones and compute nothing.

A video's bytes decide what becomes of it: `bad…` is rejected at ingest, `silent…` gives no clip, `nan…` a fit with NaN,
`lost…` one far from its landmarks, `hidden…` one without arms, `late…` sound that is out of sync.
"""

import io
import json
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pytest
from dagster import DagsterInstance

from configs.schema import Config
from pipelines.store import InputRejected, Record, Store, hash_file, hash_files, hash_json, write_json, writing


def describe(config: Config, store: Store):
    store.inbox.mkdir(parents=True, exist_ok=True)
    return {path.stem: (path, {}) for path in sorted(store.inbox.glob("*.mp4"))}


def discover(config: Config, store: Store):
    return sorted(describe(config, store))


def ingest_talk(config: Config, store: Store, talk: str) -> Record:
    path = store.inbox / f"{talk}.mp4"
    target = store.talk(talk) / "talk.json"

    def work():
        if path.read_bytes().startswith(b"bad"):
            raise InputRejected(f"{path.name!r}: expected a video, got something else")
        write_json(target, {"talk": talk, "kind": path.read_bytes().decode()})
        return {"seconds": 1.0}

    return store.once("ingest", talk, "1", hash_file(path), [target], work)


def cut_talk(config: Config, store: Store, talk: str) -> Record:
    source = store.talk(talk) / "talk.json"
    clip = store.clip(talk, "c0") / "clip.json"

    def work():
        if json.loads(source.read_text())["kind"].startswith("silent"):
            raise InputRejected(f"talk {talk}: no clip, nobody speaks")
        write_json(clip, {"talk": talk, "min_seconds": config.cut.min_seconds, "from": hash_file(source)})
        return {"clips": 1}

    return store.once("cut", talk, "1", hash_json([hash_file(source), config.cut.model_dump()]), [clip], work)


def fit_talk(config: Config, store: Store, talk: str) -> Record:
    source = store.clip(talk, "c0") / "clip.json"
    target = store.clip(talk, "c0") / "fit.npz"
    kind = json.loads((store.talk(talk) / "talk.json").read_text())["kind"]

    def work():
        transl = np.full((4, 3), np.nan if kind.startswith("nan") else 0.0)
        with writing(target) as temporary:
            np.savez(temporary, transl=transl, confidence=np.full(4, 0.1 if kind.startswith("hidden") else 0.9))
        return {"body_mm": 90.0 if kind.startswith("lost") else 9.0}

    clip = store.once("clip_fits", f"{talk}/c0", "1", hash_file(source), [target], work)
    return store.once("clip_fits", talk, "1", hash_file(source), [target], lambda: {"clips": 1, "metrics": clip.facts})


def features_talk(config: Config, store: Store, talk: str) -> Record:
    source = store.clip(talk, "c0") / "clip.json"
    target = store.clip(talk, "c0") / "features.npz"

    def work():
        with writing(target) as temporary:
            np.savez(temporary, features=np.zeros((4, 8)))
        return {"encoder": "offline-logmel"}

    return store.once("features", talk, "1", hash_file(source), [target], work)


def write_shards(kind: str, ending: str):
    def write(config: Config, store: Store) -> Record:
        files = sorted(store.root.glob(ending))
        target = store.shards(kind)

        def work():
            with writing(target) as folder:
                folder.mkdir()
                with tarfile.open(folder / "train-00000.tar", "w") as archive:
                    for number, path in enumerate(files):
                        entry = tarfile.TarInfo(f"{number:06d}.{path.name}")
                        entry.size = path.stat().st_size
                        archive.addfile(entry, io.BytesIO(path.read_bytes()))
                names = sorted({f"{p.parts[-4]}/{p.parts[-2]}" for p in files if kind == "talks"} or map(str, files))
                write_json(folder / "manifest.json", {"splits": {"train": names, "test": names[:1]}})
            return {"samples": len(files)}

        return store.once(f"{kind}_shards", "all", "1", hash_files(files, store.root), [target], work)

    return write


def body_record(config: Config, store: Store) -> Record:
    def work():
        write_json(store.body / "body.json", {})
        return {"hash": "0123456789abcdef"}

    return store.once("body_model", "body", "1", "", [store.body / "body.json"], work)


def render_scan(config: Config, store: Store, subject: str) -> Record:
    target = store.scan(subject) / "smplx.npz"

    def work():
        if subject == "broken":
            raise InputRejected("scan broken: expected SMPL-X parameters, got none")
        with writing(target) as temporary:
            np.savez(temporary, betas=np.full(10, float(config.scans.views)))
        return {"views": config.scans.views, "path": str(target)}

    return store.once("scan_renders", subject, "1", hash_json(config.scans.model_dump()), [target], work)


def made_from(stage: str, *folders: str, name: str = "out.txt"):
    """A stage whose output is the hash of what it reads."""

    def run(config: Config, store: Store, *unit, **_) -> Record:
        label = "-".join((stage, *unit))
        inputs = hash_files([p for f in folders for p in sorted((store.root / f).rglob("*")) if p.is_file()], store.root)
        target = store.root / "made" / label / name

        def work():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(inputs)
            return {"path": str(target), "metrics": {"psnr": 21.5, "odd": float("nan")}}

        return store.once(label, "all", "1", inputs, [target], work)

    return run


def clip_sync(clip: Path):
    kind = json.loads((clip.parents[1] / "talk.json").read_text())["kind"]
    return types.SimpleNamespace(worst=40.0 if kind.startswith("late") else 0.0)


STAND_INS = {
    "sync": {"MAX_OFFSET_MS": 10.0, "clip_sync": clip_sync},
    "ingest": {"describe": describe, "discover": discover, "ingest_talk": ingest_talk},
    "cut": {"cut_talk": cut_talk},
    "fit": {"fit_talk": fit_talk},
    "contact_sheets": {"with_reasons": lambda record: record, "with_pictures": lambda config, store, talk, record: record},
    "audio_features": {"features_talk": features_talk},
    "shards": {
        "write_talk_shards": write_shards("talks", "talks/*/clips/*/*.npz"),
        "write_scan_shards": write_shards("scans", "scans/*/*.npz"),
        "write_idol_shards": write_shards("idol", "none/*"),
    },
    "body": {"body_record": body_record},
    "scans": {"list_subjects": lambda config, store: ["broken", "person"], "render_scan": render_scan},
    "launch": {"run_training": made_from("train", "shards")},
    "evaluate": {"evaluate_stage1": made_from("eval1", "made/train-stage1"), "evaluate_stage2": made_from("eval2", "made/train-stage2")},
    "speak": {"speaking_video": made_from("speak", "made/train-stage2", name="speaking.mp4")},
    "baseline": {
        "motion": made_from("motion", "shards/talks"),
        "retarget": made_from("retarget", "made/motion"),
        "video": made_from("video", "made/retarget"),
    },
    "report": {"comparison": made_from("comparison", "made/eval1", "made/eval2", "made/video", name="report.html")},
}


class Bench:
    """A workspace with its inbox, settings and Dagster instance."""

    def __init__(self, root: Path, instance: DagsterInstance):
        self.root, self.instance = root, instance
        self.settings: dict = {}
        self.configure()
        (root / "workspace" / "inbox").mkdir(parents=True)

    def configure(self, **sections) -> None:
        self.settings |= sections
        (self.root / "config.yaml").write_text(json.dumps({"workspace": str(self.root / "workspace"), **self.settings}))

    def drop(self, talk: str, content: str = "good") -> Path:
        path = self.root / "workspace" / "inbox" / f"{talk}.mp4"
        path.write_text(content)
        return path

    def versions(self) -> dict:
        """(asset, talk) → storage id and data version of its newest materialisation."""
        from dagster import AssetRecordsFilter

        from assets_defs.definitions import defs

        found = {}
        talks = self.instance.get_dynamic_partitions("talks")
        for node in defs.resolve_asset_graph().asset_nodes:
            for talk in talks if node.partitions_def else [None]:
                wanted = AssetRecordsFilter(node.key, asset_partitions=[talk] if talk else None)
                for record in self.instance.fetch_materializations(wanted, limit=1).records:
                    tags = record.asset_materialization.tags
                    found[node.key.to_user_string(), talk] = (record.storage_id, tags["dagster/data_version"])
        return found


@pytest.fixture
def bench(tmp_path, monkeypatch):
    for name, functions in STAND_INS.items():
        module = types.ModuleType(f"pipelines.{name}")
        module.__dict__.update(functions)
        monkeypatch.setitem(sys.modules, f"pipelines.{name}", module)
    monkeypatch.setenv("SPEECH_AVATAR_CONFIG", str(tmp_path / "config.yaml"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    with DagsterInstance.ephemeral(str(tmp_path)) as instance:
        yield Bench(tmp_path, instance)
