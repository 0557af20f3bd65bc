"""What simulated clients do: each verb says how it is asked for, and what may come of it.

``VERBS`` is the table of all of them. A new verb of ``Hub`` takes one line there, and a function
that draws it: a change of one model is a ``Change``, of which ``modelhub.testing.reference`` knows
what becomes; whatever else is a ``Verb``, which says itself if an answer can be true of one of the
states that the hub was in while it was asked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Protocol, cast

from modelhub.describe.facts import Facts
from modelhub.errors import ModelhubError, NotFound
from modelhub.hub import Hub
from modelhub.names import DEFAULT_BRANCH
from modelhub.records import Published
from modelhub.results import Health, LogEntry, ReindexMode, SearchResult, Version
from modelhub.testing.crashes import LEFT_TO_COLLECTIONS
from modelhub.testing.reference import (
    Edit,
    File,
    Files,
    History,
    Merge,
    MoveRef,
    Protect,
    Push,
    Restore,
    Retire,
    check_version,
    read_files,
    write_files,
)
from modelhub.testing.simulation.world import World

MODELS = ("nlp.mood", "asr")
"""Two, which share content."""

_BRANCHES = (DEFAULT_BRANCH, DEFAULT_BRANCH, DEFAULT_BRANCH, "next")
_ALIASES = ("champion", "champion", "v1", "next")
_REF_ACTS = (
    *(("alias", "set"),) * 4,
    ("alias", "delete"),
    ("tag", "create"),
    ("tag", "delete"),
    ("branch", "create"),
    ("branch", "move"),
)
_BLOBS = [bytes([65 + number]) * 300 + bytes(range(200)) for number in range(4)]


def files_of(content: str) -> dict[str, File]:
    """The files of a version by a short name: ``a1b0`` has blob 1 as ``a.dat``, 0 as ``b.dat``."""
    pairs = [content[at : at + 2] for at in range(0, len(content), 2)]
    return {f"{pair[0]}.dat": File(_BLOBS[int(pair[1])], 0o644) for pair in pairs}


class Verb(Protocol):
    """Something that a client asks of a hub and that changes no log."""

    def run(self, hub: Hub) -> Any:
        """Ask for it."""

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """Whether it may have been answered so (by an error too) in one of ``states`` of the hub.

        These are the states it was in, one after the other, while it was asked.
        """


@dataclass(frozen=True)
class PushOf(Push):
    """A push of content with a short name."""

    content: str = ""

    def run(self, hub: Hub) -> Version:
        """Push a folder that was laid out once."""
        folder = self.scratch / self.content
        if not folder.exists():
            write_files(folder, self.files)
        return hub.push(
            self.name,
            folder,
            message=self.message,
            branch=self.branch,
            expect=None if self.expect is None else str(self.expect),
            request_id=self.request or None,
            **cast(Facts, dict(self.facts)),
        )

    def __str__(self) -> str:
        expect = "" if self.expect is None else f" --expect {self.expect}"
        request = f" --request-id {self.request}" if self.request else ""
        return f"push {self.name} {self.content} --branch {self.branch}{expect}{request}"


Change = PushOf | Retire | Edit | MoveRef | Protect | Restore | Merge
"""What puts an entry into a log, with the message that it was given."""


@dataclass(frozen=True)
class Show:
    """A version's record, by number or ref."""

    name: str
    ref: str

    def run(self, hub: Hub) -> Version:
        """Show it."""
        return hub.show(f"{self.name}@{self.ref}")

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """It is what the log said at some time."""
        return any(self._is_so(answer, state[self.name]) for state in states)

    def _is_so(self, answer: Any, history: History) -> bool:
        number = int(self.ref) if self.ref.isdigit() else history.named().get(self.ref, 0)
        if isinstance(answer, NotFound):
            return number not in history.versions
        if not isinstance(answer, Version) or number != answer.number:
            return False
        try:
            check_version(answer, history)
        except (AssertionError, KeyError):
            return False
        return True


