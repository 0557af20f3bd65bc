"""Elasticsearch for the contract of search: a target of its own for each test."""

from __future__ import annotations

import json
import secrets
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from ssl import create_default_context
from typing import Any, Protocol
from urllib.error import HTTPError

from modelhub.backends.elastic_search import ElasticIndex
from modelhub.testing.contracts import SearchBackend


class SearchStack(Protocol):
    """Where an Elasticsearch is."""

    @property
    def search_url(self) -> str: ...
    @property
    def search_ca(self) -> Path | None: ...
    @property
    def search_user(self) -> str | None: ...
    @property
    def search_password(self) -> str | None: ...


def elastic_search(stack: SearchStack) -> Iterator[SearchBackend]:
    """A new target, which is gone afterwards, with all that were made beside it."""
    target = f"modelhub-test-{secrets.token_hex(8)}"

    def open_index() -> ElasticIndex:
        return open_elastic(stack, prefix=target)

    def raw_get(target: str, document_id: str) -> tuple[int, dict[str, Any] | None] | None:
        status, answer = request(stack, "GET", f"/{target}/_doc/{document_id}")
        return None if status == 404 else (answer["_version"], answer["_source"]["body"])

    with closing(open_index()) as index:
        index.create_target(target)
    try:
        yield SearchBackend(open=open_index, target=target, raw_get=raw_get)
    finally:
        with closing(open_index()) as index:
            for made in index.targets():
                index.drop_target(made)


def open_elastic(stack: SearchStack, **options: Any) -> ElasticIndex:
    """An index in the stack's cluster, as the stack's own user if no other is named."""
    credentials = {"user": stack.search_user, "password": stack.search_password}
    if "api_key" in options:
        credentials = {}
    return ElasticIndex(stack.search_url, **{"ca": stack.search_ca, **credentials, **options})


def request(stack: SearchStack, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Status and answer of one request that goes past the driver."""
    headers = {"Content-Type": "application/json"}
    if stack.search_user:
        login = f"{stack.search_user}:{stack.search_password}".encode()
        headers["Authorization"] = "Basic " + b64encode(login).decode()
    data = None if body is None else json.dumps(body).encode()
    sent = urllib.request.Request(stack.search_url + path, data, headers, method=method)
    context = create_default_context(cafile=stack.search_ca) if stack.search_ca else None
    try:
        with urllib.request.urlopen(sent, timeout=30, context=context) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)
