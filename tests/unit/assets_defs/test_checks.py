"""Planted faults that the checks must find."""

import io
import json
import tarfile

import numpy as np

from assets_defs.checks import (
    MAX_RESIDUAL,
    MIN_CONFIDENCE,
    _confidence,
    _finite_shards,
    _has_samples,
    _residuals,
    _same_lengths,
)
from configs.schema import Config
from pipelines.store import Store


def npz(**arrays) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def shard(folder, **files: bytes):
    with tarfile.open(folder / "train-00000.tar", "w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def test_a_nan_in_a_shard_is_found_by_name(tmp_path):
    good = npz(transl=np.zeros((3, 3)), fps=np.array([25, 1]), encoder=np.array("offline"))
    shard(tmp_path, **{"0.fit.npz": good, "0.clip.mp4": b"\xff" * 9})
    assert _finite_shards(tmp_path).passed
    shard(tmp_path, **{"0.fit.npz": good, "1.fit.npz": npz(transl=np.array([0, np.inf]), betas=np.zeros(10))})
    result = _finite_shards(tmp_path)
    assert not result.passed
    assert result.metadata["not_finite"].value == {"1.fit.npz": ["transl"]}


def test_confidence_only_warns():
    low, high = (npz(confidence=np.full(5, v)) for v in (MIN_CONFIDENCE - 0.1, MIN_CONFIDENCE + 0.1))
    assert _confidence({"a": low, "b": high}).passed
    for fits in ({"a": low}, {"a": npz(confidence=np.array([np.nan]))}, {}):
        assert not _confidence(fits).passed
        assert _confidence(fits).severity.value == "WARN"


def test_lost_fits_are_counted(tmp_path):
    store = Store(Config(workspace=str(tmp_path)))
    for unit, residual in (("t/good", MAX_RESIDUAL - 1), ("t/lost", MAX_RESIDUAL + 1)):
        store.once("clip_fits", unit, "1", "", [], lambda value=residual: {"body_mm": value})
    assert _residuals(store, ["t/good", "t/lost"], share=0.5).passed
    assert not _residuals(store, ["t/good", "t/lost", "t/never fitted"], share=0.5).passed
    assert not _residuals(store, ["t/lost"]).passed
    assert not _residuals(store, []).passed


def test_an_empty_split_is_an_error_unless_none_is_asked_for(tmp_path):
    for train, test, held_out, passed in (([1], [1], 0.3, True), ([1], [], 0.3, False), ([1], [], 0.0, True), ([], [1], 0.0, False)):
        (tmp_path / "manifest.json").write_text(json.dumps({"splits": {"train": train, "test": test}}))
        result = _has_samples(tmp_path, held_out)
        assert (result.passed, result.severity.value) == (passed, "ERROR")
        assert ("held_out" in (result.description or "")) == (not passed and bool(train)), "what to do is said"


def test_a_sample_whose_parts_differ_in_length_is_found(tmp_path):
    fit, features = npz(transl=np.zeros((4, 3))), npz(features=np.zeros((4, 8)))
    mask, about = npz(mask=np.zeros((4, 2), np.uint8), shape=np.array([4, 4, 4])), json.dumps({"frames": 4}).encode()
    shard(tmp_path, **{"0.fit.npz": fit, "0.features.npz": features, "0.mask.npz": mask, "0.clip.json": about, "0.clip.mp4": b"0"})
    assert _same_lengths(tmp_path).passed
    shard(tmp_path, **{"0.fit.npz": fit, "0.clip.json": about, "1.fit.npz": fit, "1.features.npz": npz(features=np.zeros((5, 8)))})
    result = _same_lengths(tmp_path)
    assert not result.passed
    assert result.metadata["out_of_sync"].value == {"train-00000.tar/1": {"fit.npz": 4, "features.npz": 5}}
