"""A search whose words are spelt otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from modelhub.query.clauses import And, Bag, Clause, Not, Or, Phrase, Word, sought

_WORD = re.compile(r"[^\W\d_]{3,64}")


def sought_words(clause: Clause | None) -> list[str]:
    """The words that a hit may hold, as they were typed, each once."""
    found = (word for part in sought(clause) for word in _WORD.findall(part.text))
    return list(dict.fromkeys(found))


def respelt(clause: Clause, spellings: Mapping[str, str]) -> Clause:
    """``clause`` with other words where ``spellings`` has them."""
    match clause:
        case Word() | Phrase():
            return _respelt(clause, spellings)
        case Bag(words=words):
            other = tuple(_respelt(word, spellings) for word in words)
            return msgspec.structs.replace(clause, words=other)
        case And(clauses=clauses) | Or(clauses=clauses):
            changed = tuple(respelt(inner, spellings) for inner in clauses)
            return msgspec.structs.replace(clause, clauses=changed)
        case Not(clause=inner):
            return Not(respelt(inner, spellings))
        case _:
            return clause


def _respelt(part: Word | Phrase, spellings: Mapping[str, str]) -> Word | Phrase:
    text = _WORD.sub(lambda found: spellings.get(found[0], found[0]), part.text)
    return msgspec.structs.replace(part, text=text)
