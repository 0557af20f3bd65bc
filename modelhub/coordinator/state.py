"""A model's state as a fold over its log: pure functions, no store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from modelhub.names import DEFAULT_BRANCH
from modelhub.records import (
    Change,
    Deleted,
    Edited,
    Fence,
    Floored,
    Protected,
    Published,
    Purged,
    RefKind,
    RefMoved,
    State,
    Undeleted,
)

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
        case Deleted() | Undeleted() | Purged():
            return _retired(state, change)
        case RefMoved(kind=kind, name=name, to=to):
            return _with_ref(state, kind, name, to)
        case Protected(ref=ref, on=on):
            protected = set(state.protected) | {ref} if on else set(state.protected) - {ref}
            return msgspec.structs.replace(state, protected=tuple(sorted(protected)))
        case Floored(next=number):
            return _floored(state, number)
        case Edited() | Fence():
            return state


def _retired(state: State, change: Deleted | Undeleted | Purged) -> State:
    numbers = set(change.numbers)
    match change:
        case Deleted(heads=heads):
            return _moved(state, heads, ranges(_members(state.deleted) | numbers))
        case Undeleted(heads=heads):
            return _moved(state, heads, ranges(_members(state.deleted) - numbers))
        case Purged():
            purged = ranges(_members(state.purged) | numbers)
            return msgspec.structs.replace(state, purged=purged)


def _floored(state: State, number: int) -> State:
    """Numbers up to there are taken: their versions are lost, as if they were purged."""
    if number <= state.next:
        return state
    lost = set(range(state.next, number))
    return msgspec.structs.replace(
        state,
        next=number,
        deleted=ranges(_members(state.deleted) | lost),
        purged=ranges(_members(state.purged) | lost),
    )


def _with_ref(state: State, kind: RefKind, name: str, to: int) -> State:
    """A ref set to a version, or (0) removed; a branch that is moved has its tip there."""
    replace = msgspec.structs.replace
    match kind:
        case "branch":
            tips = {branch: tip for branch, tip in state.tips.items() if branch != name}
            return replace(state, branches=_set(state.branches, name, to), tips=tips)
        case "alias":
            return replace(state, aliases=_set(state.aliases, name, to))
        case "tag":
            retired = _set(state.retired, name, 0 if to else state.tags[name])
            return replace(state, tags=_set(state.tags, name, to), retired=retired)


def _set(refs: dict[str, int], name: str, to: int) -> dict[str, int]:
    others = {other: number for other, number in refs.items() if other != name}
    return {**others, name: to} if to else others


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
        case RefMoved(came=came, to=to):
            return {came, to} - {0}
        case Purged() | Protected() | Floored() | Fence():
            return set()  # what is purged was deleted before


def subject(change: Change) -> int | None:
    """The one version that ``change`` is about, for a listing."""
    match change:
        case Published(number=number) | Edited(number=number):
            return number
        case Deleted(numbers=numbers) | Undeleted(numbers=numbers) | Purged(numbers=numbers):
            return numbers[0]
        case RefMoved(to=to):
            return to or None
        case Protected() | Floored() | Fence():
            return None


def exists(state: State) -> bool:
    """Whether users see such a model: a log of fences alone is none."""
    return state.next > 1


def is_deleted(state: State, number: int) -> bool:
    """Whether ``number`` is a tombstone now."""
    return any(low <= number <= high for low, high in state.deleted)


def is_purged(state: State, number: int) -> bool:
    """Whether what is stored of ``number`` may be gone."""
    return any(low <= number <= high for low, high in state.purged)


def is_live(state: State, number: int) -> bool:
    """Whether there is a version ``number``, and it is not deleted."""
    return 0 < number < state.next and not is_deleted(state, number)


def live_count(state: State) -> int:
    """How many versions are not deleted."""
    return state.next - 1 - sum(high - low + 1 for low, high in state.deleted)


def head_number(state: State, branch: str = DEFAULT_BRANCH) -> int:
    """The branch's head; 0 where there is no such branch or no live version on it."""
    return state.branches.get(branch, 0)


def refs_at(refs: Mapping[str, int], number: int) -> tuple[str, ...]:
    """The names in ``refs`` that mean version ``number``, sorted."""
    return tuple(sorted(name for name, named in refs.items() if named == number))


def kind_of(state: State, name: str) -> RefKind | None:
    """What ``name`` is; None where it is nothing. The three kinds share one namespace."""
    kinds: dict[RefKind, Mapping[str, int]] = {
        "branch": state.branches,
        "tag": state.tags,
        "alias": state.aliases,
    }
    return next((kind for kind, refs in kinds.items() if name in refs), None)


def named(state: State, name: str) -> int:
    """The version that a ref means; 0 where there is none, or all of a branch are deleted."""
    return (state.branches | state.tags | state.aliases).get(name, 0)


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


def purged_numbers(state: State) -> set[int]:
    """The versions that nothing brings back, one by one."""
    return _members(state.purged)


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
