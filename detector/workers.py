"""Apply a function to many jobs on threads, on processes, or on machines through Ray."""

import ctypes
import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

from detector.errors import UserError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names of mallopt's settings

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def map_jobs(
    function: Callable[[Job], Answer], jobs: Sequence[Job], *, workers: int = 1, ray: bool = False
) -> Iterator[Answer]:
    """Yield the results in the order of the jobs, computed by `workers` processes.

    With `ray`, the jobs run on the cluster that RAY_ADDRESS names, or on this machine's cores.
    Every machine of a cluster needs the same files under the same paths.
    """
    if ray:
        with _ray_pool() as pool:
            yield from pool.imap(function, jobs)
    elif workers <= 1:
        yield from map(function, jobs)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(function, jobs)


def count_cores() -> int:
    """The number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_on_threads(
    function: Callable[[Job], Answer], jobs: Iterable[Job], threads: int
) -> Iterator[Answer]:
    """Yield the results in the order of the jobs, which are read only as they are needed.

    Each thread runs torch single-threaded: torch's own threads wait for each other, and long on a
    machine that has other work too.
    """
    pool, running = _thread_pool(threads, os.getpid()), deque[Future[Answer]]()
    try:
        for job in jobs:
            running.append(pool.submit(function, job))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        for future in running:
            future.cancel()


@cache
def _thread_pool(count: int, process: int) -> ThreadPoolExecutor:
    """The thread pool of a process; a forked process gets its own."""
    import torch

    _keep_freed_memory()
    return ThreadPoolExecutor(count, "network", torch.set_num_threads, (1,))


def _keep_freed_memory() -> None:
    """Let glibc keep freed memory, up to a limit, for the next allocation.

    A network frees and allocates some megabytes a layer. Getting them from the kernel page by page
    takes as long as the convolutions.
    """
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 2**25)
            mallopt(M_TRIM_THRESHOLD, 2**26)


def _ray_pool() -> Any:
    try:
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise UserError(
            "bad_setting", "Ray is not installed: pip install -r requirements-ray.txt"
        ) from error
    return Pool()
