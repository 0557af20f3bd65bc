"""How a hub is: its stores, what is under way, and how far search is behind the log."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec.structs import replace

from modelhub.coordinator import bootstrap, keys, sweep
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import read_head, since_entry
from modelhub.coordinator.state import exists
from modelhub.errors import CorruptData, ModelhubError
from modelhub.records import ModelHint, decode
from modelhub.results import SearchLag, Status


def status(ctx: Context, address: str) -> Status:
    """How each store is; one that is away is a result, not an error.

    The stores are asked at the same time, so that those that keep silent do not add up.
    """
    asked = {
        "rows": ctx.stores.rows.describe,
        "weights": ctx.stores.weights.describe,
        "search": ctx.stores.search.describe,
    }
    with ThreadPoolExecutor(len(asked), thread_name_prefix="modelhub-status") as pool:
        stores = dict(zip(asked, pool.map(_probe, asked.values()), strict=True))
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
        damaged: list[CorruptData] = []
        models = _count_models(ctx, damaged)
        under_way = _under_way(ctx, damaged)
        problem = damaged[0].message if damaged else ""
        told = replace(told, models=models, problem=problem, **under_way)
    except ModelhubError as exc:
        told = replace(told, problem=exc.message)
    stores["search"] = _of_this_hub(ctx, stores["search"])
    return told


def _probe(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    started_s = time.perf_counter()
    try:
        described = describe()
    except ModelhubError as exc:
        return {"reachable": False, "error": exc.message, "remedy": exc.remedy}
    latency_ms = round((time.perf_counter() - started_s) * 1000, 2)
    return {"reachable": True, "latency_ms": latency_ms, **described}


def _of_this_hub(ctx: Context, described: dict[str, Any]) -> dict[str, Any]:
    """What search says, where it says something of each target of this hub's targets alone."""
    ours = () if ctx.targets is None else ctx.targets.targets
    return {
        fact: {target: value[target] for target in ours if target in value}
        if isinstance(value, dict)
        else value
        for fact, value in described.items()
    }


def _count_models(ctx: Context, damaged: list[CorruptData]) -> int:
    """The models that there are for users: one whose log cannot be read is one."""
    count = 0
    for key, value in ctx.stores.rows.scan(keys.MODELS, b"\0", b"\xff"):
        name = key.decode(errors="replace")
        try:
            if decode(value, ModelHint, f"the summary of {name}").updated is not None:
                count += 1
                continue
        except CorruptData:
            pass  # A hint that cannot be read is no hint.
        try:
            # Put before the model's first entry, and not refreshed since: only the log knows.
            count += exists(read_head(ctx.stores.rows, name).state)
        except CorruptData as exc:
            damaged.append(exc)
            count += 1
    return count


def _under_way(ctx: Context, damaged: list[CorruptData]) -> dict[str, Any]:
    """The number of intents, and the changes that search may not have.

    An intent is kept until search has its change, so what is behind is read from the intents alone;
    one whose lease is not over counts though a sweep has done its part.
    """
    intents = models = changes = 0
    oldest = None
    for name, attempts in sweep.remains(ctx, unreadable=lambda exc, _: damaged.append(exc)):
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
    }
