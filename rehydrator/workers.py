"""A pool of threads that does not outlive the flow that started it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rehydrator.progress import Progress


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def worker_pool(jobs: int, name: str, progress: Progress) -> Iterator[ThreadPoolExecutor]:
    """Give a pool of ``jobs`` threads that stop soon after an error or an interrupt."""
    pool = ThreadPoolExecutor(jobs, name)
    try:
        yield pool
    except BaseException:
        progress.cancel()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
