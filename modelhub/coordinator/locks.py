"""Locks between processes of one machine: files that may be deleted at any time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file that its last holder, or anybody, may delete.

    The file and its folder are made where they are missing.
    """
    lock = None
    while lock is None:
        lock = _lock(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """As ``locked``, but where somebody holds the lock, False instead of waiting."""
    lock = None
    try:
        with contextlib.suppress(BlockingIOError):
            lock = _lock(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def _lock(path: Path, how: int) -> int | None:
    """The lock; None where the file is not the one at ``path`` any more by then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError:
        return None
    held = False
    try:
        fcntl.flock(lock, how)
        with contextlib.suppress(FileNotFoundError):
            held = os.path.samestat(os.fstat(lock), path.stat())
    finally:
        if not held:
            os.close(lock)
    return lock if held else None
