"""How often each verb calls the stores: counted at the real stores, and on the wire to them.

Tier: CI runs all of it, and prints the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elastic_transport import Transport
from thriftpy2.thrift import TClient

from modelhub.coordinator import keys
from modelhub.coordinator.context import Context, Patience, Stores
from modelhub.hub import Hub
from modelhub.testing.faults import Call, Faults
from tests.live.hubs import LiveHubs

NAME = "nlp.sentiment"
PATIENT = Patience()
"""As hubs are by default: no lease is renewed while a test runs."""

BEFORE_COMMIT, AFTER_COMMIT, FILES, BULKS = 8, 6, 2, 1
"""What a publish of a small model may take: row calls up to and including the log's, row calls
after it, files written, bulk requests."""

OPENING = {"get_many system": 1, "now": 1}
"""What the first change of a process asks besides: is there a hub, and what time is it."""

COLUMNS = (
    "row reads",
    "row writes",
    "file reads",
    "files written",
    "searches",
    "thrift calls",
    "http requests",
)

VERBS: dict[str, Callable[[Hub, Path], object]] = {
    "push (first)": lambda hub, folder: hub.push(NAME, changed(folder, b"1")),
    "push (next)": lambda hub, folder: hub.push(NAME, changed(folder, b"2")),
    "push (same)": lambda hub, folder: hub.push(NAME, changed(folder, b"2")),
    "push (request id)": lambda hub, folder: hub.push(NAME, changed(folder, b"3"), request_id="r"),
    "pull": lambda hub, folder: hub.pull(NAME, folder.with_name("pulled")),
    "show": lambda hub, _: hub.show(NAME),
    "list": lambda hub, _: hub.list(),
    "log": lambda hub, _: hub.log(NAME),
    "search": lambda hub, _: hub.search("sentiment"),
    "diff": lambda hub, _: hub.diff(f"{NAME}@1", NAME),
    "verify": lambda hub, _: hub.verify(NAME),
    "edit": lambda hub, _: hub.edit(NAME, title="another"),
    "delete": lambda hub, _: hub.delete(f"{NAME}@1"),
    "undelete": lambda hub, _: hub.undelete(f"{NAME}@1"),
    "sweep": lambda hub, _: hub.sweep(),
}


def changed(folder: Path, data: bytes) -> Path:
    """A small model: one file that changes, and one that stays."""
    folder.mkdir(exist_ok=True)
    (folder / "weights.bin").write_bytes(data * 10_000)
    (folder / "vocabulary.txt").write_bytes(b"word " * 1000)
    return folder


class Wire(Counter[str]):
    """What really went over the network: calls of the gateway, and requests to Elasticsearch."""


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    counts, thrift, http = Wire(), TClient._req, Transport.perform_request

    def sent(client: TClient, api: str, *args: Any, **kwargs: Any) -> Any:
        counts["thrift"] += 1
        return thrift(client, api, *args, **kwargs)

    def requested(transport: Transport, *args: Any, **kwargs: Any) -> Any:
        counts["http"] += 1
        return http(transport, *args, **kwargs)

    monkeypatch.setattr(TClient, "_req", sent)
    monkeypatch.setattr(Transport, "perform_request", requested)
    return counts


@pytest.fixture
def stores(live: LiveHubs) -> Stores:
    return live()


def opened(stores: Stores, cache: Path) -> tuple[Hub, Faults]:
    """A new process."""
    faults = Faults(stores)
    return Hub(Context(faults.stores, "tester", PATIENT), address="test", cache=cache), faults


def named(call: Call) -> str:
    return f"{call.method} {call.where}".strip()


def test_calls_of_each_verb_on_the_real_servers(
    stores: Stores, wire: Wire, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    hub, faults = opened(stores, tmp_path / "cache")
    hub.init()
    table = [f"{'verb':<18}" + "".join(f"{head:>14}" for head in COLUMNS)]
    for verb, run in VERBS.items():
        faults.calls.clear()
        wire.clear()
        run(hub, tmp_path / "model")
        rows = [call for call in faults.calls if call.store == "rows"]
        counts = (
            sum(not call.writes for call in rows),
            sum(call.writes for call in rows),
            sum(call.method == "read" for call in faults.calls),
            sum(call.method == "create" for call in faults.calls),
            sum(call.store == "search" for call in faults.calls),
            wire["thrift"],
            wire["http"],
        )
        table.append(f"{verb:<18}" + "".join(f"{count:>14}" for count in counts))
        if verb.startswith("push"):
            check_budget(faults.calls)
    figure("calls\n" + "\n".join(table))


def check_budget(calls: list[Call]) -> None:
    """A publish keeps to what it may take, whatever it reuses."""
    rows = [named(call) for call in calls if call.store == "rows"]
    asked = Counter(rows)
    opening = {name: min(count, asked[name]) for name, count in OPENING.items()}
    commit = rows.index(f"check_and_put {keys.LOG}") + 1
    request = asked[f"scan {keys.LOOKUP}"]
    assert commit - sum(opening.values()) - request <= BEFORE_COMMIT, rows
    assert len(rows) - commit <= AFTER_COMMIT, rows
    assert sum(call.method == "create" for call in calls) <= FILES
    assert sum(call.store == "search" for call in calls) <= BULKS
