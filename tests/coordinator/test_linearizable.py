"""Eight clients on one model: whatever overlaps could have happened one after the other.

Some calls lose their replies, are lost, or land late, so that their outcome is unknown.

Tier: CI checks 20 histories on memory, 3 on embedded stores and one on the real servers; ``--full``
200, 20 and 5.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from random import Random

import pytest

from modelhub.backends.memory import MemoryRows, MemorySearch, MemoryWeights
from modelhub.connect import embedded_stores
from modelhub.coordinator import keys, log
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.log import Head
from modelhub.errors import ModelhubError, OutcomeUnknown, Unavailable
from modelhub.hub import Hub
from modelhub.records import ModelHint, decode
from modelhub.testing.crashes import no_pause
from modelhub.testing.faults import Call as StoreCall
from modelhub.testing.faults import Faults, Outcome
from modelhub.testing.linearizable import Event, order
from modelhub.testing.model_log import Call, Delete, Log, ModelLog, Push, SetAlias, Show, apply
from tests.conftest import TIER
from tests.live.hubs import LiveHubs, close

NAME = "nlp.mood"
CLIENTS, CALLS = 8, 20
FULL = 10 if TIER == "full" else 1

Opened = Callable[[], Stores]
"""The same stores once more, as another process opens them."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "weights.bin").write_bytes(b"weights")
    return made


def on_memory() -> Opened:
    stores = Stores(MemoryWeights(), MemoryRows(), MemorySearch())
    return lambda: stores


def on_embedded(folder: Path) -> Opened:
    return lambda: embedded_stores(folder)


def cut_off(chance: Random) -> Callable[[StoreCall], Outcome]:
    """Now and then the rows are out of reach from a commit on, for a while.

    Calls take a while as well, or one client after the other would have its turn.
    """
    away = 0

    def plan(call: StoreCall) -> Outcome:
        nonlocal away
        time.sleep(chance.choice((0, 0, 0.0005, 0.002)))
        commits = call.writes and call.where == keys.LOG
        if commits and not away and chance.random() < 0.1:
            away = chance.randint(6, 20)
        if not away or call.store != "rows":
            return Outcome.OK
        away -= 1
        return chance.choice((Outcome.LOST_APPLIED, Outcome.LOST_DROPPED, Outcome.LATE))

    return plan


def drawn(chance: Random, message: str, known: int) -> Call:
    """``known`` is the highest number that this client has heard of."""
    number = chance.randint(max(1, known - 3), known + 1)
    expect = chance.choice((None, None, known or None))
    return chance.choice(
        (
            Push(message, expect),
            Push(message, expect),
            Delete(message, number),
            SetAlias(message, number, chance.choice((None, number - 1 or None))),
            Show(),
            Show(),
            Show(ref="champion"),
            Log(),
        )
    )


def lived(opened: Opened, seed: int, folder: Path, calls: int = CALLS) -> list[Event]:
    """What eight clients at once ask for, and hear."""
    begin = threading.Barrier(CLIENTS)

    def live(client: int) -> list[Event]:
        chance = Random(f"{seed} {client}")
        stores = opened()
        faults = Faults(stores, cut_off(chance))
        ctx = Context(faults.stores, f"client {client}", pause=no_pause)
        hub, events, known = Hub(ctx, address="test", cache=Path("unused")), list[Event](), 0
        begin.wait()
        for count in range(calls):
            call = drawn(chance, f"{client}.{count}", known)
            events += asked(call, hub, folder)
            answers = [event.answer for event in events if isinstance(event.answer, int)]
            known = max(answers, default=0)
            if chance.random() < 0.3:
                faults.land()
        faults.land()
        close(stores)
        return events

    with ThreadPoolExecutor(CLIENTS) as pool:
        events = list(itertools.chain.from_iterable(pool.map(live, range(CLIENTS))))
    stores = opened()
    (last,) = asked(Log(), Hub(Context(stores, "tester"), address="", cache=Path()), folder)
    close(stores)
    return [*filter(partial(mattered, last.answer), events), last]


def mattered(entries: object, event: Event) -> bool:
    """Whether a call is known to have been answered, or to have come into the log after all.

    Nothing can come of the others any more; and to try where they might have been takes long.
    """
    told = [message for _, _, message in entries] if isinstance(entries, tuple) else []
    return event.returned is not None or event.call.message in told


def asked(call: Call, hub: Hub, folder: Path) -> list[Event]:
    """A call and its answer; nothing, where it certainly did nothing."""
    begun = time.perf_counter()
    try:
        answer = call.run(hub, NAME, folder)
    except OutcomeUnknown:
        return [Event(call, begun)]
    except Unavailable:
        return []
    except ModelhubError as error:
        return [Event(call, begun, time.perf_counter(), error.kind)]
    return [Event(call, begun, time.perf_counter(), answer)]


def check(opened: Opened, seed: int, folder: Path, calls: int = CALLS) -> list[Event]:
    """Live one history, and see that there is an order."""
    events = lived(opened, seed, folder, calls)
    assert order(events, ModelLog(), apply) is not None, told(events)
    return events


def told(events: list[Event]) -> str:
    """Every call as it was answered, by the time that it was made."""
    lines = ["no order of these calls gives their answers:"]
    for event in sorted(events, key=lambda one: one.invoked):
        ended = "?" if event.returned is None else f"{event.returned:.6f}"
        lines.append(f"{event.invoked:.6f} to {ended}: {event.call} => {event.answer}")
    return "\n".join(lines)


def counted(histories: list[list[Event]]) -> str:
    events = list(itertools.chain.from_iterable(histories))
    unknown = sum(event.returned is None for event in events)
    return f"{len(histories)} histories, {len(events):,} calls, {unknown} of unknown outcome"


def made(stores: Stores) -> None:
    Hub(Context(stores, "tester"), address="test", cache=Path("unused")).init()


@pytest.mark.parametrize("kind", ["memory", "embedded"])
@pytest.mark.timeout(1800)
def test_a_log_on_this_machine_is_linearizable(
    kind: str, folder: Path, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    histories = []
    for seed in range(FULL * (20 if kind == "memory" else 3)):
        opened = on_memory() if kind == "memory" else on_embedded(tmp_path / f"hub{seed}")
        stores = opened()
        made(stores)
        close(stores)
        histories.append(check(opened, seed, folder))
    figure(f"{kind}: {counted(histories)}")


@pytest.mark.timeout(1800)
def test_a_log_on_the_real_servers_is_linearizable(
    live: LiveHubs, folder: Path, figure: Callable[[str], None]
) -> None:
    histories = []
    for seed in range(5 if TIER == "full" else 1):
        made(live())
        histories.append(check(live.again, seed, folder))
    figure(f"the real servers: {counted(histories)}")


def heads_are_taken_from_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(self: Hub, name: str) -> Head:
        rows = self._ctx.stores.rows
        hint = rows.get(keys.MODELS, keys.model(name))
        seq = decode(hint, ModelHint, name).seq if hint else 0
        return log.read_head(rows, name, at=seq or None)

    monkeypatch.setattr(Hub, "_head", changed)


def test_a_stale_read_is_noticed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str], None]
) -> None:
    """Heads are served from a hint that is put after each commit, and may be the older of two."""
    heads_are_taken_from_models(monkeypatch)
    for seed in range(20):
        opened = on_memory()
        made(opened())
        if order(lived(opened, seed, folder), ModelLog(), apply) is None:
            figure(f"noticed in history {seed + 1}")
            return
    pytest.fail("no history shows it")
