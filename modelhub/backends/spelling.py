"""Words that are spelt nearly like another."""

from __future__ import annotations

from collections.abc import Mapping

from modelhub.backends.stems import stem
from modelhub.backends.words import folded

NEAREST = 5
_SHORT = 4


def edits(word: str) -> int:
    """How many letters of ``word`` may be wrong."""
    return 1 if len(word) <= _SHORT else 2


def nearest(word: str, spelt: Mapping[str, int]) -> list[str]:
    """Of the words ``spelt`` those that differ least from ``word``, then the most frequent.

    None where one of them has the same stem: then ``word`` is found as it is.
    """
    sought = folded(word)
    same = stem(sought)
    if any(stem(other) == same for other in spelt):
        return []
    distances = {
        other: distance(sought, other)
        for other in spelt
        if abs(len(other) - len(sought)) <= edits(sought) and other[:1] == sought[:1]
    }
    near = [other for other, apart in distances.items() if apart <= edits(sought)]
    return sorted(near, key=lambda other: (distances[other], -spelt[other], other))[:NEAREST]


def distance(a: str, b: str) -> int:
    """How many letters to add, remove, change or swap with a neighbour, to make ``b`` of ``a``."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, here in enumerate(a, 1):
        older, before, row = before, row, [i]
        for j, there in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (here != there))
            if i > 1 and j > 1 and here == b[j - 2] and a[i - 2] == there:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
