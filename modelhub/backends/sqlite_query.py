"""Searches in SQL: statements on the tables of one target, in which every value is bound.

A target's documents stand in ``documents_N``; their words in the FTS5 table ``texts_N`` under the
same numbers; keywords and numbers in ``keywords_N`` and ``numbers_N``.
"""

# ruff: noqa: S608 (tables are named after numbers of our own, and every value is bound)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from modelhub.backends.cursors import ended
from modelhub.backends.values import keyword
from modelhub.backends.words import Words, called, phrases, ranked, terms
from modelhub.query.clauses import And, Bag, Clause, Equal, Not, Or, Phrase, Prefix, Range, Word
from modelhub.query.fields import SCORE
from modelhub.stores import EXACT_NAME, FACET_VALUES, NAMED_FIELDS, TEXT_FIELDS, Query

COLUMNS = ", ".join((*TEXT_FIELDS, *NAMED_FIELDS))
_WEIGHTS = ", ".join(map(str, [*TEXT_FIELDS.values(), *(0.0 for _ in NAMED_FIELDS)]))
_ANYWHERE = f"{{{' '.join(TEXT_FIELDS)}}}"
AFTER_ALL = "\U0010ffff"
"""What sorts behind everything that a text may go on with."""


class Sql(NamedTuple):
    """A statement or a part of one, and the values of its question marks."""

    text: str
    values: tuple[Any, ...] = ()


def count(target: int, query: Query) -> Sql:
    """How many documents match."""
    found = _found(target, query)
    return Sql(f"SELECT count(*) FROM ({found.text})", found.values)


def facet(target: int, query: Query, field: str) -> Sql:
    """The most frequent keywords of a field among the documents that match, with their counts."""
    found = _found(target, query)
    return Sql(
        f"SELECT value, count(*) FROM keywords_{target}"
        f" WHERE field = ? AND document IN ({found.text})"
        " GROUP BY value ORDER BY 2 DESC, 1 LIMIT ?",
        (field, *found.values, FACET_VALUES),
    )


def best(target: int, query: Query) -> Sql:
    """Id, score, what is sorted by and body: a page of hits, and the one behind it."""
    found, scored = _found(target, query), _scored(target, query.where)
    key, behind = _key(target, query), _behind(query)
    order = "DESC" if query.sort.descending else "ASC"
    # Bodies are fetched for the page alone: they would make the sorting heavy.
    return Sql(
        f"WITH scored AS MATERIALIZED ({scored.text}), found AS ({found.text})"
        f" SELECT id, score, key, (SELECT body FROM documents_{target} AS held"
        "   WHERE held.number = paged.number)"
        f" FROM (SELECT *, {key.text} AS key FROM"
        "   (SELECT hit.number, id, coalesce(sum(points), 0.0) AS score"
        f"    FROM found JOIN documents_{target} AS hit USING (number)"
        "    LEFT JOIN scored USING (number) GROUP BY hit.number)"
        f"  WHERE {behind.text} ORDER BY key IS NULL, key {order}, id LIMIT ?) AS paged",
        (*scored.values, *found.values, *key.values, *behind.values, query.limit + 1),
    )


def _found(target: int, query: Query) -> Sql:
    """The numbers of all documents that match."""
    where = _condition(target, query.where)
    return Sql(
        f"SELECT number FROM documents_{target}"
        f" WHERE body IS NOT NULL AND (current OR NOT ?) AND {where.text}",
        (query.current_only, *where.values),
    )


def _scored(target: int, where: Clause | None) -> Sql:
    """Numbers of documents, each with some of its points."""
    wanted, names = ranked(where), sorted(called(where))
    if not wanted:
        return Sql("SELECT 0 AS number, 0.0 AS points")
    marks = ", ".join("?" * len(names))
    return Sql(
        f"SELECT rowid AS number, -bm25(texts_{target}, {_WEIGHTS}) AS points"
        f" FROM texts_{target} WHERE texts_{target} MATCH ?"
        f" UNION ALL SELECT document, ? FROM keywords_{target}"
        f" WHERE field = 'name' AND value IN ({marks})",
        (f"{_ANYWHERE} : ({' OR '.join(map(_string, wanted))})", EXACT_NAME, *names),
    )


