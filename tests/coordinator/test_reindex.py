"""What a re-index leaves, whoever is in its way: on memory and embedded stores, and real servers.

Tier: CI. Kills of processes and servers, and sizes that take minutes, are in
``test_reindex_live.py``.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any, cast
from unittest.mock import patch

import msgspec
import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator import index, keys, reindex
from modelhub.coordinator.context import Context, Stores
from modelhub.errors import Conflict, CorruptData, InvalidInput, Unavailable
from modelhub.hub import Hub
from modelhub.records import Reindexing, Targets, decode, encode
from modelhub.results import ReindexMode
from modelhub.stores import Document, Row, SearchIndex
from modelhub.testing.crashes import Scenario, cases, open_process, run_case
from modelhub.testing.faults import Call, Outcome, ProcessDied
from tests.live.hubs import close

NAMES = ["nlp.mood", "nlp.tone", "vision.ocr"]


def memory() -> Stores:
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())


@pytest.fixture
def stores(any_stores: Stores) -> Stores:
    """Empty ones."""
    return any_stores


@pytest.fixture
def hub(stores: Stores, tmp_path: Path) -> Iterator[Hub]:
    """Three models, with an edit, a deletion and an alias among them."""
    with Hub(Context(stores, "tester"), address="test", cache=tmp_path / "cache") as hub:
        hub.init()
        fill(hub, tmp_path)
        yield hub


def fill(hub: Hub, folder: Path) -> None:
    for number, name in enumerate(NAMES, 1):
        for version in range(1, number + 2):
            file = folder / "model.bin"
            file.write_text(f"{name} {version}")
            hub.push(name, file, title=f"Title {version} of {name}")
    hub.edit("nlp.tone@2", description="Edited later.")
    hub.delete("vision.ocr@3")
    hub.alias.set("nlp.mood", "champion", "1")


def targets(stores: Stores) -> Targets:
    value = stores.rows.get(keys.SYSTEM, keys.SEARCH)
    assert value is not None
    return decode(value, Targets, "the targets")


def documents(stores: Stores) -> dict[str, Document]:
    return {document.id: document for document in stores.search.scan(targets(stores).live)}


def only_live_is_there(stores: Stores) -> None:
    listed = targets(stores)
    assert listed.targets == (listed.live,)
    hub = "-".join(listed.live.split("-")[:2])
    assert [name for name in stores.search.targets() if name.startswith(hub)] == [listed.live]


def test_a_new_target_holds_what_the_old_one_did(hub: Hub, stores: Stores) -> None:
    before, old = documents(stores), targets(stores).live
    done = hub.reindex()
    assert documents(stores) == before
    assert (done.mode, done.documents, done.dropped) == ("whole", len(before), (old,))
    assert done.target == targets(stores).live != old
    assert not done.lost
    assert not done.damaged
    only_live_is_there(stores)
    assert not hub.fsck().findings


def test_the_log_is_enough_where_every_document_is_gone(hub: Hub, stores: Stores) -> None:
    before = documents(stores)
    stores.search.drop_target(targets(stores).live)
    assert hub.reindex().written == len(before)
    assert documents(stores) == before
    assert {hit.name for hit in hub.search("title").hits} == set(NAMES)


def test_tombstones_keep_late_documents_out(hub: Hub, stores: Stores) -> None:
    hub.reindex()
    stale = Document("vision.ocr@3", 4, {"name": "vision.ocr", "current": True})
    stores.search.write(targets(stores).live, [stale])
    assert documents(stores)["vision.ocr@3"].body is None


def test_lost_and_stale_documents_are_found_by_their_sequences(hub: Hub, stores: Stores) -> None:
    before, live = documents(stores), targets(stores).live
    kept = [one for one in before.values() if one.id not in {"nlp.mood@1", "nlp.tone@2"}]
    stores.search.drop_target(live)
    stores.search.create_target(live)
    old = msgspec.structs.replace(before["nlp.tone@2"], version=before["nlp.tone@2"].version - 1)
    stores.search.write(live, [*kept, old])
    done = hub.reindex("incremental")
    assert documents(stores) == before
    assert {one.id for one in done.lost} == {"nlp.mood@1", "nlp.tone@2"}
    assert (done.mode, done.written, done.target) == ("incremental", 2, live)
    again = hub.reindex("incremental")
    assert (again.written, list(again.lost)) == (0, [])


def test_what_an_intent_owes_is_no_loss(stores: Stores, tmp_path: Path) -> None:
    """A publisher whose search write failed: behind, and written, but not reported."""
    hub, _ = open_process(stores)
    hub.init()
    fill(hub, tmp_path)
    away, _ = open_process(
        stores, lambda call: Outcome.FAILS_BEFORE if call.store == "search" else Outcome.OK
    )
    away.push("nlp.mood", tmp_path / "model.bin")
    done = hub.reindex("incremental")
    assert done.written == 2  # the version and its parent
    assert not done.lost
    assert documents(stores)["nlp.mood@3"].body is not None


def test_scheduled_runs_compare_until_documents_change_their_form(
    hub: Hub, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hub.reindex("scheduled").mode == "incremental"
    monkeypatch.setattr(index, "LAYOUT", index.LAYOUT + 1)
    first = hub.reindex("scheduled")
    assert first.mode == "whole"
    assert targets(stores).layout == index.LAYOUT
    assert hub.reindex("scheduled").mode == "incremental"
    only_live_is_there(stores)


def test_an_unknown_mode_is_refused(hub: Hub) -> None:
    with pytest.raises(InvalidInput, match="'nightly' is no way to re-index"):
        hub.reindex("nightly")  # type: ignore[arg-type]


# --- several runs --------------------------------------------------------------------------------


def test_two_runs_are_never_under_way_at_once(hub: Hub, stores: Stores, tmp_path: Path) -> None:
    other = Hub(Context(stores, "other"), address="test", cache=tmp_path / "cache")
    refusals: list[Conflict] = []

    def begin_another(_phase: str, _done: int, _total: int) -> None:
        with pytest.raises(Conflict, match="a re-index by tester is under way") as caught:
            other.reindex("scheduled")
        refusals.append(caught.value)

    hub.reindex(progress=begin_another)
    assert refusals
    assert "UTC" in refusals[0].remedy
    assert other.reindex("incremental").mode == "incremental"


class Dying:
    """A plan under which the n-th call of this kind is the last that a process makes."""

    def __init__(self, store: str, method: str, n: int) -> None:
        self._doomed = (store, method)
        self._left = n

    def __call__(self, call: Call) -> Outcome:
        self._left -= (call.store, call.method) == self._doomed
        return Outcome.OK if self._left > 0 else Outcome.FAILS_AFTER


def dies_at(stores: Stores, method: str, n: int = 1) -> None:
    """A run ends with its process, at its n-th call of this method of the search index."""
    dying, _ = open_process(stores, Dying("search", method, n))
    with pytest.raises(ProcessDied):
        dying.reindex()


def made_on(stores: Stores, folder: Path) -> Hub:
    """A hub of a process to which every lease is over."""
    hub, _ = open_process(stores)
    hub.init()
    fill(hub, folder)
    return hub


def test_a_run_goes_on_where_another_died(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reindex, "_BATCH", 2)
    monkeypatch.setattr(reindex, "_THREADS", 1)
    hub, before = made_on(stores, tmp_path), documents(stores)
    dies_at(stores, "write", n=4)
    begun = run_row(stores)
    assert begun.at in {"nlp.tone", "vision.ocr"}  # the next batch is written meanwhile
    assert targets(stores).targets == (targets(stores).live, begun.target)
    done = hub.reindex("scheduled")
    assert (done.mode, done.target) == ("whole", begun.target)
    assert documents(stores) == before
    assert done.written < len(before)
    only_live_is_there(stores)


def run_row(stores: Stores) -> Reindexing:
    value = stores.rows.get(keys.SYSTEM, keys.REINDEX)
    assert value is not None
    return decode(value, Reindexing, "the run")


def test_a_target_of_another_form_is_given_up(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = made_on(stores, tmp_path)
    dies_at(stores, "write")
    begun = run_row(stores).target
    monkeypatch.setattr(index, "LAYOUT", index.LAYOUT + 1)
    done = hub.reindex("scheduled")
    assert begun in done.dropped
    assert done.target != begun
    only_live_is_there(stores)


def test_a_target_that_vanished_while_it_was_filled_is_given_up(
    stores: Stores, tmp_path: Path
) -> None:
    hub, before = made_on(stores, tmp_path), documents(stores)
    dies_at(stores, "get")
    begun = run_row(stores)
    assert begun.filled
    stores.search.drop_target(begun.target)
    assert hub.reindex().target != begun.target
    assert documents(stores) == before
    only_live_is_there(stores)


@pytest.mark.parametrize("mode", ["whole", "scheduled"])
def test_a_run_whose_row_is_damaged_keeps_nobody_from_the_next(
    stores: Stores, tmp_path: Path, mode: ReindexMode
) -> None:
    """Nor does it hide from a scheduled run that a new target was wanted."""
    hub = made_on(stores, tmp_path)
    dies_at(stores, "write")
    stores.rows.put(keys.SYSTEM, keys.REINDEX, b"{}")
    assert hub.reindex(mode).mode == "whole"
    only_live_is_there(stores)


def test_a_run_that_lost_its_lease_stops_and_harms_nothing(stores: Stores, tmp_path: Path) -> None:
    hub, before = made_on(stores, tmp_path), documents(stores)
    paused = open_process(stores)[0]
    overtaken: list[str] = []

    def overtake(phase: str, _done: int, _total: int) -> None:
        if phase == "compare" and not overtaken:
            overtaken.append(hub.reindex().target)

    with pytest.raises(Conflict, match="another re-index began meanwhile"):
        paused.reindex(progress=overtake)
    assert targets(stores).live == overtaken[0]
    assert documents(stores) == before
    only_live_is_there(stores)


def test_no_case_of_the_crash_walk_leaves_a_target_over(tmp_path: Path) -> None:
    def prepare(stores: Stores) -> None:
        made_on(stores, tmp_path)

    scenario = Scenario(
        "re-index",
        prepare,
        lambda hub: hub.reindex(),
        lambda _: True,
        lambda _stores, _effect: None,
        settles=True,
    )
    count = 0
    for case in cases(scenario, memory):
        made: list[Stores] = []
        run_case(scenario, case, lambda made=made: made.append(memory()) or made[-1])  # type: ignore[misc]
        only_live_is_there(made[-1])
        count += 1
    assert count > 200


# --- everybody else meanwhile --------------------------------------------------------------------


def test_who_opened_the_hub_before_publishes_into_both_targets_and_then_into_the_new(
    stores: Stores, tmp_path: Path
) -> None:
    hub, file = made_on(stores, tmp_path), tmp_path / "model.bin"
    early = open_process(stores)[0]
    early.push("nlp.mood", file)
    seen: list[int] = []

    def publish(phase: str, _done: int, _total: int) -> None:
        if phase == "compare" and not seen:
            seen.append(early.push("nlp.mood", file).number)
            number = f"nlp.mood@{seen[0]}"
            for target in targets(stores).targets:
                assert number in stores.search.get(target, [number])

    hub.reindex(progress=publish)
    assert seen
    last = early.push("nlp.mood", file)
    assert f"nlp.mood@{last.number}" in documents(stores)
    assert not hub.fsck().findings
    assert hub.status().intents == 0


class Overtaken:
    """A search index in which a re-index swaps targets before the first call of a method.

    With a ``failure`` that call fails.
    """

    def __init__(
        self,
        stores: Stores,
        method: str,
        reindex_now: Callable[[], object],
        failure: Exception | None = None,
    ) -> None:
        self._stores = stores
        self._method = method
        self._reindex = [reindex_now]
        self._failure = failure

    def __getattr__(self, name: str) -> Any:
        if name == self._method and self._reindex:
            self._reindex.pop()()
            if self._failure is not None:
                raise self._failure
        return getattr(self._stores.search, name)


@pytest.mark.parametrize("failure", [None, Unavailable("no shard"), CorruptData("no field")])
def test_whatever_a_dropped_target_says_the_new_one_is_asked(
    stores: Stores, tmp_path: Path, failure: Exception | None
) -> None:
    hub = made_on(stores, tmp_path)
    search = cast(SearchIndex, Overtaken(stores, "search", hub.reindex, failure))
    searching, _ = open_process(Stores(stores.weights, stores.rows, search))
    assert {hit.name for hit in searching.search("title").hits} == set(NAMES)


def test_a_publish_may_wait_for_search(stores: Stores, tmp_path: Path) -> None:
    hub, file = made_on(stores, tmp_path), tmp_path / "model.bin"
    for number in range(3):
        hub.push("nlp.mood", file, title=f"Only{number} here", wait_search=True)
        assert [hit.name for hit in hub.search(f"only{number}").hits] == ["nlp.mood"]


def test_a_publish_is_found_within_a_second(
    stores: Stores, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """Nobody waits for search, or refreshes it."""
    hub, file = made_on(stores, tmp_path), tmp_path / "model.bin"
    took_s = []
    for number in range(7):
        hub.push("nlp.mood", file, title=f"Only{number} here")
        published_s = time.monotonic()
        while not hub.search(f"only{number}").hits:
            assert time.monotonic() < published_s + 30
        took_s.append(time.monotonic() - published_s)
    figure(f"found after {median(took_s):.2f} s, half of the time; at most {max(took_s):.2f} s")
    assert median(took_s) < 1


def test_a_publish_that_search_does_not_show_says_that_it_stands(
    stores: Stores, tmp_path: Path
) -> None:
    made_on(stores, tmp_path)
    away, _ = open_process(
        stores, lambda call: Outcome.FAILS_BEFORE if call.store == "search" else Outcome.OK
    )
    with pytest.raises(Unavailable, match=r"mood@3 is published, and search does not show it"):
        away.push("nlp.mood", tmp_path / "model.bin", wait_search=True)
    hub, _ = open_process(stores)
    assert hub.show("nlp.mood").number == 3
    hub.sweep()
    assert "nlp.mood@3" in documents(stores)


def test_a_check_that_looks_for_targets_while_they_are_swapped_finds_nothing(
    stores: Stores, tmp_path: Path
) -> None:
    hub = made_on(stores, tmp_path)
    search = cast(SearchIndex, Overtaken(stores, "targets", hub.reindex))
    checking, _ = open_process(Stores(stores.weights, stores.rows, search))
    assert not checking.fsck().findings


def test_a_check_that_is_overtaken_by_a_swap_goes_on(stores: Stores, tmp_path: Path) -> None:
    hub = made_on(stores, tmp_path)
    swapped: list[str] = []

    def swap(_phase: str, _done: int, _total: int) -> None:
        if not swapped:
            swapped.append(open_process(stores)[0].reindex().target)

    assert not hub.fsck(progress=swap).findings
    assert swapped


def test_a_wait_that_is_overtaken_by_a_swap_ends_when_searches_find_the_version(
    stores: Stores, tmp_path: Path
) -> None:
    hub = made_on(stores, tmp_path)
    waiting, faults = open_process(stores)
    refresh = faults.stores.search.refresh
    swaps = [hub.reindex]

    def overtaken(target: str) -> None:
        if swaps:
            swaps.pop()()
        refresh(target)

    with patch.object(type(faults.stores.search), "refresh", lambda _, target: overtaken(target)):
        waiting.push("nlp.mood", tmp_path / "model.bin", title="Awaited", wait_search=True)
    assert not swaps
    assert [hit.name for hit in hub.search("awaited").hits] == ["nlp.mood"]


# --- what runs leave that died -------------------------------------------------------------------


def test_a_whole_run_is_whole_though_the_one_before_died_after_its_swap(
    stores: Stores, tmp_path: Path
) -> None:
    hub, before = made_on(stores, tmp_path), documents(stores)
    dies_at(stores, "drop_target")
    live = targets(stores).live
    stores.search.drop_target(live)
    assert hub.reindex().target != live
    assert documents(stores) == before
    only_live_is_there(stores)


def test_a_target_that_cannot_be_dropped_keeps_nobody_from_a_new_one(
    stores: Stores, tmp_path: Path
) -> None:
    made_on(stores, tmp_path)
    away, _ = open_process(
        stores, lambda call: Outcome.FAILS_BEFORE if call.method == "drop_target" else Outcome.OK
    )
    seen = {targets(stores).live}
    for _ in range(3):
        with pytest.raises(Unavailable):
            away.reindex()
        assert targets(stores).live not in seen
        seen.add(targets(stores).live)


class Broken:
    """A search index of which one target, once it was made, takes nothing and answers nothing."""

    def __init__(self, stores: Stores, target: str) -> None:
        self._stores, self._target = stores, target

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._stores.search, name)
        if name not in {"refresh", "write", "get", "scan", "search"}:
            return call

        def refusing(target: str, *arguments: Any, **options: Any) -> Any:
            if target == self._target:
                raise Unavailable("its shard has no copy that is up")
            return call(target, *arguments, **options)

        return refusing


def test_a_begun_target_that_no_longer_answers_is_given_up(stores: Stores, tmp_path: Path) -> None:
    made_on(stores, tmp_path)
    dies_at(stores, "write")
    begun = run_row(stores).target
    search = cast(SearchIndex, Broken(stores, begun))
    hub, _ = open_process(Stores(stores.weights, stores.rows, search))
    done = hub.reindex("scheduled")
    assert done.target != begun
    assert begun in done.dropped
    only_live_is_there(stores)


def test_a_run_that_came_to_its_end_refuses_nobody_whatever_their_clocks(
    hub: Hub, stores: Stores, tmp_path: Path
) -> None:
    hub.reindex("incremental")
    ended = run_row(stores)
    later = msgspec.structs.replace(ended, lease=ended.lease + timedelta(minutes=4))
    stores.rows.put(keys.SYSTEM, keys.REINDEX, encode(later))
    other = Hub(Context(stores, "other"), address="test", cache=tmp_path / "cache")
    assert other.reindex("incremental").mode == "incremental"


def test_whoever_finishes_an_init_that_died_knows_its_target(tmp_path: Path) -> None:
    stores = memory()
    dying, _ = open_process(stores, Dying("rows", "check_and_put", 1))
    with pytest.raises(ProcessDied):
        dying.init()
    hub = made_on(stores, tmp_path)
    hub.reindex()
    assert stores.search.targets() == [targets(stores).live]


# --- damage --------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_named_and_everything_else_is_shown(
    stores: Stores, tmp_path: Path
) -> None:
    hub, before = made_on(stores, tmp_path), documents(stores)
    key, value = next(iter(stores.rows.scan(keys.LOG, *keys.prefix("nlp.mood"))))
    stores.rows.put(keys.LOG, key, value[:-20] + b"x" * 20)
    (doomed, _), *_ = stores.rows.scan(keys.METADATA, *keys.prefix("vision.ocr"))
    stores.rows.delete_many(keys.METADATA, [doomed])
    done = hub.reindex()
    assert len(done.damaged) == 2
    assert any("nlp.mood" in message for message in done.damaged)
    assert any("vision.ocr@1" in message for message in done.damaged)
    lost = {"nlp.mood@1", "nlp.mood@2", "vision.ocr@1"}
    assert documents(stores).keys() == before.keys() - lost


def test_a_log_that_cannot_be_read_on_puts_no_new_target_live(tmp_path: Path) -> None:
    stores = memory()
    hub, live = made_on(stores, tmp_path), targets(stores).live

    class CutShort(MemoryRows):
        def scan(self, table: str, *arguments: Any, **options: Any) -> Iterator[Row]:
            for count, row in enumerate(stores.rows.scan(table, *arguments, **options)):
                if table == keys.LOG and count == 4 and options.get("limit") is None:
                    raise CorruptData("a page of the database is damaged")
                yield row

        def __getattribute__(self, name: str) -> Any:
            own = name in {"scan", "__class__"}
            return object.__getattribute__(self, name) if own else getattr(stores.rows, name)

    reading, _ = open_process(Stores(stores.weights, CutShort(), stores.search))
    for mode in ("whole", "incremental"):
        with pytest.raises(CorruptData, match="a page of the database"):
            reading.reindex(mode)
    assert targets(stores).live == live
    assert hub.search("title").total == len(NAMES)


def test_a_damaged_document_keeps_no_other_from_being_compared(tmp_path: Path) -> None:
    stores = embedded_stores(tmp_path / "hub")
    hub = made_on(stores, tmp_path)
    with closing(sqlite3.connect(tmp_path / "hub" / "search.sqlite")) as raw, raw:
        (table,) = next(
            raw.execute("SELECT name FROM sqlite_master WHERE name GLOB 'documents_[0-9]*'")
        )
        raw.execute(f"UPDATE {table} SET body = '{{' WHERE id = 'nlp.mood@1'")
        raw.execute(f"DELETE FROM {table} WHERE id = 'vision.ocr@1'")
    done = hub.reindex("incremental")
    assert any("nlp.mood@1" in message for message in done.damaged)
    assert "vision.ocr@1" in {one.id for one in done.lost}
    assert not hub.reindex().damaged
    close(stores)


@pytest.mark.parametrize("method", ["create_target", "write", "get", "drop_target"])
def test_a_target_that_stays_away_ends_the_run_and_the_next_one_finishes(
    stores: Stores, tmp_path: Path, method: str
) -> None:
    hub, before = made_on(stores, tmp_path), documents(stores)
    away, _ = open_process(
        stores, lambda call: Outcome.FAILS_BEFORE if call.method == method else Outcome.OK
    )
    with pytest.raises(Unavailable):
        away.reindex()
    assert hub.search("title").total == len(NAMES)
    hub.reindex()
    assert documents(stores) == before
    only_live_is_there(stores)


def test_a_registration_that_lands_late_names_no_target_that_was_dropped(
    hub: Hub, stores: Stores
) -> None:
    """It was sent by a run that gave up, and a comparison came in between."""
    made, writes = False, 0

    def plan(call: Call) -> Outcome:
        nonlocal made, writes
        made = made or call.method == "create_target"
        writes += made and call.writes and call.where == keys.SYSTEM
        return Outcome.LATE if writes > 1 else Outcome.OK  # the first says that it has its lease

    beginner, faults = open_process(stores, plan)
    with pytest.raises(Unavailable):
        beginner.reindex()
    open_process(stores)[0].reindex("incremental")
    faults.land()
    assert set(index.read_targets(Context(stores, "tester")).targets) <= {*stores.search.targets()}
    hub.edit(f"{hub.list()[0].name}@1", title="as new")
    open_process(stores)[0].sweep()
    assert not hub.fsck().findings
