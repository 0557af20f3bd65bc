"""A version's plain files on any file system, for programs that know nothing of a hub."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from blake3 import blake3

from modelhub.content.ahead import mapped
from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.coordinator.context import Context, Progress
from modelhub.errors import AlreadyExists, InvalidInput, ModelhubError
from modelhub.names import shown
from modelhub.stores import Folder

_THREADS = 8
_SMALL_BYTES = 8 << 20
"""Files up to this size are written several at a time: most of what they take is waiting. Larger
ones go one by one, each read ahead by threads of its own."""

_LEFTOVER = re.compile(r"\.\d+-[0-9a-f]{16}")
_LEFT_ALONE = timedelta(days=1)

_Found = Literal["nothing", "same", "other", "folder"]


def deliver(
    ctx: Context,
    manifest: Manifest,
    files: Sequence[ManifestFile],
    folder: Folder,
    *,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Write ``files`` into ``folder``, each appearing under its name only when whole and verified.

    What is there already with the same bytes is left alone: so a repeated call goes on after the
    last whole file.

    Raises:
        AlreadyExists: a file is there with other bytes and ``overwrite`` is False. Nothing was
            written; of a file that came meanwhile, those before it may have been.
        CorruptData: stored bytes do not match their hash.
        Unavailable: a store or the file system is away, or full.
    """
    place = _Place(ctx, manifest, folder, "", overwrite)
    missing = []
    for file, found in place.compared(files):
        if found == "folder" or (found == "other" and not overwrite):
            raise place.taken(file)
        if found != "same":
            missing.append(file)
    place.write_all(files, missing, progress)


def export(
    ctx: Context,
    manifest: Manifest,
    folder: Folder,
    *,
    name: str,
    number: int,
    progress: Progress,
) -> str:
    """Write a version's files to ``NAME/N`` below ``folder``: the folder appears whole, or not.

    They are put together beside it, under a name that begins with a dot, which Hive and Spark pass
    over. What an export of the same model left there when it was killed is removed once nothing has
    changed in it for a day; one that writes a single file for longer than that may be taken for
    dead. Exported again, the folder is compared and left as it is.

    Returns:
        The folder's path below ``folder``.

    Raises:
        InvalidInput: the file system cannot rename a folder in one step.
        AlreadyExists: something else is there.
    """
    if not folder.renames_folders:
        raise InvalidInput(
            f"{folder.address} keeps objects, whose folders cannot appear in one step",
            remedy="Export to HDFS or a disk, or `pull` into a folder that nobody reads yet.",
        )
    final = f"{name}/{number}"
    if folder.stat(final) is None:
        hidden = f".{number}-{secrets.token_hex(8)}"
        building = f"{name}/{hidden}"
        try:
            place = _Place(ctx, manifest, folder, f"{building}/", overwrite=False)
            place.write_all(manifest.files, manifest.files, progress)
            _remove_leftovers(folder, name, hidden)
            with suppress(AlreadyExists):  # Somebody else was faster; theirs is compared.
                folder.rename(building, final)
                return final
        finally:
            with suppress(ModelhubError):
                folder.remove_folder(building)
    there = _Place(ctx, manifest, folder, f"{final}/", overwrite=False)
    if any(found != "same" for _, found in there.compared(manifest.files)):
        raise AlreadyExists(
            f"{folder.address}/{final} is there already, and is not {name}@{number}",
            remedy="Remove it, or export to another root.",
        )
    return final


def _remove_leftovers(folder: Folder, name: str, hidden: str) -> None:
    """Remove what killed exports of model ``name`` left, by the clock that dates ``hidden``."""
    changed = dict(folder.folders(name))
    now = changed.pop(hidden)
    for left, last in changed.items():
        if not _LEFTOVER.fullmatch(left) or now - last < _LEFT_ALONE:
            continue
        path = f"{name}/{left}"
        with suppress(ModelhubError):  # Somebody else's, perhaps: no reason not to export.
            if all(now - info.modified >= _LEFT_ALONE for info in folder.list(path)):
                folder.remove_folder(path)


@dataclass(frozen=True)
class _Place:
    """Where a version's files are put: in ``folder``, with ``prefix`` before their paths."""

    ctx: Context
    manifest: Manifest
    folder: Folder
    prefix: str
    overwrite: bool

    def compared(self, files: Sequence[ManifestFile]) -> Iterator[tuple[ManifestFile, _Found]]:
        """Each file, with what is in its place."""
        with closing(mapped(self._find, files, threads=_THREADS)) as found:
            yield from zip(files, found, strict=True)

    def write_all(
        self, files: Sequence[ManifestFile], missing: Sequence[ManifestFile], progress: Progress
    ) -> None:
        """Write the ``missing`` ones of ``files``."""
        total = sum(file.size_bytes for file in files)
        done = total - sum(file.size_bytes for file in missing)

        def advance(size_bytes: int) -> None:
            nonlocal done
            done += size_bytes
            progress("pull", done, total)

        advance(0)
        for file in missing:
            if file.size_bytes > _SMALL_BYTES:
                self._write(file, advance)
        small = [file for file in missing if file.size_bytes <= _SMALL_BYTES]
        with closing(mapped(self._write_small, small, threads=_THREADS)) as written:
            for size_bytes in written:
                advance(size_bytes)
        progress("pull", total, total)

    def taken(self, file: ManifestFile) -> AlreadyExists:
        """The error for what is in the place of a file."""
        return AlreadyExists(
            f"{self.folder.address}/{shown(self.prefix + file.path)} is there already, "
            "with other bytes",
            remedy="Pull into another folder, or pass --overwrite to replace files.",
        )

    def _write_small(self, file: ManifestFile) -> int:
        self._write(file, lambda _: None)
        return file.size_bytes

    def _write(self, file: ManifestFile, advance: Callable[[int], None]) -> None:
        writer = self.folder.put(self.prefix + file.path, overwrite=self.overwrite)
        try:
            for data in self.ctx.reader.file(self.manifest, file):
                writer.write(data)
                advance(len(data))
            writer.commit()
        except AlreadyExists as exc:
            writer.abort()
            if self._find(file) != "same":  # It came meanwhile: from another pull, perhaps.
                raise self.taken(file) from exc
        except BaseException:
            writer.abort()
            raise

    def _find(self, file: ManifestFile) -> _Found:
        """What is in the place of a file."""
        path = self.prefix + file.path
        found = self.folder.stat(path)
        if found is None:
            return "nothing"
        if found.is_folder:
            return "folder"
        if found.size_bytes != file.size_bytes:
            return "other"
        offset = 0
        for ref in self.manifest.chunks(file):
            if blake3(self.folder.read(path, offset, ref.length)).digest() != ref.digest:
                return "other"
            offset += ref.length
        return "same"
