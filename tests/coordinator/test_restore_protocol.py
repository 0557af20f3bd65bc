"""Restore, state by state: as it is to be, and with a rule broken.

Tier: CI explores each configuration with few faults; ``--full`` explores with more of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelhub.testing.protocol.epochs import TRASH, System, folder
from modelhub.testing.protocol.explore import explore
from modelhub.testing.protocol.restoration import (
    RESTORATIONS,
    RESTORATIONS_FULL,
    RESTORES_CAUGHT_BY,
    Restoring,
    State,
)
from modelhub.testing.protocol.restoring import PACK, Client, RestoreMutation


@pytest.mark.parametrize("name", RESTORATIONS)
def test_what_always_holds_does_in_every_state(name: str, figure: Callable[[str], None]) -> None:
    result = explore(Restoring(RESTORATIONS[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", RESTORATIONS_FULL)
def test_what_always_holds_does_in_every_state_further_on(
    name: str, figure: Callable[[str], None]
) -> None:
    result = explore(Restoring(RESTORATIONS_FULL[name]))
    figure(f"{name}: {result}")
    assert not result.violations
    assert not result.bound


@pytest.mark.parametrize("mutation", RestoreMutation, ids=lambda mutation: mutation.name.lower())
def test_every_broken_rule_is_caught(
    mutation: RestoreMutation, figure: Callable[[str], None]
) -> None:
    name = RESTORES_CAUGHT_BY[mutation]
    result = explore(Restoring(RESTORATIONS[name], mutation))
    figure(f"{mutation.value} ({name}): {result}")
    assert result.violations


# --- that the models are about something ---------------------------------------------------------


class Witness(Restoring):
    """Calls a state wrong that is to be reached."""

    def __init__(self, name: str, reached: Callable[[State], bool]) -> None:
        super().__init__(RESTORATIONS[name])
        self._reached = reached

    def violations(self, state: State) -> list[str]:
        return ["reached"] if self._reached(state) else []


def clients(state: State) -> list[Client]:
    return [actor for actor in state.actors if isinstance(actor, Client)]


WITNESSES: dict[str, tuple[str, Callable[[State], bool]]] = {
    "a version that is marked, as its pack is in the trash": (
        "a restore and a collector",
        lambda state: state.stores.system == System(2) and state.stores.of(2).missing == (1,),
    ),
    "a collector that is late, and finds nothing in the old folder": (
        "a restore and a collector",
        lambda state: (
            state.stores.of(1).row(PACK).state == "deleting"
            and state.stores.folder_of(PACK) == folder(2)
            and clients(state)[0].at == "done"
        ),
    ),
    "a number that is skipped, as somebody was told of it before": (
        "a restore and two publishers",
        lambda state: (
            [(one.told, one.epoch, one.number) for one in clients(state)]
            == [("ok", 1, 2), ("ok", 2, 3)]
        ),
    ),
    "a commit in the old epoch that is not acknowledged": (
        "a restore and two publishers",
        lambda state: (
            clients(state)[0].told == "unknown"
            and state.stores.of(1).log[-1].txid == "p1"
            and state.stores.system == System(2)
        ),
    ),
    "a pack that is collected in the new epoch": (
        "a restore, a publisher and a collector",
        lambda state: (
            state.stores.of(2).row(PACK).state == "deleting"
            and state.stores.folder_of(PACK) == TRASH
        ),
    ),
    "a second restore that opens what the first did not": (
        "a restore after one that died",
        lambda state: (
            state.stores.system == System(3) and folder(3) in dict(state.stores.files)[PACK]
        ),
    ),
}


@pytest.mark.parametrize("what", WITNESSES)
def test_the_models_reach_what_they_are_about(what: str) -> None:
    assert explore(Witness(*WITNESSES[what])).violations
