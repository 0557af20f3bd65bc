"""How search text becomes words, alike when it is stored and when it is searched for.

Scripts without spaces have no words to be cut at, so a run of Han, kana or hangul becomes its
overlapping pairs, followed by its single characters: 情感分析 is 情感 感分 分析 情 感 分 析.
Somebody who asks for 情感 or for 感 finds it, somebody who asks for 感情 does not. What else is
letters and digits is a word. Case, accents and width are folded, and English words are cut to their
stems: no engine has to know more than where a space is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from modelhub.backends.stems import stem
from modelhub.query.clauses import Bag, Clause, Phrase, Word, sought
from modelhub.stores import NAMED_FIELDS, TEXT_FIELDS

Words = tuple[str, ...]
"""Words that follow each other."""

RANKED = 128
"""Ranking looks at so many different words and pairs of them; however many have to occur."""

_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = rf"[^\W_{_CJK}]+"
RUN = re.compile(rf"([{_CJK}]+)|({_WORD}(?:[._-]+{_WORD})*)")
"""A run of characters of a script without spaces, or a name."""
JOINT = re.compile(r"[._-]+")
"""What joins the parts of a name."""
_ACCENT = re.compile("[\u0300-\u036f]+")
_TWO_WORDS = 4  # what most Chinese runs of so many characters are; longer ones are more

_STOP_WORDS = frozenset(
    stem(word)
    for word in re.findall(
        "[a-z]+",
        "a an and any are as at be by can do does find for from has have how i in is it its me my"
        " need of on or our please should some that the their them there this to want was we what"
        " when where which who will with would you your",
    )
)
_STOP_CHARS = frozenset("的了和与及或是把被我你这那吗呢么哪")
_SPELT = ("name", "title", "labels", "description", "facts")


class Term(NamedTuple):
    """Of these phrases at least ``least`` occur."""

    phrases: tuple[Words, ...]
    least: int


class Terms(NamedTuple):
    """Of these terms at least ``least`` occur; where there are none, nothing matches."""

    terms: tuple[Term, ...]
    least: int


class _Run(NamedTuple):
    """A name or a word in its parts, or a run of characters in its pairs, and those singly."""

    words: Words
    chars: str = ""


def folded(text: str) -> str:
    """``text`` without case, accents and width."""
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare).casefold()


def stored_words(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """The words of each field of a document's body that is text, in order."""
    return {
        field: [word for run in _runs(_text(body, field)) for part in run for word in part]
        for field in (*TEXT_FIELDS, *NAMED_FIELDS)
    }


def spellings(body: Mapping[str, Any]) -> set[str]:
    """The words of a body's shorter texts as they are spelt, for those who spell them otherwise."""
    texts = (folded(_text(body, field)) for field in _SPELT)
    return {
        word
        for text in texts
        for _, name in RUN.findall(text)
        for word in JOINT.split(name)
        if len(word) > 2 and not word.isdigit()
    }


def phrases(part: Word | Phrase) -> list[Words]:
    """The phrases that must all occur, none where the text holds no word.

    A name such as ``nlp.sentiment-v2`` is the phrase of its parts, a run of Chinese, Japanese or
    Korean that of its pairs. All words of a ``Phrase`` are one, up to the end of such a run.
    """
    runs = _runs(part.text)
    found = _joined(runs) if isinstance(part, Phrase) else (run.words for run in runs)
    return list(dict.fromkeys(found))


def terms(bag: Bag) -> Terms:
    """What of a bag has to occur: all of one or two terms, of more a third.

    Asking for more of them loses what ranking would have put first: people name things in words
    that the description has not. So with a long run of characters, many of whose pairs reach from
    one word into the next: of those a third has to occur.
    """
    if bag.any:
        each = dict.fromkeys(Term((words,), 1) for part in bag.words for words in _pieces(part))
        return Terms(tuple(term for term in each if not _is_stop_word(term)), 1)
    found = tuple(dict.fromkeys(term for part in bag.words for term in _terms(part)))
    if len(found) <= 2:
        return Terms(found, len(found))
    telling = tuple(term for term in found if not _is_stop_word(term)) or found
    return Terms(telling, _third(len(telling)))


def ranked(where: Clause | None) -> list[Words]:
    """What hits are ranked by: the words sought, and each two that stand side by side."""
    sequence = [word for part in sought(where) for run in _runs(part.text) for word in run.words]
    singles = list(dict.fromkeys(sequence))
    if len(singles) > 2:
        singles = [word for word in singles if not _is_empty(word)] or singles
    telling = set(singles)
    pairs = [pair for pair in pairwise(sequence) if telling.issuperset(pair)]
    return list(dict.fromkeys([*((word,) for word in singles), *pairs]))[:RANKED]


def called(where: Clause | None) -> set[str]:
    """What a model may be called that is exactly what is sought."""
    return {" ".join(folded(part.text).split()) for part in sought(where)}


def _pieces(part: Word | Phrase) -> Iterator[Words]:
    """The names and words of a text, and of runs of characters each pair."""
    for run in _runs(part.text):
        yield from ((pair,) for pair in run.words) if run.chars else [run.words]


def _terms(part: Word | Phrase) -> Iterator[Term]:
    if isinstance(part, Phrase):
        found = tuple(phrases(part))
        yield from [Term(found, len(found))] if found else []
        return
    for run in _runs(part.text):
        pairs = dict.fromkeys((pair,) for pair in run.words)
        if len(run.chars) < _TWO_WORDS:
            yield Term((run.words,), 1)
        elif len(run.chars) == _TWO_WORDS:
            yield Term((run.words[:1], run.words[2:]), 2)
        else:
            telling = tuple(pair for pair in pairs if not _is_empty(*pair)) or tuple(pairs)
            yield Term(telling, _third(len(telling)))


def _third(count: int) -> int:
    return max(1, count // 3)


def _is_stop_word(term: Term) -> bool:
    return all(len(words) == 1 and _is_empty(words[0]) for words in term.phrases)


def _is_empty(word: str) -> bool:
    """Whether a word says nothing about a model."""
    return word in _STOP_WORDS or not _STOP_CHARS.isdisjoint(word)


def _joined(runs: Iterable[_Run]) -> Iterator[Words]:
    """Runs that follow each other, up to one whose single characters stand behind it."""
    words: Words = ()
    for run in runs:
        words += run.words
        if run.chars:
            yield words
            words = ()
    if words:
        yield words


def texts(body: Mapping[str, Any], key: str) -> list[str]:
    """The texts that a body has under ``key``: one, several, or none."""
    value = body.get(key)
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in values if isinstance(text, str)]


def _runs(text: str) -> Iterator[_Run]:
    for cjk, name in RUN.findall(folded(text)):
        if name:
            yield _Run(tuple(map(stem, JOINT.split(name))))
        elif len(cjk) == 1:
            yield _Run((cjk,))
        else:
            yield _Run(tuple(map("".join, pairwise(cjk))), cjk)


def _text(body: Mapping[str, Any], field: str) -> str:
    return "\n".join(texts(body, field))
