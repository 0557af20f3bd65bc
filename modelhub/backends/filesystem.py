"""What the embedded backends ask of a file system: durable folders, and locks that hold."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from modelhub.errors import (
    Forbidden,
    InvalidInput,
    ModelhubError,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.stores import NoSpace

# fmt: off
# As the kernel names them, those of FUSE without the "fuse." before them.
_NETWORK_TYPES = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "ceph-fuse", "cephfs", "cifs", "coda", "curlftpfs",
    "davfs", "gcsfuse", "gfs2", "glusterfs", "goofys", "gpfs", "hdfs", "juicefs", "kafs",
    "lustre", "mfs", "mount-s3", "mountpoint-s3", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs",
    "panfs", "pvfs2", "rclone", "s3fs", "seaweedfs", "smb2", "smb3", "smbfs", "sshfs", "vboxsf",
    "vmhgfs-fuse", "wekafs", "xtreemfs",
})
# fmt: on
_MOUNTINFO = Path("/proc/self/mountinfo")
_FULL = {errno.ENOSPC: "is full", errno.EDQUOT: "is over its quota"}
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def io_error(exc: OSError, path: Path) -> ModelhubError:
    """The error for a call on ``path`` that failed and certainly changed nothing."""
    if exc.errno in _FULL:
        return full(path, _FULL[exc.errno])
    if exc.errno in _REFUSED:
        return forbidden(path, exc.strerror or str(exc))
    if isinstance(exc, FileExistsError | NotADirectoryError):
        return InvalidInput(f"{path} is no folder, or lies below a file", remedy="Name a folder.")
    return Unavailable(f"{path}: {exc.strerror or exc}", remedy="Check the disk, then repeat.")


def full(path: Path, state: str = _FULL[errno.ENOSPC]) -> NoSpace:
    """The error for a write to ``path`` that its file system has no room for."""
    return NoSpace(
        f"the file system of {path} {state}",
        remedy="Free some space there or have it enlarged, then repeat.",
    )


def forbidden(path: Path, reason: str) -> Forbidden:
    """The error for a ``path`` that this user may not use so."""
    return Forbidden(
        f"{path}: {reason}", remedy="Ask its owner for permission to read and write this folder."
    )


def sync_error(exc: OSError, path: Path) -> OutcomeUnknown:
    """The error for a change of ``path`` that was made and may not have reached the disk."""
    return OutcomeUnknown(
        f"{path} could not be synced: {exc.strerror or exc}",
        remedy="Check the disk and its free space, then read back what is there.",
    )


def sync_folder(folder: Path) -> None:
    """Make the entries of ``folder`` durable.

    Raises:
        OSError: they may not be.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder`` and its missing parents, each of them durable. Idempotent.

    Raises:
        Forbidden, InvalidInput, Unavailable: it cannot be made.
    """
    try:
        if not folder.is_dir():
            make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)
    except OSError as exc:
        raise io_error(exc, folder) from exc


def refuse_network_file_system(path: Path, *, mountinfo: Path = _MOUNTINFO) -> None:
    """Refuse ``path``, which need not exist yet, where locks between processes do not hold.

    SQLite's own documentation says of network file systems that their locks are not to be relied
    on, and that its write-ahead log does not work over one at all. Nothing is refused where the
    system keeps no ``mountinfo``.

    Raises:
        InvalidInput: ``path`` lies on a network file system.
    """
    try:
        text = os.fsdecode(mountinfo.read_bytes())
        folder = _nearest_folder(path)
        device = folder.stat().st_dev
    except OSError:
        return
    found = _type_at(folder, f"{os.major(device)}:{os.minor(device)}", text)
    if found.removeprefix("fuse.") in _NETWORK_TYPES:
        raise InvalidInput(
            f"{path} is on a network file system ({found}), where SQLite's locks do not hold",
            remedy="Set MODELHUB_HOME to a folder on a local disk, or keep the rows in HBase.",
        )


def _nearest_folder(path: Path) -> Path:
    resolved = path.resolve()
    return next(folder for folder in (resolved, *resolved.parents) if folder.exists())


def _type_at(folder: Path, device: str, mountinfo: str) -> str:
    """The type of the mount that ``folder`` is on, or "" where none fits.

    A device number decides. Where none matches (a btrfs subvolume has one of its own), the longest
    mount point above the folder does, of equal ones the last, which hides the others.
    """
    found, longest = "", -1
    for number, point, kind in _mounts(mountinfo):
        if number == device:
            return kind
        if folder.is_relative_to(point) and len(point.parts) >= longest:
            found, longest = kind, len(point.parts)
    return found


def _mounts(mountinfo: str) -> Iterator[tuple[str, Path, str]]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 4 and after:
            point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
            yield fields[2], Path(point), after.split(" ")[0]
