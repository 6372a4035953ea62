"""One thread for each library: the fit multiplies many small matrices, of which two threads together make slow work.

Threads that share a product wait for one another without sleeping. Where cores have other work, too, a fit took ten times
as long and more; alone on two cores, torch's and scipy's threads took them from each other. The fit's own threads
(`fit_energy`) each work on frames of their own.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from scipy.linalg import _flapack


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch and scipy's linear algebra use the calling thread alone."""
    threads, (get, put) = torch.get_num_threads(), _openblas()
    of_scipy = get()
    torch.set_num_threads(1)
    put(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        put(of_scipy)


def _openblas() -> tuple[Callable[[], int], Callable[[int], Any]]:
    """How to read and to set the number of threads of scipy's OpenBLAS; a scipy with another library keeps its threads."""
    library = ctypes.CDLL(_flapack.__file__)
    try:
        return library.scipy_openblas_get_num_threads, library.scipy_openblas_set_num_threads
    except AttributeError:
        return (lambda: 1), (lambda _: None)
