"""A stand-in for HBase's Thrift gateway that fails at everything, as a test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from modelhub.backends import hbase_wire

HOST = "127.0.0.1"


@contextmanager
def gateway(raised: Callable[[], Exception], server_type: int = 1) -> Iterator[int]:
    """A gateway that answers everything but the greeting with an error; its port."""
    protocols: Any = import_module("thriftpy2.protocol")
    transports: Any = import_module("thriftpy2.transport")
    processor = import_module("thriftpy2.thrift").TProcessor

    class Handler:
        def __getattr__(self, name: str) -> Callable[..., Any]:
            def answer(*_: object) -> Any:
                if name == "getThriftServerType":
                    return server_type
                raise raised()

            return answer

    answering = processor(hbase_wire._service(), Handler())

    def serve(client: socket.socket) -> None:
        transport = transports.TBufferedTransport(transports.TSocket(sock=client))
        protocol = protocols.TBinaryProtocol(transport)
        try:
            while True:
                answering.process(protocol, protocol)
        except Exception:  # noqa: BLE001 (the client has gone)
            client.close()

    def listen() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[client], daemon=True).start()

    with socket.create_server((HOST, 0)) as listener:
        threading.Thread(target=listen, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def io_error(text: str) -> Callable[[], Exception]:
    """What HBase says it failed at."""
    return lambda: hbase_wire.idl().IOError(message=text.encode())
