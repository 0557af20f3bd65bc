"""Collection and rewriting, state by state: as they are, and with a rule broken.

Tier: CI explores each configuration with few faults; ``--full`` explores with more faults, runs and
publishers.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelhub.testing.protocol.bystanders import Changer, Reader
from modelhub.testing.protocol.collected import PackRow, facts
from modelhub.testing.protocol.collecting import Collector
from modelhub.testing.protocol.collection import (
    COLLECTIONS,
    COLLECTIONS_FULL,
    PACKS_CAUGHT_BY,
    Collecting,
    State,
)
from modelhub.testing.protocol.explore import explore
from modelhub.testing.protocol.pack_mutations import PackMutation, Thrift
from modelhub.testing.protocol.rewriting import Rewriter


@pytest.mark.parametrize("name", COLLECTIONS)
def test_what_always_holds_does_in_every_state(name: str, figure: Callable[[str], None]) -> None:
    result = explore(Collecting(COLLECTIONS[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", COLLECTIONS_FULL)
def test_what_always_holds_does_in_every_state_further_on(
    name: str, figure: Callable[[str], None]
) -> None:
    result = explore(Collecting(COLLECTIONS_FULL[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.parametrize("mutation", PackMutation, ids=lambda mutation: mutation.name.lower())
def test_every_broken_rule_is_caught(mutation: PackMutation, figure: Callable[[str], None]) -> None:
    name = PACKS_CAUGHT_BY[mutation]
    result = explore(Collecting(COLLECTIONS[name], mutation))
    figure(f"{mutation.value} ({name}): {result}")
    assert result.violations


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("thrift", Thrift, ids=lambda thrift: thrift.name.lower())
def test_what_only_saves_work_is_not_what_keeps_packs(
    thrift: Thrift, figure: Callable[[str], None]
) -> None:
    for name, configuration in COLLECTIONS.items():
        result = explore(Collecting(configuration, thrift))
        figure(f"{thrift.value} ({name}): {result}")
        assert not result.violations


# --- that the models are about something ---------------------------------------------------------


class Witness(Collecting):
    """Calls a state wrong that is to be reached."""

    def __init__(self, name: str, reached: Callable[[State], bool]) -> None:
        super().__init__(COLLECTIONS[name])
        self._reached = reached

    def violations(self, state: State) -> list[str]:
        return ["reached"] if self._reached(state) else []


def row(state: State, pack: str) -> PackRow:
    return state.stores.pack(pack).row


def places(state: State, number: int) -> tuple[tuple[str, str], ...]:
    """Where the chunks of a version lie that somebody published."""
    return next((e.places for e in facts(state.stores.log).versions if e.number == number), ())


def read(state: State) -> str:
    return next(actor.told for actor in state.actors if isinstance(actor, Reader))


def rewritten(state: State) -> tuple[str, ...]:
    """How the rewriter's runs ended."""
    return next(actor.left for actor in state.actors if isinstance(actor, Rewriter))


def at_work(state: State, pack: str) -> list[str]:
    """What collectors are about to do to one pack."""
    collectors = [actor for actor in state.actors if isinstance(actor, Collector)]
    return [me.at for me in collectors if me.jobs and me.jobs[0].pack == pack]


WITNESSES: dict[str, tuple[str, Callable[[State], bool]]] = {
    "a condemned pack that a publisher brings back": (
        "an old pack reused",
        lambda state: row(state, "x") == PackRow("live", 3) and places(state, 2) == (("a", "x"),),
    ),
    "a collected pack whose chunk is stored anew": (
        "an old pack reused",
        lambda state: row(state, "x").state == "gone" and places(state, 2) == (("a", "p1-1"),),
    ),
    "an old pack whose file is removed in the end": (
        "two collectors alone",
        lambda state: row(state, "x").state == "gone" and not state.stores.pack("x").where,
    ),
    "an attempt that is fenced, and rebased while a collector scans": (
        "an old pack reused",
        lambda state: (
            [entry.txid for entry in state.stores.log[3:]] == ["fence", "p1.2"]
            and "delete_pack" in at_work(state, "x")
        ),
    ),
    "a new pack's file that is claimed, and stored again": (
        "a new pack",
        lambda state: row(state, "p1-1").state == "gone" and places(state, 1) == (("a", "p1-2"),),
    ),
    "a collector that finishes what another began": (
        "two collectors alone",
        lambda state: at_work(state, "x") == ["bury_pack", "move_file"],
    ),
    "an undelete that comes after the purge": (
        "delete, undelete and a reader",
        lambda state: any(
            isinstance(actor, Changer) and actor.told == "refused" for actor in state.actors
        ),
    ),
    "a purge that comes after the undelete": (
        "undelete while retention ends",
        lambda state: (
            not facts(state.stores.log).deleted
            and any(
                isinstance(actor, Collector) and actor.at == "put_log" for actor in state.actors
            )
        ),
    ),
    "a reader served from the trash": (
        "delete, undelete and a reader",
        lambda state: read(state) == "in the trash",
    ),
    "a publisher that follows a moved pack": (
        "a moved pack reused",
        lambda state: places(state, 2) == (("a", "y"),),
    ),
    "a publisher that stores anew what a successor lacks": (
        "a dead chunk of a moved pack reused",
        lambda state: places(state, 2) == (("b", "p1-1"),),
    ),
    "a rewriter that gives up": (
        "a rewriter and a publisher",
        lambda state: rewritten(state) == ("given up",) and row(state, "x") == PackRow("live", 3),
    ),
    "a rewriter that is too late": (
        "a rewriter and a publisher",
        lambda state: rewritten(state) == ("too late",) and places(state, 2) == (("b", "x"),),
    ),
    "a dead rewriter's pack that a collector brings back": (
        "a rewriter, a collector and a reader",
        lambda state: rewritten(state) == ("crashed",) and row(state, "x") == PackRow("live", 3),
    ),
    "a reader served from a successor": (
        "a rewriter, a collector and a reader",
        lambda state: read(state) == "in a successor",
    ),
    "a reader of a pack that was rewritten twice": (
        "a pack rewritten twice",
        lambda state: (
            rewritten(state) == ("rewritten", "rewritten")
            and read(state) == "in a successor"
            and state.stores.pack("r1-1").where != "packs"
        ),
    ),
}


@pytest.mark.parametrize("what", WITNESSES)
def test_the_models_reach_what_they_are_about(what: str) -> None:
    assert explore(Witness(*WITNESSES[what])).violations
