"""Random walks of a model that the coordinator can take too.

A model leaves open what the coordinator has decided: how often it tries, what a sweep settles. A
walk takes only what both can do:

- A put is tried as often as the coordinator tries it, and not once more.
- A sweep settles all attempts that it saw, or that one which is not newer than any other: the
  coordinator refreshes the documents of all attempts that are behind the head.
- Two sweepers' fences are one and the same to a model, not to the sweeper that waits for its own:
  while one does, another's does not land.
- Who has to store everything anew puts all pins again in a model; the coordinator knows which of
  them it put already. So that happens only while those are there.
- Where the rows of packs are read, a condemned one is the only one that is not live: a model looks
  at all of them before it brings one back, the coordinator goes from row to row.
- A client of a model gives up after a few lost attempts or names of packs, the coordinator after a
  thousand attempts, some packs that it could not write, and some that were taken from it: a walk
  leaves who would give up in the one and go on in the other where it is.

A publish without ``stores`` is for models alone: the coordinator always has a manifest to store.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from modelhub.coordinator import log, packs, publish, storing, transaction
from modelhub.testing.protocol.client import Client, Task
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.model import Configuration, Protocol, State
from modelhub.testing.protocol.sweeper import Sweeper
from modelhub.testing.protocol.turns import Actor
from modelhub.testing.protocol.world import facts

SWEEPER = "sweeper"
STRANGER = "stranger"
COLLECTOR = "collector"

_PUTS = ("put_model", "put_intent", "put_pins", "put_metadata", "put_lookup")

RETRIES = {
    **{action: (action, transaction._PUT_TRIES) for action in _PUTS},
    "put_log": ("read_log", log._RESOLVE_TRIES),
    "put_fence": ("read_log", log._RESOLVE_TRIES),
    "register_pack": ("resolve_pack", packs.TRIES),
    "revive_pack": ("read_packs", packs.TRIES),
    "write_pack": ("read_chunks", storing._PACK_TRIES),
}
"""What is tried again: where its actor stands after a try that settled nothing, and the tries."""

_WEIGHTS = {
    "ok": 1.0,
    "lands": 0.5,
    "late": 0.3,
    "doubled": 0.3,
    "fails_before": 0.1,
    "crash": 0.005,
}
"""How likely an outcome is; each walk has tastes of its own besides."""

_GIVING_UP = 0.2
"""How likely an actor gives up where it could go on: who does sees nothing more."""

_SWEEPING = 0.3
"""How busy the sweeper is: it fences off whoever is slower."""


def actors(configuration: Configuration, state: State) -> dict[str, Actor]:
    """The actors' memories by name."""
    names = [f"p{number}" for number in range(1, len(configuration.tasks) + 1)] + [SWEEPER]
    names += [STRANGER] * configuration.stranger + [COLLECTOR] * bool(configuration.collections)
    return dict(zip(names, state.actors, strict=True))


def task_of(configuration: Configuration, client: str) -> Task:
    """What a client was asked to do."""
    return configuration.tasks[int(client.removeprefix("p")) - 1]


def makes_no_call(configuration: Configuration, state: State, actor: str, action: str) -> bool:
    """Whether the coordinator passes over a step: there is nothing to put."""
    if actor == SWEEPER:
        sweeper = actors(configuration, state)[SWEEPER]
        assert isinstance(sweeper, Sweeper)
        return action == "put_hints" and facts(state.stores.log[: sweeper.head]).next == 1
    if action not in {"put_metadata", "put_lookup"}:
        return False
    return task_of(configuration, actor).op != "publish"


def walk(configuration: Configuration, seed: int, *, longest: int = 150) -> list[Step[State]]:
    """A walk from the beginning until nothing can happen any more, or of ``longest`` steps.

    The same seed gives the same walk. The sweeper must not settle attempts in a single moment.
    """
    protocol, chance = Protocol(configuration), random.Random(seed)
    limits = _Limits(configuration)
    state = protocol.initial()
    tastes = {name: chance.choice((0.1, 0.3, 1.0)) for name in actors(configuration, state)}
    tastes[SWEEPER] *= _SWEEPING
    tastes |= {name: chance.choice((0.2, 1.0, 3.0)) for name in _WEIGHTS if name != "ok"}
    steps: list[Step[State]] = []
    while len(steps) < longest:
        possible = list(limits.within(state, protocol.all_steps(state)))
        if not possible:
            break
        weights = [
            tastes[step.actor] * tastes.get(step.outcome, 1.0) * _weight(configuration, step)
            for step in possible
        ]
        (step,) = chance.choices(possible, weights)
        limits.count(step)
        steps.append(step)
        state = step.state
    return steps


