"""Writing a file over WebHDFS."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import suppress

from modelhub.backends.remote.hadoop import given_up, lost, unreachable
from modelhub.backends.remote.web_errors import reason, refusal


class WebSink:
    """A file being written: one request, whose body is sent as it comes."""

    def __init__(self, where: str, begin: Callable[[], http.client.HTTPConnection]) -> None:
        self._where = where
        self._begin = begin
        self._connection: http.client.HTTPConnection | None = None

    def write(self, data: bytes) -> None:
        """Send a chunk of the body."""
        try:
            if self._connection is None:
                self._connection = self._begin()
            self._connection.send(b"%x\r\n" % len(data))
            self._connection.send(data)
            self._connection.send(b"\r\n")
        except OSError as exc:
            raise self._explained(exc) from exc

    def close(self) -> None:
        """End the body, and wait for the answer: the file is complete then."""
        connection = self._connection
        if connection is None:
            return  # the empty file is there
        try:
            connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as exc:
            raise lost(self._where, reason(exc)) from exc
        if answer.status >= 300:
            raise given_up(refusal(self._where, answer.status, body))
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
