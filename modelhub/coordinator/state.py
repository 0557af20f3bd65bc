"""A model's state as a fold over its log: pure functions, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from modelhub.names import DEFAULT_BRANCH
from modelhub.records import Change, Deleted, Edited, Fence, Published, State, Undeleted

SNAPSHOT_EVERY = 32
"""Every entry whose sequence is a multiple of this carries the whole state."""


def apply(state: State, change: Change) -> State:
    """The state after ``change``."""
    match change:
        case Published(number=number, branch=branch):
            return msgspec.structs.replace(
                state,
                next=number + 1,
                branches={**state.branches, branch: number},
                tips={name: tip for name, tip in state.tips.items() if name != branch},
            )
        case Deleted(numbers=numbers, heads=heads):
            return _moved(state, heads, ranges(_members(state.deleted) | set(numbers)))
        case Undeleted(numbers=numbers, heads=heads):
            return _moved(state, heads, ranges(_members(state.deleted) - set(numbers)))
        case Edited() | Fence():
            return state


def _moved(
    state: State, heads: dict[str, tuple[int, int]], deleted: tuple[tuple[int, int], ...]
) -> State:
    branches = {**state.branches, **{name: to for name, (_, to) in heads.items()}}
    tips = {**{name: came for name, (came, _) in heads.items()}, **state.tips}
    return msgspec.structs.replace(
        state,
        branches=branches,
        tips={name: tip for name, tip in tips.items() if tip != branches[name]},
        deleted=deleted,
    )


def touched(change: Change) -> set[int]:
    """The versions whose search documents ``change`` makes stale."""
    match change:
        case Published(number=number, parents=parents):
            return {number, *parents}
        case Deleted(numbers=numbers, heads=heads) | Undeleted(numbers=numbers, heads=heads):
            return {*numbers, *(end for ends in heads.values() for end in ends)} - {0}
        case Edited(number=number):
            return {number}
        case Fence():
            return set()


def subject(change: Change) -> int | None:
    """The one version that ``change`` is about, for a listing."""
    match change:
        case Published(number=number) | Edited(number=number):
            return number
        case Deleted(numbers=numbers) | Undeleted(numbers=numbers):
            return numbers[0]
        case Fence():
            return None


def exists(state: State) -> bool:
    """Whether users see such a model: a log of fences alone is none."""
    return state.next > 1


def is_deleted(state: State, number: int) -> bool:
    """Whether ``number`` is a tombstone now."""
    return any(low <= number <= high for low, high in state.deleted)


def live_count(state: State) -> int:
    """How many versions are not deleted."""
    return state.next - 1 - sum(high - low + 1 for low, high in state.deleted)


def head_number(state: State, branch: str = DEFAULT_BRANCH) -> int:
    """The branch's head; 0 where there is no such branch or no live version on it."""
    return state.branches.get(branch, 0)


def heads_at(state: State, number: int) -> tuple[str, ...]:
    """The branches whose head is ``number``, sorted."""
    return tuple(sorted(name for name, head in state.branches.items() if head == number))


def head_moves(
    state: State, deleted: set[int], parent_of: Callable[[int], int]
) -> dict[str, tuple[int, int]]:
    """Where each branch's head goes once ``deleted`` is what is deleted: branch to (from, to).

    A head is the nearest version that is not deleted, from the branch's tip down its first parents;
    so taking a deletion back takes the head back too. ``parent_of`` gives 0 at the root.
    """
    moves = {}
    for branch, head in state.branches.items():
        number = state.tips.get(branch, head)
        while number and number in deleted:
            number = parent_of(number)
        if number != head:
            moves[branch] = (head, number)
    return moves


def deleted_numbers(state: State) -> set[int]:
    """The tombstones, one by one."""
    return _members(state.deleted)


def _members(spans: Iterable[tuple[int, int]]) -> set[int]:
    return {number for low, high in spans for number in range(low, high + 1)}


def ranges(numbers: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Ascending closed ranges that cover exactly ``numbers``."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    return tuple(spans)
