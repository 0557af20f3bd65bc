"""Searches in Elasticsearch's terms: what matches, how it is ranked, sorted and counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from modelhub.backends.elastic_documents import ALL, KEYWORDS, NUMBERS, PAIRS, SPELLINGS
from modelhub.backends.spelling import edits
from modelhub.backends.values import keyword
from modelhub.backends.words import Words, called, phrases, ranked, terms
from modelhub.query.clauses import And, Bag, Clause, Equal, Not, Or, Phrase, Prefix, Range, Word
from modelhub.query.fields import SCORE, Kind, Sort, kind_of
from modelhub.stores import EXACT_NAME, FACET_VALUES, TEXT_FIELDS, Query

Json = dict[str, Any]

PER_INDEX: Json = {"indices": {"terms": {"field": "_index", "size": 10_000}}}
"""How many documents each index has."""

_NOTHING: Json = {"match_none": {}}
_CANDIDATES = 50
_LONGS = 2.0**63


def matching(query: Query) -> Json:
    """What matches, and how it is ranked: by BM25F over the weighted fields, and by phrases."""
    # A tombstone has no `current`.
    live = {"term": {"current": True}} if query.current_only else {"exists": {"field": "current"}}
    held = [] if query.where is None else [_condition(query.where)]
    return {"bool": {"filter": [live, *held], "should": _points(query.where)}}


def sorting(sort: Sort) -> list[Json]:
    """The order of hits; equals by id."""
    order: Json = {"order": "desc" if sort.descending else "asc"}
    kind = None if sort.field == SCORE else kind_of(sort.field)
    if kind is None:
        by = {"_score": order}
    elif kind is Kind.NAME:
        by = {f"{KEYWORDS}.{sort.field}": {**order, "missing": "_last"}}
    elif kind is Kind.PAIR:
        own = {"path": PAIRS, "filter": {"term": {f"{PAIRS}.key": sort.field}}}
        by = {f"{PAIRS}.number": {**order, "missing": "_last", "nested": own}}
    else:
        by = {f"{NUMBERS}.{sort.field}": {**order, "missing": "_last"}}
    return [by, {"id": "asc"}]


def counting(facets: Sequence[str]) -> Json:
    """The most frequent keywords of each field, equally frequent ones by name."""
    order = [{"_count": "desc"}, {"_key": "asc"}]
    return {
        field: {"terms": {"field": f"{KEYWORDS}.{field}", "size": FACET_VALUES, "order": order}}
        for field in facets
    }


def suggesting(words: Sequence[str]) -> Json:
    """Words that the index holds near each of ``words`` that it does not."""
    return {
        str(number): {
            "text": word,
            "term": {
                "field": SPELLINGS,
                "suggest_mode": "missing",
                "max_edits": edits(word),
                "prefix_length": 1,
                "min_word_length": 1,
                "size": _CANDIDATES,
            },
        }
        for number, word in enumerate(words)
    }


def _points(where: Clause | None) -> list[Json]:
    wanted, names = ranked(where), sorted(called(where))
    if not wanted:
        return []
    single = {
        "query": " ".join(words[0] for words in wanted if len(words) == 1),
        "fields": [f"{field}^{weight}" for field, weight in TEXT_FIELDS.items()],
        "operator": "or",
    }
    exact = {"filter": {"terms": {f"{KEYWORDS}.name": names}}, "boost": EXACT_NAME}
    pairs = [_phrase(words, ALL) for words in wanted if len(words) > 1]
    return [{"combined_fields": single}, *pairs, {"constant_score": exact}]


def _condition(clause: Clause) -> Json:
    match clause:
        case And(clauses=clauses):
            return {"bool": {"filter": [_condition(inner) for inner in clauses]}}
        case Or(clauses=clauses):
            return _some(1, [_condition(inner) for inner in clauses])
        case Not(clause=inner):
            return {"bool": {"must_not": [_condition(inner)]}}
        case Word(field=field) | Phrase(field=field):
            held = [_phrase(words, field or ALL) for words in phrases(clause)]
            return {"bool": {"filter": held}} if held else _NOTHING
        case Bag():
            return _bag(clause)
        case _:
            return _value(clause)


def _value(clause: Equal | Prefix | Range) -> Json:
    match clause:
        case Equal(field=field, value=value):
            return _keyword("term", field, keyword(value))
        case Prefix(field=field, value=value):
            return _keyword("prefix", field, keyword(value))
        case Range(field=field):
            low, high = ("gt", "lt") if clause.strict else ("gte", "lte")
            bounds = {low: clause.low, high: clause.high}
            given = {sign: bound for sign, bound in bounds.items() if bound is not None}
            if kind_of(field) is Kind.PAIR:
                return _pair(field, {"range": {f"{PAIRS}.number": given}})
            if (clause.low or 0) >= _LONGS or (clause.high or 0) < -_LONGS:
                return _NOTHING
            # Bounds that no value reaches: the field is of 64 bits, and refuses others.
            within = {sign: bound for sign, bound in given.items() if abs(bound) < _LONGS}
            return {"range": {f"{NUMBERS}.{field}": within}}


def _bag(bag: Bag) -> Json:
    wanted = terms(bag)
    held = [_some(term.least, [_phrase(one, ALL) for one in term.phrases]) for term in wanted.terms]
    return _some(wanted.least, held) if held else _NOTHING


def _some(least: int, conditions: list[Json]) -> Json:
    """At least so many of these."""
    if len(conditions) == 1:
        return conditions[0]
    return {"bool": {"should": conditions, "minimum_should_match": least}}


def _phrase(words: Words, field: str) -> Json:
    return {"match_phrase": {field: " ".join(words)}}


def _keyword(how: str, field: str, value: str) -> Json:
    if kind_of(field) is Kind.PAIR:
        return _pair(field, {how: {f"{PAIRS}.keyword": value}})
    return {how: {f"{KEYWORDS}.{field}": value}}


def _pair(field: str, condition: Json) -> Json:
    both = {"bool": {"filter": [{"term": {f"{PAIRS}.key": field}}, condition]}}
    return {"nested": {"path": PAIRS, "query": both}}
