"""How search text becomes words, alike when it is stored and when it is searched for.

Scripts without spaces have no words to be cut at, so a run of Han, kana or hangul becomes its
overlapping pairs, followed by its single characters: 情感分析 is 情感 感分 分析 情 感 分 析.
Somebody who asks for 情感 or for 感 finds it, somebody who asks for 感情 does not. What else is
letters and digits is a word. Case, accents and width are folded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from modelhub.stores import TEXT_FIELDS

Phrase = tuple[str, ...]
"""Words that follow each other."""

_CJK = (
    "\u1100-\u11ff\u3005-\u3007\u3040-\u30fa\u30fc-\u30ff\u3100-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = rf"[^\W_{_CJK}]+"
_RUN = re.compile(rf"([{_CJK}]+)|({_WORD}(?:[._-]+{_WORD})*)")
_JOINT = re.compile(r"[._-]+")
_ACCENT = re.compile("[\u0300-\u036f]+")


def phrases(text: str) -> list[Phrase]:
    """What a search for ``text`` must find, each once: no phrase where it holds no word.

    A name such as ``nlp.sentiment-v2`` is the phrase of its parts, a run of Chinese, Japanese or
    Korean that of its pairs.
    """
    return list(dict.fromkeys(phrase for phrase, _ in _runs(text)))


def words(body: Mapping[str, Any]) -> dict[str, list[str]]:
    """The words of each searched field of a document's body, in order."""
    found = {}
    for field in TEXT_FIELDS:
        value = body.get(field, "")
        text = value if isinstance(value, str) else "\n".join(value)
        found[field] = [word for run in _runs(text) for part in run for word in part]
    return found


def _runs(text: str) -> Iterator[tuple[Phrase, str]]:
    """Each run's phrase, and the characters by which it is found besides."""
    for cjk, name in _RUN.findall(_folded(text)):
        if name:
            yield tuple(_JOINT.split(name)), ""
        elif len(cjk) == 1:
            yield (cjk,), ""
        else:
            yield tuple(map("".join, pairwise(cjk))), cjk


def _folded(text: str) -> str:
    bare = _ACCENT.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFC", bare).casefold()
