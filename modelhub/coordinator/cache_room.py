"""Making room in the local cache: what was used longest ago goes first.

Nothing is taken from whoever has it: files that are open, or mapped into memory, stay readable.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from modelhub.coordinator.locks import locked

KEPT_S = 3600.0
"""For so long a snapshot stays after it was handed out, and what is not whole after a write."""


def make_room(folder: Path, allowed_bytes: int) -> None:
    """Remove snapshots until all that is in the cache takes no more than ``allowed_bytes``.

    Those that were handed out within the last hour stay, whatever that takes.

    Raises:
        OSError: the cache may not be written.
    """
    sizes: dict[int, int] = {}
    users: dict[int, set[Path]] = defaultdict(set)
    snapshots = [path for path in (folder / "snapshots").glob("*") if path.is_dir()]
    for place in [*snapshots, folder / "building"]:
        for _, found in files_below(place):
            sizes[found.st_ino] = found.st_size
            users[found.st_ino].add(place)
    used_bytes = sum(sizes.values())
    for snapshot in sorted(snapshots, key=_last_used):
        if used_bytes <= allowed_bytes:
            break
        if _take_away(folder, snapshot):
            for inode in [inode for inode, places in users.items() if snapshot in places]:
                users[inode].remove(snapshot)
                used_bytes -= 0 if users[inode] else sizes[inode]
    for path, found in files_below(folder / "objects"):
        if found.st_nlink == 1:  # no snapshot has it
            path.unlink(missing_ok=True)


def empty_trash(folder: Path) -> None:
    """Remove what was taken away; several may do so at once."""
    for path in (folder / "trash").glob("*"):
        shutil.rmtree(path, ignore_errors=True)


def _take_away(folder: Path, snapshot: Path) -> bool:
    """Whether it is gone: not if it was handed out a short while ago."""
    doomed = folder / "trash" / secrets.token_hex(8)
    doomed.parent.mkdir(exist_ok=True)
    with locked(folder / "lock"):
        if time.time() - _last_used(snapshot) < KEPT_S:
            return False
        with contextlib.suppress(FileNotFoundError):
            snapshot.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)
    return True


def _last_used(snapshot: Path) -> float:
    """0 where it is not there."""
    with contextlib.suppress(FileNotFoundError):
        return snapshot.stat().st_mtime
    return 0.0


def files_below(place: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files below ``place``; what goes away meanwhile is left out."""
    for folder, _, names in os.walk(place):  # glob would raise where a folder goes away
        for name in names:
            path = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()