def _key(target: int, query: Query) -> Sql:
    field = query.sort.field
    if field == SCORE:
        return Sql("score")
    table = f"keywords_{target}" if field == "name" else f"numbers_{target}"
    return Sql(f"(SELECT min(value) FROM {table} WHERE document = number AND field = ?)", (field,))


def _behind(query: Query) -> Sql:
    """Whether a hit comes behind the page before."""
    begin = ended(query)
    if begin is None:
        return Sql("TRUE")
    key, document_id = begin
    if key is None:
        return Sql("key IS NULL AND id > ?", (document_id,))
    sign = "<" if query.sort.descending else ">"
    return Sql(f"(key {sign} ? OR (key = ? AND id > ?) OR key IS NULL)", (key, key, document_id))


def _condition(target: int, clause: Clause | None) -> Sql:
    match clause:
        case None:
            return Sql("TRUE")
        case And(clauses=clauses):
            return _joined(" AND ", [_condition(target, inner) for inner in clauses])
        case Or(clauses=clauses):
            return _joined(" OR ", [_condition(target, inner) for inner in clauses])
        case Not(clause=inner):
            inside = _condition(target, inner)
            return Sql(f"NOT {inside.text}", inside.values)
        case _:
            return _leaf(target, clause)


def _leaf(target: int, clause: Word | Phrase | Bag | Equal | Prefix | Range) -> Sql:
    match clause:
        case Word(field=field) | Phrase(field=field):
            return _all_of(target, phrases(clause), field or _ANYWHERE)
        case Bag():
            return _most_of(target, clause)
        case Equal(field=field, value=value):
            return _keyword(target, Sql("field = ? AND value = ?", (field, keyword(value))))
        case Prefix(field=field, value=value):
            start = keyword(value)
            among = Sql("field = ? AND value BETWEEN ? AND ?", (field, start, start + AFTER_ALL))
            return _keyword(target, among)
        case Range():
            return _number(target, clause)


def _joined(operator: str, parts: Sequence[Sql]) -> Sql:
    text = operator.join(part.text for part in parts)
    return Sql(f"({text})", tuple(value for part in parts for value in part.values))


def _all_of(target: int, wanted: Sequence[Words], columns: str) -> Sql:
    if not wanted:
        return Sql("FALSE")
    match = f"{columns} : ({' AND '.join(map(_string, wanted))})"
    return Sql(
        f"number IN (SELECT rowid FROM texts_{target} WHERE texts_{target} MATCH ?)", (match,)
    )


def _most_of(target: int, bag: Bag) -> Sql:
    """FTS5 cannot ask for so many of so many, so each phrase is looked up, and they are counted."""
    wanted, texts = terms(bag), f"texts_{target}"
    if not wanted.terms:
        return Sql("FALSE")
    listed = [
        [number, term.least, f"{_ANYWHERE} : {_string(words)}"]
        for number, term in enumerate(wanted.terms)
        for words in term.phrases
    ]
    return Sql(
        "number IN (SELECT document FROM"
        f" (SELECT {texts}.rowid AS document, json_extract(listed.value, '$[0]') AS term"
        f"  FROM json_each(?) AS listed CROSS JOIN {texts}"
        f"  ON {texts} MATCH json_extract(listed.value, '$[2]')"
        "   GROUP BY 1, 2 HAVING count(*) >= json_extract(listed.value, '$[1]'))"
        " GROUP BY document HAVING count(*) >= ?)",
        (msgspec.json.encode(listed).decode(), wanted.least),
    )


def _keyword(target: int, among: Sql) -> Sql:
    text = f"number IN (SELECT document FROM keywords_{target} WHERE {among.text})"
    return Sql(text, among.values)


def _number(target: int, bounds: Range) -> Sql:
    strict = "" if bounds.strict else "="
    limits = [
        Sql(f"value {sign}{strict} ?", (bound,))
        for sign, bound in ((">", bounds.low), ("<", bounds.high))
        if bound is not None
    ]
    among = _joined(" AND ", [Sql("field = ?", (bounds.field,)), *limits])
    return Sql(
        f"number IN (SELECT document FROM numbers_{target} WHERE {among.text})", among.values
    )


def _string(words: Words) -> str:
    """FTS5's phrase; words hold no quotes, being letters and digits."""
    return '"' + " ".join(words) + '"'
