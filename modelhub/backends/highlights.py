"""The piece of a document's text that shows best why it was found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from modelhub.backends.stems import stem
from modelhub.backends.words import JOINT, RUN, folded, ranked, texts
from modelhub.query.clauses import Clause
from modelhub.stores import Highlight

PIECE_CHARS = 160
_FIELDS = ("description", "card", "title", "labels", "facts", "message")
"""Of pieces that show as much, that of the first field; names are shown anyway."""

_SPACE = re.compile(r"\s")


class _Mark(NamedTuple):
    start: int
    end: int
    word: str


class _Piece(NamedTuple):
    """Marks that fit into one piece, and how many different words they show."""

    marks: list[_Mark]
    shows: int


def highlight(body: Mapping[str, Any], where: Clause | None) -> Highlight | None:
    """The piece with the most different words that ``where`` asks for, None where none has any."""
    sought = frozenset(word for words in ranked(where) for word in words)
    best, shows = None, 0
    for field in _FIELDS if sought else ():
        for text in texts(body, field):
            piece = _best(list(_marks(text, sought)))
            if piece.shows > shows:
                best, shows = _cut(field, text, piece.marks), piece.shows
    return best


def _marks(text: str, sought: frozenset[str]) -> Iterator[_Mark]:
    """The places of ``text`` that hold a word, a pair of characters or one that is sought.

    A word that no piece could hold is not shown.
    """
    for run in RUN.finditer(text):
        start = run.start()
        if run[1]:
            chars = [folded(char) for char in run[1]]
            for at, pair in enumerate(map("".join, pairwise(chars)), start):
                if pair in sought:
                    yield _Mark(at, at + 2, pair)
            for at, char in enumerate(chars, start):
                if char in sought:
                    yield _Mark(at, at + 1, char)
        else:
            for part in JOINT.split(run[2]):
                word = stem(folded(part))
                if word in sought and len(part) <= PIECE_CHARS:
                    yield _Mark(start, start + len(part), word)
                start += len(part)
                start += len(_joint(text, start))


def _joint(text: str, start: int) -> str:
    joint = JOINT.match(text, start)
    return joint[0] if joint else ""


def _best(marks: list[_Mark]) -> _Piece:
    """The marks within one piece's length that show the most different words, the first such."""
    best, first = _Piece([], 0), 0
    shown: Counter[str] = Counter()
    for last, mark in enumerate(marks):
        shown[mark.word] += 1
        while mark.end - marks[first].start > PIECE_CHARS and first < last:
            shown[marks[first].word] -= 1
            shown += Counter()  # lets go of those that are shown no more
            first += 1
        if len(shown) > best.shows:
            best = _Piece(marks[first : last + 1], len(shown))
    return best


def _cut(field: str, text: str, marks: list[_Mark]) -> Highlight:
    """The piece of ``text`` around ``marks``, with dots where it is cut."""
    spare = max(0, PIECE_CHARS - (marks[-1].end - marks[0].start))
    begin = max(0, min(marks[0].start - spare // 2, len(text) - PIECE_CHARS))
    end = min(len(text), max(begin + PIECE_CHARS, marks[-1].end))
    if begin and (space := _SPACE.search(text, begin, marks[0].start)):
        begin = space.end()
    if end < len(text) and (at := text.rfind(" ", marks[-1].end, end)) > 0:
        end = at
    lead = "… " if begin else ""
    piece = lead + _SPACE.sub(" ", text[begin:end]) + (" …" if end < len(text) else "")
    return Highlight(field, piece, tuple(_merged(marks, len(lead) - begin)))


def _merged(marks: list[_Mark], offset: int) -> list[tuple[int, int]]:
    """The marks' places in order, moved by ``offset``; those that touch are one."""
    merged: list[tuple[int, int]] = []
    for start, end, _ in sorted(marks):
        if merged and start + offset <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end + offset))
        else:
            merged.append((start + offset, end + offset))
    return merged
