"""HDFS by its own protocol, with hdfs-native: no JVM and no libhdfs.

The driver itself reads ``core-site.xml`` and ``hdfs-site.xml`` in ``HADOOP_CONF_DIR``, and with
them what it needs for nameservices and Kerberos. It repeats a call of its own accord where the
connection broke, so that a ``create`` may find its own file and a ``rename`` its own work done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from modelhub.backends.remote.files import (
    BesideWriter,
    FileWriter,
    absent,
    full_path,
    parse_permission,
)
from modelhub.backends.remote.hadoop import is_below_a_file
from modelhub.backends.remote.native_calls import NativeCalls
from modelhub.backends.remote.native_stream import NativeSink
from modelhub.errors import InvalidInput, NotFound, Unavailable
from modelhub.stores import FileInfo, Stat

if TYPE_CHECKING:
    from hdfs_native import Client
    from hdfs_native._internal import FileStatus

_USER = "HADOOP_USER_NAME"
_READ_BYTES = 4 << 20
"""What the driver is asked for at once: 16 MiB take it twice as long a byte."""

_LISTED_AT_ONCE = 1000


class NativeFiles:
    """Files below a folder of HDFS."""

    def __init__(
        self,
        url: str,
        *,
        user: str | None,
        replication: int | None,
        permission: str | None,
        timeout_s: float,
    ) -> None:
        parts = urlsplit(url)
        self._server = f"hdfs://{parts.netloc}"
        self._root = "/" + unquote(parts.path).strip("/")
        self._address = self._server + self._root.rstrip("/")
        self._replication = replication
        self._permission = parse_permission(permission)
        config = {
            "dfs.client.socket-timeout": str(int(timeout_s * 1000)),
            # Where a DataNode dies, go on with the others: HDFS copies what is short of copies.
            "dfs.client.block.write.replace-datanode-on-failure.best-effort": "true",
        }
        if ":" in parts.netloc:
            # There is no other NameNode to try, and no use in waiting for one.
            config["dfs.client.failover.max.attempts"] = "0"
        _act_as(user)
        self._calls = NativeCalls(self._server, self._address, config, timeout_s=timeout_s)

    @property
    def address(self) -> str:
        """The root's URL."""
        return self._address

    @property
    def renames_folders(self) -> bool:
        """HDFS renames a folder like a file."""
        return True

    def create(self, path: str) -> FileWriter:
        """Begin a new file, which nobody else can then create."""
        full = full_path(self._root, path)
        options = self._calls.driver.WriteOptions(
            replication=self._replication,
            permission=None if self._permission is None else self._permission[1],
            overwrite=False,
            create_parent=True,
        )
        if self._permission is not None:
            self.make_folder(path.rpartition("/")[0])
        stream = self._calls.change(path, lambda client: client.create(full, options))
        return FileWriter(self, path, NativeSink(self._calls, path, stream))

    def put(self, path: str, *, overwrite: bool) -> BesideWriter:
        """Begin a file that appears by its commit."""
        full_path(self._root, path)
        return BesideWriter(self, path, overwrite=overwrite)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file. One that is still written ends with its last complete block."""
        reader = self._calls.open_reader(path, full_path(self._root, path))
        stop = min(offset + length, len(reader))  # reading past the end is a panic
        pieces = [
            self._calls.read_range(path, reader, start, min(_READ_BYTES, stop - start))
            for start in range(offset, stop, _READ_BYTES)
        ]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""
        full = full_path(self._root, path)

        def call(client: Client) -> Stat | None:
            try:
                found = client.get_file_info(full)
            except FileNotFoundError:
                return None
            except RuntimeError as exc:
                if is_below_a_file("", str(exc)):
                    return None
                raise
            return Stat(found.length, found.isdir)

        return self._calls.ask(path, call)

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder, a thousand at a time."""
        full = full_path(self._root, folder)
        found = self.stat(folder)
        if found is None or not found.is_folder:
            return
        below = len(self._root.rstrip("/")) + 1
        listing = self._calls.ask(folder, lambda client: client.list_status(full, recursive=True))
        while True:
            try:
                page = self._calls.ask(folder, lambda _: list(islice(listing, _LISTED_AT_ONCE)))
            except NotFound as exc:
                # A folder that was removed meanwhile ends the driver's iterator.
                raise Unavailable(exc.message, remedy="List it again.") from exc
            for status in page:
                if not status.isdir:
                    yield FileInfo(status.path[below:], status.length, _modified(status))
            if len(page) < _LISTED_AT_ONCE:
                return

    def folders(self, folder: str) -> dict[str, datetime]:
        """The folders right in a folder; a NameNode keeps the time for each."""
        full = full_path(self._root, folder)
        found = self.stat(folder)
        if found is None or not found.is_folder:
            return {}
        entries = self._calls.ask(folder, lambda client: list(client.list_status(full)))
        return {entry.path.rpartition("/")[2]: _modified(entry) for entry in entries if entry.isdir}

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder in one step, never over or into another."""
        old, new = full_path(self._root, source), full_path(self._root, target)

        def call(client: Client) -> bool:
            try:
                client.rename(old, new, overwrite=False)
            except FileNotFoundError as exc:
                if "destination parent" in str(exc):
                    return False
                raise
            return True

        if not self._calls.change(source, call, target=target):
            self.make_folder(target.rpartition("/")[0])
            if not self._calls.change(source, call, target=target):
                raise absent(self._calls.where(target))

    def replace(self, source: str, target: str) -> None:
        """Rename a file in one step, over another one where that is in the way."""
        old, new = full_path(self._root, source), full_path(self._root, target)
        self._calls.change(
            source, lambda client: client.rename(old, new, overwrite=True), target=target
        )

    def remove(self, path: str) -> None:
        """Remove a file."""
        full = full_path(self._root, path)

        def call(client: Client) -> None:
            try:
                client.delete(full, recursive=False)
            except RuntimeError as exc:
                if not is_below_a_file("", str(exc)) and "IsNotEmptyDirectory" not in str(exc):
                    raise

        self._calls.change(path, call)

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents."""
        full = full_path(self._root, path)
        bits = 0o755 if self._permission is None else self._permission[0]
        self._calls.change(path, lambda client: client.mkdirs(full, bits, create_parent=True))

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        full = full_path(self._root, path)
        self._calls.change(path, lambda client: client.delete(full, recursive=True))

    def describe(self) -> dict[str, Any]:
        """Bytes held; what is free, where a space quota says it, in bytes before replication."""

        def call(client: Client) -> tuple[int, int | None]:
            try:
                held = client.get_content_summary(self._root)
            except FileNotFoundError:
                return 0, None
            limited = held.space_quota < 2**63
            return held.length, held.space_quota - held.space_consumed if limited else None

        held_bytes, free_bytes = self._calls.ask("", call)
        return {
            "kind": "hdfs",
            "address": self._address,
            "version": f"hdfs-native {version('hdfs-native')}",
            "bytes": held_bytes,
            "free_bytes": free_bytes,
            "exclusive": True,
        }

    def close(self) -> None:
        """Let go of connections and threads."""
        self._calls.close()


def _act_as(user: str | None) -> None:
    """Name the user to whom HDFS without Kerberos grants what it grants.

    The driver takes the name from the environment each time it connects.
    """
    if user is None:
        return
    current = os.environ.setdefault(_USER, user)
    if current != user:
        raise InvalidInput(
            f"this process acts as {current} on HDFS, and cannot act as {user} too",
            remedy=f"Unset {_USER}, name the same user, or use webhdfs://.",
        )


def _modified(status: FileStatus) -> datetime:
    return datetime.fromtimestamp(status.modification_time / 1000, UTC)
