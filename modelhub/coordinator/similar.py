"""Which models are like a given one: those that say the same about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.query.clauses import And, Bag, Clause, Equal, Not, Word

_TELLING = ("labels", "title", "framework", "bases", "datasets", "description")
"""The fields to compare, those with the most telling words first."""

_WORDS = 64
_CHARS = 512
"""Of each text so many: what a model is stands at its beginning, and a script without spaces makes
a word to look up of every character."""


def similar(body: Mapping[str, Any]) -> Clause:
    """Documents of other models, ranked by the words that they share with this one."""
    texts = [text[:_CHARS] for field in _TELLING for text in _texts(body[field])]
    words = dict.fromkeys(Word(word) for text in texts for word in text.split())
    return And((Bag(tuple(words)[:_WORDS], any=True), Not(Equal("name", body["name"]))))


def _texts(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
