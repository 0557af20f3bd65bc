"""Which store call belongs to which step of the models, and how it may be answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2s
from typing import Any, NamedTuple

from modelhub.coordinator import keys
from modelhub.coordinator.index import document_id
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.records import Fence, unseal
from modelhub.testing.faults import ProcessDied
from modelhub.testing.protocol.world import Change, PutDocument, PutFile, PutRow, RemoveRows

MODEL = "nlp.sentiment"
REQUEST = "r"
"""The one model, and the one request id, that everything is about."""


class Part(NamedTuple):
    """A call's place: which step it belongs to, and where among that step's calls."""

    action: str
    order: int = 0


IN_SILENCE = Part("")
"""Of calls that a model leaves out; they succeed, in the same moment as the step before them."""

CALLS: Mapping[str, Part] = {
    "scan log": Part("read_head"),
    "scan lookup": Part("find_request"),
    "get_many chunks": Part("read_chunks"),
    "check_and_put models": Part("put_model"),
    "put_many intents (intent)": Part("put_intent", 1),
    "put_many intents (pins)": Part("put_pins", 1),
    "get_many packs": Part("read_packs"),
    "get packs": Part("read_packs"),
    "check_and_put packs (standing)": Part("revive_pack"),
    "weights create": Part("write_pack", 0),
    "weights write": Part("write_pack", 1),
    "weights commit": Part("write_pack", 2),
    "weights size (just written)": Part("write_pack", 3),
    "check_and_put packs": Part("register_pack"),
    "put_many metadata": Part("put_metadata", 1),
    "put_many lookup": Part("put_lookup", 1),
    "check_and_put log": Part("put_log"),
    "check_and_put log (fence)": Part("put_fence"),
    "get log (in doubt)": Part("read_log"),
    "put_many chunks": Part("put_hints", 0),
    "put_many versions": Part("put_hints", 1),
    "put models": Part("put_hints", 2),
    "search write": Part("write_search"),
    "delete_many intents (pins)": Part("remove_pins"),
    "delete_many intents (intent)": Part("remove_intent"),
    "scan intents": Part("scan_intents"),
}
"""Every call that is a step of the models, or part of one."""

READ_BACKS = frozenset({"get_many intents", "get_many metadata", "get_many lookup"})
"""What was put without an answer is read back, as the first part of the next try."""

SILENT = frozenset(
    {
        "now",  # the clock
        "get system",  # search targets
        "get_many system",  # those, and the format
        "get metadata",
        "scan lookup (derived)",  # what is based on a version to be deleted
        "weights read",  # manifests, and chunks whose hints are put to the test
        "weights size",  # of a pack whose row says that it is live
        "get log",  # whether an attempt that is swept landed
    }
)
"""What ``Protocol`` leaves out."""


@dataclass
class Request:
    """A store call that waits to be made. Without a ``part``, no step knows of it."""

    name: str
    store: Any
    method: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    part: Part | None = None
    answer: Any = None

    @property
    def action(self) -> str:
        """The step that it belongs to."""
        return self.part.action if self.part else ""

    def make(self) -> Any:
        """Make the call; what is read is read at once."""
        answer = getattr(self.store, self.method)(*self.args, **self.options)
        return list(answer) if self.method == "scan" else answer

    def continues(self, earlier: Request) -> bool:
        """Whether it is a later part of the step that ``earlier`` belongs to."""
        if self.part is None or earlier.part is None:
            return False
        return self.action == earlier.action and self.part.order > earlier.part.order

    def __str__(self) -> str:
        return self.name


def new_request(
    kind: str, store: Any, method: str, args: tuple[Any, ...], options: dict[str, Any]
) -> Request:
    """A call of a store of this kind (rows, weights or search), and what tells it from others."""
    if kind != "rows":
        return Request(f"{kind} {method}", store, method, args, options)
    name = " ".join([method, *args[:1]])
    match name:
        case "put_many intents" | "delete_many intents":
            pins_alone = all(keys.parse_intent(key)[2] for key in args[1])
            name += " (pins)" if pins_alone else " (intent)"
        case "scan lookup" if args[1].startswith(b"base\0"):
            name += " (derived)"
        case "check_and_put packs" if args[2] is not None:
            name += " (standing)"
        case "check_and_put log" if isinstance(unseal(args[3], "a log row")[0].change, Fence):
            name += " (fence)"
    return Request(name, store, method, args, options)


def step_of(call: Request, before: Request | None) -> Part | None:
    """The step of ``Protocol`` that ``call`` is part of, after ``before``."""
    if before is not None:
        if call.name == "get log" and before.name.startswith("check_and_put log"):
            call.name += " (in doubt)" if before.answer is not True else ""
        elif call.name == "weights size" and before.name == "weights commit":
            call.name += " (just written)"
        elif call.name in READ_BACKS:
            return Part(before.action, 0)
        elif before.name in READ_BACKS and call.name.startswith(f"put_many {before.args[0]}"):
            return Part(before.action, 1)
    return CALLS.get(call.name, IN_SILENCE if call.name in SILENT else None)


Answer = Callable[[Request], Any]
"""How a call goes: what it returns or raises."""


def away(call: Request) -> Any:
    """It fails, and does nothing."""
    raise Unavailable(f"the store is away ({call})")


def unsure(call: Request) -> Any:
    """It seems to fail, and what it writes may land later."""
    raise OutcomeUnknown(f"the store did not answer ({call})")


def doubled(call: Request) -> Any:
    """A conditional put is sent twice: it is done, and answers as if it were not."""
    assert call.make() is True, f"{call} was to be done"
    return False


def dies(_call: Request) -> Any:
    """Its process dies before it is made."""
    raise ProcessDied


def pack_id(name: str) -> str:
    """The id of what is pack ``name`` in a model."""
    return blake2s(name.encode(), digest_size=16).hexdigest()


def part_of(call: Request, write: Change) -> Callable[[], Any]:
    """Does of ``call`` what is ``write`` in a model."""
    store = call.store
    match write:
        case PutRow(row=row):
            put = (row.txid, pack_id(row.pack) if row.pack else None)
            rows = {key: value for key, value in call.args[1].items() if _row_of(key) == put}
            return lambda: store.put_many(keys.INTENTS, rows)
        case RemoveRows(packs=packs):
            ids = {pack_id(pack) if pack else None for pack in packs}
            doomed = [key for key in call.args[1] if _is_named(_row_of(key)[1], ids)]
            return lambda: store.delete_many(keys.INTENTS, doomed)
        case PutDocument(number=number):
            target, documents = call.args
            named = [one for one in documents if one.id == document_id(MODEL, number)]
            return lambda: store.write(target, named)
        case PutFile():
            return lambda: store.create(call.args[0]).write(b"torn")
    return call.make


def _is_named(pack: str | None, ids: set[str | None]) -> bool:
    """Whether a row of ``intents`` is among ``ids``, or a pin where none are given."""
    return pack in ids if ids else pack is not None


def _row_of(key: bytes) -> tuple[str, str | None]:
    _, txid, pack = keys.parse_intent(key)
    return txid, pack
