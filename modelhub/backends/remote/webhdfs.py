"""HDFS over HTTP: a NameNode's WebHDFS, or an HttpFS gateway.

The package ``hdfs`` keeps the session and its login. Its own calls are not used: they expand
``#LATEST`` in names, log what fails, and gather what is written in memory without a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from modelhub.backends.remote.files import (
    BesideWriter,
    FileWriter,
    absent,
    full_path,
    parse_permission,
    taken,
)
from modelhub.backends.remote.web_calls import WebCalls
from modelhub.backends.remote.web_stream import WebSink
from modelhub.errors import ModelhubError, NotFound, Unavailable
from modelhub.stores import FileInfo, Stat


class WebFiles:
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
        server = f"{'https' if parts.scheme == 'swebhdfs' else 'http'}://{parts.netloc}"
        self._root = "/" + unquote(parts.path).strip("/")
        self._address = f"{parts.scheme}://{parts.netloc}{self._root.rstrip('/')}"
        self._replication = replication
        self._permission = parse_permission(permission)
        self._calls = WebCalls(server, self._address, user=user, timeout_s=timeout_s)

    @property
    def address(self) -> str:
        """The root's URL."""
        return self._address

    @property
    def renames_folders(self) -> bool:
        """HDFS renames a folder like a file."""
        return True

    def create(self, path: str) -> FileWriter:
        """Make an empty file, which takes the name; what is written is then appended to it."""
        options: dict[str, object] = {"overwrite": "false"}
        if self._replication is not None:
            options["replication"] = self._replication
        if self._permission is not None:
            self.make_folder(path.rpartition("/")[0])
            options["permission"] = f"{self._permission[1]:o}"
        full = full_path(self._root, path)
        self._calls.create(path, full, options)
        return FileWriter(self, path, WebSink(self._calls, path, full))

    def put(self, path: str, *, overwrite: bool) -> BesideWriter:
        """Begin a file that appears by its commit."""
        full_path(self._root, path)
        return BesideWriter(self, path, overwrite=overwrite)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""
        query = {"offset": offset, "length": max(0, length)}
        try:
            return self._calls.read(path, full_path(self._root, path), query)
        except Unavailable as exc:
            if "out of the range" in exc.message:  # it begins where the file ends, or later
                return b""
            raise

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""
        try:
            answer = self._calls.ask("GETFILESTATUS", path, full_path(self._root, path))
        except NotFound:
            return None
        status = answer.json()["FileStatus"]
        return Stat(status["length"], status["type"] == "DIRECTORY")

    def list(self, folder: str) -> Iterator[FileInfo]:
        """Every file below a folder, as many at a time as the server lists at once."""
        found = self.stat(folder)
        if found is None or not found.is_folder:
            return
        folders = [folder]
        while folders:
            inside = folders.pop()
            for status in self._entries(inside):
                path = f"{inside}/{status['pathSuffix']}" if inside else status["pathSuffix"]
                if status["type"] == "DIRECTORY":
                    folders.append(path)
                else:
                    yield FileInfo(path, status["length"], _modified(status))

    def folders(self, folder: str) -> dict[str, datetime]:
        """The folders right in a folder; a NameNode keeps the time for each."""
        found = self.stat(folder)
        if found is None or not found.is_folder:
            return {}
        return {
            status["pathSuffix"]: _modified(status)
            for status in self._entries(folder)
            if status["type"] == "DIRECTORY"
        }

    def _entries(self, folder: str) -> Iterator[dict[str, Any]]:
        full = full_path(self._root, folder)
        more: dict[str, object] = {}
        while True:
            try:
                page = self._calls.ask("LISTSTATUS_BATCH", folder, full, more)
            except NotFound as exc:
                raise Unavailable(
                    f"{self._calls.where(folder)} was removed while it was listed",
                    remedy="List it again.",
                ) from exc
            listing = page.json()["DirectoryListing"]
            entries = listing["partialListing"]["FileStatuses"]["FileStatus"]
            yield from entries
            if not listing["remainingEntries"] or not entries:
                return
            more = {"startAfter": entries[-1]["pathSuffix"]}

    def rename(self, source: str, target: str) -> None:
        """Rename a file or folder in one step, never over another.

        A NameNode refuses a target that exists. A gateway would put ``source`` into a folder of
        that name, so the target is looked at before.
        """
        if self.stat(target) is not None:
            raise taken(self._calls.where(target))
        self.make_folder(target.rpartition("/")[0])
        self._rename(source, target, "NONE")

    def replace(self, source: str, target: str) -> None:
        """Rename a file in one step; a gateway refuses where another is in the way."""
        self._rename(source, target, "OVERWRITE")

    def _rename(self, source: str, target: str, option: str) -> None:
        old, new = full_path(self._root, source), full_path(self._root, target)
        query = {"destination": new, "renameoptions": option}
        try:
            answer = self._calls.change("PUT", "RENAME", target, old, query)
        except NotFound as exc:
            raise absent(self._calls.where(source)) from exc
        if answer.content and not answer.json()["boolean"]:
            # A gateway does not say why.
            raise (
                absent(self._calls.where(source))
                if self.stat(source) is None
                else taken(self._calls.where(target))
            )

    def remove(self, path: str) -> None:
        """Remove a file."""
        try:
            self._delete(path, recursive="false")
        except ModelhubError as exc:
            if not isinstance(exc, NotFound) and not _is_no_file(exc):
                raise

    def make_folder(self, path: str) -> None:
        """Make a folder and its parents."""
        bits = {} if self._permission is None else {"permission": f"{self._permission[0]:o}"}
        self._calls.change("PUT", "MKDIRS", path, full_path(self._root, path), bits)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        self._delete(path, recursive="true")

    def describe(self) -> dict[str, Any]:
        """Bytes held; what is free in all of HDFS, in bytes before replication."""
        try:
            held = self._calls.ask("GETCONTENTSUMMARY", "", self._root).json()["ContentSummary"][
                "length"
            ]
        except NotFound:
            held = 0
        answer = self._calls.ask("GETFILESTATUS", "", "/")
        free = None
        with suppress(ModelhubError):  # Hadoop before 3.4, and gateways, do not know this call
            free = self._calls.ask("GETSTATUS", "", "/").json()["FsStatus"]["remaining"]
        return {
            "kind": "webhdfs",
            "address": self._address,
            "version": answer.headers.get("Server", "WebHDFS v1"),
            "bytes": held,
            "free_bytes": free,
            "exclusive": True,
        }

    def close(self) -> None:
        """Let go of the session's connections."""
        self._calls.close()

    def _delete(self, path: str, *, recursive: str) -> None:
        full = full_path(self._root, path)
        self._calls.change("DELETE", "DELETE", path, full, {"recursive": recursive})


def _is_no_file(error: ModelhubError) -> bool:
    return "non empty" in error.message or "is taken" in error.message


def _modified(status: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(status["modificationTime"] / 1000, UTC)
