"""Branches, tags and aliases: what they name, when they did, who may move them.

Tier: CI runs all of it; what races does so on memory, embedded and on the real servers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from modelhub.connect import embedded_stores
from modelhub.coordinator import transaction
from modelhub.coordinator.context import Clock, Context, Stores
from modelhub.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    InvalidInput,
    ModelhubError,
    NotFound,
)
from modelhub.hub import Hub
from modelhub.stores import RowStore
from tests.live.hubs import LiveHubs

NAME = "nlp.mood"


def opened(stores: Stores, cache: Path, principal: str = "tester") -> Hub:
    return Hub(Context(stores, principal), address="test", cache=cache)


@pytest.fixture
def hub(memory_hub: Hub) -> Hub:
    return memory_hub


Pushed = Callable[..., int]


@pytest.fixture
def push(hub: Hub, tmp_path: Path) -> Pushed:
    """Pushes versions that differ; returned is the number."""

    def push(count: int = 1, **options: str) -> int:
        number = 0
        for _ in range(count):
            file = tmp_path / "model.txt"
            file.write_text(f"{options} {threading.get_ident()} {number} {file.exists()}")
            number = hub.push(NAME, file, **options).number  # type: ignore[arg-type]
        return number

    return push


def means(hub: Hub, ref: str) -> int:
    return hub.show(f"{NAME}@{ref}").number


# --- what they name -----------------------------------------------------------------------------


def test_every_kind_names_a_version_wherever_a_revision_is_taken(hub: Hub, push: Pushed) -> None:
    push(3)
    assert hub.tag.create(NAME, "v1", "1").number == 1
    assert hub.alias.set(NAME, "champion", "2").number == 2
    assert hub.branch.create(NAME, "fix", at="v1").number == 1
    assert push(branch="fix") == 4
    assert [means(hub, ref) for ref in ("v1", "champion", "fix", "main")] == [1, 2, 4, 3]
    shown = hub.show(f"{NAME}@fix")
    assert (shown.parents, shown.branches, shown.tags, shown.aliases) == ((1,), ("fix",), (), ())
    assert hub.show(f"{NAME}@1").tags == ("v1",)
    assert hub.show(f"{NAME}@2").aliases == ("champion",)
    assert hub.diff(f"{NAME}@champion", f"{NAME}@fix").b == f"{NAME}@4"
    assert hub.alias.set(NAME, "champion", f"{NAME}@fix").number == 4
    assert hub.push(NAME, Path(__file__), bases=[f"{NAME}@v1"]).bases == (f"{NAME}@1",)
    assert [(ref.ref, ref.number) for ref in hub.branch.list(NAME)] == [("fix", 4), ("main", 5)]
    assert [(ref.ref, ref.number) for ref in hub.tag.list(NAME)] == [("v1", 1)]
    assert [(ref.ref, ref.number) for ref in hub.alias.list(NAME)] == [("champion", 4)]
    assert not hub.fsck().findings


def test_search_shows_what_names_a_version_and_no_longer_what_did(
    hub: Hub, push: Pushed, stores: Stores
) -> None:
    push(2)
    hub.alias.set(NAME, "champion", "1")
    hub.tag.create(NAME, "v1", "1")
    hub.alias.set(NAME, "champion", "2")
    (target,) = stores.search.targets()
    found = stores.search.get(target, [f"{NAME}@1", f"{NAME}@2"]).values()
    told = {each.id: (each.body["aliases"], each.body["tags"]) for each in found if each.body}
    assert told == {f"{NAME}@1": ([], ["v1"]), f"{NAME}@2": (["champion"], [])}


def test_one_name_has_one_meaning(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.tag.create(NAME, "v1", "1")
    hub.alias.set(NAME, "champion", "1")
    acts: list[Callable[[], object]] = [
        lambda: hub.branch.create(NAME, "champion"),
        lambda: hub.branch.create(NAME, "main", at="1"),
        lambda: hub.tag.create(NAME, "champion", "1"),
        lambda: hub.tag.create(NAME, "v1", "2"),
        lambda: hub.alias.set(NAME, "v1", "2"),
        lambda: push(branch="v1"),
        lambda: push(branch="champion"),
    ]
    before = len(hub.log(NAME))
    for act in acts:
        with pytest.raises(AlreadyExists, match=r"nlp\.mood has the (branch|tag|alias)"):
            act()
    assert len(hub.log(NAME)) == before


def test_what_is_as_wanted_already_is_left_alone(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.tag.create(NAME, "v1", "1")
    hub.alias.set(NAME, "champion", "v1")
    hub.branch.create(NAME, "fix", at="1")
    hub.protect(NAME, "champion")
    before = len(hub.log(NAME))
    assert hub.tag.create(NAME, "v1", "1").number == 1
    assert hub.alias.set(NAME, "champion", "1").number == 1
    assert hub.branch.create(NAME, "fix", at="1").number == 1
    assert hub.branch.move(NAME, "main", "2").number == 2
    hub.protect(NAME, "champion")
    hub.unprotect(NAME)
    assert len(hub.log(NAME)) == before


def test_a_deleted_tag_comes_back_for_its_own_version_alone(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.tag.create(NAME, "v1", "1")
    assert hub.tag.delete(NAME, "v1", expect="1").number is None
    with pytest.raises(NotFound, match="v1"):
        means(hub, "v1")
    with pytest.raises(AlreadyExists, match="meant version 1"):
        hub.tag.create(NAME, "v1", "2")
    for act in (
        lambda: hub.alias.set(NAME, "v1", "2"),
        lambda: hub.branch.create(NAME, "v1", at="2"),
        lambda: push(branch="v1"),
    ):
        with pytest.raises(AlreadyExists, match="meant version 1"):
            act()
    assert hub.tag.create(NAME, "v1", 1).number == 1


def test_a_models_name_shadows_none_of_its_names(hub: Hub, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / "model.txt").write_text(str(number))
        hub.push("3", tmp_path / "model.txt")
    hub.push("champion", tmp_path / "model.txt")
    hub.push("champion", tmp_path / "model.txt", title="2")
    hub.alias.set("champion", "champion", "1")
    assert hub.tag.create("champion", "paper", "champion").number == 1
    assert hub.alias.set("3", "c", "3").number == 3
    hub.push("3", tmp_path / "model.txt", title="4")
    assert hub.tag.create("3", "t", "3").number == 3


def test_a_branch_that_moves_back_goes_on_from_there(hub: Hub, push: Pushed) -> None:
    push(3)
    assert hub.branch.move(NAME, "main", "1", expect="3").number == 1
    assert hub.show(NAME).number == 1
    assert [summary.head for summary in hub.list()] == [1]
    assert push() == 4
    assert hub.show(NAME).parents == (1,)
    hub.delete(f"{NAME}@4")
    assert hub.show(NAME).number == 1
    hub.undelete(f"{NAME}@4")
    assert hub.show(NAME).number == 4


def test_a_branch_without_a_live_version_can_be_deleted(hub: Hub, push: Pushed) -> None:
    push()
    hub.branch.create(NAME, "fix")
    push(branch="fix")
    for number in (2, 1):
        hub.delete(f"{NAME}@{number}")
    assert [ref.number for ref in hub.branch.list(NAME)] == [None, None]
    hub.branch.delete(NAME, "fix")
    assert [ref.ref for ref in hub.branch.list(NAME)] == ["main"]


def test_a_branch_that_is_put_where_it_fell_back_to_stays_there(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.delete(f"{NAME}@2")
    assert hub.branch.move(NAME, "main", "1").number == 1
    hub.undelete(f"{NAME}@2")
    assert hub.show(NAME).number == 1


def test_names_that_come_near_are_said(hub: Hub, push: Pushed) -> None:
    push()
    hub.alias.set(NAME, "champion", "1")
    with pytest.raises(NotFound) as caught:
        hub.show(f"{NAME}@champoin")
    assert "champion" in caught.value.remedy
    assert "main" not in caught.value.remedy
    with pytest.raises(NotFound) as caught:
        hub.show("nlp.moood")
    assert "nlp.mood" in caught.value.remedy
    with pytest.raises(NotFound) as caught:
        hub.show("vision.other")
    assert "nlp.mood" not in caught.value.remedy


@pytest.mark.parametrize("bad", ["", "3", "12345678", "a/b", "a..b", "ä", "x" * 129, "-a"])
def test_what_cannot_be_a_name_is_refused_before_anything_is_asked(
    hub: Hub, push: Pushed, bad: str
) -> None:
    push()
    acts: list[Callable[[], object]] = [
        lambda: hub.branch.create(NAME, bad),
        lambda: hub.tag.create(NAME, bad, "1"),
        lambda: hub.alias.set(NAME, bad, "1"),
        lambda: hub.alias.history(NAME, bad),
        lambda: hub.branch.delete(NAME, bad),
        lambda: hub.protect(NAME, bad),
    ]
    for act in acts:
        with pytest.raises(InvalidInput):
            act()


def test_what_is_not_there_or_of_another_kind_is_named(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.alias.set(NAME, "champion", "1")
    hub.delete(f"{NAME}@2")
    absent: list[Callable[[], object]] = [
        lambda: hub.branch.move(NAME, "nothing", "1"),
        lambda: hub.tag.delete(NAME, "nothing"),
        lambda: hub.alias.history(NAME, "nothing"),
        lambda: hub.alias.set(NAME, "champion", "2"),
        lambda: hub.alias.set(NAME, "champion", "3"),
        lambda: hub.tag.create(NAME, "v1", "nothing"),
        lambda: hub.branch.list("nlp.nothing"),
        lambda: hub.protect(NAME, "nothing"),
        lambda: hub.unprotect(NAME, "nothing"),
    ]
    for act in absent:
        with pytest.raises(NotFound):
            act()
    wrong: list[Callable[[], object]] = [
        lambda: hub.branch.delete(NAME, "champion"),
        lambda: hub.branch.delete(NAME, "main"),
        lambda: hub.alias.set(NAME, "main", "1"),
        lambda: hub.tag.create("nlp.other", "main", "1"),
        lambda: hub.tag.delete(NAME, "champion"),
        lambda: hub.alias.set(NAME, "champion", "nlp.other@1"),
    ]
    for act in wrong:
        with pytest.raises(InvalidInput):
            act()


# --- deleting and protecting ---------------------------------------------------------------------


def test_a_named_version_is_deleted_only_by_force(hub: Hub, push: Pushed) -> None:
    push(3)
    hub.tag.create(NAME, "v1", "1")
    hub.alias.set(NAME, "champion", "2")
    for number, ref in ((1, "v1"), (2, "champion")):
        with pytest.raises(Conflict, match=ref):
            hub.delete(f"{NAME}@{number}")
        assert hub.delete(f"{NAME}@{number}", force=True).deleted
        with pytest.raises(NotFound, match="deleted"):
            hub.files(f"{NAME}@{ref}")
        assert not hub.undelete(f"{NAME}@{ref}").deleted
    assert hub.delete(f"{NAME}@3").deleted


def test_what_is_protected_stays_until_that_is_lifted(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.alias.set(NAME, "champion", "1")
    hub.tag.create(NAME, "v1", "1")
    hub.protect(NAME, "champion", message="in use")
    hub.protect(NAME, "main")
    acts: dict[str, list[Callable[[], object]]] = {
        "champion": [
            lambda: hub.alias.set(NAME, "champion", "2"),
            lambda: hub.alias.delete(NAME, "champion"),
            lambda: hub.delete(f"{NAME}@1", force=True),
        ],
        "main": [lambda: hub.branch.move(NAME, "main", "1"), lambda: hub.delete(f"{NAME}@2")],
    }
    for ref, refused in acts.items():
        for act in refused:
            with pytest.raises(Forbidden, match=f"{ref} of {NAME} is protected") as caught:
                act()
            assert f"modelhub unprotect {NAME} {ref}`" in caught.value.remedy
    assert push() == 3, "a protected branch takes new versions"
    hub.unprotect(NAME, "champion")
    hub.unprotect(NAME, "main")
    hub.protect(NAME)
    of_the_model: list[Callable[[], object]] = [
        lambda: hub.delete(f"{NAME}@2"),
        lambda: hub.tag.delete(NAME, "v1"),
        lambda: hub.alias.set(NAME, "champion", "2"),
    ]
    for act in of_the_model:
        with pytest.raises(Forbidden, match=f"^{NAME} is protected"):
            act()
    assert hub.alias.set(NAME, "new", "2").number == 2
    assert hub.undelete(f"{NAME}@1").number == 1
    hub.unprotect(NAME)
    assert hub.delete(f"{NAME}@2", force=True).deleted
    with pytest.raises(InvalidInput, match="tag"):
        hub.protect(NAME, "v1")


def test_a_deleted_name_leaves_no_protection_behind(hub: Hub, push: Pushed) -> None:
    push()
    hub.branch.create(NAME, "fix")
    hub.protect(NAME, "fix")
    assert [ref.protected for ref in hub.branch.list(NAME)] == [True, False]
    hub.unprotect(NAME, "fix")
    hub.branch.delete(NAME, "fix")
    hub.alias.set(NAME, "fix", "1")
    assert not hub.alias.list(NAME)[0].protected


def test_more_names_than_a_row_holds_are_refused_and_the_model_works_on(
    hub: Hub, push: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_STATE_BYTES", 2000)
    push()

    def tag_all() -> None:
        for number in range(200):
            hub.tag.create(NAME, f"tag-{number}", "1")

    with pytest.raises(InvalidInput, match=r"2,000"):
        tag_all()
    assert 100 < len(hub.tag.list(NAME)) < 200
    hub.tag.delete(NAME, "tag-0")
    for _ in range(40):
        push()
    assert hub.delete(f"{NAME}@20").deleted
    assert hub.show(NAME).number == 41


# --- time ----------------------------------------------------------------------------------------


def test_history_says_which_version_it_was_then(hub: Hub, push: Pushed) -> None:
    push(2)
    hub.alias.set(NAME, "champion", "1", message="first")
    hub.alias.set(NAME, "champion", "2", message="better")
    hub.alias.delete(NAME, "champion", message="gone")
    hub.alias.set(NAME, "champion", "1")
    told = hub.alias.history(NAME, "champion")
    assert [(each.number, each.op) for each in told] == [
        (1, "alias"),
        (None, "delete-alias"),
        (2, "alias"),
        (1, "alias"),
    ]
    assert [each.message for each in told][1:] == ["gone", "better", "first"]
    for change, number in zip(told, (1, None, 2, 1), strict=True):
        revision = f"{NAME}@champion@{{{change.created.isoformat()}}}"
        if number is None:
            with pytest.raises(NotFound, match="champion at"):
                hub.show(revision)
        else:
            assert hub.show(revision).number == number
    main = hub.branch.history(NAME, "main")
    assert [(each.number, each.op) for each in main] == [(2, "publish"), (1, "publish")]


def test_time_is_exact_at_each_entry(hub: Hub, push: Pushed) -> None:
    push(3)
    hub.delete(f"{NAME}@3")
    log = hub.log(NAME)[::-1]
    heads = [1, 2, 3, 2]
    for entry, head, before in zip(log, heads, [0, *heads], strict=False):
        at = entry.created
        assert hub.show(f"{NAME}@{{{at.isoformat()}}}").number == head
        just_before = (at - timedelta(microseconds=1)).isoformat()
        if before:
            assert hub.show(f"{NAME}@{{{just_before}}}").number == before
        else:
            with pytest.raises(NotFound, match="did not exist"):
                hub.show(f"{NAME}@{{{just_before}}}")


class Shifted(Clock):
    """A clock that goes wrong by less than what is refused."""

    def __init__(self, rows: RowStore, by: timedelta) -> None:
        super().__init__(rows)
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


def test_writers_with_other_clocks_leave_time_in_the_order_of_the_log(
    stores: Stores, tmp_path: Path
) -> None:
    hubs = []
    for minutes in (4, -4, 0):
        ctx = Context(stores, f"{minutes} minutes off")
        ctx.clock = Shifted(stores.rows, timedelta(minutes=minutes))
        hubs.append(Hub(ctx, address="test", cache=tmp_path / "cache"))
    for number in range(9):
        (tmp_path / "model.txt").write_text(str(number))
        hubs[number % 3].push(NAME, tmp_path / "model.txt")
        hubs[(number + 1) % 3].alias.set(NAME, "champion", str(number + 1))
    log = hubs[2].log(NAME)[::-1]
    times = [entry.created for entry in log]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(minutes=1), "nobody's clock is waited for"
    for time in set(times):
        then = [entry for entry in log if entry.created <= time]
        head = max(entry.number or 0 for entry in then if entry.op == "publish")
        assert hubs[1].show(f"{NAME}@{{{time.isoformat()}}}").number == head
        assert len(hubs[1].log(NAME, until=time.isoformat())) == len(then)
        moved = [entry.number for entry in then if entry.op == "alias"]
        if moved:
            shown = hubs[1].show(f"{NAME}@champion@{{{time.isoformat()}}}")
            assert shown.number == moved[-1]


def test_the_log_is_cut_by_times_both_included(hub: Hub, push: Pushed) -> None:
    push(5)
    log = hub.log(NAME)
    times = [entry.created.isoformat() for entry in log]
    for newest in range(5):
        for oldest in range(newest, 5):
            found = hub.log(NAME, until=times[newest], since=times[oldest])
            assert list(found) == list(log[newest : oldest + 1])
    assert list(hub.log(NAME, since=times[2], limit=2)) == list(log[:2])
    assert not hub.log(NAME, until="2001-01-01")
    assert not hub.log(NAME, since="2999-01-01")
    with pytest.raises(InvalidInput, match="yesterday"):
        hub.log(NAME, since="yesterday")


# --- races ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "embedded", "servers"])
def test_of_several_who_expect_the_same_one_moves_it(
    where: str, request: pytest.FixtureRequest, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    movers, rounds = 8, 5
    again: Callable[[], Stores]
    if where == "servers":
        live: LiveHubs = request.getfixturevalue("live")
        live()
        again = live.again
    elif where == "embedded":
        again = lambda: embedded_stores(tmp_path / "hub")  # noqa: E731
    else:
        shared = request.getfixturevalue("stores")
        again = lambda: shared  # noqa: E731
    hubs = [opened(again(), tmp_path / "cache", f"mover-{index}") for index in range(movers)]
    hubs[0].init()
    for number in range(movers + 1):
        (tmp_path / "model.txt").write_text(str(number))
        hubs[0].push(NAME, tmp_path / "model.txt")
    hubs[0].alias.set(NAME, "champion", str(movers + 1))
    for turn in range(rounds):
        expected = hubs[0].show(f"{NAME}@champion").number
        targets = [number for number in range(1, movers + 2) if number != expected]
        ends: list[int | str] = []

        def move(hub: Hub, to: int, expected: int = expected, ends: list[int | str] = ends) -> None:
            try:
                ends.append(
                    hub.alias.set(NAME, "champion", str(to), expect=str(expected)).number or 0
                )
            except ModelhubError as error:
                ends.append(error.kind)

        threads = [
            threading.Thread(target=move, args=pair) for pair in zip(hubs, targets, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winners = [end for end in ends if isinstance(end, int)]
        assert winners == [hubs[turn % movers].show(f"{NAME}@champion").number], ends
        assert ends.count("conflict") == movers - 1, ends
    assert len(hubs[0].alias.history(NAME, "champion")) == rounds + 1
    figure(f"{where}: {rounds} rounds of {movers} movers with one expectation, {rounds} moved it")
    for hub in hubs:
        hub.close()
