"""The stores of the re-index models: a log that grows, search targets, and the rows about them.

Entry n publishes version n and is its successor's parent, so it touches the documents of versions n
and n - 1. What else the log holds, and how a change gets into it, is the other models' concern.
"""

from __future__ import annotations

from msgspec.structs import replace

from modelhub.testing.protocol.turns import Value, Write


class Target(Value, frozen=True):
    """A search target that exists: by version, the entry that its document shows (0: none)."""

    name: str
    documents: tuple[int, ...] = ()


class Listed(Value, frozen=True):
    """The row that lists the targets.

    It never holds the same twice: a change of it leaves a target out for good, or adds a new one.
    """

    live: str
    targets: tuple[str, ...]


class Run(Value, frozen=True):
    """The row of the re-index under way; ``change`` counts its changes, which a lease is, too."""

    holder: str = ""
    target: str = ""
    filled: bool = False
    change: int = 0


class Stores(Value, frozen=True):
    """All that is stored. ``owed`` has, by publisher, the base of an intent that is there still."""

    log: int
    listed: Listed
    targets: tuple[Target, ...]
    run: Run = Run()
    owed: tuple[tuple[str, int], ...] = ()

    def target(self, name: str) -> Target | None:
        """A target, if it exists."""
        return next((target for target in self.targets if target.name == name), None)

    def with_target(self, changed: Target) -> Stores:
        """The stores with one target made or changed."""
        others = [target for target in self.targets if target.name != changed.name]
        return replace(self, targets=tuple(sorted([*others, changed])))


def touched(log: int) -> tuple[int, ...]:
    """By version, the newest entry that touches its document."""
    return tuple(min(number + 1, log) for number in range(1, log + 1))


Change = Write[Stores]


class Commit(Change, frozen=True):
    """An intent and then an entry on top of the log, which the other models are about."""

    publisher: str

    def apply(self, stores: Stores) -> Stores:
        """A longer log, and the intent."""
        owed = tuple(sorted({*stores.owed, (self.publisher, stores.log)}))
        return replace(stores, log=stores.log + 1, owed=owed)


class Settle(Change, frozen=True):
    """Removal of intents."""

    owed: tuple[tuple[str, int], ...]

    def apply(self, stores: Stores) -> Stores:
        """Without them."""
        return replace(stores, owed=tuple(one for one in stores.owed if one not in self.owed))


class PutRun(Change, frozen=True):
    """Check-and-put of the run's row."""

    run: Run

    def apply(self, stores: Stores) -> Stores | None:
        """The row, unless somebody changed it."""
        if stores.run.change + 1 != self.run.change:
            return None
        return replace(stores, run=self.run)

    def spent(self, stores: Stores) -> bool:
        """Changes are only added."""
        return stores.run.change >= self.run.change


class PutListed(Change, frozen=True):
    """Check-and-put of the list of targets, against the row ``standing``."""

    standing: Listed
    listed: Listed

    def apply(self, stores: Stores) -> Stores | None:
        """The list, unless somebody changed it."""
        return replace(stores, listed=self.listed) if stores.listed == self.standing else None

    def spent(self, stores: Stores) -> bool:
        """A list never comes back."""
        return stores.listed != self.standing


class CreateTarget(Change, frozen=True):
    """An empty target, unless it is there."""

    name: str

    def apply(self, stores: Stores) -> Stores:
        """With it."""
        return stores if stores.target(self.name) else stores.with_target(Target(self.name))


class DropTarget(Change, frozen=True):
    """Removal of a target and all its documents."""

    name: str

    def apply(self, stores: Stores) -> Stores:
        """Without it."""
        kept = tuple(target for target in stores.targets if target.name != self.name)
        return replace(stores, targets=kept)


class PutDocument(Change, frozen=True):
    """A version's document in a target as of entry ``seq``; where versioned, never over a newer."""

    name: str
    number: int
    seq: int
    versioned: bool = True

    def apply(self, stores: Stores) -> Stores | None:
        """The document; None where there is no such target, which a write never makes."""
        target = stores.target(self.name)
        if target is None:
            return None
        if self.spent(stores):
            return stores
        shown = [*target.documents, *[0] * (self.number - len(target.documents))]
        shown[self.number - 1] = self.seq
        return stores.with_target(Target(self.name, tuple(shown)))

    def spent(self, stores: Stores) -> bool:
        """Versions only grow."""
        target = stores.target(self.name)
        if target is None or not self.versioned or len(target.documents) < self.number:
            return False
        return target.documents[self.number - 1] >= self.seq
