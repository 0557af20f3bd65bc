"""Every store call of every verb that changes something, times every way it can fail.

Tier: CI runs all cases on memory and embedded stores, and on the real servers one case of each call
site and outcome; ``--full`` one of each in every scenario there.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator import keys
from modelhub.coordinator.context import Stores
from modelhub.errors import OutcomeUnknown
from modelhub.hub import Hub
from modelhub.rules import RetentionRule
from modelhub.testing.crashes import Case, Scenario, cases, contents, open_process, run_case, shown
from modelhub.testing.faults import Call, Faults, Outcome, ProcessDied
from tests.conftest import TIER

NAME = "nlp.sentiment"
ONE = {"a.bin": b"one" * 50, "b/c.bin": b"shared" * 40}
TWO = {"a.bin": b"two" * 50, "b/c.bin": b"shared" * 40}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    made = {}
    for number, files in enumerate((ONE, TWO), 1):
        made[number] = tmp_path_factory.mktemp(f"version{number}")
        for path, data in files.items():
            target = made[number] / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
    return made


def number_of(stores: Stores) -> int:
    return len(contents(stores, NAME))


def has_files(stores: Stores, expected: list[dict[str, bytes]]) -> bool:
    return list(contents(stores, NAME).values()) == expected


def is_tombstoned(stores: Stores, number: int) -> bool:
    return open_process(stores)[0].show(f"{NAME}@{number}").deleted


def push(hub: Hub, folder: Path, request: str | None = "r") -> None:
    hub.push(NAME, folder, message="a push", request_id=request)


def prepared(*steps: Callable[[Hub], object]) -> Callable[[Stores], None]:
    def prepare(stores: Stores) -> None:
        hub, _ = open_process(stores)
        hub.init()
        for step in steps:
            step(hub)

    return prepare


def search_is_whole(stores: Stores, _effect: bool) -> None:
    """Whichever target answers, it shows the one version that is left."""
    for target in stores.search.targets():
        stores.search.refresh(target)
    found = open_process(stores)[0].search(all_versions=True)
    assert [hit.number for hit in found.hits] == [2]


def collect(hub: Hub) -> None:
    hub.gc([RetentionRule(deleted_days=0)], trash_hours=0)


def nothing_is_missed(stores: Stores, _effect: bool) -> None:
    """The deleted version is there until it is purged, and the other one in any case."""
    found = contents(stores, NAME)
    assert found[2] == TWO
    assert found[1] in ({}, ONE)


def versions_are(*expected: dict[str, bytes]) -> Callable[[Stores, bool], None]:
    """All of them, or all but the last."""

    def holds(stores: Stores, effect: bool) -> None:
        wanted = list(expected) if effect else list(expected[:-1])
        assert has_files(stores, wanted)
        assert shown(stores, NAME) == (len(wanted) or None)

    return holds


def head_is(with_effect: int, without: int) -> Callable[[Stores, bool], None]:
    def holds(stores: Stores, effect: bool) -> None:
        assert has_files(stores, [ONE, TWO])
        assert shown(stores, NAME) == (with_effect if effect else without)

    return holds


def named(stores: Stores, ref: str) -> int:
    return open_process(stores)[0].show(f"{NAME}@{ref}").number


def means(ref: str, with_effect: int, without: int) -> Callable[[Stores, bool], None]:
    def holds(stores: Stores, effect: bool) -> None:
        assert has_files(stores, [ONE, TWO])
        assert named(stores, ref) == (with_effect if effect else without)

    return holds


def title_is_edited(stores: Stores) -> bool:
    return open_process(stores)[0].show(NAME).metadata.title == "Mood"


def title_is_whole(stores: Stores, effect: bool) -> None:
    assert has_files(stores, [ONE])
    assert open_process(stores)[0].show(NAME).metadata.title == ("Mood" if effect else "")


def scenarios(folders: dict[int, Path]) -> dict[str, Scenario]:
    one, two = (lambda hub: push(hub, folders[1], None)), (lambda hub: push(hub, folders[2], None))
    found = [
        Scenario(
            "first publish",
            prepared(),
            lambda hub: push(hub, folders[1]),
            lambda stores: number_of(stores) == 1,
            versions_are(ONE),
        ),
        Scenario(
            "publish that reuses packs",
            prepared(one),
            lambda hub: push(hub, folders[2]),
            lambda stores: number_of(stores) == 2,
            versions_are(ONE, TWO),
        ),
        Scenario(
            "publish of the same content",
            prepared(one),
            lambda hub: push(hub, folders[1]),
            lambda stores: number_of(stores) == 2,
            versions_are(ONE, ONE),
        ),
        Scenario(
            "delete of the head",
            prepared(one, two),
            lambda hub: hub.delete(f"{NAME}@2"),
            lambda stores: is_tombstoned(stores, 2),
            head_is(1, 2),
        ),
        Scenario(
            "undelete of the head",
            prepared(one, two, lambda hub: hub.delete(f"{NAME}@2")),
            lambda hub: hub.undelete(f"{NAME}@2"),
            lambda stores: not is_tombstoned(stores, 2),
            head_is(2, 1),
        ),
        Scenario(
            "edit",
            prepared(one),
            lambda hub: hub.edit(NAME, title="Mood"),
            title_is_edited,
            title_is_whole,
        ),
        Scenario(
            "an alias moves",
            prepared(one, two, lambda hub: hub.alias.set(NAME, "champion", "1")),
            lambda hub: hub.alias.set(NAME, "champion", "2"),
            lambda stores: named(stores, "champion") == 2,
            means("champion", 2, 1),
        ),
        Scenario(
            "rollback",
            prepared(one, two),
            lambda hub: hub.rollback(NAME, to=1),
            lambda stores: number_of(stores) == 3,
            versions_are(ONE, TWO, ONE),
        ),
        Scenario(
            "merge",
            prepared(one, lambda hub: hub.push(NAME, folders[2], branch="fix"), one),
            lambda hub: hub.merge(NAME, "fix"),
            lambda stores: number_of(stores) == 4,
            versions_are(ONE, TWO, ONE, TWO),
        ),
        Scenario(
            "restore of a file",
            prepared(one, two),
            lambda hub: hub.restore(f"{NAME}@1", ["a.bin"]),
            lambda stores: number_of(stores) == 3,
            versions_are(ONE, TWO, ONE),
        ),
        Scenario(
            "a branch moves back",
            prepared(one, two),
            lambda hub: hub.branch.move(NAME, "main", "1"),
            lambda stores: named(stores, "main") == 1,
            head_is(1, 2),
        ),
        Scenario(
            "re-index",
            prepared(one, two, lambda hub: hub.delete(f"{NAME}@1")),
            lambda hub: hub.reindex(),
            lambda _: True,
            search_is_whole,
            settles=True,
        ),
        Scenario(
            "collection",
            prepared(one, two, lambda hub: hub.delete(f"{NAME}@1")),
            collect,
            lambda stores: contents(stores, NAME)[1] == {},
            nothing_is_missed,
            settles=True,
        ),
    ]
    return {scenario.name: scenario for scenario in found}


def sweeps(folders: dict[int, Path]) -> Iterator[Scenario]:
    """Sweeps of what a publish left that died at one of its writes, or is still committing."""
    publish = scenarios(folders)["publish that reuses packs"]
    stores = memory_stores()
    publish.prepare(stores)
    hub, faults = open_process(stores)
    publish.act(hub)
    for index, call in enumerate(faults.calls):
        if call.writes:
            yield sweep_after(publish, f"a death at call {index}", dies_at(index))
    yield sweep_after(publish, "a commit under way", commits_late)


def sweep_after(
    publish: Scenario, name: str, plan: Callable[[], Callable[[Call], Outcome]]
) -> Scenario:
    def prepare(stores: Stores) -> Faults:
        publish.prepare(stores)
        hub, faults = open_process(stores, plan())
        with contextlib.suppress(ProcessDied, OutcomeUnknown):
            publish.act(hub)
        return faults

    def holds(stores: Stores, effect: bool) -> None:
        assert has_files(stores, [ONE, TWO] if effect else [ONE])

    return Scenario(
        f"sweep after {name}",
        prepare,
        lambda hub: hub.sweep(),
        lambda stores: number_of(stores) == 2,
        holds,
        settles=True,
    )


def dies_at(index: int) -> Callable[[], Callable[[Call], Outcome]]:
    def make() -> Callable[[Call], Outcome]:
        count = itertools.count()
        return lambda _: Outcome.FAILS_AFTER if next(count) == index else Outcome.OK

    return make


def commits_late() -> Callable[[Call], Outcome]:
    """From the commit on the row store is out of reach; what was sent to it lands later."""
    away = False

    def plan(call: Call) -> Outcome:
        nonlocal away
        away = away or (call.method, call.where) == ("check_and_put", keys.LOG)
        return Outcome.LATE if away else Outcome.OK

    return plan


def memory_stores() -> Stores:
    return Stores(MemoryWeights(), MemoryRows(), MemorySearch())


@pytest.fixture(params=["memory", "embedded", "live"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of stores."""
    named: str = request.param
    return named


