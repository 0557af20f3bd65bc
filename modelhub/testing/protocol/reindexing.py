"""Re-indexing as a model to explore: publishers, a sweeper, and runs that fill and swap targets.

Separate from ``Protocol``, whose search target is always the same: what re-indexing adds is about
targets alone, and needs of the log no more than that it grows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from modelhub.testing.protocol import turns
from modelhub.testing.protocol.filling import ReindexerScript
from modelhub.testing.protocol.targets import Listed, PutDocument, Run, Stores, Target, touched
from modelhub.testing.protocol.turns import DEAD, DONE, Script, Turns
from modelhub.testing.protocol.writers import PublisherScript, SweeperScript, TargetMutation

State = turns.State[Stores]

FIRST, SECOND = "first", "second"
"""The target that is there from the beginning, and the one that a dead run left."""


class Reindex(msgspec.Struct, frozen=True, kw_only=True):
    """Who takes part, and how much may go wrong.

    Args:
        publishers: how many clients there are, each of which publishes one version.
        runs: for each run of the re-index, whether it wants documents of another form.
        comparisons: how many runs there are besides that only compare.
        versions: how many versions there are at first.
        swapped: whether a run before all others died when it had swapped.
        faults: how many writes may get lost or come late.
        sweeper: whether somebody settles intents meanwhile.
    """

    publishers: int
    runs: tuple[bool, ...]
    comparisons: int = 0
    versions: int = 1
    swapped: bool = False
    faults: int = 0
    sweeper: bool = False


class Reindexing(Turns[Stores]):
    """The ``Model`` of one configuration, right or with a mutation."""

    def __init__(self, configuration: Reindex, mutation: TargetMutation | None = None) -> None:
        self.configuration = configuration
        publishers = [
            PublisherScript(f"p{number}", mutation)
            for number in range(1, configuration.publishers + 1)
        ]
        runs = [
            ReindexerScript(f"r{number}", relayout=relayout, mutation=mutation)
            for number, relayout in enumerate(configuration.runs, 1)
        ]
        comparisons = [
            ReindexerScript(f"c{number}", compares=True, mutation=mutation)
            for number in range(1, configuration.comparisons + 1)
        ]
        scripts: list[Script[Any, Stores]] = [*publishers, *runs, *comparisons]
        self._ending = len(scripts)
        if configuration.sweeper:
            scripts.append(SweeperScript("sweeper", mutation))
        super().__init__(scripts)

    def initial(self) -> State:
        """Some versions, which search knows, and nothing under way."""
        log = self.configuration.versions
        first = Target(FIRST, touched(log))
        stores = Stores(log=log, listed=Listed(FIRST, (FIRST,)), targets=(first,))
        if self.configuration.swapped:
            second, run = Target(SECOND, touched(log)), Run("r0", SECOND, filled=True)
            stores = Stores(log, Listed(SECOND, (FIRST, SECOND)), (first, second), run)
        return self.begin(stores, self.configuration.faults)

    def violations(self, state: State) -> list[str]:
        """A registered target that is not there; a live document that is stale, and nobody owes."""
        stores = state.stores
        listed = stores.listed
        wrong = [
            f"target {name} is registered, and not there"
            for name in {listed.live, *listed.targets}
            if stores.target(name) is None
        ]
        if listed.live not in listed.targets:
            wrong.append(f"target {listed.live} is live, and not registered")
        return wrong or list(_forgotten(stores))

    def at_rest(self, state: State) -> list[str]:
        """Whether a sweep and one more run put all in order, once everybody is through."""
        if any(actor.at not in {DONE, DEAD} for actor in state.actors[: self._ending]):
            return []
        swept = _swept(state.stores)
        live = swept.target(swept.listed.live)
        if live is None or live.documents != touched(swept.log):
            return [f"after a sweep {live} is live, and the log has {touched(swept.log)}"]
        once_more = _run_alone(replace(state, stores=swept, flight=()))
        names = [target.name for target in once_more.targets]
        if names != [once_more.listed.live] or [*once_more.listed.targets] != names:
            return [f"after one more run {once_more.listed} is listed, and {names} are there"]
        return []


def _forgotten(stores: Stores) -> Iterator[str]:
    """Live documents that are stale though no intent says so."""
    live = stores.target(stores.listed.live)
    assert live is not None
    unsaid = min((base for _, base in stores.owed), default=stores.log) + 1
    for number, seq in enumerate(touched(stores.log), 1):
        shown = live.documents[number - 1] if number <= len(live.documents) else 0
        if shown > seq or shown < seq < unsaid:
            yield f"version {number} of {live.name} shows entry {shown}, not {seq}; nobody owes it"


def _swept(stores: Stores) -> Stores:
    """The stores after a sweep without faults."""
    since = min((base for _, base in stores.owed), default=stores.log)
    for name in stores.listed.targets:
        for number, seq in enumerate(touched(stores.log), 1):
            if seq > since:
                stores = PutDocument(name, number, seq).apply(stores) or stores
    return replace(stores, owed=())


def _run_alone(state: State) -> Stores:
    """The stores after one more run of the re-index, which nothing disturbs."""
    script = ReindexerScript("last")
    me, stores = script.start(), state.stores
    while me.at != DONE:
        (call,) = script.calls(me, stores)
        for write in call.writes:
            stores = write.apply(stores) or stores
        (me,) = call.then
    assert me.told == "ok", f"the last run was told {me.told}"
    return stores


REINDEXES: Mapping[str, Reindex] = {
    "a run and two publishers": Reindex(publishers=2, runs=(False,), faults=1),
    "a run, a publisher and a sweeper": Reindex(
        publishers=1, runs=(False,), faults=1, sweeper=True
    ),
    "two runs and a publisher": Reindex(publishers=1, runs=(False, False)),
    "a run that gives up another's target": Reindex(publishers=1, runs=(False, True)),
    "runs alone": Reindex(publishers=0, runs=(False, True), faults=1),
    "a run and one that compares": Reindex(publishers=1, runs=(False,), comparisons=1),
    "two runs after one that died": Reindex(publishers=0, runs=(False, False), swapped=True),
}
"""What is explored at every run, each to its end."""

REINDEXES_FULL: Mapping[str, Reindex] = {
    **{name: replace(one, faults=one.faults + 1) for name, one in REINDEXES.items()},
}
"""The same, further."""

TARGETS_CAUGHT_BY: Mapping[TargetMutation, str] = {
    TargetMutation.TARGETS_NOT_READ_AGAIN: "a run and two publishers",
    TargetMutation.LATE_REGISTRATION: "a run and two publishers",
    TargetMutation.UNVERSIONED: "a run and two publishers",
    TargetMutation.DROPPED_UNSEEN: "two runs and a publisher",
    TargetMutation.LISTED_UNSEEN: "two runs and a publisher",
    TargetMutation.BEGUN_DROPPED: "a run and one that compares",
}
"""The configuration, of all these, that shows each mutation to be wrong."""
