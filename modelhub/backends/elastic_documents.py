"""What a target is made of in Elasticsearch: settings, mapping and stored documents.

Words are cut, folded and stemmed by ``words``, as for every other engine, and arrive parted by
spaces: Elasticsearch only splits them there. So all engines find the same, by one set of rules
that is tested in one place, and a cluster needs no plugin.

A stored document is ``{"id", "current", FIELD: words…, "keyword": {FIELD: values…}, "number":
{FIELD: value…}, "pairs": [{"key", "keyword" or "number"}…], "spelling", "body"}``; a tombstone has
``id`` and a ``body`` of null alone. ``body`` is kept as it came and never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from modelhub.backends.values import keywords, numbers
from modelhub.backends.words import spellings, stored_words
from modelhub.errors import CorruptData, InvalidInput
from modelhub.names import shown
from modelhub.query.fields import FIELDS, Kind
from modelhub.stores import NAMED_FIELDS, TEXT_FIELDS, Document

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,199}")

# One request's worth: far below the 100 MB that a server takes by default, and large enough that
# the round trip does not matter.
_BATCH_BYTES = 4 * 2**20

SETTINGS: dict[str, Any] = {
    # One shard: scores from different shards cannot be compared, and 1,000,000 descriptions fit.
    "number_of_shards": 1,
    # By default a document may be found only a whole second after its writing.
    "refresh_interval": "500ms",
    "auto_expand_replicas": "0-1",  # green on a single node, a copy on any other
    "analysis": {
        "tokenizer": {
            # The longest word that Lucene can hold, if each character takes four bytes.
            "spaces": {"type": "whitespace", "max_token_length": 8191}
        },
        "analyzer": {"words": {"type": "custom", "tokenizer": "spaces", "filter": []}},
    },
}

ALL = "all"
"""The words of every field in which a word is sought that names none."""

KEYWORDS, NUMBERS, PAIRS, SPELLINGS = "keyword", "number", "pairs", "spelling"

_TYPES = {Kind.NUMBER: "long", Kind.SIZE: "long", Kind.TIME: "date"}
_TEXT = {"type": "text", "analyzer": "words"}
MAPPINGS: dict[str, Any] = {
    "dynamic": "strict",
    "properties": {
        "id": {"type": "keyword"},
        "current": {"type": "boolean"},
        "body": {"type": "object", "enabled": False},
        ALL: {**_TEXT, "norms": False},
        **{field: {**_TEXT, "copy_to": ALL} for field in TEXT_FIELDS},
        **dict.fromkeys(NAMED_FIELDS, _TEXT),
        KEYWORDS: {
            "properties": {
                field: {"type": "keyword"}
                for field, (kind, _) in FIELDS.items()
                if kind in {Kind.KEYWORD, Kind.NAME}
            }
        },
        NUMBERS: {
            "properties": {
                field: {"type": _TYPES[kind]}
                | ({"format": "epoch_millis"} if kind is Kind.TIME else {})
                for field, (kind, _) in FIELDS.items()
                if kind in _TYPES
            }
        },
        PAIRS: {
            "type": "nested",
            "properties": {
                "key": {"type": "keyword"},
                "keyword": {"type": "keyword"},
                "number": {"type": "double"},
            },
        },
        SPELLINGS: {**_TEXT, "norms": False, "index_options": "docs"},
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
    texts = {field: " ".join(found) for field, found in stored_words(body).items() if found}
    return {
        "id": document.id,
        "current": bool(body.get("current")),
        **texts,
        **_values(body),
        SPELLINGS: " ".join(sorted(spellings(body))),
        "body": body,
    }


def _values(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body's keywords and numbers, those of pairs apart from the others."""
    texts, counts = keywords(body), numbers(body)
    pairs = [
        {"key": field, what: value}
        for what, values in (("keyword", texts), ("number", counts))
        for field, value in values.items()
        if field not in FIELDS
    ]
    return {
        KEYWORDS: {field: values for field, values in texts.items() if field in FIELDS},
        NUMBERS: {field: value for field, value in counts.items() if field in FIELDS},
        PAIRS: pairs,
    }


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
