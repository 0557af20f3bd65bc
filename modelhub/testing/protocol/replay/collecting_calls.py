"""Which store call is part of which step of the collection models, and of which actor's part."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from modelhub.coordinator import collect, keys, rewrite, storing, sweep, transaction
from modelhub.coordinator.marks import Marks
from modelhub.records import PackRow, decode
from modelhub.testing.protocol.replay.calls import IN_SILENCE, Part, Request
from modelhub.testing.protocol.replay.holding import pack_id, pack_name

RUN_CALLS: Mapping[str, Part] = {
    "scan intents": Part("scan_intents"),
    "scan log (all)": Part("scan_log"),
    "scan packs": Part("scan_packs"),
    "check_and_put log": Part("put_log"),
    "check_and_put packs (condemned)": Part("condemn_pack"),
    "check_and_put packs (live)": Part("revive_pack"),
    "check_and_put packs (deleting)": Part("delete_pack"),
    "check_and_put packs (none, deleting)": Part("claim_file"),
    "check_and_put packs (none, live)": Part("register_pack"),
    "check_and_put packs (gone)": Part("bury_pack"),
    "check_and_put packs (moved)": Part("move_pack"),
    "check_and_put packs (trash)": Part("move_file", 0),
    "weights move": Part("move_file", 1),
    "weights list (trash)": Part("list_trash"),
    "weights remove": Part("remove_file"),
    "weights create": Part("write_pack", 0),
    "weights write": Part("write_pack", 1),
    "weights commit": Part("write_pack", 2),
    "weights size (just written)": Part("write_pack", 3),
}
"""Each call of a collection, and the step that it is part of; ``list_trash`` is none."""

WRITER_CALLS: Mapping[str, Part] = {
    "scan log": Part("read_head"),
    "get_many chunks": Part("hints"),
    "get_many intents": Part("put_pins", 0),
    "put_many intents (intent)": Part("put_pins", 1),
    "put_many intents (pins)": Part("put_pins", 1),
    "get_many packs": Part("read_packs"),
    "get packs (in doubt)": Part("read_packs"),
    "check_and_put packs (standing)": Part("revive_pack"),
    "check_and_put packs": Part("register_pack"),
    "weights create": Part("write_pack", 0),
    "weights write": Part("write_pack", 1),
    "weights commit": Part("write_pack", 2),
    "weights size (just written)": Part("write_pack", 3),
    "check_and_put log": Part("put_log"),
    "get log (in doubt)": Part("read_log"),
    "delete_many intents (intent)": Part("remove_pins"),
    "delete_many intents (pins)": Part("remove_pins"),
}
"""The same of publishers; ``hints`` is no step."""


Rewritten = dict[str, tuple[tuple[str, ...], str]]
"""What each rewriter is to rewrite, and to which pack."""


@contextmanager
def as_in_the_model(rewritten: Rewritten) -> Iterator[None]:
    """What processes make gets the names that it has in the model; runs do their actors' part."""
    run = collect._Run
    txid, pack = _names(rewritten)

    def for_collectors(method: str) -> Callable[..., Any]:
        done = getattr(run, method)
        return lambda *args: None if _me() in rewritten else done(*args)

    with ExitStack() as stack:
        for place in (transaction, sweep):
            stack.enter_context(patch.object(place, "new_txid", txid))
        for module in (storing, rewrite):
            stack.enter_context(patch.object(module, "new_pack_id", pack))
        stack.enter_context(patch.object(rewrite, "DEAD_SHARE", 0.0))
        stack.enter_context(patch.object(run, "_condemn_to_rewrite", _chosen(rewritten)))
        for method in ("_condemn", "_delete", "_bury", "_empty_trash"):
            stack.enter_context(patch.object(run, method, for_collectors(method)))
        yield


def _me() -> str:
    return threading.current_thread().name


def _names(rewritten: Rewritten) -> tuple[Callable[[], str], Callable[[], str]]:
    """New names of transactions and of packs: by actor and number."""
    counts: Counter[tuple[str, str]] = Counter()

    def txid() -> str:
        me = _me().partition(":")[0]
        counts["attempts", me] += 1
        return f"{me}.{counts['attempts', me]}"

    def pack() -> str:
        if _me() in rewritten:
            return pack_id(rewritten[_me()][1])
        me, _, home = _me().partition(":")
        counts["packs", me] += 1
        return pack_id(home or f"{me}-{counts['packs', me]}")

    return txid, pack


def _chosen(rewritten: Rewritten) -> Callable[[collect._Run], list[rewrite.Group]]:
    """What is worth rewriting: to a collector nothing, to a rewriter what it is about."""
    condemn_to_rewrite = collect._Run._condemn_to_rewrite

    def chosen(self: collect._Run) -> list[rewrite.Group]:
        if _me() not in rewritten:
            return []
        packs = rewritten[_me()][0]
        live = [held for held in self._marks.rows("live") if pack_name(held.pack) in packs]
        with (
            patch.object(Marks, "faded", lambda _: iter(())),
            patch.object(Marks, "small", lambda *_: (("", one) for one in live)),
            patch.object(rewrite, "FEWEST", 1),
            patch.object(rewrite, "batches", lambda small: [list(small)]),
        ):
            return condemn_to_rewrite(self)

    return chosen


def placed_in_run(call: Request, before: Request | None) -> Part | None:
    """Which step a call of a collection is part of."""
    name = call.name
    if name == "scan log" and call.args[1] == keys.log_from("")[0]:
        call.name += " (all)"
    elif name.startswith("check_and_put packs"):
        row = decode(call.args[3], PackRow, "a row")
        kind = "trash" if row.state == "moved" and row.trash else row.state
        call.name = f"check_and_put packs ({'none, ' * (call.args[2] is None)}{kind})"
    elif name == "weights list" and call.args[0] == "trash":
        call.name += " (trash)"
    elif name == "weights size" and before is not None and before.name == "weights commit":
        call.name += " (just written)"
    return RUN_CALLS.get(call.name, IN_SILENCE)


def placed_in_writer(call: Request, before: Request | None) -> Part | None:
    """Which step a call of a publisher, or of who deletes, is part of."""
    if before is not None:
        if call.name == "get log" and before.name == "check_and_put log":
            call.name += " (in doubt)" if before.answer is not True else ""
        elif call.name == "get packs" and before.name.startswith("check_and_put packs"):
            call.name += " (in doubt)"
        elif call.name == "weights size" and before.name == "weights commit":
            call.name += " (just written)"
    if threading.current_thread().name in {"delete", "undelete"} and "intents" in call.name:
        return IN_SILENCE  # nothing is pinned
    return WRITER_CALLS.get(call.name, IN_SILENCE)


def placed_in_sweep(call: Request, _before: Request | None) -> Part | None:
    """The same of a sweep, all of which is one step."""
    return Part("sweep") if call.name == "scan intents" else IN_SILENCE
