"""Walks of the protocol's models, taken step by step by the coordinator.

Tier: CI replays 1,000 walks, the same ones at every run; ``--full`` 10,000 others besides.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from modelhub.content.pack import PackWriter
from modelhub.coordinator import hints, index, keys, log, publish, storing, sweep, transaction
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed
from modelhub.coordinator.packs import register
from modelhub.coordinator.storing import Storing
from modelhub.coordinator.transaction import Attempt
from modelhub.errors import OutcomeUnknown, Unavailable
from modelhub.records import Entry, seal
from modelhub.stores import Document, RowStore
from modelhub.testing.protocol import Configuration, Protocol, Task
from modelhub.testing.protocol.replay import Drift, replay, walk
from modelhub.testing.protocol.replay.calls import CALLS, READ_BACKS, SILENT
from tests.coordinator.replaying import Replays

WALKS = 100
FULL_WALKS = 1000


def push(*, reuses: str = "", expected: int | None = None, request: bool = False) -> Task:
    return Task(
        stores=True, reuses=reuses, expected=expected, request=request, attempts=4, names=12
    )


def retire(op: str, number: int) -> Task:
    assert op in {"delete", "undelete"}
    return Task(op, number, attempts=4)  # type: ignore[arg-type]


CONFIGURATIONS = {
    "a publisher and somebody else": Configuration(tasks=(push(),), stranger=True),
    "a model's first entry": Configuration(tasks=(push(), push()), versions=0),
    "packs that are reused": Configuration(
        tasks=(push(reuses="x"), push(reuses="x")), packs=("x",)
    ),
    "one request, sent twice": Configuration(
        tasks=(push(request=True), push(request=True)), stranger=True
    ),
    "an expected parent": Configuration(tasks=(push(expected=1, request=True), push(expected=1))),
    "publish and delete": Configuration(tasks=(push(), retire("delete", 1)), stranger=True),
    "delete and undelete": Configuration(
        tasks=(retire("delete", 1), retire("undelete", 1)), stranger=True
    ),
    "the head is deleted": Configuration(
        tasks=(push(), retire("delete", 2), retire("undelete", 2)), versions=2
    ),
    "a reused pack and a collector": Configuration(
        tasks=(push(reuses="x"),), packs=("x",), stranger=True, collections=2
    ),
    "new packs and a collector": Configuration(tasks=(push(), push()), collections=2),
}


REPLAYS = Replays(Protocol, walk, replay, CONFIGURATIONS)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_coordinator_takes_the_steps_of_the_models(
    name: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    figure(REPLAYS.replayed(name, range(WALKS), tmp_path)[0])


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_coordinator_takes_the_steps_of_more_walks(
    name: str, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    figure(REPLAYS.replayed(name, range(WALKS, WALKS + FULL_WALKS), tmp_path)[0])


# --- that nothing is left out ---------------------------------------------------------------------


def test_the_walks_take_every_step_with_every_outcome() -> None:
    assert REPLAYS.not_taken(WALKS) == set()


def test_steps_and_calls_are_the_same() -> None:
    """A step of the clients and the sweeper is a call in the table, and the reverse."""
    steps = {
        step.action
        for configuration in CONFIGURATIONS.values()
        for seed in range(WALKS)
        for step in walk(configuration, seed)
        if step.actor.startswith(("p", "sweeper")) and step.outcome != "crash"
    }
    assert steps == {part.action for part in CALLS.values()}


def test_every_call_in_the_tables_is_made(tmp_path: Path) -> None:
    calls: set[str] = set()
    for number, name in enumerate(CONFIGURATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        calls |= REPLAYS.replayed(name, range(15), folder)[1]
    assert calls == CALLS.keys() | READ_BACKS | SILENT


def test_the_same_seed_gives_the_same_walk() -> None:
    for configuration in CONFIGURATIONS.values():
        assert list(map(str, walk(configuration, 1))) == list(map(str, walk(configuration, 1)))


# --- that a coordinator that goes another way is noticed ------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]


def intent_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw = Attempt.withdraw

    def changed(self: Attempt, *, keep_intent: bool = False) -> None:
        pins, self.pins = self.pins, set()
        withdraw(self, keep_intent=keep_intent)
        self.pins = pins
        withdraw(self, keep_intent=True)

    monkeypatch.setattr(Attempt, "withdraw", changed)


def intent_goes_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    withdraw = Attempt.withdraw
    monkeypatch.setattr(Attempt, "withdraw", lambda self, **_: withdraw(self))


def nothing_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt, "announce", lambda *_: None)


def rows_are_not_read_after_a_rebase(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Storing, attempt: Attempt, packs: Iterable[str]) -> None:
        attempt.announce(packs)
        self._attempt = attempt

    monkeypatch.setattr(Storing, "rebind", changed)


def puts_are_not_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, table: str, rows: dict[bytes, bytes]) -> None:
        try:
            ctx.stores.rows.put_many(table, rows)
        except (Unavailable, OutcomeUnknown):
            return

    monkeypatch.setattr(transaction, "put_settled", changed)
    monkeypatch.setattr(publish, "put_settled", changed)


def the_file_comes_before_its_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_pack = Storing._begin_pack

    def changed(self: Storing) -> str:
        self._open_pack = begin_pack(self)
        self._writer = PackWriter(self._ctx.stores.weights, self._open_pack)
        return self._open_pack

    monkeypatch.setattr(Storing, "_begin_pack", changed)


def any_row_of_a_pack_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storing, "register", lambda *args: register(*args) or True)


def false_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, name: str, entry: Entry) -> Sealed | None:
        data, digest = seal(entry)
        try:
            put = ctx.stores.rows.check_and_put(keys.LOG, keys.log(name, entry.seq), None, data)
        except (Unavailable, OutcomeUnknown):
            return log.append(ctx, name, entry)
        return Sealed(entry, digest) if put else None

    monkeypatch.setattr(transaction, "append", changed)


def the_chain_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    next_entry = transaction.next_entry

    def changed(ctx: Context, head: Head, *args: Any) -> Entry:
        return next_entry(ctx, replace(head, digest="0" * 64), *args)

    monkeypatch.setattr(transaction, "next_entry", changed)


def requests_are_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    find_request = publish.find_request
    asked = set()

    def changed(rows: RowStore, head: Head, request: str) -> Sealed | None:
        me = threading.current_thread()
        if me in asked:
            return None
        asked.add(me)
        return find_request(rows, head, request)

    monkeypatch.setattr(publish, "find_request", changed)


def no_fence_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_fence", lambda _, head: (head, False))


def resumable_pins_go_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "timedelta", lambda **_: timedelta(0))


def documents_have_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(document: Document, epoch: int) -> Document:
        return Document(document.id, document.version + 1, document.body)

    monkeypatch.setattr(index, "at_epoch", changed)


def search_comes_before_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh = hints.refresh

    def changed(ctx: Context, head: Head, since: int, known: Any) -> None:
        index.refresh(ctx, head, since)
        refresh(ctx, head, since, known)

    monkeypatch.setattr(hints, "refresh", changed)


def somebody_calls_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, name: str, entry: Entry) -> Sealed | None:
        ctx.stores.rows.describe()
        return log.append(ctx, name, entry)

    monkeypatch.setattr(transaction, "append", changed)


CHANGES: dict[Patch, str] = {
    intent_goes_first: "packs that are reused",
    intent_goes_in_any_case: "publish and delete",
    nothing_is_announced: "publish and delete",
    rows_are_not_read_after_a_rebase: "packs that are reused",
    puts_are_not_awaited: "a publisher and somebody else",
    the_file_comes_before_its_pin: "a publisher and somebody else",
    any_row_of_a_pack_will_do: "new packs and a collector",
    false_is_lost: "publish and delete",
    the_chain_is_broken: "delete and undelete",
    requests_are_looked_up_once: "one request, sent twice",
    no_fence_is_put: "a publisher and somebody else",
    resumable_pins_go_too: "packs that are reused",
    documents_have_other_versions: "publish and delete",
    search_comes_before_hints: "publish and delete",
    somebody_calls_more: "delete and undelete",
}
"""Each with the configuration whose walks show it."""


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_coordinator_that_goes_another_way_is_noticed(
    change: Patch,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    change(monkeypatch)
    figure(f"{change.__name__}: {REPLAYS.noticed(CHANGES[change], WALKS, tmp_path)}")


def test_a_drift_tells_the_way_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing_is_announced(monkeypatch)
    configuration = Configuration(tasks=(retire("delete", 1),))
    model = Protocol(configuration)
    first = next(model.all_steps(model.initial()))
    second = next(model.all_steps(first.state))
    with pytest.raises(Drift) as caught:
        replay(configuration, [first, second], tmp_path)
    assert str(caught.value).splitlines() == [
        str(configuration),
        "  1. p1        read_head      p1      ok",
        "  2. p1        put_intent     p1.1    ok",
        "  => p1 was to put_intent, and calls check_and_put log (put_log)",
    ]
