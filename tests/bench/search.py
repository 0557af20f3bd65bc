"""How fast search is filled and how fast it answers, and which store the time goes to.

    python -m tests.bench.search --json search.json                # embedded, 100,000 versions
    python -m tests.bench.search --live --versions 5000

A populated hub is re-indexed whole and then compared, each in a process of its own whose memory is
measured, and once more in this one with every store call timed. Then it is searched by words that
its models' texts are made of. ``--live`` uses the servers of the tests (``tests.live.stack``).
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from statistics import median, quantiles
from typing import Any, cast
from unittest.mock import patch

from modelhub.connect import embedded_stores
from modelhub.coordinator import index
from modelhub.coordinator.context import Context, Stores
from modelhub.coordinator.index import read_targets
from modelhub.hub import Hub
from modelhub.results import ReindexMode
from modelhub.stores import RowStore, SearchIndex
from modelhub.testing.plausible import TASKS
from modelhub.testing.populate import populate
from tests.bench.hubs import MEASURED
from tests.bench.measure import run
from tests.bench.report import Row, parser, show
from tests.bench.rounds import folder_in
from tests.live.hubs import as_toml, live_hubs
from tests.live.stack import found

QUERIES = 400
VERSIONS_A_MODEL = 50


@dataclass
class Spent:
    """Seconds in each part, of all threads together."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, with its time noted; what it yields is part of it."""

        def timed(*arguments: Any, **options: Any) -> Any:
            began_s = time.perf_counter()
            try:
                answer = call(*arguments, **options)
                return iter(list(answer)) if isinstance(answer, Iterator) else answer
            finally:
                with self._lock:
                    self.seconds[part] += time.perf_counter() - began_s

        return timed


class _Timed:
    """A store whose calls are timed; the log is read page by page."""

    def __init__(self, store: Any, part: str, spent: Spent) -> None:
        self._store, self._part, self._spent = store, part, spent

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._store, name)
        return call if name == "scan" else self._spent.timed(self._part, call)

    def scan(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        step = self._spent.timed(self._part, self._store.scan(*arguments, **options).__next__)
        while True:
            try:
                yield step()
            except StopIteration:
                return


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON."""
    asked = parser(__doc__, "data", "json")
    asked.add_argument("--versions", type=int, default=100_000, help="in the hub")
    asked.add_argument("--live", action="store_true", help="on the servers of the tests")
    options = asked.parse_args(arguments)
    with folder_in(options.data) as place:
        if options.live:
            with found() as stack, live_hubs(stack) as hubs:
                stores = hubs()
                (place / "modelhub.toml").write_text(as_toml(hubs.profile, "bench"))
                rows = measured(stores, "bench", place, options.versions)
        else:
            home = place / "hub"
            rows = measured(embedded_stores(home), str(home), place, options.versions)
    about = {"versions": options.versions, "stores": "live" if options.live else "embedded"}
    show("search", rows, about=about, rounds={}, file=options.json)


def measured(stores: Stores, address: str, place: Path, versions: int) -> list[Row]:
    """All figures, of a hub in empty stores."""
    populate(stores, versions=versions, models=max(1, versions // VERSIONS_A_MODEL))
    stores.search.refresh(read_targets(Context(stores, "bench")).live)
    rows: list[Row] = []
    modes: tuple[ReindexMode, ...] = ("whole", "incremental")
    for mode in modes:
        rows += _process(mode, address, place, versions)
        rows += _shares(mode, stores, versions)
    return rows + _latencies(stores)


def _process(mode: ReindexMode, address: str, place: Path, versions: int) -> list[Row]:
    """A process of its own, start included."""
    flags = ["--incremental"] if mode == "incremental" else []
    variables = {"MODELHUB_CONFIG": str(place / "modelhub.toml")} if address == "bench" else {}
    command = (sys.executable, MEASURED, "--hub", address, "--format", "json", "admin", "reindex")
    ran = run(*command, *flags, variables=variables)
    told = json.loads(ran.output)
    assert told["documents"] == versions
    assert told["lost"] == []
    return [
        Row(f"{mode}: documents a second", versions / ran.seconds, unit="/s"),
        Row(f"{mode}: memory at most", int(ran.errors.split()[-1]) * 1024 / 1e6, unit="MB"),
    ]


def _shares(mode: ReindexMode, stores: Stores, versions: int) -> list[Row]:
    spent = Spent()
    timed = Stores(
        stores.weights,
        cast(RowStore, _Timed(stores.rows, "rows", spent)),
        cast(SearchIndex, _Timed(stores.search, "search", spent)),
    )
    hub = Hub(Context(timed, "bench"), address="bench", cache=Path("unused"))
    with patch.object(index, "render", spent.timed("rendering", index.render)):
        assert hub.reindex(mode).documents == versions
    all_s = sum(spent.seconds.values())
    return [
        Row(f"{mode}: {part}", 100 * took_s / all_s, unit="%", detail=f"{took_s:.1f} s in threads")
        for part, took_s in sorted(spent.seconds.items())
    ]


def _latencies(stores: Stores) -> list[Row]:
    """Of searches for one and two words, one after the other, after some that warm things up."""
    chance = random.Random(0)
    words = list(chain.from_iterable((*task.english.split(), task.chinese) for task in TASKS))
    hub = Hub(Context(stores, "bench"), address="bench", cache=Path("unused"))
    took_s = []
    for _ in range(QUERIES):
        text = " ".join(chance.sample(words, chance.randint(1, 2)))
        began_s = time.perf_counter()
        hub.search(text)
        took_s.append(time.perf_counter() - began_s)
    took_s = took_s[QUERIES // 10 :]
    return [
        Row("search: half take at most", 1000 * median(took_s), unit="ms"),
        Row("search: 95 of 100 take at most", 1000 * quantiles(took_s, n=20)[-1], unit="ms"),
    ]


if __name__ == "__main__":
    main()
