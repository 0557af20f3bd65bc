"""Questions that only a server that works can answer, asked with the standard library alone."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import urllib.error
import urllib.request
from typing import Any

from modelhub_stack.settings import HOST

_LIMIT_S = 5.0


class NotReadyError(Exception):
    """The server doesn't answer, or not yet as it should; the message says what it does."""


def get_json(url: str, *, authorization: str | None = None, ca: str | None = None) -> Any:
    """The parsed JSON at ``url``; ``ca`` is the file of certificates to trust for https.

    Raises:
        NotReadyError: there is no such answer.
    """
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if ca is not None:
        context = ssl.create_default_context(cafile=ca)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    headers = {"Authorization": authorization} if authorization else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (our own http or https)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=_LIMIT_S) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as exc:
        raise NotReadyError(f"answers {exc.code} {exc.reason}") from exc
    except (OSError, ValueError) as exc:
        raise NotReadyError(f"does not answer: {getattr(exc, 'reason', exc)}") from exc


def port_open(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((HOST, port), timeout=_LIMIT_S).close()
    except OSError:
        return False
    return True


def thrift_tables(port: int) -> None:
    """Ask a Thrift 1 gateway for its tables, which it has to ask HBase for.

    Raises:
        NotReadyError: it doesn't list them.
    """
    call = b"getTableNames"
    strict_call, strict_reply, a_list, end = 0x80010001, 0x80010002, 15, b"\0"
    sent = struct.pack(">Ii", strict_call, len(call)) + call + struct.pack(">i", 1) + end
    wanted = struct.pack(">Ii", strict_reply, len(call)) + call + struct.pack(">ibh", 1, a_list, 0)
    got = b""
    try:
        with socket.create_connection((HOST, port), timeout=_LIMIT_S) as connection:
            connection.sendall(sent)
            while len(got) < len(wanted):
                part = connection.recv(len(wanted) - len(got))
                if not part:
                    break
                got += part
    except OSError as exc:
        raise NotReadyError(f"does not answer: {exc}") from exc
    if got != wanted:
        raise NotReadyError("can't list the tables of HBase")
