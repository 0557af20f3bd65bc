"""What must hold of a run: the log against what clients were told, and stores against the log.

Each entry of a log is found in the record of what was asked, by its message. So the log says in
which order everything happened, and ``modelhub.testing.reference`` what has to come of it; whatever
left no entry must be true of a state that the hub was in while it was asked.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import timedelta

from modelhub.coordinator import keys
from modelhub.errors import ModelhubError, NotFound
from modelhub.hub import Hub
from modelhub.records import Fence, Purged
from modelhub.results import Version
from modelhub.testing.crashes import LEFT_TO_COLLECTIONS
from modelhub.testing.reference import (
    History,
    check_version,
    number_of,
    outline_of,
    stored_files,
)
from modelhub.testing.simulation.run import Asked, Run
from modelhub.testing.simulation.verbs import MODELS, Change, PushOf
from modelhub.testing.simulation.world import Landed, World, nothing_by_chance

_AFTERWARDS = timedelta(days=5)
"""Later than any lease, and than pins are kept for."""

_HARMLESS = LEFT_TO_COLLECTIONS | {"hint-stale"}
"""Of two who put a model's summary at the same time, the one who is late may put the older."""


class Violation(AssertionError):
    """Something that always holds did not. ``rule`` says what."""

    def __init__(self, rule: str, *about: object) -> None:
        super().__init__(": ".join(map(str, (rule, *about))))
        self.rule = rule


def check(run: Run) -> None:
    """Check everything about a run that is over, and settle its hub.

    Raises:
        Violation: something does not hold.
    """
    histories = {name: _Model(run, name) for name in MODELS}
    for asked in run.asked:
        _check_told(asked, histories)
    with nothing_by_chance():
        try:
            _check_stores(run.world, {name: model.states[-1] for name, model in histories.items()})
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"{type(error).__name__} is raised afterwards", error) from error


class _Model:
    """A model's states, one after the other, and at which step each began.

    ``made`` says which state an operation made.
    """

    def __init__(self, run: Run, name: str) -> None:
        self.states = [History()]
        self.steps = [0]
        self.made: dict[int, int] = {}
        asked_by = {
            asked.verb.message: asked
            for asked in run.asked
            if isinstance(asked.verb, Change) and asked.verb.name == name
        }
        for landed in run.world.entries(name):
            if isinstance(landed.entry.change, Fence):
                continue
            where = f"{name} entry {landed.entry.seq}"
            if isinstance(landed.entry.change, Purged):
                self._purge(landed.entry.change.numbers, landed, where)
                continue
            asked = asked_by.get(landed.entry.message)
            if asked is None:
                raise Violation("an entry that nobody asked for", where)
            if id(asked) in self.made:
                raise Violation("one call, two entries", where, asked.verb)
            self._add(asked, landed.step, where)

    def _purge(self, numbers: tuple[int, ...], landed: Landed, where: str) -> None:
        """A collection's entry, which no client asked for."""
        before, purged = self.states[-1], frozenset(numbers)
        if not purged <= before.deleted - before.purged:
            raise Violation("an end of what is not deleted", where)
        message = landed.entry.message
        self.states.append(
            before.after("purge", numbers[0], message, purged=before.purged | purged)
        )
        self.steps.append(landed.step)

    def _add(self, asked: Asked, step: int, where: str) -> None:
        assert isinstance(asked.verb, Change)
        before = self.states[-1]
        try:
            after, number = asked.verb.after(before)
        except ModelhubError as error:
            raise Violation("an entry that had to be refused", where, asked.verb, error) from error
        if after is before:
            made = f"{asked.verb} came to {number}"
            raise Violation("an entry where nothing was to be changed", where, made)
        self.states.append(after)
        self.steps.append(step)
        self.made[id(asked)] = len(self.states) - 1

    def between(self, begun: int, ended: int) -> range:
        """The states that it was in from one step to another."""
        return range(bisect_right(self.steps, begun) - 1, bisect_right(self.steps, ended))


