"""Connections to one gateway, lent to one thread at a time and kept for the next.

A connection comes back only from a call that was answered: after any exception, an interrupt
included, its socket is closed (see ``hbase_wire`` for why).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakSet

from modelhub.backends.hbase_wire import Connection, Endpoint, UnreachableError, left

LIMIT = 16
"""Connections of one store in one process: each takes a thread of the gateway."""


class Pool:
    """At most ``LIMIT`` connections, opened as they are needed.

    A forked child begins with none: those it inherited are its parent's.
    """

    _idle: list[Connection]
    _open_ones: set[Connection]

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._begin()
        _pools.add(self)

    @contextmanager
    def lend(self, deadline: float) -> Iterator[Connection]:
        """A connection that nobody else has until the block ends.

        Raises:
            UnreachableError: none came about until ``deadline``.
        """
        slots = self._slots
        try:
            free = slots.acquire(timeout=left(deadline))
        except TimeoutError:
            free = False
        if not free:
            raise UnreachableError(f"has all {LIMIT} connections of this process busy")
        try:
            with self._held(deadline) as connection:
                yield connection
        finally:
            slots.release()

    def close(self) -> None:
        """Close the idle connections now, and each busy one when its call ends.

        A later call opens new ones.
        """
        with self._lock:
            idle = self._idle
            self._idle = []
        for connection in idle:
            self._drop(connection)

    @contextmanager
    def _held(self, deadline: float) -> Iterator[Connection]:
        idle = self._idle  # a list that ``close`` or a fork replaces: then nothing comes back
        connection = self._idle_one() or self._open(deadline)
        try:
            yield connection
        except BaseException:
            self._drop(connection)
            raise
        with self._lock:
            kept = idle is self._idle
            if kept:
                idle.append(connection)
        if not kept:
            self._drop(connection)

    def _idle_one(self) -> Connection | None:
        """The connection used last, so that those too many grow old, and go, oldest first."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                oldest = self._idle[0]
                connection = self._idle.pop(-1 if oldest.fit() else 0)
            if connection.fit():
                return connection
            self._drop(connection)

    def _open(self, deadline: float) -> Connection:
        connection = Connection(self._endpoint, deadline)
        self._open_ones.add(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._open_ones.discard(connection)
        connection.close()

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(LIMIT)
        self._idle = []
        self._open_ones = set()

    def _begin_in_child(self) -> None:
        # Locks too: another thread of the parent may have held them.
        inherited = self._open_ones
        self._begin()
        for connection in inherited:
            connection.close()


_pools: WeakSet[Pool] = WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._begin_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
