"""The local cache: verified, read-only copies of versions, shared by all processes of a user.

::

    snapshots/CONTENT     a folder with exactly some files of a version; when it was last handed out
                          is its time of modification
    objects/ab/…          each different file once; the files of snapshots are hard links to these
    revisions/…           which snapshot a revision was, for use offline
    building/             snapshots that are not whole, with a lock each
    trash/                what is being removed
    lock                  held while a snapshot is handed out, or taken away

All of it may be deleted at any time: what is missing is fetched again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3

from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.coordinator.cache_room import KEPT_S, empty_trash, files_below, make_room
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.fetch import PARTIAL, fetch, translated
from modelhub.coordinator.locks import locked, locked_if_free
from modelhub.errors import NotFound
from modelhub.names import shown

_WRITABLE = 0o222
_NO_LINKS = {errno.EMLINK, errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS}
"""The file system, or its owner, has no hard links here: files are then stored once a snapshot."""
_READ_ONLY = {errno.EACCES, errno.EPERM, errno.EROFS}


class _Record(msgspec.Struct, frozen=True):
    """What a revision of a hub was when it was last asked for."""

    hub: str
    revision: str
    include: tuple[str, ...]
    snapshot: str


@dataclass(frozen=True)
class Cache:
    """The cache in ``folder``.

    Attributes:
        folder: made when it is needed.
        hub: what tells the hub apart from all others that are cached here.
        limit_bytes: how large it may become; None for no limit. What was handed out within the
            last hour stays, and so does what is being fetched, even beyond the limit.
        offline: the cache is all there is.
    """

    folder: Path
    hub: str = ""
    limit_bytes: int | None = None
    offline: bool = False

    def snapshot(
        self, ctx: Context, manifest: Manifest, files: Sequence[ManifestFile], progress: Progress
    ) -> Path:
        """The folder with exactly ``files``, made once for each content; never half.

        Raises:
            CorruptData: stored bytes do not match their hash.
            Unavailable: a store is away, or the disk is full.
            Forbidden: the cache may not be written.
        """
        name = _name(manifest, files)
        with translated(self.folder):
            self._clear_leftovers(name)
            while (found := self._hand_out(name)) is None:
                with locked(self._lock(name)):
                    self._build(ctx, manifest, files, name, progress)
        return found

    def remember(self, revision: str, include: Sequence[str], snapshot: Path) -> None:
        """Note which snapshot this was, so that it can be recalled.

        Raises:
            Unavailable: the disk is full.
            Forbidden: the cache may not be written.
        """
        record = self._record(revision, include)
        data = msgspec.json.encode(_Record(self.hub, revision, tuple(include), snapshot.name))
        with translated(self.folder):
            if record.is_file() and record.read_bytes() == data:
                return
            with locked(self.folder / "lock"):
                record.parent.mkdir(exist_ok=True)
                new = record.with_suffix(".new")
                new.write_bytes(data)
                new.replace(record)

    def recall(self, revision: str, include: Sequence[str]) -> Path:
        """The snapshot that was remembered, without asking any store.

        Raises:
            NotFound: there is none, or it is not in the cache any more.
        """
        found = None
        missing = contextlib.suppress(FileNotFoundError, msgspec.DecodeError)
        with translated(self.folder), missing:
            data = self._record(revision, include).read_bytes()
            found = self._hand_out(msgspec.json.decode(data, type=_Record).snapshot)
        if found is None:
            some = f" with include {shown(', '.join(include))}" if include else ""
            raise NotFound(
                f"{shown(revision)}{some} is not in the cache {shown(str(self.folder))}, "
                "and the hub was opened offline",
                remedy="Take the snapshot once with a connection, with the same revision and "
                "include: unset MODELHUB_OFFLINE, or leave out offline=True.",
            )
        return found

    def _hand_out(self, name: str) -> Path | None:
        """The snapshot, whole and marked as used; None where it is not there."""
        snapshot = self._snapshot(name)
        if not snapshot.is_dir():
            return None
        try:
            # Whoever takes snapshots away holds the lock too, and looks at the mark under it.
            with locked(self.folder / "lock"):
                os.utime(snapshot)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno not in _READ_ONLY:
                raise  # but from a cache that may not be written nobody takes anything away
        return snapshot

    def _build(
        self,
        ctx: Context,
        manifest: Manifest,
        files: Sequence[ManifestFile],
        name: str,
        progress: Progress,
    ) -> None:
        """Put the snapshot together beside its place, and rename it into that.

        What an interrupted call left there is taken up again: a file is there under its own name
        only when it is whole.
        """
        final, building = self._snapshot(name), self._building(name)
        if final.is_dir():
            return
        building.mkdir(exist_ok=True)
        missing = [file for file in files if not self._has(building, file)]
        missing_bytes = sum(file.size_bytes for file in missing)
        known_bytes = sum(file.size_bytes for file in files) - missing_bytes
        if self.limit_bytes is not None:
            make_room(self.folder, self.limit_bytes - missing_bytes)

        def advance(phase: str, done: int, total: int) -> None:
            progress(phase, known_bytes + done, known_bytes + total)

        fetch(ctx, manifest, missing, building, overwrite=True, progress=advance)
        shutil.rmtree(building / PARTIAL, ignore_errors=True)
        for file in files:
            self._share(building / file.path, file)
        final.parent.mkdir(exist_ok=True)
        os.utime(building)
        building.rename(final)
        self._lock(name).unlink(missing_ok=True)

    def _has(self, building: Path, file: ManifestFile) -> bool:
        """Whether the file is there, if need be as a link to the same one of another snapshot."""
        target, shared = building / file.path, self._object(file)
        if target.is_file():
            return True
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), _where_links_are():
            os.link(shared, target)
            found = target.stat()
            if (found.st_size, found.st_mode & 0o777) == (file.size_bytes, _mode(file)):
                return True
            # Somebody made it writable, and may have written.
            target.unlink()
            shared.unlink(missing_ok=True)
        return False

    def _share(self, location: Path, file: ManifestFile) -> None:
        """Make the file read-only, and let other snapshots have it too."""
        location.chmod(_mode(file))
        shared = self._object(file)
        shared.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), _where_links_are():
            os.link(location, shared)

    def _clear_leftovers(self, name: str) -> None:
        """Remove what interrupted calls left, unless somebody may yet take it up again.

        That is the snapshot of this ``name``, and what was written to within the last hour.
        """
        empty_trash(self.folder)
        left = (self.folder / "building").glob("*")
        for other in {path.name.removesuffix(".lock") for path in left}:
            building = self._building(other)
            wanted = other == name or time.time() - _last_written(building) < KEPT_S
            if wanted and building.exists():
                continue
            with locked_if_free(self._lock(other)) as free:
                if free:
                    shutil.rmtree(building, ignore_errors=True)
                    self._lock(other).unlink(missing_ok=True)

    def _snapshot(self, name: str) -> Path:
        return self.folder / "snapshots" / name

    def _building(self, name: str) -> Path:
        return self.folder / "building" / name

    def _lock(self, name: str) -> Path:
        return self.folder / "building" / f"{name}.lock"

    def _object(self, file: ManifestFile) -> Path:
        return self.folder / "objects" / file.digest[:2] / f"{file.digest}-{_mode(file):o}"

    def _record(self, revision: str, include: Sequence[str]) -> Path:
        key = blake3(msgspec.json.encode([self.hub, revision, list(include)])).hexdigest()
        return self.folder / "revisions" / f"{key[:32]}.json"


def _name(manifest: Manifest, files: Sequence[ManifestFile]) -> str:
    name = manifest.content_digest()
    if len(files) < len(manifest.files):
        chosen = blake3("\0".join(file.path for file in files).encode()).hexdigest()
        name = f"{name}-{chosen[:16]}"
    return name


def _mode(file: ManifestFile) -> int:
    return file.mode & ~_WRITABLE


def _last_written(folder: Path) -> float:
    """When the folder, or a file in it, was last written to; 0 if it is not there."""
    with contextlib.suppress(FileNotFoundError):
        written = (found.st_mtime for _, found in files_below(folder))
        return max([folder.stat().st_mtime, *written])
    return 0.0


@contextlib.contextmanager
def _where_links_are() -> Iterator[None]:
    """Go without where the file system has no hard links."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
