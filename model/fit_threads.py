"""One thread for each library: the fit multiplies many small matrices, of which two threads together make slow work.

Threads that share a product wait for one another without sleeping. Where cores have other work, too, a fit took ten times
as long and more; alone on two cores, torch's and scipy's threads took them from each other. The fit's own threads
(`fit_energy`) each work on frames of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Within, torch and the linear algebra of numpy and scipy use the calling thread alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, "blas"):
            yield
    finally:
        torch.set_num_threads(threads)
