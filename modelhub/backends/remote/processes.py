"""What belongs to one process: a driver's client, and the threads in which it may hang."""

from __future__ import annotations

import ctypes
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class DeadlinePassedError(Exception):
    """A call took too long. It still runs, and may yet succeed."""


class PerProcess(Generic[T]):
    """Something that each process makes for itself when it first needs it.

    A forked child neither uses nor lets go of what it inherits: the threads behind it are not
    there, so that ending it would wait for them for ever.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._held: T | None = None
        _held.add(self)

    def get(self) -> T:
        """This process's own."""
        held = self._held
        if held is None:
            with self._lock:
                held = self._held
                if held is None:
                    held = self._held = self._make()
        return held

    def forget(self) -> T | None:
        """Let go of it: the next ``get`` makes another."""
        held, self._held = self._held, None
        return held

    def abandon(self) -> None:
        """In a child: keep what was inherited for ever, and begin afresh."""
        self._lock = threading.Lock()
        if self._held is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._held))
            self._held = None


class Forks:
    """When this process was forked; None in one that was not."""

    at: float | None = None


_held: WeakSet[PerProcess[Any]] = WeakSet()


def _in_child() -> None:
    Forks.at = time.monotonic()
    for held in list(_held):
        held.abandon()


os.register_at_fork(after_in_child=_in_child)


class Threads:
    """Threads that run blocking calls for whoever must not wait for ever.

    They are daemons: one that hangs in a driver does not keep the process from ending.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def run(self, call: Callable[[], T], timeout_s: float) -> T:
        """What ``call`` returns or raises.

        Raises:
            DeadlinePassedError: it took longer.
        """
        try:
            worker = self._idle.pop()
        except IndexError:
            worker = _Worker()
        job = _Job(call)
        worker.jobs.put(job)
        done = False
        try:
            done = job.done.wait(timeout_s)
        finally:
            if done:
                self._idle.append(worker)
            else:
                worker.jobs.put(None)  # it ends after this call
        if not done:
            raise DeadlinePassedError(f"nothing for {timeout_s:g} s")
        if job.error is not None:
            raise job.error
        return job.result

    def close(self) -> None:
        """End those that are idle."""
        while self._idle:
            self._idle.pop().jobs.put(None)


class _Job(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.done = threading.Event()
        self.error: BaseException | None = None
        self.result: T

    def run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as exc:  # noqa: BLE001 (a panic in Rust is none of Exception's)
            self.error = exc
        self.done.set()


class _Worker(threading.Thread):
    def __init__(self) -> None:
        super().__init__(name="modelhub-files", daemon=True)
        self.jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while (job := self.jobs.get()) is not None:
            job.run()
            del job  # and with it what the call returned
