"""English words cut down to their stems, by M. F. Porter's algorithm (Program 14(3), 1980).

What SQLite and Lucene call ``porter``: plurals, tenses and the commoner derivations of a word have
one stem (``translating``, ``translation``: ``translat``), which need not be a word.
"""

from __future__ import annotations

import functools
import re

_WORD = re.compile(r"[a-z]{3,64}")
_UNDOUBLED = re.compile(r"([^aeiouylsz])\1$")

# Of two endings of which one ends with the other, the longer one comes first.
_STEP_2 = (
    *(("ational", "ate"), ("tional", "tion"), ("enci", "ence"), ("anci", "ance"), ("izer", "ize")),
    *(("bli", "ble"), ("alli", "al"), ("entli", "ent"), ("eli", "e"), ("ousli", "ous")),
    *(("ization", "ize"), ("ation", "ate"), ("ator", "ate"), ("alism", "al")),
    *(("iveness", "ive"), ("fulness", "ful"), ("ousness", "ous"), ("aliti", "al")),
    *(("iviti", "ive"), ("biliti", "ble"), ("logi", "log")),
)
_STEP_3 = (
    *(("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic")),
    *(("ful", ""), ("ness", "")),
)
_STEP_4 = (
    *("al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "sion"),
    *("tion", "ou", "ism", "ate", "iti", "ous", "ive", "ize"),
)


@functools.lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """The stem of a word in lower case; what is not English letters stays as it is."""
    if not _WORD.fullmatch(word):
        return word
    word = _without_tense(_without_plural(word))
    if word[-1] == "y" and "v" in _shape(word[:-1]):
        word = word[:-1] + "i"
    word = _replaced(_replaced(word, _STEP_2), _STEP_3)
    return _tidied(_without_suffix(word))


def _shape(text: str) -> str:
    """Which letters are vowels (v) and consonants (c); y is a vowel after a consonant."""
    shape = ""
    for letter in text:
        vowel = letter in "aeiou" or (letter == "y" and shape.endswith("c"))
        shape += "v" if vowel else "c"
    return shape


def _measure(text: str) -> int:
    """How often a vowel is followed by a consonant."""
    return _shape(text).count("vc")


def _is_short(text: str) -> bool:
    """Whether it ends in consonant, vowel, consonant, as ``hop`` does but not ``snow``."""
    return _shape(text).endswith("cvc") and text[-1] not in "wxy"


def _without_plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _without_tense(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) else word
    for ending in ("ed", "ing"):
        bare = word.removesuffix(ending)
        if bare != word:
            return _mended(bare) if "v" in _shape(bare) else word
    return word


def _mended(bare: str) -> str:
    if bare.endswith(("at", "bl", "iz")):
        return bare + "e"
    if _UNDOUBLED.search(bare):
        return bare[:-1]
    return bare + "e" if _measure(bare) == 1 and _is_short(bare) else bare


def _replaced(word: str, endings: tuple[tuple[str, str], ...]) -> str:
    for ending, other in endings:
        if word.endswith(ending):
            bare = word.removesuffix(ending)
            return bare + other if _measure(bare) else word
    return word


def _without_suffix(word: str) -> str:
    for ending in _STEP_4:
        if word.endswith(ending):
            bare = word.removesuffix(ending) + (ending[0] if ending in {"sion", "tion"} else "")
            return bare if _measure(bare) > 1 else word
    return word


def _tidied(word: str) -> str:
    if word.endswith("e"):
        bare = word[:-1]
        measure = _measure(bare)
        if measure > 1 or (measure == 1 and not _is_short(bare)):
            word = bare
    if word.endswith("ll") and _measure(word) > 1:
        return word[:-1]
    return word
