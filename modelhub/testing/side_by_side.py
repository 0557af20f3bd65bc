"""A hub and the dictionaries that say what it must be, kept side by side."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.errors import ModelhubError
from modelhub.hub import Hub
from modelhub.names import DEFAULT_BRANCH
from modelhub.results import Version
from modelhub.testing.choices import (
    BRANCHES,
    COMMON,
    FACTS,
    FILES,
    GUARDED,
    NAMES,
    REF_ACTS,
    REFS,
    REQUESTS,
    Moment,
    words,
)
from modelhub.testing.crashes import open_process
from modelhub.testing.faults import Call, Faults, Outcome
from modelhub.testing.reference import (
    Edit,
    History,
    Kept,
    Merge,
    MoveRef,
    Operation,
    Protect,
    Purge,
    Push,
    Restore,
    Retire,
    check_version,
    number_of,
    outline_of,
    stored_files,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


class Process(NamedTuple):
    """A process that has the hub open."""

    stores: Stores
    hub: Hub


class Late(NamedTuple):
    """What a process that gave up has still on its way: it may make ``before`` into ``after``.

    ``after`` None: it can change nothing any more.
    """

    faults: Faults
    name: str
    before: History
    after: History | None


class SideBySide(RuleBasedStateMachine):
    """Two processes that take turns on one hub, and the history that each model must have.

    Attributes:
        scratch: the folder to work in, best a fast one; the system's temporary folder by default.
        folder: this machine's own folder in it.
        histories: for each name the model's history, empty where there is no such model.
        late: what may still land.
        unswept: models whose search documents and summaries may be stale until a sweep.
        unhinted: models whose summaries may be stale until their next change, because what landed
            late may be older than what it replaced.
    """

    scratch: ClassVar[Path | None] = None

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory(prefix="modelhub-", dir=self.scratch)
        self.folder = Path(self._temporary.name)
        self.histories = dict.fromkeys(NAMES, History())
        self.late: list[Late] = []
        self.unswept: set[str] = set()
        self.unhinted: set[str] = set()
        self.words = ["", COMMON]
        self.requests: list[Push] = []
        self._digests: dict[tuple[str, int], str] = {}
        self._turns = itertools.count()
        self._messages = itertools.count()
        self._looks = itertools.count()
        self._processes = [self._open(), self._open()]
        assert self.hub.init()

    def open_stores(self, folder: Path) -> Stores:
        """The stores of a new process, kept below ``folder`` or with this machine.

        Called again, it finds what was stored before. They are closed for it.
        """
        raise NotImplementedError

    def _open(self) -> Process:
        stores = self.open_stores(self.folder / "hub")
        return Process(stores, open_process(stores, cache=self.folder / "cache")[0])

    def restart(self) -> None:
        """End the process that is open longest, and start another."""
        _close(self._processes.pop(0).stores)
        self._processes.append(self._open())

    def teardown(self) -> None:
        """Close the stores and remove the folder."""
        for process in self._processes:
            _close(process.stores)
        self._temporary.cleanup()

    @property
    def process(self) -> Process:
        """The one whose turn it is."""
        return self._processes[next(self._turns) % len(self._processes)]

    @property
    def hub(self) -> Hub:
        """That of the process whose turn it is."""
        return self.process.hub

    def interrupted(self, at: Moment, step_in: Callable[[], object]) -> Hub:
        """A new process in which ``step_in`` happens just before the store call ``at``."""
        is_now = at.watch()

        def plan(call: Call) -> Outcome:
            if is_now(call):
                step_in()
            return Outcome.OK

        return open_process(self.process.stores, plan)[0]

    def refresh_search(self) -> None:
        """See that what was written to search is found."""
        stores = self.process.stores
        for target in read_targets(Context(stores, "tester")).targets:
            stores.search.refresh(target)

    @contextmanager
    def new_folder(self) -> Iterator[Path]:
        """An empty folder, as long as it is needed."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            yield Path(name)

    # --- doing ---------------------------------------------------------------------------------

    def do(self, operation: Operation, hub: Hub | None = None) -> Version | None:
        """Do it on both sides, and see that it ends alike.

        None where it is refused, or comes to no version.
        """
        before, hub = self.histories[operation.name], hub or self.hub
        try:
            after, number = operation.after(before)
        except ModelhubError as error:
            refused(type(error), lambda: operation.run(hub))
            return None
        result = operation.run(hub)
        assert number_of(result) == number
        self._now(operation.name, after)
        if not isinstance(result, Version):
            return None
        assert result.name == operation.name
        check_version(result, after)
        return result

    def learn(self, name: str, possible: Sequence[History]) -> None:
        """See which of the ``possible`` histories a model has now; it must be one of them."""
        seen = outline_of(self.process.stores.rows, name)
        for history in possible:
            if history.outline() == seen:
                self._now(name, history)
                for number in list(history.versions)[-1:]:
                    self._look(name, number)
                return
        outlines = "\n".join(str(history.outline()) for history in possible)
        raise AssertionError(f"{name} is\n{seen}\nbut may only be one of\n{outlines}")

    def swept(self) -> None:
        """Take note that a sweep came to its end: what is still on its way cannot take effect."""
        self.late = [late._replace(after=None) for late in self.late]
        self.unswept.clear()

    def _now(self, name: str, history: History) -> None:
        if history is not self.histories[name]:
            self.unhinted.discard(name)
        self.histories[name] = history

    # --- choosing ------------------------------------------------------------------------------

    def versions(self, *, live: bool = False) -> list[tuple[str, Kept]]:
        """Every version, or every live one, with its model."""
        return [
            (name, kept)
            for name, history in self.histories.items()
            for number, kept in history.versions.items()
            if not live or number not in history.deleted
        ]

    def push_of(self, draw: Draw, name: str, **given: Any) -> Push:
        """A push to ``name``, drawn but for what is ``given``."""
        facts = {**draw(FACTS), "description": self._description()}
        files = given.pop("files", None) or draw(FILES)
        push = Push(name, self.folder, files, facts, self.message(), **given)
        if push.request:
            self.requests.append(push)
        return push

    def edit_of(self, draw: Draw, name: str, number: int) -> Edit:
        """An edit of a version."""
        facts = draw(FACTS)
        if draw(st.booleans()):
            facts["description"] = self._description()
        return Edit(name, number, facts, self.message())

    def retire_of(
        self, name: str, number: int, *, deleted: bool, ref: str = "", force: bool = False
    ) -> Retire:
        """A deletion of a version, or its undoing."""
        wanted = f"{name}@{number}"
        is_base = any(wanted in kept.bases for _, kept in self.versions(live=True))
        return Retire(name, number, deleted, self.message(), ref, force, is_base)

    def restore_of(self, draw: Draw, name: str, number: int) -> Restore:
        """A version that is to come back on some branch, or one of its files."""
        kept = self.histories[name].versions.get(number)
        paths = sorted(kept.files) if kept is not None else ["absent"]
        path = draw(st.sampled_from(("", "", *paths)))
        return Restore(name, number, draw(st.sampled_from(BRANCHES)), self.message(), path)

    def merge_of(self, draw: Draw, name: str, number: int) -> Merge:
        """A version that is to be merged into some branch."""
        prefer = draw(st.sampled_from((None, "ours", "theirs")))
        return Merge(name, number, draw(st.sampled_from(BRANCHES)), prefer, self.message())

    def protect_of(self, name: str, ref: str, *, on: bool) -> Protect:
        """A branch, an alias or the model that is protected, or no longer."""
        return Protect(name, ref, on, self.message())

    def ref_of(self, draw: Draw, name: str, numbers: Sequence[int]) -> MoveRef:
        """A branch, tag or alias that is set to one of ``numbers``, or deleted."""
        kind, act = draw(st.sampled_from(REF_ACTS))
        ref, to = draw(st.sampled_from(REFS)), draw(st.sampled_from(numbers))
        expect = None
        if act != "create" and draw(st.booleans()):
            expect = draw(st.sampled_from((self.histories[name].named().get(ref) or 99, 1)))
        return MoveRef(name, kind, ref, act, to, self.message(), expect)

    def operation(self, draw: Draw, name: str | None = None) -> Operation:
        """Any change that will not be refused, of any model or of ``name``."""
        name = name or draw(st.sampled_from(NAMES))
        history = self.histories[name]
        operation = self._drawn(draw, name, history)
        try:
            operation.after(history)
        except ModelhubError:
            return self.push_of(draw, name, branch=DEFAULT_BRANCH)
        return operation

    def _drawn(self, draw: Draw, name: str, history: History) -> Operation:
        def any_of(numbers: Iterable[int]) -> int:
            number: int = draw(st.sampled_from(sorted(numbers)))
            return number

        def push() -> Push:
            branch = draw(st.sampled_from(BRANCHES))
            expect = draw(st.sampled_from((None, history.parent_on(branch) or None)))
            request = draw(st.sampled_from(REQUESTS))
            return self.push_of(draw, name, branch=branch, expect=expect, request=request)

        def retire() -> Retire:
            number = any_of(history.versions)
            return self.retire_of(name, number, deleted=draw(st.booleans()), force=True)

        def purge() -> Purge:
            deletion = self.retire_of(name, any_of(history.deleted), deleted=True)
            return Purge(name, deletion.number, deletion.message, deletion.is_base)

        def protect() -> Protect:
            guarded = draw(st.sampled_from(GUARDED))
            return self.protect_of(name, guarded, on=draw(st.booleans()))

        live = history.live()
        makers: list[Callable[[], Operation]] = [push]
        makers += [retire, protect] * bool(history.versions)
        makers += [purge] * bool(history.deleted)
        makers += [
            lambda: self.edit_of(draw, name, any_of(live)),
            lambda: self.ref_of(draw, name, live),
            lambda: self.restore_of(draw, name, any_of(live)),
            lambda: self.merge_of(draw, name, any_of(live)),
        ] * bool(live)
        return makers[draw(st.integers(0, len(makers) - 1))]()

    def message(self) -> str:
        """A log message that is used once: so a log tells which of two changes came first."""
        return f"change {next(self._messages)} 更改"

    def _description(self) -> str:
        own = words(len(self.words))
        self.words += own
        return " ".join((*own, COMMON))

    # --- looking -------------------------------------------------------------------------------

    @invariant()
    def logs_are_as_they_must_be(self) -> None:
        """Heads, numbers, tombstones, entries: all models, from their logs."""
        rows = self.process.stores.rows
        for name, history in self.histories.items():
            assert outline_of(rows, name) == history.outline()

    @invariant()
    def one_version_is_as_it_was_pushed(self) -> None:
        """Bytes, modes, digest, metadata: one version after the other, deleted ones too."""
        there = self.versions()
        if there:
            name, kept = there[next(self._looks) % len(there)]
            self._look(name, kept.number)

    def _look(self, name: str, number: int) -> None:
        process, history = self.process, self.histories[name]
        shown = process.hub.show(f"{name}@{number}")
        check_version(shown, history)
        assert self._digests.setdefault((name, number), shown.digest) == shown.digest
        if number not in history.purged:
            assert stored_files(process.stores, name, number) == history.versions[number].files


def refused(kind: type[ModelhubError], act: Callable[[], object]) -> None:
    """See that ``act`` raises such an error.

    Raises:
        AssertionError: it does not.
    """
    try:
        act()
    except kind:
        return
    raise AssertionError(f"it was not refused as {kind.kind}")


def _close(stores: Stores) -> None:
    for store in (stores.rows, stores.search, stores.weights):
        store.close()