def _weight(configuration: Configuration, step: Step[State]) -> float:
    me = actors(configuration, step.state)[step.actor]
    if isinstance(me, Client):
        gives_up = me.told in {"failed", "unknown"} and step.outcome != "lands"
    else:
        gives_up = me.at == "scan_intents" and step.outcome in {"late", "fails_before"}
    return _WEIGHTS[step.outcome] * (_GIVING_UP if gives_up else 1)


class _Limits:
    """Which steps the coordinator can take, given those taken before."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._tries: Counter[tuple[str, str]] = Counter()
        self._fence_sent = False

    def within(self, state: State, steps: Iterator[Step[State]]) -> Iterator[Step[State]]:
        """Those of ``steps`` that it can take from ``state``."""
        known = actors(self._configuration, state)
        for step in steps:
            after = actors(self._configuration, step.state)[step.actor]
            if step.outcome == "lands":
                possible = self._lands(step, known[SWEEPER])
            elif step.outcome == "crash":
                possible = True
            elif makes_no_call(self._configuration, state, step.actor, step.action):
                possible = step.outcome == "ok"
            else:
                possible = self._goes_on(step, after) and self._is_alike(state, step, known, after)
            if possible:
                yield step

    def count(self, step: Step[State]) -> None:
        """Take ``step``."""
        if step.action == "scan_intents":
            self._fence_sent = False
            self._tries[SWEEPER, "put_fence"] = 0
        elif step.action == "put_fence" and step.outcome != "lands":
            self._fence_sent = True
        after = actors(self._configuration, step.state)[step.actor]
        if self._is_unsettled(step, after):
            self._tries[_tried(step)] += 1
        elif step.outcome == "ok":
            self._tries[_tried(step)] = 0
        if _is_refused(step, after):
            self._tries[_refusals(step, after)] += 1

    def _lands(self, step: Step[State], sweeper: Actor) -> bool:
        waits = sweeper.at in {"put_fence", "read_log"}
        return step.action != "put_fence" or self._fence_sent or not waits

    def _goes_on(self, step: Step[State], after: Actor) -> bool:
        if _is_refused(step, after):
            return self._tries[_refusals(step, after)] + 1 < publish._RESTARTS
        if not self._is_unsettled(step, after):
            return True
        _, tries = RETRIES[step.action]
        return self._tries[_tried(step)] + 1 < tries

    def _is_unsettled(self, step: Step[State], after: Actor) -> bool:
        return step.action in RETRIES and after.at == RETRIES[step.action][0]

    def _is_alike(
        self, state: State, step: Step[State], known: dict[str, Actor], after: Actor
    ) -> bool:
        me = known[step.actor]
        if isinstance(after, Sweeper) and step.action == "scan_intents":
            oldest = min(row.base for row in state.stores.intents)
            return not after.rows or oldest in {row.base for row in after.rows}
        if isinstance(me, Client) and step.action == "read_packs":
            states = [state.stores.pack(pack).state for pack, _ in me.doubts]
            return "condemned" not in states or states.count("live") == len(states) - 1
        if isinstance(me, Client) and step.action == "put_pins":
            there = {row.pack for row in state.stores.intents if row.txid == step.subject}
            return not me.packs or (step.outcome == "ok" and there.issuperset(me.packs))
        if isinstance(me, Client) and isinstance(after, Client) and _stores_again(state, me, step):
            return after.told != "failed"
        if isinstance(me, Client) and step.action in {"read_head", "find_request"}:
            return me.attempt < task_of(self._configuration, step.actor).attempts
        return True


def _tried(step: Step[State]) -> tuple[str, str]:
    """What counts as tried again: a pack that could not be written has another name then."""
    return step.actor, step.action + ("" if step.action == "write_pack" else step.subject)


def _refusals(step: Step[State], client: Actor) -> tuple[str, str]:
    """What counts as packs that were taken from an attempt."""
    assert isinstance(client, Client)
    return step.actor, f"refused {client.attempt}"


def _is_refused(step: Step[State], after: Actor) -> bool:
    return step.action in {"resolve_pack", "read_packs"} and after.at == "read_chunks"


def _stores_again(state: State, me: Client, step: Step[State]) -> bool:
    """Whether ``step`` leads to a further pack, or would if there were names left."""
    if step.action == "write_pack":
        return True
    refused = {"read_packs": not me.new, "resolve_pack": bool(state.stores.pack(me.new).state)}
    return step.outcome == "ok" and refused.get(step.action, False)
