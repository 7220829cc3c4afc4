"""One function over many jobs: in this process, over processes, or over machines by Ray."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from detector.errors import UserError

Job = TypeVar("Job")
Answer = TypeVar("Answer")


def spread(
    function: Callable[[Job], Answer], jobs: Sequence[Job], *, workers: int = 1, ray: bool = False
) -> Iterator[Answer]:
    """The answers, in the order of the jobs.

    With `ray`, on the cluster that RAY_ADDRESS names, or on this machine's cores: every machine
    needs the same files under the same paths.
    """
    if ray:
        with _ray_pool() as pool:
            yield from pool.imap(function, jobs)
    elif workers <= 1:
        yield from map(function, jobs)
    else:
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            yield from pool.imap(function, jobs)


def _ray_pool() -> Any:
    try:
        from ray.util.multiprocessing import Pool
    except ImportError as error:
        raise UserError(
            "bad_setting", "Ray is not installed: pip install -r requirements-ray.txt"
        ) from error
    return Pool()
