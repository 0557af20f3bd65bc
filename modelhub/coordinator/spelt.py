"""Did you mean: a search that finds something, in place of one that finds nothing."""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.query.clauses import Clause, text_of
from modelhub.query.spelling import respelt, sought_words
from modelhub.stores import Query, SearchIndex


def suggestion(search: SearchIndex, target: str, query: Query, where: Clause) -> str | None:
    """``where`` with words that documents have in place of those that none has, as a text.

    None where no such words are near, or they find nothing together.
    """
    near = search.near(target, sought_words(where))
    if not near:
        return None
    other = respelt(where, {word: others[0] for word, others in near.items()})
    found = search.search(target, replace(query, where=other, limit=1, after=None, facets=()))
    return text_of(other) if found.total else None
