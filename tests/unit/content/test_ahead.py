"""Work that is done ahead comes in order, fails in its turn, and ends with its user."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from threading import Event, current_thread, main_thread

import pytest

from modelhub.content.ahead import ahead, mapped

WAIT_S = 30


def test_items_come_in_order_and_are_made_in_another_thread() -> None:
    made_by = []

    def items() -> Generator[int, None, None]:
        for number in range(100):
            made_by.append(current_thread())
            yield number

    assert list(ahead(items())) == list(range(100))
    assert main_thread() not in made_by


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    second = Event()

    def items() -> Generator[int, None, None]:
        yield 1
        second.set()
        yield 2

    with closing(ahead(items())) as made:
        assert next(made) == 1
        assert second.wait(WAIT_S)


def test_no_more_than_one_item_is_made_ahead() -> None:
    made: list[int] = []

    def items() -> Generator[int, None, None]:
        for number in range(10):
            made.append(number)
            yield number

    with closing(ahead(items())) as given:
        for number in given:
            assert len(made) <= number + 2


def test_results_come_in_order_whichever_is_ready_first() -> None:
    later = Event()

    def work(number: int) -> int:
        if number == 0:
            assert later.wait(WAIT_S)
        elif number == 1:
            later.set()
        return number * number

    assert list(mapped(work, range(20), threads=2)) == [number * number for number in range(20)]


def test_there_is_no_more_work_ahead_than_threads() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with closing(mapped(lambda number: number, items(), threads=3)) as results:
        for number in results:
            assert len(taken) <= number + 4


def failing(at: int) -> Callable[[int], int]:
    def work(number: int) -> int:
        if number == at:
            raise ValueError(number)
        return number

    return work


def test_what_goes_wrong_is_raised_after_what_came_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield from (0, 1)
        raise ValueError(2)

    for made in (ahead(items()), mapped(failing(2), range(9), threads=4)):
        seen: list[int] = []
        with pytest.raises(ValueError, match="2"):
            seen.extend(made)
        assert seen == [0, 1]


def test_the_source_is_closed_with_its_user() -> None:
    closed = Event()

    def items() -> Generator[int, None, None]:
        try:
            yield from range(100)
        finally:
            closed.set()

    with closing(ahead(items())) as made:
        next(made)
    assert closed.is_set()


def test_nothing_is_nothing() -> None:
    def none() -> Generator[int, None, None]:
        yield from ()

    assert list(ahead(none())) == list(mapped(failing(0), (), threads=2)) == []
