"""Walks of the collection models, taken step by step by the coordinator.

Tier: CI replays 1,000 walks, the same ones at every run; ``--full`` 4,000 others besides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from modelhub.coordinator import collect, keys, packs, rewrite, settle
from modelhub.coordinator.collect import _Run
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head, Sealed, models, walked
from modelhub.coordinator.marks import Held, Marks
from modelhub.coordinator.state import is_deleted
from modelhub.coordinator.storing import Storing
from modelhub.errors import CorruptData
from modelhub.records import PackRow, decode, encode
from modelhub.testing.protocol import collected
from modelhub.testing.protocol.collected import PACKS, Entry, Pack
from modelhub.testing.protocol.collection import DELETED, OLD, PURGED, Collecting, Collection
from modelhub.testing.protocol.replay.collected import RUN_CALLS, WRITER_CALLS, replay, walk
from modelhub.testing.protocol.replay.holding import OTHER
from modelhub.testing.protocol.reusers import Reuse
from tests.coordinator.replaying import Replays

WALKS = 150
FULL_WALKS = 600

_REUSER = Reuse("a", "x", delta=True)
_DEAD = Reuse("b", "x", delta=True)
_W = Pack("w", collected.PackRow("live", 1), PACKS, ("c",))
_OTHER = (Entry("other.1", "publish", 1, (("c", "w"),), ("w",)),)
_OF_TWO = (Entry("old.1", "publish", 1, (("a", "x"), ("c", "w")), ("w", "x")),)
_MOVED = (
    Pack("x", collected.PackRow("moved", 3, ("y",)), PACKS, ("a", "b")),
    Pack("y", collected.PackRow("live", 1), PACKS, ("a",)),
)

CONFIGURATIONS = {
    "an old pack reused": Collection(
        log=PURGED, publishes=(_REUSER,), sweeper=True, collections=(2, 1), faults=3
    ),
    "a new pack and two collectors": Collection(
        log=(),
        packs=(),
        publishes=(Reuse("a", names=2),),
        sweeper=True,
        collections=(2, 1),
        faults=3,
    ),
    "delete, undelete and two collectors": Collection(
        other=_OTHER,
        packs=(OLD, _W),
        changes=("delete", "undelete"),
        collections=(3, 2),
        faults=3,
    ),
    "a moved pack reused": Collection(
        log=DELETED,
        packs=_MOVED,
        publishes=(_REUSER,),
        changes=("undelete",),
        collections=(2,),
        faults=3,
    ),
    "a dead chunk of a moved pack reused": Collection(
        packs=_MOVED, publishes=(_DEAD,), collections=(2,), faults=3
    ),
    "a rewriter, a publisher and a collector": Collection(
        other=_OTHER,
        packs=(OLD, _W),
        publishes=(_DEAD,),
        rewriters=((("x",), ("r1-1",)),),
        collections=(2,),
        sweeper=True,
        faults=3,
    ),
    "two rewriters": Collection(
        log=_OF_TWO,
        packs=(OLD, _W),
        rewriters=((("w", "x"),), (("r1-1",),)),
        collections=(2,),
        faults=2,
    ),
}

REPLAYS = Replays(Collecting, walk, replay, CONFIGURATIONS)


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


def test_every_call_in_the_tables_is_made(tmp_path: Path) -> None:
    calls: set[str] = set()
    for number, name in enumerate(CONFIGURATIONS):
        folder = tmp_path / str(number)
        folder.mkdir()
        calls |= REPLAYS.replayed(name, range(25), folder)[1]
    assert {*RUN_CALLS, *WRITER_CALLS} - calls == set()


def test_the_same_seed_gives_the_same_walk() -> None:
    for configuration in CONFIGURATIONS.values():
        assert list(map(str, walk(configuration, 1))) == list(map(str, walk(configuration, 1)))


# --- that a coordinator that goes another way is noticed ------------------------------------------

Patch = Callable[[pytest.MonkeyPatch], None]
Look = Callable[[Head, Iterator[Sealed]], None]


def _marking(order: str) -> Callable[[_Run, Look], None]:
    """One look at intents, log and packs, in an order of its own."""

    def mark(self: _Run, look: Look) -> None:
        marks, rows = self._marks, self._ctx.stores.rows
        marks.scan()
        for table in order.split():
            if table == keys.INTENTS:
                for key, _ in rows.scan(keys.INTENTS, *keys.intents_range()):
                    _, _, pack = keys.parse_intent(key)
                    if pack is not None:
                        marks.pin(pack)
            elif table == keys.LOG:
                for name, found in models(rows.scan(keys.LOG, *keys.log_from("")), _raising):
                    look(*walked(name, found))
            else:
                for key, value in rows.scan(keys.PACKS, b"\0", b"\xff"):
                    marks.hold(key.decode(), decode(value, PackRow, "a row"), value)
        marks.follow()

    return mark


def _raising(_key: str, exc: CorruptData) -> None:
    raise exc


def the_log_is_scanned_before_intents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Run, "_mark", _marking("log intents packs"))


def rows_are_scanned_before_intents(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Run, "_mark", _marking("packs intents log"))


def nothing_is_scanned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    mark = _Run._mark

    def changed(self: _Run, look: Look) -> None:
        if look != self._refer:
            mark(self, look)

    monkeypatch.setattr(_Run, "_mark", changed)


def rows_are_compared_by_state(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, table: str, key: bytes, standing: bytes | None, fresh: bytes) -> bool:
        found = ctx.stores.rows.get(table, key)
        if found is not None and standing is not None and _state(found) == _state(standing):
            standing = found
        return settle.change_row(ctx, table, key, standing, fresh)

    monkeypatch.setattr(collect, "change_row", changed)


def _state(row: bytes) -> str:
    return decode(row, PackRow, "a row").state


def answers_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(ctx: Context, *args: Any) -> bool:
        return ctx.stores.rows.check_and_put(*args)

    monkeypatch.setattr(collect, "change_row", changed)


def files_are_moved_without_a_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: _Run, pack: str, size: int) -> None:
        place = self._place(pack)
        row = PackRow(state="deleting", size_bytes=size, token="unclaimed", trash=place)
        self._marks.hold(pack, row, encode(row))

    monkeypatch.setattr(_Run, "_claim", changed)


def the_file_goes_before_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    change = _Run._change

    def changed(self: _Run, held: Held, **changes: Any) -> bytes | None:
        if changes["state"] == "deleting":
            row = decode(held.value, PackRow, "a row")
            self._to_trash(held.pack, replace(row, trash=changes["trash"]))
        return change(self, held, **changes)

    monkeypatch.setattr(_Run, "_change", changed)


def there_is_a_way_back_from_deleting(monkeypatch: pytest.MonkeyPatch) -> None:
    revived = packs._revived

    def changed(ctx: Context, key: bytes, value: bytes | None) -> PackRow | None:
        if value is not None and _state(value) == "deleting":
            row = replace(decode(value, PackRow, "a row"), state="live", token="back")
            ctx.stores.rows.check_and_put(keys.PACKS, key, value, encode(row))
            return row
        return revived(ctx, key, value)

    monkeypatch.setattr(packs, "_revived", changed)


def condemned_packs_are_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_ctx: Context, _key: bytes, value: bytes | None) -> PackRow | None:
        row = None if value is None else decode(value, PackRow, "a row")
        return replace(row, state="live") if row and row.state == "condemned" else row

    monkeypatch.setattr(packs, "_revived", changed)


def deleted_versions_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "is_purged", is_deleted)


def models_are_those_that_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(*args: Any) -> Iterator[Any]:
        return ((name, rows) for name, rows in models(*args) if name != OTHER)

    monkeypatch.setattr(collect, "models", changed)


def successors_are_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "follow", lambda _: None)


def pushes_do_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storing, "_follow", lambda *_: None)


def successors_are_not_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = Storing._follow

    def changed(self: Storing, moved: Mapping[str, Sequence[str]]) -> None:
        self._attempt.pins |= {pack for found in moved.values() for pack in found}
        follow(self, moved)

    monkeypatch.setattr(Storing, "_follow", changed)


def rewritten_uncondemned(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_ctx: Context, found: Sequence[Held]) -> rewrite.Group:
        return rewrite.Group("0" * 32, tuple(found))

    monkeypatch.setattr(rewrite, "condemn", changed)


def condemned_after_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    condemn = _Run._condemn_to_rewrite

    def changed(self: _Run) -> list[rewrite.Group]:
        self._mark(self._refer)
        return condemn(self)

    monkeypatch.setattr(_Run, "_condemn_to_rewrite", changed)


def successors_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    change = rewrite._change

    def changed(ctx: Context, held: Held, **changes: Any) -> Held | None:
        if changes["state"] == "condemned":
            changes["successors"] = ()
        return change(ctx, held, **changes)

    monkeypatch.setattr(rewrite, "_change", changed)


def pins_are_no_reason_to_give_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "is_pinned", lambda *_: False)


def what_others_fill_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "is_awaited", lambda *_: False)


def files_are_moved_by_one_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Marks, "is_file", lambda *_: False)


CHANGES: dict[Patch, str] = {
    the_log_is_scanned_before_intents: "an old pack reused",
    rows_are_scanned_before_intents: "an old pack reused",
    nothing_is_scanned_again: "an old pack reused",
    rows_are_compared_by_state: "an old pack reused",
    answers_are_believed: "an old pack reused",
    files_are_moved_without_a_claim: "a new pack and two collectors",
    the_file_goes_before_its_row: "an old pack reused",
    there_is_a_way_back_from_deleting: "an old pack reused",
    condemned_packs_are_believed: "an old pack reused",
    deleted_versions_need_nothing: "delete, undelete and two collectors",
    models_are_those_that_are_named: "delete, undelete and two collectors",
    successors_are_not_followed: "a dead chunk of a moved pack reused",
    pushes_do_not_follow: "a moved pack reused",
    successors_are_not_pinned: "a moved pack reused",
    rewritten_uncondemned: "two rewriters",
    condemned_after_the_scan: "two rewriters",
    successors_are_not_named: "two rewriters",
    pins_are_no_reason_to_give_up: "a rewriter, a publisher and a collector",
    what_others_fill_is_rewritten: "two rewriters",
    files_are_moved_by_one_run_alone: "a dead chunk of a moved pack reused",
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
