"""A folder as a list of files to publish, and files that must not change while they are read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import msgspec

from modelhub import names
from modelhub.content.ignore import IgnoreRules
from modelhub.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
    Unavailable,
)

IGNORE_FILE = ".modelhubignore"

Stamp = tuple[int, int, int, int, int]
"""Device, inode, size in bytes, modification and change time in ns: equal means unchanged."""


class Source(Protocol):
    """A file to publish, wherever its bytes come from."""

    @property
    def path(self) -> str:
        """Inside the version."""

    @property
    def size_bytes(self) -> int:
        """Its size."""

    @property
    def mode(self) -> int:
        """The nine permission bits alone: a version carries no set-uid files."""

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """The file, open for reading and seekable; it has as many bytes as it said.

        Raises:
            Conflict: it changed.
            Forbidden, Unavailable: it cannot be read.
        """


class SourceFile(msgspec.Struct, frozen=True):
    """A ``Source`` on this machine: where it lies, and how it looked."""

    path: str
    location: Path
    size_bytes: int
    mode: int
    stamp: Stamp

    def opened(self) -> AbstractContextManager[BinaryIO]:
        """As ``open_unchanged``."""
        return open_unchanged(self)


def survey(
    root: Path, *, exclude: Sequence[str] = (), follow_symlinks: bool = False
) -> list[SourceFile]:
    """The files below ``root``, or the file that it is, sorted by path.

    ``exclude`` and the lines of ``.modelhubignore`` in ``root`` are patterns of gitignore; where
    they contradict each other, ``exclude`` wins. Ignored folders are not looked into. With
    ``follow_symlinks`` links are followed, those that leave ``root`` too.

    Raises:
        NotFound: ``root`` is not there, or a followed link points nowhere.
        Forbidden: a file or folder may not be read.
        InvalidInput: a symbolic link that is not followed or leads back to a folder that it lies
            in, a pipe, socket or device, a name that no version can hold, a pattern that is none,
            or no file at all.
        Unavailable: the file system failed.
    """
    shown_root = names.shown(str(root))
    status = _status(root, shown_root, follow_symlinks=follow_symlinks)
    if stat.S_ISDIR(status.st_mode):
        rules = IgnoreRules([*_ignore_lines(root), *exclude])
        files = list(_walk(root, status, rules, follow_symlinks=follow_symlinks))
    elif IgnoreRules(exclude).ignores(root.name, is_folder=False):
        files = []
    else:
        files = [_source(root.name, root, status)]
    if not files:
        raise InvalidInput(
            f"{shown_root} holds no files to publish",
            remedy=f"Check {IGNORE_FILE} and the exclude patterns.",
        )
    return sorted(files, key=lambda file: file.path)


@contextmanager
def open_unchanged(source: SourceFile) -> Iterator[BinaryIO]:
    """Open a surveyed file for reading, unbuffered, and see that it stays as it was surveyed.

    It is compared on entering and again on leaving, unless the body raised. A change that moves
    neither size nor the file system's clock (some ms coarse) is the one that is not seen.

    Raises:
        Conflict: it was changed, replaced or removed since the survey.
        Forbidden: it may no longer be read.
        Unavailable: the file system failed.
    """
    with reading(names.shown(source.path)):
        try:
            file = FileIO(source.location, opener=_open_at_once)
        except FileNotFoundError as exc:
            raise changed_while_read(source) from exc
    with file:
        _check_unchanged(source, os.fstat(file.fileno()))
        yield cast(BinaryIO, file)
        try:
            status = source.location.stat()  # the same inode, so this speaks for the open file too
        except OSError as exc:
            raise changed_while_read(source) from exc
        _check_unchanged(source, status)


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turns what the file system raises in the body into errors that name ``shown``.

    Raises:
        NotFound, Forbidden, InvalidInput, Unavailable: by the kind of failure.
    """
    try:
        yield
    except (OSError, ValueError) as exc:
        raise _translation(exc, shown) from exc


