"""What a target is made of in Elasticsearch: settings, mapping, stored documents and queries.

Words are cut and folded by ``words``, as for every other engine, and arrive parted by spaces:
Elasticsearch splits them there and stems English. So both engines find the same, by one set of
rules that is tested in one place, and a cluster needs no plugin.

A stored document is ``{"id", "current", FIELD: words…, "body"}``; a tombstone has ``id`` and a
``body`` of null alone. ``body`` is kept as it came and never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from modelhub.backends.words import phrases, words
from modelhub.errors import CorruptData, InvalidInput
from modelhub.names import shown
from modelhub.stores import TEXT_FIELDS, Document, Query

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")

# One request's worth: far below the 100 MB that a server takes by default, and large enough that
# the round trip does not matter.
_BATCH_BYTES = 4 * 2**20
# Ranking looks at so many different words; all of them must occur, however many they are. Each is
# a clause a field, and Elasticsearch refuses a query with too many (8,192 with 512 MiB of heap).
_RANKED_WORDS = 128

SETTINGS: dict[str, Any] = {
    # One shard: scores from different shards cannot be compared, and 1,000,000 descriptions fit.
    "number_of_shards": 1,
    "auto_expand_replicas": "0-1",  # green on a single node, a copy on any other
    "max_result_window": 11_000,  # the largest offset and the largest limit
    "analysis": {
        "tokenizer": {
            # The longest word that Lucene can hold, if each character takes four bytes.
            "spaces": {"type": "whitespace", "max_token_length": 8191}
        },
        "analyzer": {"words": {"type": "custom", "tokenizer": "spaces", "filter": ["porter_stem"]}},
    },
}

_ALL = "all"
MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "id": {"type": "keyword"},
        "current": {"type": "boolean"},
        "body": {"type": "object", "enabled": False},
        # Every field's words, in which matches are looked up; only they have positions.
        _ALL: {"type": "text", "analyzer": "words", "norms": False},
        **{
            field: {"type": "text", "analyzer": "words", "index_options": "freqs", "copy_to": _ALL}
            for field in TEXT_FIELDS
        },
    },
}
"""Strict, so that a field nobody planned for is an error and not a guess about its type."""

INDEX = ".index"
"""What follows a target's name in that of its index."""

ANSWERED = ["body"]
"""What of a stored document is read back; the words only answer searches."""


def check_target(target: str, prefix: str) -> None:
    """Refuse what would be a pattern, a list of names or somebody else's index.

    Raises:
        InvalidInput: it is none of our targets' names.
    """
    if not _NAME.fullmatch(target) or not target.startswith(prefix):
        raise InvalidInput(
            f"{shown(target)} is not the name of a search target here",
            remedy=f"Begin it with {prefix!r} and use a-z, 0-9, '.', '_' and '-'.",
        )


def bulk_bodies(documents: Sequence[Document]) -> Iterator[list[bytes]]:
    """The lines of bulk requests, each request bounded in bytes, or of one document."""
    lines: list[bytes] = []
    size = 0
    for document in documents:
        action = {"_id": document.id, "version": document.version, "version_type": "external"}
        pair = [msgspec.json.encode({"index": action}), msgspec.json.encode(_stored(document))]
        added = sum(map(len, pair))
        if lines and size + added > _BATCH_BYTES:
            yield lines
            lines, size = [], 0
        lines += pair
        size += added
    if lines:
        yield lines


def _stored(document: Document) -> dict[str, Any]:
    body = document.body
    if body is None:
        return {"id": document.id, "body": None}
    texts = {field: " ".join(found) for field, found in words(body).items() if found}
    return {"id": document.id, "current": bool(body.get("current")), **texts, "body": body}


def read_document(answer: Mapping[str, Any]) -> Document:
    """A document as ``_mget`` or a search with versions gives it.

    Raises:
        CorruptData: it is not one that this backend stored.
    """
    return Document(answer["_id"], answer["_version"], read_body(answer))


def read_body(answer: Mapping[str, Any]) -> dict[str, Any] | None:
    """A document's body, None for a tombstone's.

    Raises:
        CorruptData: it is not one that this backend stored.
    """
    body = answer.get("_source", {}).get("body", "absent")
    if body is None or isinstance(body, dict):
        return body
    raise CorruptData(
        f"the search document {shown(answer['_id'])} is damaged: its body is no object",
        remedy="Run `modelhub admin reindex`.",
    )


def matching(query: Query) -> dict[str, Any] | None:
    """The query in Elasticsearch's terms; None where its text holds no word and so finds nothing.

    A document matches that has every phrase in some field, and none reaches from one field into the
    next. It is ranked by BM25F over the weighted fields, like the embedded engine's.
    """
    wanted = phrases(query.text)
    if not wanted and query.text.strip():
        return None
    # A tombstone has no `current`.
    live = {"term": {"current": True}} if query.current_only else {"exists": {"field": "current"}}
    held = [{"match_phrase": {_ALL: " ".join(phrase)}} for phrase in wanted]
    found: dict[str, Any] = {"filter": [live, *held]}
    if wanted:
        different = dict.fromkeys(word for phrase in wanted for word in phrase)
        ranked = {
            "query": " ".join(list(different)[:_RANKED_WORDS]),
            "fields": [f"{field}^{weight}" for field, weight in TEXT_FIELDS.items()],
            "operator": "or",
        }
        found["should"] = [{"combined_fields": ranked}]
    return {"bool": found}
