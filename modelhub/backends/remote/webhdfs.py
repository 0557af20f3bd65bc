"""HDFS over HTTP: a NameNode's WebHDFS, or an HttpFS gateway.

The package ``hdfs`` keeps the session and its login. Its own calls are not used: they expand
``#LATEST`` in names, log what fails, and gather what is written in memory without a bound.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

from modelhub.backends.remote.files import (
    FileWriter,
    ReplacingWriter,
    absent,
    full_path,
    parse_permission,
    taken,
)
from modelhub.backends.remote.hadoop import lost, unreachable
from modelhub.backends.remote.processes import PerProcess
from modelhub.backends.remote.web_errors import (
    DataNodeAwayError,
    elsewhere,
    never_sent,
    reason,
    refusal,
)
from modelhub.backends.remote.web_stream import WebSink
from modelhub.errors import ModelhubError, NotFound, NotInstalled, Unavailable
from modelhub.stores import FileInfo, Stat

if TYPE_CHECKING:
    from requests import Response

T = TypeVar("T")

_CONNECTIONS = 16
_PREFIX = "/webhdfs/v1"
_NOTHING: Mapping[str, object] = {}


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
        self._server = f"{'https' if parts.scheme == 'swebhdfs' else 'http'}://{parts.netloc}"
        self._root = "/" + unquote(parts.path).strip("/")
        self._address = f"{parts.scheme}://{parts.netloc}{self._root.rstrip('/')}"
        self._user = user
        self._replication = replication
        self._permission = parse_permission(permission)
        self._timeout_s = timeout_s
        try:
            import hdfs
            import requests
        except ImportError as exc:
            raise NotInstalled(
                f"{self._address} needs the package hdfs", remedy="pip install 'modelhub[webhdfs]'"
            ) from exc
        self._driver, self._http = hdfs, requests
        self._clients = PerProcess(self._connect)

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

        def begin(without: Mapping[str, object]) -> None:
            answer = self._change(
                "PUT", "CREATE", path, full, {**options, **without}, redirects=False
            )
            self._follow(path, answer)

        elsewhere(begin)
        return FileWriter(self, path, WebSink(self._where(path), lambda: self._append_stream(path)))

    def put(self, path: str) -> ReplacingWriter:
        """Begin a file that appears by its commit."""
        full_path(self._root, path)
        return ReplacingWriter(self, path)

    def read(self, path: str, offset: int, length: int) -> bytes:
        """A range of a file, cut off where the file ends."""
        full = full_path(self._root, path)
        try:
            answer = self._ask(
                "OPEN", path, full, {"offset": offset, "length": max(0, length)}, stream=True
            )
        except Unavailable as exc:
            if "out of the range" in exc.message:  # it begins where the file ends, or later
                return b""
            raise
        try:
            # In one piece: by default the session would gather ten kilobytes at a time.
            return bytes(answer.raw.read(decode_content=True))
        except Exception as exc:
            raise unreachable(self._where(path), reason(exc)) from exc
        finally:
            answer.close()

    def stat(self, path: str) -> Stat | None:
        """What is there, or None."""
        try:
            answer = self._ask("GETFILESTATUS", path, full_path(self._root, path))
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
                    modified = datetime.fromtimestamp(status["modificationTime"] / 1000, UTC)
                    yield FileInfo(path, status["length"], modified)

    def _entries(self, folder: str) -> Iterator[dict[str, Any]]:
        full = full_path(self._root, folder)
        more: dict[str, object] = {}
        while True:
            try:
                page = self._ask("LISTSTATUS_BATCH", folder, full, more)
            except NotFound as exc:
                raise Unavailable(
                    f"{self._where(folder)} was removed while it was listed",
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
            raise taken(self._where(target))
        self.make_folder(target.rpartition("/")[0])
        self._rename(source, target, "NONE")

    def replace(self, source: str, target: str) -> None:
        """Rename a file in one step; a gateway refuses where another is in the way."""
        self._rename(source, target, "OVERWRITE")

    def _rename(self, source: str, target: str, option: str) -> None:
        old, new = full_path(self._root, source), full_path(self._root, target)
        query = {"destination": new, "renameoptions": option}
        try:
            answer = self._change("PUT", "RENAME", target, old, query)
        except NotFound as exc:
            raise absent(self._where(source)) from exc
        if answer.content and not answer.json()["boolean"]:
            # A gateway does not say why.
            raise (
                absent(self._where(source))
                if self.stat(source) is None
                else taken(self._where(target))
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
        self._change("PUT", "MKDIRS", path, full_path(self._root, path), bits)

    def remove_folder(self, path: str) -> None:
        """Remove a folder with all that is in it."""
        self._delete(path, recursive="true")

    def describe(self) -> dict[str, Any]:
        """Bytes held; what is free in all of HDFS, in bytes before replication."""
        try:
            held = self._ask("GETCONTENTSUMMARY", "", self._root).json()["ContentSummary"]["length"]
        except NotFound:
            held = 0
        answer = self._ask("GETFILESTATUS", "", "/")
        free = None
        with suppress(ModelhubError):  # Hadoop before 3.4, and gateways, do not know this call
            free = self._ask("GETSTATUS", "", "/").json()["FsStatus"]["remaining"]
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
        client = self._clients.forget()
        if client is not None:
            client._session.close()

    def _append_stream(self, path: str) -> http.client.HTTPConnection:
        """A connection to a DataNode that waits for what to append to ``path``."""
        full = full_path(self._root, path)

        def begin(without: Mapping[str, object]) -> http.client.HTTPConnection:
            answer = self._change("POST", "APPEND", path, full, without, redirects=False)
            parts = urlsplit(self._location(path, answer))
            connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
            try:
                connection.connect()
            except OSError as exc:
                raise DataNodeAwayError(self._where(path), parts.hostname, reason(exc)) from exc
            connection.putrequest("POST", f"{parts.path}?{parts.query}", skip_accept_encoding=True)
            connection.putheader("Transfer-Encoding", "chunked")
            connection.putheader("Content-Type", "application/octet-stream")  # HttpFS insists
            connection.endheaders()
            return connection

        return elsewhere(begin)

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        context = ssl.create_default_context(cafile=_authorities(self._clients.get()))
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)

    def _connect(self) -> Any:
        session = self._http.Session()
        for prefix in ("http://", "https://"):
            adapter = self._http.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS, pool_block=False)
            session.mount(prefix, adapter)
        return self._driver.InsecureClient(
            self._server, user=self._user, timeout=self._timeout_s, session=session
        )

    def _delete(self, path: str, *, recursive: str) -> None:
        full = full_path(self._root, path)
        self._change("DELETE", "DELETE", path, full, {"recursive": recursive})

    def _ask(
        self,
        op: str,
        path: str,
        full: str,
        query: Mapping[str, object] = _NOTHING,
        *,
        stream: bool = False,
    ) -> Response:
        """Make a call that changes nothing."""
        try:
            return self._call("GET", op, path, full, query, stream=stream)
        except self._http.RequestException as exc:
            raise unreachable(self._where(path), reason(exc)) from exc

    def _change(
        self,
        method: str,
        op: str,
        path: str,
        full: str,
        query: Mapping[str, object] = _NOTHING,
        *,
        redirects: bool = True,
    ) -> Response:
        """Make a call that changes names."""
        try:
            return self._call(method, op, path, full, query, allow_redirects=redirects)
        except self._http.RequestException as exc:
            if never_sent(exc):
                raise unreachable(self._server, reason(exc)) from exc
            raise lost(self._where(path), reason(exc)) from exc

    def _follow(self, path: str, answer: Response) -> None:
        """Carry out at a DataNode what the NameNode sent there."""
        url = self._location(path, answer)
        try:
            made = self._clients.get()._request("PUT", url, data=b"")
        except self._http.RequestException as exc:
            if never_sent(exc):
                host = urlsplit(url).hostname
                raise DataNodeAwayError(self._where(path), host, reason(exc)) from exc
            raise lost(self._where(path), reason(exc)) from exc
        if not made.ok:
            raise refusal(self._where(path), made.status_code, made.content)

    def _location(self, path: str, answer: Response) -> str:
        location = answer.headers.get("Location")
        if location is None:
            raise unreachable(self._server, f"it sent no place to write {path} to")
        return str(location)

    def _call(
        self, method: str, op: str, path: str, full: str, query: Mapping[str, object], **how: bool
    ) -> Response:
        url = self._server + _PREFIX + quote(full)
        answer: Response = self._clients.get()._request(
            method, url, params={"op": op, **query}, **how
        )
        if not answer.ok:
            error = refusal(
                self._where(path), answer.status_code, answer.content, writes=method != "GET"
            )
            answer.close()
            raise error
        return answer

    def _where(self, path: str) -> str:
        return f"{self._address}/{path}" if path else self._address


def _authorities(client: Any) -> str | None:
    """The file of certificate authorities that the session believes."""
    verify = client._session.merge_environment_settings(client.url, {}, None, None, None)["verify"]
    return verify if isinstance(verify, str) else None


def _is_no_file(error: ModelhubError) -> bool:
    return "non empty" in error.message or "is taken" in error.message
