"""A version's plain files on any file system, for programs that know nothing of a hub."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress

from blake3 import blake3

from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.content.read import iter_file
from modelhub.coordinator.context import Context, Progress
from modelhub.errors import AlreadyExists, InvalidInput, ModelhubError
from modelhub.stores import Folder


def deliver(
    ctx: Context,
    manifest: Manifest,
    files: Sequence[ManifestFile],
    folder: Folder,
    *,
    below: str = "",
    overwrite: bool,
    progress: Progress,
) -> None:
    """Write ``files`` into ``folder``, each appearing under its name only when whole and verified.

    What is there already with the same bytes is left alone: so a repeated call goes on after the
    last whole file.

    Raises:
        AlreadyExists: a file is there with other bytes and ``overwrite`` is False; nothing was
            written.
        CorruptData: stored bytes do not match their hash.
        Unavailable: a store or the file system is away, or full.
    """
    total = sum(file.size_bytes for file in files)
    places = {file.path: f"{below}/{file.path}" if below else file.path for file in files}
    missing = [file for file in files if not _holds(folder, places[file.path], manifest, file)]
    for file in missing:
        found = folder.stat(places[file.path])
        if found is not None and (found.is_folder or not overwrite):
            raise AlreadyExists(
                f"{folder.address}/{places[file.path]} is there already, with other bytes",
                remedy="Pull into another folder, or pass --overwrite to replace files.",
            )
    done = total - sum(file.size_bytes for file in missing)
    progress("pull", done, total)
    for file in missing:
        writer = folder.put(places[file.path])
        try:
            for data in iter_file(ctx.stores.weights, manifest, file):
                writer.write(data)
                done += len(data)
                progress("pull", done, total)
            writer.commit()
        except BaseException:
            writer.abort()
            raise
    progress("pull", total, total)


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
    over. Exported again, it is compared and left as it is.

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
        building = f"{name}/.{number}-{secrets.token_hex(8)}"
        try:
            deliver(
                ctx,
                manifest,
                manifest.files,
                folder,
                below=building,
                overwrite=False,
                progress=progress,
            )
            with suppress(AlreadyExists):  # Somebody else was faster; theirs is compared.
                folder.rename(building, final)
                return final
        finally:
            with suppress(ModelhubError):
                folder.remove_folder(building)
    for file in manifest.files:
        if not _holds(folder, f"{final}/{file.path}", manifest, file):
            raise AlreadyExists(
                f"{folder.address}/{final} is there already, and is not {name}@{number}",
                remedy="Remove it, or export to another root.",
            )
    return final


def _holds(folder: Folder, path: str, manifest: Manifest, file: ManifestFile) -> bool:
    """Whether a file with exactly these bytes is there."""
    found = folder.stat(path)
    if found is None or found.is_folder or found.size_bytes != file.size_bytes:
        return False
    offset = 0
    for ref in manifest.chunks(file):
        if blake3(folder.read(path, offset, ref.length)).digest() != ref.digest:
            return False
        offset += ref.length
    return True