@pytest.fixture
def make_stores(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Stores]]:
    if kind == "memory":
        yield memory_stores
        return
    if kind == "live":
        yield request.getfixturevalue("live")
        return
    folder = itertools.count()
    opened: list[Stores] = []

    def make() -> Stores:
        while opened:
            close(opened.pop())
        root = tmp_path / str(next(folder))
        root.mkdir()
        stores = embedded_stores(root)
        opened.append(stores)
        return stores

    yield make
    for stores in opened:
        close(stores)


def close(stores: Stores) -> None:
    for store in (stores.rows, stores.search, stores.weights):
        store.close()


Site = tuple[str, ...]
"""Where a case fails, and how: store, method, table, outcome."""


def site(case: Case) -> Site:
    table = case.call.where if case.call.store == "rows" else ""
    return (case.call.store, case.call.method, table, case.outcome.value)


def sites(scenario: Scenario) -> dict[Site, Case]:
    """The first case of each site."""
    first: dict[Site, Case] = {}
    for case in cases(scenario, memory_stores):
        first.setdefault(site(case), case)
    return first


def chosen(kind: str, scenario: Scenario, before: Iterable[Scenario]) -> Callable[[Case], bool]:
    """Which cases run: on the real servers one a site, in CI those that none ``before`` has."""
    if kind != "live":
        return lambda _: True
    wanted = set(sites(scenario))
    if TIER != "full":
        wanted = wanted.difference(*map(sites, before))

    def choose(case: Case) -> bool:
        if site(case) not in wanted:
            return False
        wanted.remove(site(case))
        return True

    return choose


