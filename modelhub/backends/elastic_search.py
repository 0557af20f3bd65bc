"""A search index in Elasticsearch: each target an alias of one index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelhub.backends.checks import check_query
from modelhub.backends.cursors import cursor, ended, signature
from modelhub.backends.elastic_documents import (
    ANSWERED,
    INDEX,
    MAPPINGS,
    SETTINGS,
    bulk_bodies,
    check_target,
    read_body,
    read_document,
)
from modelhub.backends.elastic_errors import failed_items, no_shard, reading, unread, writing
from modelhub.backends.elastic_query import PER_INDEX, counting, matching, sorting, suggesting
from modelhub.backends.elastic_server import Server
from modelhub.backends.highlights import highlight
from modelhub.backends.spelling import nearest
from modelhub.backends.words import folded
from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable
from modelhub.stores import Count, Document, Hit, Hits, Query

_GET_BATCH = 250
_PAGE = 250
_KEEP_ALIVE = "5m"
# What the servers may wait for shards, as part of the time after which this side gives up: so that
# it is they who say what is missing.
_SERVERS_PART = 0.8


class ElasticIndex:
    """A search index in an Elasticsearch cluster, version 8 or 9.

    The target ``T`` is an alias of the index ``T.index``. Writes demand an alias, and Elasticsearch
    never makes one of its own accord: so no write brings a target into being, whatever becomes of
    the index meanwhile and whatever ``action.auto_create_index`` says.

    Args:
        url: ``https://HOST:PORT``, or several, of nodes of one cluster; calls go to each in turn.
        user: who asks, with ``password``; or else ``api_key`` in its encoded form.
        password: see ``user``.
        api_key: see ``user``.
        ca: the certificate of the authority to trust, instead of the well-known ones.
        timeout_s: how long a call waits.
        prefix: how the names of targets begin; only those are listed and touched.

    Raises:
        InvalidInput: a URL, the credentials or the authority's certificate cannot be used.
        NotInstalled: the driver is missing.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        user: str | None = None,
        password: str | None = None,
        api_key: str | None = None,
        ca: Path | None = None,
        timeout_s: float = 10.0,
        prefix: str = "modelhub-",
    ) -> None:
        self._server = Server(
            [url] if isinstance(url, str) else url,
            user=user,
            password=password,
            api_key=api_key,
            ca=ca,
            timeout_s=timeout_s,
        )
        self._timeout_s = timeout_s
        self._prefix = prefix

    def create_target(self, target: str) -> None:
        """Make an index together with its alias, in one step."""
        from elasticsearch import BadRequestError

        check_target(target, self._prefix)
        waits = self._waits()
        with writing(self._server, target):
            try:
                made = self._server.client().indices.create(
                    index=target + INDEX,
                    aliases={target: {}},
                    settings=SETTINGS,
                    mappings=MAPPINGS,
                    timeout=waits,
                    master_timeout=waits,
                )
            except BadRequestError as exc:
                if exc.message == "resource_already_exists_exception":
                    return
                raise
        if not (made["acknowledged"] and made["shards_acknowledged"]):
            raise OutcomeUnknown(
                f"the search index at {self._server.address} has not started {target} yet",
                remedy="See GET /_cluster/allocation/explain, then try again.",
            )

    def drop_target(self, target: str) -> None:
        """Remove the index, and its alias with it."""
        check_target(target, self._prefix)
        waits = self._waits()
        with writing(self._server, target):
            dropped = self._server.client().indices.delete(
                index=target + INDEX, ignore_unavailable=True, timeout=waits, master_timeout=waits
            )
        if not dropped["acknowledged"]:
            raise OutcomeUnknown(
                f"not every node of {self._server.address} has dropped {target} yet",
                remedy="Try again.",
            )

    def targets(self) -> list[str]:
        """The aliases with our prefix whose index is named after them, sorted."""
        with reading(self._server):
            indices = self._server.client().indices.get_alias(name=f"{self._prefix}*")
        return sorted(
            alias
            for index, held in indices.items()
            for alias in held["aliases"]
            if index == alias + INDEX
        )

    def write(
        self, target: str, documents: Sequence[Document], *, timeout_s: float | None = None
    ) -> None:
        """Store each document by its external version, in bulk requests of some megabytes.

        Without ``timeout_s`` each request may take as long as any other call.

        Raises:
            CorruptData: the target's mapping does not take a document.
        """
        check_target(target, self._prefix)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        stored = False
        for lines in bulk_bodies(documents):
            left = self._timeout_s if until is None else until - time.monotonic()
            try:
                self._write_bulk(target, lines, min(left, self._timeout_s), stored=stored)
            except Unavailable as exc:
                if stored:
                    raise OutcomeUnknown(exc.message, remedy=exc.remedy) from exc
                raise
            stored = True

    def _write_bulk(
        self, target: str, lines: list[bytes], timeout_s: float, *, stored: bool
    ) -> None:
        if timeout_s <= 0:
            raise Unavailable(
                f"writing to {self._server.address} took too long", remedy="Try again."
            )
        with writing(self._server, target):
            # The driver passes on what is JSON already, though its types say otherwise.
            operations: Any = lines
            answer = self._server.client(timeout_s).bulk(
                index=target,
                operations=operations,
                require_alias=True,
                timeout=_milliseconds(timeout_s * _SERVERS_PART),
                filter_path=["errors", "items.*._id", "items.*.status", "items.*.error"],
            )
        if answer["errors"]:
            error = failed_items(self._server, target, answer["items"], stored=stored)
            if error is not None:
                raise error

    def refresh(self, target: str) -> None:
        """Open the index anew for searches, on every copy."""
        check_target(target, self._prefix)
        with reading(self._server, target):
            shards = self._server.client().indices.refresh(index=target)["_shards"]
        if shards["failed"] or not shards["successful"]:
            raise no_shard(self._server, target, "its shard has no copy that is up")

    def get(self, target: str, ids: Sequence[str]) -> dict[str, Document]:
        """The documents that are there among ``ids``; each is read by itself, as of now."""
        check_target(target, self._prefix)
        found = {}
        for start in range(0, len(ids), _GET_BATCH):
            batch = list(ids[start : start + _GET_BATCH])
            with reading(self._server, target):
                answer = self._server.client().mget(
                    index=target, ids=batch, source_includes=ANSWERED
                )
            for document in answer["docs"]:
                if "error" in document:
                    raise unread(self._server, target, document["error"])
                if document["found"]:
                    found[document["_id"]] = read_document(document)
        return found

    def scan(self, target: str) -> Iterator[Document]:
        """Every document as of the beginning, read page by page.

        Raises:
            Unavailable: a page could not be read completely, or was asked for too late.
        """
        self.refresh(target)
        client = self._server.client()
        with reading(self._server, target):
            point = client.open_point_in_time(index=target, keep_alive=_KEEP_ALIVE)["id"]
        try:
            after: list[Any] | None = None
            while True:
                with reading(self._server, target):
                    answer = client.search(
                        pit={"id": point, "keep_alive": _KEEP_ALIVE},
                        sort=[{"id": "asc"}],
                        search_after=after,
                        size=_PAGE,
                        version=True,
                        source_includes=ANSWERED,
                        track_total_hits=False,
                        allow_partial_search_results=False,
                    )
                point, found = answer["pit_id"], self._complete(target, answer.body)["hits"]
                yield from map(read_document, found)
                if len(found) < _PAGE:
                    return
                after = found[-1]["sort"]
        finally:
            # It ends by itself, only later.
            with suppress(ModelhubError), reading(self._server, target):
                client.close_point_in_time(id=point)

    def search(self, target: str, query: Query) -> Hits:
        """Documents by one request, ranked by BM25F over the weighted fields."""
        check_query(query)
        check_target(target, self._prefix)
        begin = ended(query)
        with reading(self._server, target):
            answer = self._server.client().search(
                index=target,
                query=matching(query),
                sort=sorting(query.sort),
                search_after=None if begin is None else list(begin),
                aggregations=counting(query.facets) or None,
                size=query.limit + 1,
                source_includes=ANSWERED,
                track_scores=True,
                track_total_hits=True,
                allow_partial_search_results=False,
                # Copies of a shard score a little differently, so the pages of one search come
                # from one copy, and different searches from different ones.
                preference=f"q{signature(query)}",
            )
        found = self._complete(target, answer.body)
        page = found["hits"][: query.limit]
        more = len(found["hits"]) > query.limit
        return Hits(
            found["total"]["value"],
            [_hit(hit, query) for hit in page],
            cursor(query, page[-1]["sort"]) if more else None,
            {field: _counts(answer["aggregations"][field]) for field in query.facets},
        )

    def near(self, target: str, words: Sequence[str]) -> dict[str, list[str]]:
        """What the index's suggester finds, put in order as by every other engine."""
        check_target(target, self._prefix)
        asked = [folded(word) for word in words]
        with reading(self._server, target):
            answer = self._server.client().search(
                index=target, size=0, suggest=suggesting(asked), allow_partial_search_results=False
            )
        self._complete(target, answer.body)
        found = {}
        for number, word in enumerate(words):
            options = [
                option for part in answer["suggest"][str(number)] for option in part["options"]
            ]
            spelt = {option["text"]: option["freq"] for option in options}
            if others := nearest(word, spelt):
                found[word] = others
        return found

    def _complete(self, target: str, answer: Mapping[str, Any]) -> Mapping[str, Any]:
        """The hits of an answer to which every shard contributed in time."""
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise no_shard(self._server, target, "not every shard answered in time")
        hits: Mapping[str, Any] = answer["hits"]
        return hits

    def describe(self) -> dict[str, Any]:
        """Kind, address, version, health; bytes on disk and documents held in each target.

        Those of other hubs with the same prefix are among them. Where shards are missing, nobody
        knows how many documents there are.
        """
        client, ours = self._server.client(), f"{self._prefix}*{INDEX}"
        with reading(self._server):
            version = client.info()["version"]["number"]
            health = client.cluster.health()["status"]
            held = client.indices.stats(index=ours, metric=["store"])["indices"]
            documents = {}
            if health != "red":  # It would wait for the shards that are missing.
                client.indices.refresh(index=ours)
                # What the statistics call documents are also the pairs of each.
                counted = client.search(index=ours, size=0, aggregations=PER_INDEX)
                buckets = counted["aggregations"]["indices"]["buckets"]
                found = {bucket["key"]: bucket["doc_count"] for bucket in buckets}
                documents = {index.removesuffix(INDEX): found.get(index, 0) for index in held}
        primaries = {index.removesuffix(INDEX): of["primaries"] for index, of in held.items()}
        return {
            "kind": "elasticsearch",
            "address": self._server.address,
            "version": version,
            "health": health,
            "bytes": {target: of["store"]["size_in_bytes"] for target, of in primaries.items()},
            "documents": documents,
        }

    def close(self) -> None:
        """Close this process's connections."""
        self._server.close()

    def _waits(self) -> str:
        """How long the servers may wait for the master, and as long again for the other nodes."""
        return _milliseconds(self._timeout_s * _SERVERS_PART / 2)


def _hit(answer: Mapping[str, Any], query: Query) -> Hit:
    body = read_body(answer) or {}
    shown = highlight(body, query.where) if query.highlight else None
    return Hit(answer["_id"], answer["_score"], body, shown)


def _counts(aggregation: Mapping[str, Any]) -> list[Count]:
    return [Count(bucket["key"], bucket["doc_count"]) for bucket in aggregation["buckets"]]


def _milliseconds(seconds: float) -> str:
    return f"{max(1, int(seconds * 1000))}ms"
