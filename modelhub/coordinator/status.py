"""How a hub is: its stores, what is under way, and how far search is behind the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from modelhub.coordinator import bootstrap, keys, sweep
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import read_head, since_entry
from modelhub.errors import CorruptData, ModelhubError
from modelhub.results import SearchLag, Status


def status(ctx: Context, address: str) -> Status:
    """How each store is; one that is away is a result, not an error."""
    stores = {
        "rows": _probe(ctx.stores.rows.describe),
        "weights": _probe(ctx.stores.weights.describe),
        "search": _probe(ctx.stores.search.describe),
    }
    told = Status(
        hub=address,
        format=None,
        models=None,
        intents=None,
        search_lag=None,
        problem="",
        stores=stores,
    )
    try:
        told = replace(told, format=bootstrap.recognise(ctx).format)
        models = sum(1 for _ in ctx.stores.rows.scan(keys.MODELS, b"\0", b"\xff"))
        return replace(told, models=models, **_under_way(ctx))
    except ModelhubError as exc:
        return replace(told, problem=exc.message)


def _probe(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started_s = time.perf_counter()
    try:
        described = describe()
    except ModelhubError as exc:
        return {"reachable": False, "error": exc.message, "remedy": exc.remedy}
    latency_ms = round((time.perf_counter() - started_s) * 1000, 2)
    return {"reachable": True, "latency_ms": latency_ms, **described}


def _under_way(ctx: Context) -> dict[str, Any]:
    """The number of intents, the changes that search may not have, and what cannot be read.

    An intent is kept until search has its change, so what is behind is read from the intents alone;
    one whose lease is not over counts though a sweep has done its part.
    """
    intents = models = changes = 0
    oldest = None
    damaged: list[CorruptData] = []
    for name, attempts in sweep.remains(ctx, unreadable=damaged.append):
        intents += len(attempts)
        owing = [attempt.base for attempt in attempts if attempt.intent is not None]
        try:
            head = read_head(ctx.stores.rows, name)
        except CorruptData as exc:
            damaged.append(exc)
            continue
        behind = since_entry(ctx.stores.rows, head, min(owing)) if owing else []
        if behind:
            models += 1
            changes += len(behind)
            first = behind[-1].entry.time
            oldest = first if oldest is None else min(oldest, first)
    seconds = 0.0 if oldest is None else max(0.0, (ctx.clock.now() - oldest).total_seconds())
    return {
        "intents": intents,
        "search_lag": SearchLag(models=models, changes=changes, seconds=round(seconds, 1)),
        "problem": damaged[0].message if damaged else "",
    }
