"""Histories whose answer is known, and many small ones against trying all orders."""

from __future__ import annotations

from itertools import permutations, product
from random import Random

import pytest

from modelhub.testing.linearizable import Event, order


def register(state: int, event: Event) -> int | None:
    """A register: ``write`` sets it, ``add`` returns what it was before, ``read`` what it is."""
    kind, value = event.call
    known = event.returned is not None
    match kind:
        case "write":
            return int(value)
        case "add":
            return state + int(value) if not known or event.answer == state else None
        case _:
            return state if not known or event.answer == state else None


def write(value: int, invoked: float, returned: float | None = None) -> Event:
    return Event(("write", value), invoked, returned)


def read(value: int, invoked: float, returned: float | None = None) -> Event:
    return Event(("read", 0), invoked, returned, value)


def add(value: int, before: int, invoked: float, returned: float | None = None) -> Event:
    return Event(("add", value), invoked, returned, before)


LINEARIZABLE = {
    "nothing": [],
    "one after the other": [write(1, 0, 1), read(1, 2, 3), write(2, 4, 5), read(2, 6, 7)],
    "a read beside a write sees the old": [write(1, 0, 10), read(0, 2, 3)],
    "a read beside a write sees the new": [write(1, 0, 10), read(1, 2, 3)],
    "two writes, read in the other order": [write(1, 0, 10), write(2, 1, 9), read(1, 11, 12)],
    "old, then new, while it is written": [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)],
    "who answers last came first": [write(1, 0, 9), write(2, 1, 2), read(1, 3, 4), read(1, 10, 11)],
    "an unknown write that never was": [write(1, 0, None), read(0, 1, 2), read(0, 3, 4)],
    "an unknown write that came later": [write(1, 0, None), read(0, 1, 2), read(1, 9, 10)],
    "calls that end when others begin": [write(1, 0, 1), read(0, 1, 2)],
    "additions in turn": [add(1, 0, 0, 9), add(1, 2, 0, 9), add(1, 1, 0, 9), read(3, 10, 11)],
}
NOT_LINEARIZABLE = {
    "a read of what nobody wrote": [write(1, 0, 1), read(2, 2, 3)],
    "a stale read": [write(1, 0, 1), read(0, 2, 3)],
    "new, then old": [write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)],
    "two readers who disagree": [
        *(write(1, 0, 10), write(2, 0, 10)),
        *(read(1, 11, 12), read(2, 13, 14)),
    ],
    "a lost addition": [add(1, 0, 0, 9), add(1, 0, 0, 9)],
    "an unknown write before it was asked for": [read(1, 0, 1), write(1, 2, None)],
    "an unknown write that went again": [write(1, 0, None), read(1, 1, 2), read(0, 3, 4)],
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_what_could_have_happened_in_turn_is_found(name: str) -> None:
    events = LINEARIZABLE[name]
    found = order(events, 0, register)
    assert found is not None
    assert {id(event) for event in events if event.returned is not None} <= set(map(id, found))
    check(found)


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_what_could_not_is_refused(name: str) -> None:
    assert order(NOT_LINEARIZABLE[name], 0, register) is None


def check(found: list[Event]) -> None:
    """Each answer is right, and nothing comes before what had ended when it began."""
    state: int | None = 0
    for at, event in enumerate(found):
        assert state is not None
        state = register(state, event)
        for later in found[at + 1 :]:
            assert later.returned is None or later.returned >= event.invoked
    assert state is not None


def test_small_histories_are_judged_as_by_trying_every_order() -> None:
    verdicts = [0, 0]
    for seed in range(3000):
        events = drawn(Random(seed))
        expected = any(map(in_turn, orders(events)))
        assert (order(events, 0, register) is not None) == expected, events
        verdicts[expected] += 1
    assert min(verdicts) > 300


def drawn(chance: Random) -> list[Event]:
    events = []
    for _ in range(chance.randint(1, 5)):
        invoked = chance.randint(0, 8)
        returned = None if chance.random() < 0.2 else invoked + chance.randint(0, 6)
        call = (chance.choice(("write", "add", "read", "read")), chance.randint(1, 2))
        events.append(Event(call, invoked, returned, chance.randint(0, 3)))
    return events


def orders(events: list[Event]) -> list[tuple[Event, ...]]:
    """All orders, with and without each event of unknown outcome, that respect the times."""
    known = [event for event in events if event.returned is not None]
    unknown = [event for event in events if event.returned is None]
    found = []
    for chosen in product((False, True), repeat=len(unknown)):
        taken = known + [event for event, there in zip(unknown, chosen, strict=True) if there]
        found += list(permutations(taken))
    return [one for one in found if in_time(one)]


def in_time(events: tuple[Event, ...]) -> bool:
    return all(
        later.returned is None or later.returned >= event.invoked
        for at, event in enumerate(events)
        for later in events[at + 1 :]
    )


def in_turn(events: tuple[Event, ...]) -> bool:
    state: int | None = 0
    for event in events:
        if state is not None:
            state = register(state, event)
    return state is not None


def test_long_histories_are_judged_in_no_time() -> None:
    """2,000 calls, some eight at once; of every twentieth nobody heard, and half of these were."""
    events = long_history(unknown=20)
    assert order(events, 0, register) is not None
    events = long_history(unknown=0)
    events.append(read(-1, 2010, 2011))
    assert order(events, 0, register) is None


def long_history(*, unknown: int) -> list[Event]:
    chance, events, value = Random(0), list[Event](), 0
    for at in range(2000):
        begins, ends = at - 4 * chance.random(), at + 4 * chance.random()
        if unknown and at % unknown == 0:
            events.append(Event(("write", 10 * at), begins))
            value = 10 * at if chance.random() < 0.5 else value
        elif at % 3 == 0:
            events.append(add(1, value, begins, ends))
            value += 1
        else:
            events.append(read(value, begins, ends))
    return events
