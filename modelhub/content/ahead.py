"""Doing the next pieces of work while the last one is being used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

_NAME = "modelhub-ahead"


def ahead(items: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same items, each made in another thread while its predecessor is being used.

    At most one is made ahead. What ``items`` raises is raised here in its turn; it is closed with
    this generator.
    """

    def following() -> list[T]:
        return list(islice(items, 1))

    with ThreadPoolExecutor(1, thread_name_prefix=_NAME) as pool:
        try:
            coming = pool.submit(following)
            while found := coming.result():
                coming = pool.submit(following)
                yield found[0]
        finally:
            pool.submit(items.close)


def mapped(
    function: Callable[[S], T], items: Iterable[S], *, threads: int
) -> Generator[T, None, None]:
    """``function`` of each item, in order; as many as there are threads are worked on ahead.

    What it raises is raised here in its turn.
    """
    coming: deque[Future[T]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix=_NAME) as pool:
        try:
            coming.extend(pool.submit(function, item) for item in islice(source, threads))
            while coming:
                result = coming.popleft().result()
                coming.extend(pool.submit(function, item) for item in islice(source, 1))
                yield result
        finally:
            for future in coming:
                future.cancel()
