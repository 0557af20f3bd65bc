"""Writing a file over WebHDFS."""

from __future__ import annotations

import http.client
from contextlib import suppress
from typing import Protocol

from modelhub.backends.remote.hadoop import given_up, lost, unreachable
from modelhub.backends.remote.silence import Silence
from modelhub.backends.remote.web_errors import DataNodeAwayError, reason, refusal


class Calls(Protocol):
    """Who begins an append, and knows how long DataNodes are waited for."""

    @property
    def data(self) -> Silence:
        """The silence of DataNodes."""

    def begin_append(self, path: str, full: str, timeout_s: float) -> http.client.HTTPConnection:
        """A connection that waits for what to append."""

    def where(self, path: str) -> str:
        """What an error names."""


class WebSink:
    """A file being written: one request, whose body is sent as it comes."""

    def __init__(self, calls: Calls, path: str, full: str) -> None:
        self._calls = calls
        self._path = path
        self._full = full
        self._where = calls.where(path)
        self._connection: http.client.HTTPConnection | None = None

    def write(self, data: bytes) -> None:
        """Send a chunk of the body."""
        try:
            self._calls.data.waiting(
                lambda timeout_s: self._send(data, timeout_s), TimeoutError, DataNodeAwayError
            )
        except OSError as exc:
            raise self._explained(exc) from exc

    def _send(self, data: bytes, timeout_s: float) -> None:
        if self._connection is None:
            self._connection = self._calls.begin_append(self._path, self._full, timeout_s)
        self._connection.sock.settimeout(timeout_s)
        self._connection.send(b"%x\r\n" % len(data))
        self._connection.send(data)
        self._connection.send(b"\r\n")

    def close(self) -> None:
        """End the body, and wait for the answer: the file is complete then."""
        connection = self._connection
        if connection is None:
            return  # the empty file is there

        def finish(timeout_s: float) -> tuple[int, bytes]:
            connection.sock.settimeout(timeout_s)
            connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
            return answer.status, answer.read()

        try:
            status, body = self._calls.data.waiting(finish, TimeoutError)
        except (OSError, http.client.HTTPException) as exc:
            raise lost(self._where, reason(exc)) from exc
        if status >= 300:
            raise given_up(refusal(self._where, status, body))
        connection.close()

    def discard(self) -> None:
        """Break the request off."""
        if self._connection is not None:
            self._connection.close()

    def _explained(self, exc: OSError) -> BaseException:
        """A server that breaks off has often said why."""
        connection = None if isinstance(exc, TimeoutError) else self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError, http.client.HTTPException):
                answer = connection.getresponse()
                return given_up(refusal(self._where, answer.status, answer.read()))
        return unreachable(self._where, reason(exc))
