"""Calls of WebHDFS: requests, where they are sent on to, and what their errors mean."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from modelhub.backends.remote.hadoop import lost, unreachable
from modelhub.backends.remote.processes import PerProcess
from modelhub.backends.remote.silence import Silence
from modelhub.backends.remote.web_errors import (
    DATANODES_TRIED,
    DataNodeAwayError,
    elsewhere,
    never_sent,
    reason,
    refusal,
)
from modelhub.backends.remote.wording import place
from modelhub.errors import NotInstalled
from modelhub.names import shown

if TYPE_CHECKING:
    from requests import Response

_CONNECTIONS = 16
_PREFIX = "/webhdfs/v1"
_FOR_GATEWAYS = {"Content-Type": "application/octet-stream"}
"""HttpFS insists on it."""
_NOTHING: Mapping[str, object] = {}


class WebCalls:
    """One user's calls to one NameNode, or gateway, and to DataNodes.

    Args:
        server: ``http://`` or ``https://``, host and port.
        address: what errors name: the URL of the folder.
        user: whom to act as.
        timeout_s: how long a NameNode, and apart from it the DataNodes, may keep silent.

    Raises:
        NotInstalled: the driver is missing.
    """

    def __init__(self, server: str, address: str, *, user: str | None, timeout_s: float) -> None:
        self._server = server
        self._address = address
        self._user = user
        self._timeout_s = timeout_s
        self._names = Silence(timeout_s)
        self.data = Silence(timeout_s)
        try:
            import hdfs
            import requests
            import urllib3.exceptions
        except ImportError as exc:
            raise NotInstalled(
                f"{self._address} needs the package hdfs", remedy="pip install 'modelhub[webhdfs]'"
            ) from exc
        self._driver, self._http, self._broken_off = hdfs, requests, urllib3.exceptions
        self._clients = PerProcess(self._connect)

    def ask(
        self, op: str, path: str, full: str, query: Mapping[str, object] = _NOTHING
    ) -> Response:
        """Make a call that changes nothing."""
        try:
            return self._call("GET", op, path, full, query)
        except self._http.RequestException as exc:
            raise unreachable(self.where(path), reason(exc)) from exc

    def read(self, path: str, full: str, query: Mapping[str, object]) -> bytes:
        """The bytes that a DataNode sends for an OPEN."""

        def fetch(timeout_s: float) -> bytes:
            asked = {"op": "OPEN", **query}
            answer = self._checked("GET", path, full, asked, timeout_s, stream=True)
            with closing(answer):
                # In one piece: by default the session would gather ten kilobytes at a time.
                return bytes(answer.raw.read(decode_content=True))

        try:
            return self.data.waiting(fetch, self._http.Timeout, self._broken_off.ReadTimeoutError)
        except (self._http.RequestException, self._broken_off.HTTPError, OSError) as exc:
            raise unreachable(self.where(path), reason(exc)) from exc

    def change(
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
            raise lost(self.where(path), reason(exc)) from exc

    def create(self, path: str, full: str, query: Mapping[str, object]) -> None:
        """Make an empty file at the DataNode that the NameNode names."""

        def begin(without: Mapping[str, object], timeout_s: float) -> None:
            answer = self.change("PUT", "CREATE", path, full, {**query, **without}, redirects=False)
            url = self._location(path, answer)
            try:
                made = self._send("PUT", url, (timeout_s / DATANODES_TRIED, timeout_s), data=b"")
            except self._http.RequestException as exc:
                if never_sent(exc):
                    host = urlsplit(url).hostname
                    raise DataNodeAwayError(self.where(path), host, reason(exc)) from exc
                raise
            if not made.ok:
                raise refusal(self.where(path), made.status_code, made.content)

        try:
            self.data.waiting(
                lambda timeout_s: elsewhere(lambda without: begin(without, timeout_s)),
                self._http.Timeout,
                DataNodeAwayError,
            )
        except self._http.RequestException as exc:
            raise lost(self.where(path), reason(exc)) from exc

    def begin_append(self, path: str, full: str, timeout_s: float) -> http.client.HTTPConnection:
        """A connection to a DataNode that waits for what to append to a file."""

        def begin(without: Mapping[str, object]) -> http.client.HTTPConnection:
            answer = self.change("POST", "APPEND", path, full, without, redirects=False)
            parts = urlsplit(self._location(path, answer))
            connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
            connection.timeout = timeout_s / DATANODES_TRIED
            try:
                connection.connect()
            except OSError as exc:
                raise DataNodeAwayError(self.where(path), parts.hostname, reason(exc)) from exc
            connection.sock.settimeout(timeout_s)
            connection.putrequest("POST", f"{parts.path}?{parts.query}", skip_accept_encoding=True)
            connection.putheader("Transfer-Encoding", "chunked")
            for name, value in _FOR_GATEWAYS.items():
                connection.putheader(name, value)
            connection.endheaders()
            return connection

        return elsewhere(begin)

    def close(self) -> None:
        """Let go of the session's connections."""
        client = self._clients.forget()
        if client is not None:
            client._session.close()

    def where(self, path: str) -> str:
        """What an error about ``path`` names."""
        return place(self._address, path)

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port)
        context = ssl.create_default_context(cafile=_authorities(self._clients.get()))
        return http.client.HTTPSConnection(host, port, context=context)

    def _connect(self) -> Any:
        session = self._http.Session()
        for prefix in ("http://", "https://"):
            adapter = self._http.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS, pool_block=False)
            session.mount(prefix, adapter)
        return self._driver.InsecureClient(
            self._server, user=self._user, timeout=self._timeout_s, session=session
        )

    def _location(self, path: str, answer: Response) -> str:
        location = answer.headers.get("Location")
        if location is None:
            raise unreachable(self._server, f"it sent no place to write {shown(path)} to")
        return str(location)

    def _call(
        self, method: str, op: str, path: str, full: str, query: Mapping[str, object], **how: bool
    ) -> Response:
        """Make a call that the NameNode answers itself."""
        asked = {"op": op, **query}
        return self._names.waiting(
            lambda timeout_s: self._checked(method, path, full, asked, timeout_s, **how),
            self._http.Timeout,
        )

    def _checked(
        self,
        method: str,
        path: str,
        full: str,
        query: Mapping[str, object],
        timeout_s: float,
        **how: bool,
    ) -> Response:
        """The answer, which is none that refuses."""
        url = self._server + _PREFIX + quote(full)
        answer = self._send(method, url, timeout_s, params=query, **how)
        if not answer.ok:
            error = refusal(
                self.where(path), answer.status_code, answer.content, writes=method != "GET"
            )
            answer.close()
            raise error
        return answer

    def _send(
        self, method: str, url: str, timeout_s: float | tuple[float, float], **how: Any
    ) -> Response:
        # The driver's own call has one timeout for all of them.
        session = self._clients.get()._session
        answer: Response = session.request(
            method, url, timeout=timeout_s, headers=_FOR_GATEWAYS, **how
        )
        return answer


def _authorities(client: Any) -> str | None:
    """The file of certificate authorities that the session believes."""
    verify = client._session.merge_environment_settings(client.url, {}, None, None, None)["verify"]
    return verify if isinstance(verify, str) else None
