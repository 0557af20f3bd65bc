"""Getting a version's files onto a local disk: verified, atomic a file, resumable."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from blake3 import blake3

from modelhub.content.ignore import IgnoreRules
from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.coordinator.context import Context, Progress
from modelhub.coordinator.locks import locked
from modelhub.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    Unavailable,
)
from modelhub.names import shown

PARTIAL = ".modelhub-partial"


def select(manifest: Manifest, include: Sequence[str]) -> list[ManifestFile]:
    """The files that match one of the globs (gitignore syntax); all, where none is given.

    Raises:
        NotFound: no file matches.
        InvalidInput: a pattern is not one.
    """
    if not include:
        return list(manifest.files)
    rules = IgnoreRules(include)
    chosen = [file for file in manifest.files if _matches(rules, file.path)]
    if not chosen:
        raise NotFound(
            f"no file of the version matches {shown(', '.join(include))}",
            remedy="`modelhub show` lists its files.",
        )
    return chosen


def _matches(rules: IgnoreRules, path: str) -> bool:
    """Whether a pattern fits ``path``, or a folder that it lies in."""
    folders = accumulate(path.split("/")[:-1], "{}/{}".format)
    return any(rules.ignores(folder, is_folder=True) for folder in folders) or rules.ignores(
        path, is_folder=False
    )


def fetch(
    ctx: Context,
    manifest: Manifest,
    files: Sequence[ManifestFile],
    folder: Path,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Write ``files`` below ``folder``, each under its name only when whole and verified.

    Files that are there already with the same bytes are left alone; what an interrupted call wrote
    is taken up again after checking it. Two calls at once take turns.

    Raises:
        AlreadyExists: a file is there with other bytes and ``overwrite`` is False; nothing was
            written.
        CorruptData: stored bytes do not match their hash.
        Unavailable: a store is away, or the disk is full.
    """
    total = sum(file.size_bytes for file in files)
    with translated(folder):
        if folder.exists() and not folder.is_dir():
            raise AlreadyExists(
                f"{shown(str(folder))} is a file", remedy="Pull into a folder, or a new name."
            )
        missing = _missing(folder, manifest, files)
        _refuse_taken(folder, missing, overwrite=overwrite)
        if missing:
            with _partial(folder) as partial:
                # Whoever held the lock before may have brought some of them, or other files.
                missing = _missing(folder, manifest, missing)
                _refuse_taken(folder, missing, overwrite=overwrite)
                done = total - sum(file.size_bytes for file in missing)
                progress("pull", done, total)
                writer = _FileWriter(ctx, manifest, folder, partial, progress, done, total)
                for file in missing:
                    writer.write(file)
        progress("pull", total, total)
        for file in files:
            (folder / file.path).chmod(file.mode)


def _missing(folder: Path, manifest: Manifest, files: Sequence[ManifestFile]) -> list[ManifestFile]:
    return [file for file in files if not _holds(folder / file.path, manifest, file)]


def _refuse_taken(folder: Path, missing: Sequence[ManifestFile], *, overwrite: bool) -> None:
    for file in missing:
        target = folder / file.path
        if target.is_dir() and not target.is_symlink():
            raise AlreadyExists(
                f"{target} is a folder; the version has a file of that name",
                remedy="Pull into another folder.",
            )
        if os.path.lexists(target) and not overwrite:
            raise AlreadyExists(
                f"{target} is there already, with other bytes",
                remedy="Pull into another folder, or pass --overwrite to replace it.",
            )


def _holds(path: Path, manifest: Manifest, file: ManifestFile) -> bool:
    """Whether ``path`` is a regular file with exactly the bytes of ``file``."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size_bytes:
        return False
    return _good_chunks(path, manifest, file)[0] == file.chunk_count


def _good_chunks(path: Path, manifest: Manifest, file: ManifestFile) -> tuple[int, int]:
    """How many chunks from the start ``path`` holds rightly, and how many bytes that is."""
    count = size = 0
    with path.open("rb") as handle:
        for ref in manifest.chunks(file):
            if blake3(handle.read(ref.length)).digest() != ref.digest:
                break
            count += 1
            size += ref.length
    return count, size


@contextmanager
def _partial(folder: Path) -> Iterator[Path]:
    """The folder for files that are not whole yet, locked against another call; gone at the end."""
    partial = folder / PARTIAL
    with locked(partial / "lock"):
        yield partial
        shutil.rmtree(partial, ignore_errors=True)


@dataclass
class _FileWriter:
    """Writes files under partial names, then gives them their own."""

    ctx: Context
    manifest: Manifest
    folder: Path
    partial: Path
    progress: Progress
    done: int
    total: int

    def write(self, file: ManifestFile) -> None:
        part = self.partial / f"{file.digest}.part"
        start, kept = _good_chunks(part, self.manifest, file) if part.exists() else (0, 0)
        self.done += kept
        with part.open("r+b" if part.exists() else "xb") as handle:
            handle.truncate(kept)
            handle.seek(kept)
            for data in self.ctx.reader.file(self.manifest, file, start_chunk=start):
                handle.write(data)
                self.done += len(data)
                self.progress("pull", self.done, self.total)
            handle.flush()
            os.fsync(handle.fileno())
        target = self.folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(file.mode)
        part.replace(target)


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Turn what the file system says about ``folder`` into errors with a remedy."""
    try:
        yield
    except OSError as exc:
        raise _translation(exc, folder) from exc


def _translation(exc: OSError, folder: Path) -> ModelhubError:
    where = shown(str(exc.filename or folder))
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return Unavailable(
            f"the disk of {folder} is full",
            remedy="Make room and pull again: it goes on where it stopped.",
        )
    if exc.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return Forbidden(f"{where} may not be written", remedy="Pull into a folder of your own.")
    if exc.errno == errno.ENAMETOOLONG:
        return InvalidInput(f"{where} is no path: {exc.strerror}", remedy="Name a folder.")
    if exc.errno in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return AlreadyExists(f"{where} is in the way", remedy="Pull into another folder.")
    return Unavailable(f"{where}: {exc.strerror}", remedy="Look at the disk, then pull again.")