@dataclass(frozen=True)
class Pull:
    """A version's files, by number."""

    name: str
    number: int
    scratch: Path = field(repr=False)

    def run(self, hub: Hub) -> Files:
        """Pull them into a new folder, and read that."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            hub.pull(f"{self.name}@{self.number}", folder)
            return read_files(Path(folder))

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """Byte for byte what was pushed; nothing, while it is deleted."""
        return any(self._is_so(answer, state[self.name]) for state in states)

    def _is_so(self, answer: Any, history: History) -> bool:
        live = self.number in history.live()
        if isinstance(answer, NotFound):
            return not live
        return live and bool(answer == history.versions[self.number].files)


@dataclass(frozen=True)
class Log:
    """A model's history."""

    name: str

    def run(self, hub: Hub) -> list[tuple[str, int, str]]:
        """List it, oldest first."""
        return [_listed(entry) for entry in hub.log(self.name)][::-1]

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """The whole of it, as it was at some time."""
        pasts = [
            [(past.op, past.number, past.message) for past in state[self.name].past]
            for state in states
        ]
        return [] in pasts if isinstance(answer, NotFound) else answer in pasts


def _listed(entry: LogEntry) -> tuple[str, int, str]:
    return entry.op, entry.number or 0, entry.message


@dataclass(frozen=True)
class Search:
    """All versions that search has."""

    def run(self, hub: Hub) -> SearchResult:
        """Search for everything."""
        return hub.search("", all_versions=True, limit=100)

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """It may be behind, but never shows a version that is none; before there is a hub, none."""
        if not isinstance(answer, SearchResult):
            return isinstance(answer, NotFound) and not any(h.versions for h in states[0].values())
        return all(hit.number in states[-1][hit.name].versions for hit in answer.hits)


@dataclass(frozen=True)
class Verify:
    """A version, checked byte for byte."""

    name: str
    number: int

    def run(self, hub: Hub) -> Health:
        """Verify it."""
        return hub.verify(f"{self.name}@{self.number}")

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """There is nothing to be found."""
        if isinstance(answer, NotFound):
            return self.number not in states[0][self.name].versions
        return isinstance(answer, Health) and not answer.findings


@dataclass(frozen=True)
class Check:
    """The whole hub, checked while others are at work."""

    def run(self, hub: Hub) -> Health:
        """Check all of it, data too."""
        return hub.fsck()

    def explained(self, answer: Any, states: Sequence[dict[str, History]]) -> bool:
        """Leases may be over, and a summary may be the older of two that were put at one time."""
        if isinstance(answer, NotFound):
            return not any(history.versions for history in states[0].values())
        return isinstance(answer, Health) and all(
            found.kind in LEFT_TO_COLLECTIONS | {"intent-overdue", "hint-stale"}
            for found in answer.findings
        )


@dataclass(frozen=True)
class Upkeep:
    """What administrators and schedulers run: it changes nothing that readers see."""

    name: str
    act: Callable[[Hub], object]

    def run(self, hub: Hub) -> object:
        """Run it."""
        return self.act(hub)

    def explained(self, answer: Any, _states: Sequence[dict[str, History]]) -> bool:
        """It may be refused where there is no hub yet, or another one is under way."""
        if isinstance(answer, ModelhubError):
            return answer.kind in {"not_found", "conflict"}
        return True

    def __str__(self) -> str:
        return self.name


@dataclass
class Draw:
    """What one verb is drawn from: chance of its own, and what its client can know.

    Attributes:
        message: says in the log whose entry it is; used once.
        last: the client's last push, if it may or may not have been done.
        keeps_up: the client looks after the hub and does nothing else.
    """

    random: Random
    world: World
    scratch: Path
    message: str
    last: PushOf | None = None
    keeps_up: bool = False

    def name(self) -> str:
        """A model; mostly the first one, so that clients meet."""
        return MODELS[self.random.random() < 0.25]

    def number(self, name: str) -> int:
        """A version; most often the newest, now and then one that is not there yet."""
        made = sum(
            isinstance(landed.entry.change, Published) for landed in self.world.entries(name)
        )
        chosen = self.random.choice((made, made, self.random.randint(1, made + 1)))
        return max(1, chosen)

    def facts(self) -> dict[str, Any]:
        """Metadata that tells who wrote it."""
        return {"title": self.message, "params": {"lr": self.random.choice((1, 0.25))}}


def push(draw: Draw) -> Change:
    """New content, the same, or such that is there in part; the last one again, where in doubt."""
    chance = draw.random
    if draw.last is not None and draw.last.request and chance.random() < 0.8:
        return replace(draw.last, message=draw.message)
    content = f"a{chance.randrange(4)}" + chance.choice(("", f"b{chance.randrange(3)}"))
    name = draw.name()
    return PushOf(
        name,
        draw.scratch,
        files_of(content),
        {"title": draw.message},
        draw.message,
        branch=chance.choice(_BRANCHES),
        expect=draw.number(name) if chance.random() < 0.25 else None,
        request=chance.choice(("", draw.message, "r1")),
        content=content,
    )