def walk(
    kind: str,
    walked: Iterable[Scenario],
    before: Iterable[Scenario],
    make_stores: Callable[[], Stores],
    figure: Callable[[str], None],
) -> None:
    endings: Counter[str] = Counter()
    earlier = list(before)
    for scenario in walked:
        choose = chosen(kind, scenario, earlier)
        earlier.append(scenario)
        for case in filter(choose, list(cases(scenario, make_stores))):
            try:
                endings[run_case(scenario, case, make_stores)] += 1
            except Exception as error:
                raise AssertionError(f"{case}: {error!r}") from error
    assert endings or kind == "live", "no store calls were made"
    figure(f"{sum(endings.values())} crash points on {kind} stores: {dict(endings)}")


NAMES = [
    "first publish",
    "publish that reuses packs",
    "publish of the same content",
    "delete of the head",
    "undelete of the head",
    "edit",
    "an alias moves",
    "rollback",
    "merge",
    "restore of a file",
    "a branch moves back",
    "re-index",
    "collection",
]


@pytest.mark.timeout(1800)  # on the real servers, with --full
@pytest.mark.parametrize("name", NAMES)
def test_whatever_fails_in(
    name: str,
    folders: dict[int, Path],
    kind: str,
    make_stores: Callable[[], Stores],
    figure: Callable[[str], None],
) -> None:
    found = scenarios(folders)
    before = [found[earlier] for earlier in NAMES[: NAMES.index(name)]]
    walk(kind, [found[name]], before, make_stores, figure)


@pytest.mark.timeout(1800)
def test_whatever_fails_in_a_sweep_after_a_failed_publish(
    folders: dict[int, Path],
    kind: str,
    make_stores: Callable[[], Stores],
    figure: Callable[[str], None],
) -> None:
    walk(kind, sweeps(folders), scenarios(folders).values(), make_stores, figure)
