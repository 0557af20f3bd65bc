"""One connection to HBase's Thrift gateway: a socket with a deadline, and the calls made on it.

thriftpy2 never checks which call a reply belongs to: the answer that comes after a timeout is taken
for that of the next call on the same socket, be it another compare-and-set's True. So whoever holds
a ``Connection`` closes it after any exception whatever; the pool does.

happybase brings the gateway's interface. Its own ``Connection`` is not used: it limits each read of
the socket and not the call, speaks IPv4 alone, and shuts the socket down when it is finalised,
which in a forked child cuts its parent off.
"""

from __future__ import annotations

import math
import os
import select
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal

IDLE_LIMIT_S = 30.0
"""Half of the time after which a gateway drops a silent client by default."""


@dataclass(frozen=True)
class Endpoint:
    """Where a gateway listens, and how it was told to speak."""

    host: str
    port: int
    transport: Literal["buffered", "framed"]
    protocol: Literal["binary", "compact"]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class UnreachableError(Exception):
    """No connection came about; nothing was asked of the gateway."""


class NotSentError(Exception):
    """The call never left this machine whole: no gateway runs a call that it read half of."""


class NoReplyError(Exception):
    """The call was sent, and no answer that can be understood came back."""


class AnsweredError(Exception):
    """The gateway answered with an error.

    Attributes:
        kind: which of the interface's exceptions it is.
        text: what it says; mostly a Java stack trace.
    """

    def __init__(
        self, kind: Literal["io", "argument", "exists", "method", "internal"], text: str
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text


class Connection:
    """A connection, for one thread at a time.

    Raises:
        UnreachableError: nothing there answers as a gateway would.
    """

    def __init__(self, endpoint: Endpoint, deadline: float) -> None:
        self._owner = os.getpid()
        try:
            self._socket = _connected(endpoint, deadline)
        except OSError as exc:
            raise UnreachableError(_reason(exc)) from exc
        try:
            self._wire = _Wire(self._socket)
            self._client = _client(endpoint, self._wire)
            self.server_type = self._greeted(deadline)
        except BaseException:
            self.close()
            raise
        self._used = time.monotonic()

    def call(self, deadline: float, method: str, *arguments: object) -> Any:
        """Make a call and wait for its answer until ``deadline``, as ``time.monotonic`` counts.

        Raises:
            NotSentError: the gateway certainly did not get it.
            AnsweredError: it answered with an error.
            NoReplyError: it did not answer, or not so that it can be understood.
        """
        from thriftpy2.thrift import TApplicationException

        interface = idl()
        self._wire.begin(deadline)
        try:
            answer = getattr(self._client, method)(*arguments)
        except interface.IOError as exc:
            raise AnsweredError("io", _text(exc)) from exc
        except interface.IllegalArgument as exc:
            raise AnsweredError("argument", _text(exc)) from exc
        except interface.AlreadyExists as exc:
            raise AnsweredError("exists", _text(exc)) from exc
        except TApplicationException as exc:
            if exc.type == TApplicationException.MISSING_RESULT:  # the driver's own: no answer
                raise NoReplyError("sent an empty answer") from exc
            unknown = exc.type == TApplicationException.UNKNOWN_METHOD
            raise AnsweredError("method" if unknown else "internal", _text(exc)) from exc
        except Exception as exc:  # bytes that are no answer make the driver raise anything
            failed = NoReplyError if self._wire.sent else NotSentError
            raise failed(_reason(exc)) from exc
        self._used = time.monotonic()
        return answer

    def fit(self) -> bool:
        """Whether another call may be made: not idle for long, not dropped, nothing left to read.

        Bytes that wait on an idle connection are an answer to nobody, or the gateway's goodbye.
        """
        if time.monotonic() - self._used > IDLE_LIMIT_S:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Close it. In a child the connection stays its parent's, and only the copy is closed."""
        if self._owner == os.getpid():
            # A child that was forked meanwhile has a copy, which would keep it open. It is an error
            # where the other side was first.
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _greeted(self, deadline: float) -> int | None:
        """What the gateway says it is, so that no write is ever sent to something else.

        The gateway answers by itself, in half a millisecond. Those before HBase 2.2 do not know the
        question, and say so.
        """
        try:
            server_type: int = self.call(deadline, "getThriftServerType")
        except AnsweredError as exc:
            if exc.kind == "method":
                return None
            raise UnreachableError(f"answered a greeting with {exc.text}") from exc
        except (NotSentError, NoReplyError) as exc:
            raise UnreachableError(str(exc)) from exc
        if server_type != 1:
            raise UnreachableError(f"is a gateway of Thrift {server_type}, not of Thrift 1")
        return server_type


@cache
def idl() -> Any:
    """The gateway's interface, as the module that happybase makes of it."""
    import_module("happybase")
    return import_module("Hbase_thrift")


class _Wire:
    """A socket as thriftpy2's transports use one, with one deadline for a whole call."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._deadline = math.inf
        self.sent = False

    def begin(self, deadline: float) -> None:
        self._deadline = deadline
        self.sent = False

    def write(self, data: bytes) -> None:
        self._limit()
        self._socket.sendall(data)

    def flush(self) -> None:
        # A transport comes here when it has written the message's last byte, and not before.
        self.sent = True

    def read(self, size: int) -> bytes:
        self._limit()
        data = self._socket.recv(size)
        if not data:
            raise EOFError
        return data

    def _limit(self) -> None:
        self._socket.settimeout(left(self._deadline))


def left(deadline: float) -> float:
    """The seconds until ``deadline``.

    Raises:
        TimeoutError: there are none.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds


def _connected(endpoint: Endpoint, deadline: float) -> socket.socket:
    where = (endpoint.host, endpoint.port)
    # Asking for the addresses takes as long as the system's resolver does.
    addresses = socket.getaddrinfo(*where, type=socket.SOCK_STREAM)
    sock = socket.create_connection(where, timeout=left(deadline) / len(addresses))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _client(endpoint: Endpoint, wire: _Wire) -> Any:
    from thriftpy2.protocol import TBinaryProtocol, TCompactProtocol
    from thriftpy2.thrift import TClient
    from thriftpy2.transport import TBufferedTransport, TFramedTransport

    transports = {"buffered": TBufferedTransport, "framed": TFramedTransport}
    protocols: dict[str, Any] = {"binary": TBinaryProtocol, "compact": TCompactProtocol}
    protocol = protocols[endpoint.protocol]
    # Without ``decode_response`` off, a value that happens to be UTF-8 comes back as text.
    return TClient(
        _service(), protocol(transports[endpoint.transport](wire), decode_response=False)
    )


@cache
def _service() -> Any:
    """The interface with the one call added that happybase's is too old to have."""
    from thriftpy2.thrift import TPayload, TType

    arguments: dict[str, Any] = {"thrift_spec": {}, "default_spec": []}
    result = {
        "thrift_spec": {0: (TType.I32, "success", False)},
        "default_spec": [("success", None)],
        "oneway": False,
    }
    hbase = idl().Hbase
    added = {
        "thrift_services": [*hbase.thrift_services, "getThriftServerType"],
        "getThriftServerType_args": type("Arguments", (TPayload,), arguments),
        "getThriftServerType_result": type("Result", (TPayload,), result),
    }
    return type("Gateway", (hbase,), added)


def _text(exc: Any) -> str:
    message = exc.message
    return message.decode(errors="replace") if isinstance(message, bytes) else str(message)


def _reason(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "did not answer in time"
    if isinstance(exc, EOFError):
        return "closed the connection without an answer"
    if isinstance(exc, ConnectionRefusedError):
        return "refuses connections"
    if isinstance(exc, OSError):
        return f"cannot be reached: {exc.strerror or exc}"
    return f"sent an answer that cannot be read ({type(exc).__name__})"
