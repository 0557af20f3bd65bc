"""Whether a clause holds for a document, decided by looking at the document alone.

The plainest answer there is, which the engines' answers are tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelhub.backends.values import keyword, keywords, numbers
from modelhub.backends.words import Words, called, phrases, ranked, stored_words, terms
from modelhub.query.clauses import (
    And,
    Bag,
    Clause,
    Equal,
    Not,
    Or,
    Phrase,
    Prefix,
    Range,
    Word,
)
from modelhub.stores import EXACT_NAME, TEXT_FIELDS


@dataclass(frozen=True)
class Held:
    """What a document's body can be found by; texts with a space before and behind each word."""

    texts: Mapping[str, str]
    keywords: Mapping[str, list[str]]
    numbers: Mapping[str, float]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Held:
        """What ``body`` can be found by."""
        texts = {field: _spaced(tuple(found)) for field, found in stored_words(body).items()}
        return cls(texts, keywords(body), numbers(body))


def holds(clause: Clause | None, held: Held) -> bool:
    """Whether ``clause`` holds; None holds for every document."""
    match clause:
        case None:
            return True
        case And(clauses=clauses):
            return all(holds(inner, held) for inner in clauses)
        case Or(clauses=clauses):
            return any(holds(inner, held) for inner in clauses)
        case Not(clause=inner):
            return not holds(inner, held)
        case _:
            return _fits(clause, held)


def _fits(clause: Word | Phrase | Bag | Equal | Prefix | Range, held: Held) -> bool:
    match clause:
        case Word(field=field) | Phrase(field=field):
            wanted = phrases(clause)
            return bool(wanted) and all(_occurs(words, field, held) for words in wanted)
        case Bag():
            return _holds_bag(clause, held)
        case Equal(field=field, value=value):
            return keyword(value) in held.keywords.get(field, ())
        case Prefix(field=field, value=value):
            return any(has.startswith(keyword(value)) for has in held.keywords.get(field, ()))
        case Range(field=field):
            return field in held.numbers and _within(clause, held.numbers[field])


def score(clause: Clause | None, held: Held) -> float:
    """How often what is sought occurs, by the weights of the fields; more for an exact name."""
    exact = not called(clause).isdisjoint(held.keywords.get("name", ()))
    return EXACT_NAME * exact + sum(
        weight * held.texts[field].count(_spaced(words))
        for words in ranked(clause)
        for field, weight in TEXT_FIELDS.items()
    )


def _holds_bag(bag: Bag, held: Held) -> bool:
    wanted = terms(bag)
    found = sum(
        sum(_occurs(words, "", held) for words in term.phrases) >= term.least
        for term in wanted.terms
    )
    return bool(wanted.terms) and found >= wanted.least


def _occurs(words: Words, field: str, held: Held) -> bool:
    fields = [field] if field else TEXT_FIELDS
    return any(_spaced(words) in held.texts[name] for name in fields)


def _within(bounds: Range, number: float) -> bool:
    low, high = bounds.low, bounds.high
    if bounds.strict and number in {low, high}:
        return False
    return (low is None or low <= number) and (high is None or number <= high)


def _spaced(words: Words) -> str:
    return "".join(f" {word} " for word in words)