def found(draw: Draw) -> Change:
    """A push to start from."""
    content, name = draw.random.choice(("a0", "a0b0", "a1b0")), draw.name()
    facts = {"title": draw.message}
    return PushOf(name, draw.scratch, files_of(content), facts, draw.message, content=content)


def retire(draw: Draw) -> Change:
    """A deletion, or its undoing."""
    name, deleted = draw.name(), draw.random.random() < 0.6
    force = draw.random.random() < 0.7
    return Retire(name, draw.number(name), deleted, draw.message, force=force)


def edit(draw: Draw) -> Change:
    """New metadata for a version."""
    name = draw.name()
    return Edit(name, draw.number(name), draw.facts(), draw.message)


def move_ref(draw: Draw) -> Change:
    """A branch, tag or alias, sometimes only from where it is expected to be."""
    name = draw.name()
    kind, act = draw.random.choice(_REF_ACTS)
    ref = draw.random.choice(_ALIASES)
    expect = draw.number(name) if act != "create" and draw.random.random() < 0.4 else None
    return MoveRef(name, kind, ref, act, draw.number(name), draw.message, expect)


def protect(draw: Draw) -> Change:
    """A branch or alias that must not move, or may again."""
    ref = draw.random.choice((DEFAULT_BRANCH, "champion"))
    return Protect(draw.name(), ref, draw.random.random() < 0.4, draw.message)


def go_back(draw: Draw) -> Change:
    """A version published again, or one file of it."""
    name, path = draw.name(), draw.random.choice(("", "a.dat"))
    return Restore(name, draw.number(name), draw.random.choice(_BRANCHES), draw.message, path)


def merge(draw: Draw) -> Change:
    """A version's changes, onto a branch."""
    name, prefer = draw.name(), draw.random.choice((None, "ours", "theirs"))
    branch = draw.random.choice(_BRANCHES)
    return Merge(name, draw.number(name), branch, prefer, draw.message)


def show(draw: Draw) -> Verb:
    """By number, or what a name means."""
    name = draw.name()
    ref = draw.random.choice((str(draw.number(name)), DEFAULT_BRANCH, "champion"))
    return Show(name, ref)


def pull(draw: Draw) -> Verb:
    """By number."""
    name = draw.name()
    return Pull(name, draw.number(name), draw.scratch)


def verify(draw: Draw) -> Verb:
    """By number."""
    name = draw.name()
    return Verify(name, draw.number(name))


def reindex(draw: Draw) -> Verb:
    """Whole, or by comparison."""
    modes: tuple[ReindexMode, ...] = ("whole", "whole", "incremental", "scheduled")
    mode = draw.random.choice(modes)
    return Upkeep(f"reindex {mode}", lambda hub: hub.reindex(mode))


class Kind(NamedTuple):
    """How often a verb is drawn, among all of them, and how."""

    weight: int
    draw: Callable[[Draw], Change | Verb]
    upkeep: bool = False


VERBS: dict[str, Kind] = {
    "push": Kind(32, push),
    "delete": Kind(6, retire),
    "edit": Kind(6, edit),
    "refs": Kind(8, move_ref),
    "protect": Kind(1, protect),
    "restore": Kind(4, go_back),
    "merge": Kind(4, merge),
    "show": Kind(5, show),
    "pull": Kind(5, pull),
    "log": Kind(2, lambda draw: Log(draw.name())),
    "search": Kind(2, lambda _: Search()),
    "verify": Kind(2, verify),
    "fsck": Kind(2, lambda _: Check()),
    "init": Kind(1, lambda _: Upkeep("init", Hub.init)),
    "sweep": Kind(5, lambda _: Upkeep("sweep", Hub.sweep), upkeep=True),
    "reindex": Kind(4, reindex, upkeep=True),
    "gc": Kind(5, lambda _: Upkeep("gc", lambda hub: hub.gc(trash_hours=0)), upkeep=True),
}
"""All verbs."""


def drawn(draw: Draw) -> Change | Verb:
    """Any verb; after a push in doubt most often that again."""
    if draw.last is not None and draw.random.random() < 0.7:
        return push(draw)
    kinds = [kind for kind in VERBS.values() if kind.upkeep or not draw.keeps_up]
    (kind,) = draw.random.choices(kinds, [kind.weight for kind in kinds])
    return kind.draw(draw)
