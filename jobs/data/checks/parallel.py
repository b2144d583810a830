"""A function mapped over many items by worker processes, results in order."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

_TOGETHER = 16
"""Items that go to a worker at once; sending costs some 0.2 ms."""
_WAITING = 4
"""Bundles a worker may have ahead of it."""


def map_ordered(
    function: Callable[[T], R], items: Iterable[T], workers: int
) -> Iterator[tuple[T, R]]:
    """Each item with its result. ``items`` is read only as fast as results are taken.

    With one worker everything runs in this process. Others are started afresh, so that they hold
    none of this process's memory.
    """
    if workers == 1:
        for item in items:
            yield item, function(item)
        return
    under_way: deque[tuple[list[T], Future[list[R]]]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            ahead = iter(items)
            while (bundle := list(itertools.islice(ahead, _TOGETHER))) or under_way:
                if bundle:
                    under_way.append((bundle, pool.submit(_each, function, bundle)))
                if not bundle or len(under_way) > workers * _WAITING:
                    done, results = under_way.popleft()
                    yield from zip(done, results.result(), strict=True)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]
