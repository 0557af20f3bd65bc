"""A TCP proxy in front of a real server that spoils one reply, as networks do."""

from __future__ import annotations

import enum
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self

HOST = "127.0.0.1"
WAIT_S = 30.0
_BYTES = 1 << 16


class Fault(enum.Enum):
    """What becomes of a reply."""

    HOLD = "it waits until `release`, and the connection stays open"
    CUT = "the connection is cut in its place"
    HALF = "the connection is cut in its middle"
    GARBAGE = "other bytes come in its place"


class Proxy:
    """For protocols in which each request has one reply and waits for it, such as Thrift.

    Attributes:
        port: where it listens.
        accepted: the number of connections that it was asked for.
        most: the number of them that were open at once, at most.
        acted: set when the request has come whose reply is to be spoilt.
        delivered: set when a reply that was held has been handed on, or could not be any more.
    """

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._relays: set[_Relay] = set()
        self._fault: Fault | None = None
        self._skip = 0
        self.released = threading.Event()
        self.acted = threading.Event()
        self.delivered = threading.Event()
        self.accepted = 0
        self.most = 0
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.refuse()
        self.release()

    def spoil(self, fault: Fault, *, after: int = 0) -> None:
        """Spoil the reply to the request after the next ``after`` ones, on whatever connection."""
        with self._lock:
            self._fault, self._skip = fault, after
            self.released.clear()
            self.acted.clear()
            self.delivered.clear()

    def release(self) -> None:
        """Hand on the reply that is held."""
        self.released.set()

    def cut(self) -> None:
        """Cut every connection."""
        with self._lock:
            relays = list(self._relays)
        for relay in relays:
            relay.cut()

    def refuse(self) -> None:
        """Cut every connection and take no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def take_fault(self) -> Fault | None:
        """What is to become of the reply to a request that comes now."""
        with self._lock:
            if self._fault is None or self._skip:
                self._skip = max(self._skip - 1, 0)
                return None
            fault, self._fault = self._fault, None
            self.acted.set()
            return fault

    def forget(self, relay: _Relay) -> None:
        with self._lock:
            self._relays.discard(relay)

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            relay = _Relay(self, client, socket.create_connection(self._server, WAIT_S))
            with self._lock:
                self._relays.add(relay)
                self.accepted += 1
                self.most = max(self.most, len(self._relays))
            relay.start()


class _Relay:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fault: Fault | None = None
        self._answered = True

    def start(self) -> None:
        threading.Thread(target=self._requests, daemon=True).start()
        threading.Thread(target=self._replies, daemon=True).start()

    def cut(self) -> None:
        for sock in (self._client, self._server):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _requests(self) -> None:
        with self._ending():
            while data := self._client.recv(_BYTES):
                if self._answered:
                    self._answered, self._fault = False, self._proxy.take_fault()
                self._server.sendall(data)

    def _replies(self) -> None:
        with self._ending():
            while data := self._server.recv(_BYTES):
                first, self._answered = not self._answered, True
                if first and not self._hand_on_first(data):
                    break
                if not first:
                    self._client.sendall(data)
        if self._fault is Fault.HOLD:
            self._proxy.delivered.set()
        self._proxy.forget(self)
        self._client.close()
        self._server.close()

    def _hand_on_first(self, data: bytes) -> bool:
        """Hand on the first bytes of a reply, or what becomes of them; whether it goes on."""
        if self._fault is Fault.HALF:
            data = data[: len(data) // 2]
        if self._fault is Fault.GARBAGE:
            data = b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4
        if self._fault is Fault.HOLD:
            self._proxy.released.wait(WAIT_S)
        if self._fault is not Fault.CUT:
            self._client.sendall(data)
        if self._fault is Fault.HOLD:
            self._proxy.delivered.set()
        return self._fault not in {Fault.CUT, Fault.HALF}

    @contextmanager
    def _ending(self) -> Iterator[None]:
        try:
            with suppress(OSError):
                yield
        finally:
            self.cut()