def _check_told(asked: Asked, models: dict[str, _Model]) -> None:
    """See that a client was told the truth."""
    if asked.told == "broken":
        raise Violation(f"{type(asked.answer).__name__} is raised", asked.verb, asked.answer)
    if not isinstance(asked.verb, Change):
        if asked.told in {"done", "refused"} and not _is_explained(asked, models):
            raise Violation("an answer that never was true", asked.verb, asked.answer)
        return
    model = models[asked.verb.name]
    made = model.made.get(id(asked))
    if made is not None:
        if asked.told in {"refused", "failed"}:
            raise Violation("a change that failed is there", asked.verb, asked.answer)
        if not asked.begun <= model.steps[made]:
            raise Violation("a change came before it was asked for", asked.verb)
        if asked.told == "done" and not _is_so(asked, model.states[made - 1], model.states[made]):
            raise Violation("a change made something else", asked.verb, asked.answer)
    elif asked.told in {"done", "refused"}:
        states = [model.states[at] for at in model.between(asked.begun, asked.ended)]
        if not any(_is_so(asked, state, state) for state in states):
            rule = "an acknowledged change is not there"
            rule = rule if asked.told == "done" else "a change was refused without a reason"
            raise Violation(rule, asked.verb, asked.answer)


def _is_so(asked: Asked, before: History, expected: History) -> bool:
    """Whether ``before`` becomes what is expected, and the answer says so."""
    assert isinstance(asked.verb, Change)
    if isinstance(asked.answer, NotFound) and not before.versions and not _makes_a_hub(asked.verb):
        return True
    try:
        after, number = asked.verb.after(before)
    except ModelhubError as error:
        return isinstance(asked.answer, type(error))
    if isinstance(asked.answer, ModelhubError) or number_of(asked.answer) != number:
        return False
    # After an equal state nothing changed; a state that was made is a new one each time.
    if (after is before) != (expected is before):
        return False
    try:
        if isinstance(asked.answer, Version):
            check_version(asked.answer, after)
    except AssertionError:
        return False
    return True


def _makes_a_hub(verb: Change) -> bool:
    return isinstance(verb, PushOf) and verb.expect is None


def _is_explained(asked: Asked, models: dict[str, _Model]) -> bool:
    """Whether an answer may have been given in one of the states that the hub was in."""
    assert not isinstance(asked.verb, Change)
    spans = {name: model.between(asked.begun, asked.ended) for name, model in models.items()}
    longest = max(map(len, spans.values()))
    states = [
        {name: models[name].states[span[min(at, len(span) - 1)]] for name, span in spans.items()}
        for at in range(longest)
    ]
    return asked.verb.explained(asked.answer, states)


# --- stores against the log -------------------------------------------------------------------


def _check_stores(world: World, histories: dict[str, History]) -> None:
    """See that everything is stored, and that one sweep leaves nothing to be done."""
    hub = world.open_hub(world.stores, "afterwards")
    world.now += _AFTERWARDS
    if hub.init() and any(world.landed.values()):
        raise Violation("there were models without a hub", world.landed)
    hub.sweep()
    _check_settled(world, hub, histories)
    found = hub.reindex("incremental")
    if found.documents_lost or found.damaged:
        raise Violation("a document was lost", found)
    _check_settled(world, hub, histories)


def _check_settled(world: World, hub: Hub, histories: dict[str, History]) -> None:
    stores = world.stores
    for name, history in histories.items():
        _check_model(world, name, history)
    wrong = [found for found in hub.fsck().findings if found.kind not in _HARMLESS]
    if wrong:
        raise Violation(f"fsck finds {wrong[0].kind}", *wrong)
    left = [key for key, _ in stores.rows.scan(keys.INTENTS, *keys.intents_range())]
    if left:
        raise Violation("intents are left", left)
    found = {(hit.name, hit.number) for hit in hub.search(all_versions=True, limit=1000).hits}
    live = {(name, number) for name in histories for number in histories[name].live()}
    if found != live:
        raise Violation("search is not what the log says", found ^ live)


def _check_model(world: World, name: str, history: History) -> None:
    """The log is as it came to be, and every version has the bytes that it had to have."""
    seen, expected = outline_of(world.stores.rows, name), history.outline()
    if seen != expected:
        raise Violation("the log is not what was asked for", name, seen, expected)
    _check_requests(history)
    for number, kept in history.versions.items():
        try:
            files = stored_files(world.stores, name, number)
        except ModelhubError as error:
            raise Violation("a version cannot be read", f"{name}@{number}", error) from error
        if files != kept.files:
            raise Violation("a version has other bytes", f"{name}@{number}", files)


def _check_requests(history: History) -> None:
    requests = [kept.request for kept in history.versions.values() if kept.request]
    if len(set(requests)) < len(requests):
        raise Violation("a request made two versions", requests)
