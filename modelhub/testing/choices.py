"""What a state machine draws from: small worlds, in which things often meet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

from hypothesis import strategies as st

from modelhub.coordinator import keys
from modelhub.names import DEFAULT_BRANCH
from modelhub.testing.faults import Call, Outcome
from modelhub.testing.reference import File

NAMES = ("nlp.sentiment", "vision.digits", "asr")
BRANCHES = (DEFAULT_BRANCH, DEFAULT_BRANCH, "next", "2026-q3")
REFS = ("champion", "champion", "v1", "next", DEFAULT_BRANCH)
"""Names that may be of one kind or another."""

REF_ACTS = (
    ("branch", "create"),
    ("branch", "move"),
    ("branch", "delete"),
    ("tag", "create"),
    ("tag", "delete"),
    ("alias", "set"),
    ("alias", "set"),
    ("alias", "delete"),
)
GUARDED = ("", DEFAULT_BRANCH, "champion")
"""What may be protected; the first is the model."""

REQUESTS = ("", "", "r1", "r2", "r3")

COMMON = "共用"
"""A word in every version's description."""

_CONTENTS = (b"", b"a", b"weights" * 300, bytes(range(256)) * 2600)
# Of no chunk, one and several: the last is longer than the shortest chunk.

_PATHS = ("model.dat", "weights/层 一.dat", "bin/run.sh", "ملف.txt", "n\u0303.txt", "ñ.txt", "空")

PATTERNS: dict[str, Callable[[str], bool]] = {
    "*.dat": lambda path: path.endswith(".dat"),
    "/weights/": lambda path: path.startswith("weights/"),
    "空": lambda path: path == "空",
}
"""Globs, and which paths they match."""

FILES = st.dictionaries(
    st.sampled_from(_PATHS),
    st.tuples(
        st.one_of(st.sampled_from(_CONTENTS), st.binary(max_size=12)),
        st.sampled_from((0o644, 0o755, 0o400)),
    ).map(File._make),
    min_size=1,
    max_size=4,
)

_VALUES = st.sampled_from((None, 1, 1.0, True, "1", 0.25, "学习"))

FACTS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.sampled_from((None, "", "情感分析", "Mood of a text")),
        "params": st.dictionaries(st.sampled_from(("lr", "批")), _VALUES, max_size=2),
        "metrics": st.dictionaries(st.just("f1"), st.sampled_from((None, 0.5, 1)), max_size=1),
        "labels": st.lists(st.sampled_from(("nlp", "vision", "中文")), unique=True, max_size=2),
    },
)


class Moment(NamedTuple):
    """A store call of a verb: number ``at`` (from 0) of all, or of the writes to ``place``.

    That is a table or, as a whole, one of the stores ``rows``, ``weights`` and ``search``.
    """

    at: int
    place: str = ""

    def watch(self) -> Callable[[Call], bool]:
        """What says of each call in turn whether it is the one."""
        calls = itertools.count()

        def is_now(call: Call) -> bool:
            written = (call.store, call.where) if call.writes else ()
            counts = not self.place or self.place in written
            return counts and next(calls) == self.at

        return is_now


_PLACES = (keys.LOG, keys.INTENTS, keys.LOOKUP, keys.MODELS, "weights", "search")

MOMENTS = st.one_of(
    st.integers(0, 30).map(Moment),
    st.builds(Moment, st.sampled_from((0, 0, 1, 2)), st.sampled_from(_PLACES)),
)
"""Half of them any call, half of them where most is at stake."""

UNKNOWN = (Outcome.LOST_APPLIED, Outcome.LOST_DROPPED, Outcome.LATE)


def words(number: int) -> tuple[str, str]:
    """An English and a Chinese word that belong to ``number`` (below 10,000) alone."""
    chinese = "".join("甲乙丙丁戊己庚辛壬癸"[int(digit)] for digit in f"{number:04}")
    return f"word{number}", chinese
