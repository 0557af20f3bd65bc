"""English words cut down to their stems, so that ``translating`` finds ``translation``."""

from __future__ import annotations

import re
import threading
from functools import lru_cache

from snowballstemmer import stemmer

_WORD = re.compile(r"[a-z]{3,64}")
_own = threading.local()


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a word in lower case; what is not English letters stays as it is.

    By Snowball's English stemmer, also known as Porter2 (M. F. Porter, snowballstem.org, 2001).
    """
    if not _WORD.fullmatch(word):
        return word
    if not hasattr(_own, "english"):
        _own.english = stemmer("english")  # keeps the word in itself: one for each thread
    stem: str = _own.english.stemWord(word)
    return stem
