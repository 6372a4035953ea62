"""Fixtures shared by all tests."""

import os
import signal
from functools import cache
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny tensors: threads cost more than they bring

import pytest

import model  # noqa: F401  # sets OMP_WAIT_POLICY before any test module imports torch

# a shell starts background jobs with Ctrl-C ignored, the processes of tests would inherit that, and Dagster makes SIGTERM
# do what SIGINT does
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
REALDATA = ROOT.parent / "shared" / "realdata"


def pytest_collection_modifyitems(items):
    missing = pytest.mark.skip(reason=f"no recordings in {REALDATA}")
    mute = pytest.mark.skip(reason="espeak-ng is not installed")
    for item in items:
        if "realdata" in item.keywords and not REALDATA.is_dir():
            item.add_marker(missing)
        if "needs_voice" in item.keywords and not _speaks():
            item.add_marker(mute)


@cache
def _speaks():
    from samples.builders import espeak

    try:
        espeak.synthesise(["a"], espeak.Voice("en-us", "en-US", 160, 50, 50))
    except RuntimeError:
        return False
    return True


@pytest.fixture(scope="session")
def realdata() -> Path:
    return REALDATA


@pytest.fixture(scope="session")
def body():
    """The embedded body."""
    from model.body import Body

    return Body.load(ROOT / "samples" / "body" / "SMPLX_NEUTRAL.npz")