def changed_while_read(source: Source) -> Conflict:
    """The error that says so."""
    return Conflict(
        f"{names.shown(source.path)} changed while it was read",
        remedy="Push again when whatever writes it is done.",
    )


def _walk(
    root: Path, status: os.stat_result, rules: IgnoreRules, *, follow_symlinks: bool
) -> Iterator[SourceFile]:
    pending = [(root, "", frozenset({_identity(status)}))]
    while pending:
        folder, prefix, above = pending.pop()
        for name, is_link in _listed(folder, prefix):
            location, path = folder / name, prefix + name
            if is_link and rules.ignores(path, is_folder=False):
                continue  # before it is refused, or followed into nowhere
            status = _status(location, names.shown(path), follow_symlinks=follow_symlinks)
            is_folder = stat.S_ISDIR(status.st_mode)
            if rules.ignores(path, is_folder=is_folder):
                continue
            if not is_folder:
                yield _source(path, location, status)
            elif _identity(status) in above:
                raise InvalidInput(
                    f"{names.shown(path)} leads back to a folder that it lies in",
                    remedy="Remove the link or exclude it.",
                )
            else:
                pending.append((location, path + "/", above | {_identity(status)}))


def _listed(folder: Path, prefix: str) -> list[tuple[str, bool]]:
    """Names and whether each is a link."""
    with reading(names.shown(prefix or str(folder))), os.scandir(folder) as entries:
        found = [(entry.name, entry.is_symlink()) for entry in entries]
    return [(name, is_link) for name, is_link in found if prefix or name != IGNORE_FILE]


def _status(location: Path, shown: str, *, follow_symlinks: bool) -> os.stat_result:
    with reading(shown):
        status = location.stat(follow_symlinks=follow_symlinks)
    if stat.S_ISLNK(status.st_mode):
        raise InvalidInput(
            f"{shown} is a symbolic link",
            remedy="Pass --follow-symlinks to publish what it points to, or exclude it.",
        )
    return status


def _source(path: str, location: Path, status: os.stat_result) -> SourceFile:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(
            f"{names.shown(path)} is {_kind(status.st_mode)}, not a file",
            remedy="Remove it or exclude it.",
        )
    if not os.access(location, os.R_OK, effective_ids=True):
        raise _forbidden(names.shown(path))
    mode = status.st_mode & 0o777
    return SourceFile(names.file_path(path), location, status.st_size, mode, _stamp(status))


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _stamp(status: os.stat_result) -> Stamp:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _check_unchanged(source: SourceFile, status: os.stat_result) -> None:
    if _stamp(status) != source.stamp:
        raise changed_while_read(source)


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a pipe that took the file's place would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def _ignore_lines(root: Path) -> list[str]:
    location = root / IGNORE_FILE
    with reading(names.shown(str(location))):
        try:
            status = location.stat()
        except FileNotFoundError:
            return []
        if not stat.S_ISREG(status.st_mode):
            raise InvalidInput(f"{IGNORE_FILE} is not a file", remedy="Make it a text file.")
        try:
            return location.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as exc:
            raise InvalidInput(
                f"{IGNORE_FILE} is not UTF-8 text: {exc}", remedy="Save it as UTF-8."
            ) from exc


def _translation(exc: OSError | ValueError, shown: str) -> ModelhubError:
    if isinstance(exc, (FileNotFoundError, NotADirectoryError)):
        return NotFound(f"{shown} is not there", remedy="Name a file or folder that exists.")
    if isinstance(exc, PermissionError):
        return _forbidden(shown)
    if isinstance(exc, OSError) and exc.errno == errno.ELOOP:
        return InvalidInput(f"{shown} is a symbolic link that leads to itself", remedy="Remove it.")
    if isinstance(exc, ValueError) or exc.errno == errno.ENAMETOOLONG:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        return InvalidInput(f"{shown} is no path: {reason}", remedy="Name a file or folder.")
    return Unavailable(f"{shown} could not be read: {exc.strerror}", remedy="Check the disk.")


def _forbidden(shown: str) -> Forbidden:
    return Forbidden(
        f"{shown} may not be read", remedy="Ask its owner for permission, or exclude it."
    )
