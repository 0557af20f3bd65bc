"""The errors of WebHDFS: what a server answers, and what becomes of a request."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from modelhub.backends.remote.hadoop import hadoop_error, unreachable
from modelhub.errors import Forbidden, ModelhubError, Unavailable

T = TypeVar("T")

DATANODES_TRIED = 4
"""Each has as much less time to take the connection."""

_CERTAIN = frozenset(
    {"BadStatusLine", "ConnectTimeout", "NameResolutionError", "NewConnectionError"}
)
"""Errors after which a request certainly was not carried out."""


def refusal(where: str, status: int, body: bytes, *, writes: bool = True) -> ModelhubError:
    """The error that an answer holds."""
    try:
        said = json.loads(body)["RemoteException"]
        name, message = str(said["exception"]), str(said["message"])
    except (ValueError, KeyError, TypeError):
        if status in {401, 403}:
            return Forbidden(
                f"{where}: the login was refused (HTTP {status})",
                remedy="Name a user whom this server accepts; for Kerberos use hdfs://.",
            )
        text = " ".join(body[:200].decode("utf-8", "replace").split())
        return unreachable(where, f"HTTP {status} is no answer of WebHDFS: {text}")
    return hadoop_error(name, message, where, writes=writes)


class DataNodeAwayError(Unavailable):
    """A DataNode that a NameNode sent us to does not take connections; nothing was sent to it."""

    def __init__(self, where: str, host: str | None, said: str) -> None:
        super().__init__(
            f"{where}: the DataNode {host} does not answer: {said}",
            remedy="Check the DataNodes (`hdfs dfsadmin -report`), then repeat.",
        )
        self.host = host or ""


def elsewhere(begin: Callable[[Mapping[str, object]], T]) -> T:
    """Begin to write at a DataNode that is there.

    For a while a NameNode sends writers to one that died. It knows DataNodes by their addresses.
    """
    away: list[str] = []
    while True:
        try:
            return begin({"excludedatanodes": ",".join(away)} if away else {})
        except DataNodeAwayError as exc:
            if len(away) == DATANODES_TRIED - 1:
                raise
            address = exc.host
            with suppress(OSError):
                address = socket.gethostbyname(exc.host)
            away.append(address)


def never_sent(exc: BaseException) -> bool:
    """Whether a request failed before there was a connection, or met no HTTP server at all."""
    if type(exc).__name__ in _CERTAIN:
        return True
    causes = [getattr(exc, "reason", None), *exc.args]
    return any(never_sent(cause) for cause in causes if isinstance(cause, BaseException))


def reason(exc: BaseException) -> str:
    """What it says, fit for one line."""
    text = "".join(char if char.isprintable() else " " for char in str(exc))
    return text[:300] or type(exc).__name__
