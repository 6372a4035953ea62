import os
import pickle
from fractions import Fraction

import numpy as np
import pytest
import torch

from model.types import SMPLX_SHAPES, SmplxParams
from pipelines.formats import (
    NO_MEAN,
    load_emage,
    load_fit,
    load_lhm,
    load_pickle_arrays,
    make_camera,
    resample,
    save_emage,
    save_fit,
    save_lhm,
)
from pipelines.formats_emage import RATE as EMAGE_RATE
from pipelines.store import InputRejected


def motion(frames=9):
    g = torch.Generator().manual_seed(0)
    fields = {n: 0.3 * torch.randn(frames, *s, generator=g) for n, s in SMPLX_SHAPES.items()}
    fields["betas"] = fields["betas"][:1].expand(frames, 10)
    return SmplxParams(**fields)


def camera():
    w2c = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    w2c[2, 3] = 2.5
    return make_camera(w2c, torch.tensor([800.0, 810.0]), torch.tensor([255.0, 257.0]), torch.tensor([512, 514]))


def assert_same(a, b, atol=1e-6):
    for name in SMPLX_SHAPES:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), atol=atol, rtol=0, msg=name)


def test_fit_file_round_trip(tmp_path):
    save_fit(tmp_path / "fit.npz", motion(), camera(), torch.linspace(0, 1, 9), Fraction(30000, 1001))
    fit = load_fit(tmp_path / "fit.npz")
    assert_same(fit.params, motion())
    assert fit.fps == Fraction(30000, 1001)
    torch.testing.assert_close(fit.camera.intrinsics, camera().intrinsics)


def test_emage_round_trip_is_lossless_at_its_own_rate(tmp_path):
    save_emage(tmp_path / "a_output.npz", motion(), EMAGE_RATE, NO_MEAN)
    got, rate = load_emage(tmp_path / "a_output.npz", NO_MEAN)
    assert rate == 30
    assert_same(got, motion())
    with np.load(tmp_path / "a_output.npz", allow_pickle=False) as npz:
        assert {k: npz[k].shape for k in ("betas", "poses", "expressions", "trans")} == {
            "betas": (300,), "poses": (9, 165), "expressions": (9, 100), "trans": (9, 3)}  # fmt: skip
        assert str(npz["model"]) == "smplx2020"


def test_lhm_puts_the_camera_at_the_origin(tmp_path, body):
    save_lhm(tmp_path / "smplx_params", body, motion(), camera())
    seen, placed = load_lhm(tmp_path / "smplx_params")
    torch.testing.assert_close(placed.w2c, torch.eye(4))
    moved = body.joints(motion()) @ camera().w2c[:3, :3].T + camera().w2c[:3, 3]
    torch.testing.assert_close(body.joints(seen), moved, atol=1e-5, rtol=0)


def test_resampling_keeps_duration_and_constant_turning():
    frames = torch.arange(50) / 25
    params = SmplxParams.zeros(50)
    params.global_orient[:, 1] = frames
    params.transl[:, 0] = frames
    fast = resample(params, Fraction(25), Fraction(30))
    assert len(fast.transl) == 60
    inner = slice(2, -2)
    torch.testing.assert_close(fast.global_orient[inner, 1], fast.transl[inner, 0], atol=1e-4, rtol=0)
    steps = fast.transl[inner, 0].diff()
    torch.testing.assert_close(steps, torch.full_like(steps, 1 / 30), atol=1e-5, rtol=0)


def test_arrays_and_tensors_are_unpickled_and_nothing_else(tmp_path):
    good = tmp_path / "good.pkl"
    good.write_bytes(pickle.dumps({"a": np.arange(3.0), "b": [torch.ones(2)], "c": np.float32(2)}))
    value = load_pickle_arrays(good)
    assert value["a"].tolist() == [0, 1, 2]
    assert value["b"][0].tolist() == [1, 1]
    np.save(tmp_path / "object.npy", {"x": np.zeros(2)}, allow_pickle=True)
    assert load_pickle_arrays(tmp_path / "object.npy")["x"].shape == (2,)

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'owned'}",)

    bad = tmp_path / "bad.pkl"
    bad.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputRejected, match="system"):
        load_pickle_arrays(bad)
    assert not (tmp_path / "owned").exists()
