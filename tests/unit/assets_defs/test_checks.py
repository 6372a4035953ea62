"""Planted faults that the checks must find."""

import io
import json
import tarfile

import numpy as np

from assets_defs.checks import MIN_CONFIDENCE, _confidence, _finite_shards, _has_samples


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


def test_confidence_counts_clips():
    low, high = (npz(confidence=np.full(5, v)) for v in (MIN_CONFIDENCE - 0.1, MIN_CONFIDENCE + 0.1))
    assert _confidence({"a": low, "b": high}).passed
    assert _confidence({"a": low, "b": high}, share=0.5).passed
    assert not _confidence({"a": low, "b": low, "c": high}, share=0.5).passed
    assert not _confidence({"a": npz(confidence=np.array([np.nan]))}).passed
    assert not _confidence({}).passed


def test_no_training_sample_is_an_error_no_held_out_one_a_warning(tmp_path):
    for train, test, passed, severity in (([1], [1], True, "WARN"), ([1], [], False, "WARN"), ([], [1], False, "ERROR")):
        (tmp_path / "manifest.json").write_text(json.dumps({"splits": {"train": train, "test": test}}))
        result = _has_samples(tmp_path)
        assert (result.passed, result.severity.value) == (passed, severity)
