"""One model's log as a sequence of calls: what each may answer, as ``linearizable`` asks for it.

Only one branch is published to. Nothing here knows of stores, intents or rebases.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from modelhub.hub import Hub
from modelhub.testing.linearizable import Event

Answer = int | str | tuple[tuple[str, int, str], ...]
"""A number, an error's kind, or a log: of each entry op, number and message."""


class ModelLog(NamedTuple):
    """A model: its entries (op, number, message), each version's parent, tombstones, one alias."""

    entries: tuple[tuple[str, int, str], ...] = ()
    parents: tuple[int, ...] = ()
    deleted: frozenset[int] = frozenset()
    alias: int = 0

    @property
    def head(self) -> int:
        """The nearest version that is not deleted, from the newest down the parents."""
        number = len(self.parents)
        while number in self.deleted:
            number = self.parents[number - 1]
        return number

    def has(self, number: int) -> bool:
        """Whether there is such a version, deleted or not."""
        return 0 < number <= len(self.parents)


@dataclass(frozen=True)
class Call:
    """A call of ``Hub`` about one model; ``message`` stands in the log."""

    message: str = ""

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:
        """Ask for it."""
        raise NotImplementedError

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """What becomes of the model, and the only right answer."""
        raise NotImplementedError


@dataclass(frozen=True)
class Push(Call):
    """A publish; ``expect`` is what the head must be."""

    expect: int | None = None

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:
        """Push a folder."""
        expect = None if self.expect is None else str(self.expect)
        return hub.push(name, folder, message=self.message, expect=expect).number

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """One version more."""
        if self.expect is not None and (self.expect != log.head or not log.has(self.expect)):
            return log, "conflict"
        number = len(log.parents) + 1
        entries = (*log.entries, ("publish", number, self.message))
        return log._replace(entries=entries, parents=(*log.parents, log.head)), number


@dataclass(frozen=True)
class Delete(Call):
    """A deletion, whatever names the version; of one that is deleted, nothing."""

    number: int = 0

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:  # noqa: ARG002
        """Delete it."""
        return hub.delete(f"{name}@{self.number}", message=self.message, force=True).number

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """One version fewer that is live."""
        if not log.has(self.number):
            return log, "not_found"
        if self.number in log.deleted:
            return log, self.number
        entries = (*log.entries, ("delete", self.number, self.message))
        deleted = log.deleted | {self.number}
        return log._replace(entries=entries, deleted=deleted), self.number


@dataclass(frozen=True)
class SetAlias(Call):
    """The alias, moved from where it is expected to be."""

    number: int = 0
    expect: int | None = None

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:  # noqa: ARG002
        """Set it."""
        expect = None if self.expect is None else str(self.expect)
        to = str(self.number)
        hub.alias.set(name, "champion", to, message=self.message, expect=expect)
        return self.number

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """The alias at another version."""
        if not log.parents:
            return log, "not_found"
        if self.expect is not None and (self.expect != log.alias or not log.has(self.expect)):
            return log, "conflict"
        if not log.has(self.number) or self.number in log.deleted:
            return log, "not_found"
        if log.alias == self.number:
            return log, self.number
        entries = (*log.entries, ("alias", self.number, self.message))
        return log._replace(entries=entries, alias=self.number), self.number


@dataclass(frozen=True)
class Show(Call):
    """The head, or what the alias means."""

    ref: str = "main"

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:  # noqa: ARG002
        """Show it."""
        return hub.show(f"{name}@{self.ref}").number

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """Nothing changes."""
        return log, (log.head if self.ref == "main" else log.alias) or "not_found"


@dataclass(frozen=True)
class Log(Call):
    """Every entry, oldest first."""

    def run(self, hub: Hub, name: str, folder: Path) -> Answer:  # noqa: ARG002
        """List them."""
        found = hub.log(name)
        return tuple((entry.op, entry.number or 0, entry.message) for entry in found)[::-1]

    def step(self, log: ModelLog) -> tuple[ModelLog, Answer]:
        """Nothing changes."""
        return log, log.entries or "not_found"


def apply(log: ModelLog, event: Event) -> ModelLog | None:
    """The sequential specification."""
    call: Call = event.call
    after, answer = call.step(log)
    return after if event.returned is None or answer == event.answer else None
