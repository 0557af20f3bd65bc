"""Who meets whom: the configurations explored, and which of them catches which mutation."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from modelhub.testing.protocol.client import Task
from modelhub.testing.protocol.model import Configuration
from modelhub.testing.protocol.mutations import Mutation

_REUSER = Task(stores=True, reuses="x")
_TWO = (Task(), Task())
_SAME_REQUEST = (Task(request=True), Task(request=True))
_ON_VERSION_1 = tuple(replace(task, expected=1) for task in _SAME_REQUEST)

CONFIGURATIONS: Mapping[str, Configuration] = {
    "one client, any number of faults": Configuration(tasks=(Task(),), stranger=True),
    "first entry": Configuration(tasks=(Task(stores=True, names=1),), versions=0, faults=1),
    "pack reused": Configuration(tasks=(Task(reuses="x"),), packs=("x",), faults=1),
    "packs and a collector": Configuration(
        tasks=(_REUSER,), packs=("x",), collections=1, faults=1, whole_sweeps=True
    ),
    "packs and a collector, run twice": Configuration(
        tasks=(_REUSER,), packs=("x",), collections=2, faults=0, whole_sweeps=True
    ),
    "new pack, a collector and somebody else": Configuration(
        tasks=(Task(stores=True),), collections=1, stranger=True, faults=1, whole_sweeps=True
    ),
    "two publishers": Configuration(tasks=_TWO, faults=1, whole_sweeps=True),
    "one request, sent twice": Configuration(tasks=_SAME_REQUEST, faults=1, whole_sweeps=True),
    "one request, sent twice, and a conflict": Configuration(
        tasks=_ON_VERSION_1, stranger=True, faults=0, whole_sweeps=True
    ),
    "publish and delete": Configuration(
        tasks=(Task(), Task("delete", 1)), faults=1, whole_sweeps=True
    ),
    "delete and undelete": Configuration(
        tasks=(Task("delete", 1), Task("undelete", 1)), faults=1, whole_sweeps=True
    ),
}
"""What is explored at every run.

All are explored to their end. One client alone meets any number of faults; more of them, or packs,
a bounded number. The first three have a sweeper that goes step by step, the others one that settles
an attempt in a single moment.
"""

FULL: Mapping[str, Configuration] = {
    **{
        name: replace(CONFIGURATIONS[name], faults=2)
        for name in (
            "first entry",
            "pack reused",
            "two publishers",
            "one request, sent twice",
            "publish and delete",
        )
    },
    "packs and a collector, run twice": replace(
        CONFIGURATIONS["packs and a collector, run twice"], faults=1
    ),
    "one request, sent twice, and a conflict": replace(
        CONFIGURATIONS["one request, sent twice, and a conflict"], faults=1
    ),
    "two publishers, sweeps step by step": Configuration(tasks=_TWO, faults=0),
    "delete and undelete, sweeps step by step": replace(
        CONFIGURATIONS["delete and undelete"], whole_sweeps=False
    ),
    "publish, delete and undelete": Configuration(
        tasks=(Task(), Task("delete", 1), Task("undelete", 1)), faults=0, whole_sweeps=True
    ),
}
"""The same, further."""

CAUGHT_BY: Mapping[Mutation, str] = {
    Mutation.NO_ROW_CHECK: "packs and a collector",
    Mutation.NO_PINS: "packs and a collector",
    Mutation.PIN_NOT_AWAITED: "packs and a collector",
    Mutation.RETRY_WITHOUT_CHECKS: "packs and a collector",
    Mutation.FILE_BEFORE_PIN: "new pack, a collector and somebody else",
    Mutation.OVERWRITE: "new pack, a collector and somebody else",
    Mutation.INTENT_REMOVED_UNRESOLVED: "one client, any number of faults",
    Mutation.SHARED_INTENT: "two publishers",
    Mutation.NO_INTENT: "one client, any number of faults",
    Mutation.FALSE_IS_LOST: "one client, any number of faults",
    Mutation.FALSE_IS_CERTAIN: "one client, any number of faults",
    Mutation.NO_FENCE: "one client, any number of faults",
    Mutation.REQUEST_CHECKED_ONCE: "one request, sent twice",
    Mutation.LOOKUP_BY_SEQUENCE: "one request, sent twice",
    Mutation.NO_EXTERNAL_VERSION: "publish and delete",
}
"""The configuration, of ``CONFIGURATIONS``, that shows each mutation to be wrong."""
