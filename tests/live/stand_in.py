"""A stand-in for Elasticsearch that answers as a test says."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PRODUCT = {"X-Elastic-Product": "Elasticsearch"}
HITS = {"hits": {"total": {"value": 0}, "hits": []}, "timed_out": False, "_shards": {"failed": 0}}
"""The answer to a search that found nothing."""


@dataclass
class Answer:
    """What the stand-in says; a body that is no text is JSON."""

    status: int = 200
    body: Any = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=lambda: dict(PRODUCT))


@dataclass
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Message
    body: bytes

    @property
    def ids(self) -> list[str]:
        """The documents of a bulk request."""
        return [json.loads(line)["index"]["_id"] for line in self.body.splitlines()[::2]]


class StandIn(ThreadingHTTPServer):
    """Answers as the test says; None closes the connection without an answer."""

    daemon_threads = True
    request_queue_size = 16

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Answer | None] = lambda _: Answer()
        self.over = threading.Event()

    def hang(self, _asked: Asked) -> None:
        """Never answer."""
        self.over.wait()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what some tests are about."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: StandIn

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = Asked(self.command, self.path, self.headers, self.rfile.read(length))
        self.server.asked.append(asked)
        answer = self.server.answer(asked)
        self.close_connection = answer is None
        if answer is None:
            return
        body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**headers, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - names of the standard library

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    thread = threading.Thread(target=stand_in.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.over.set()
        stand_in.shutdown()
        thread.join()
        stand_in.server_close()


def error(kind: str, reason: str = "the reason") -> dict[str, Any]:
    """An error as Elasticsearch writes it."""
    return {"error": {"root_cause": [{"type": kind, "reason": reason}], "type": kind}}


def bulk_answer(*results: tuple[int, str]) -> Answer:
    """The outcome of each document: a status, and a type of error."""
    items = [
        {"index": {"_id": str(at), "status": status, **(error(kind) if kind else {})}}
        for at, (status, kind) in enumerate(results)
    ]
    for item in items:
        if "error" in item["index"]:
            item["index"]["error"] = item["index"]["error"]["root_cause"][0]
    return Answer(body={"errors": any(kind for _, kind in results), "items": items})


def taken(asked: Asked) -> Answer:
    """A bulk request of which every document was stored."""
    return bulk_answer(*[(201, "")] * len(asked.ids))
