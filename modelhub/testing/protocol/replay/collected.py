"""The replay of the collection model's walks: publishers, deleters, collectors and rewriters.

A collection of the coordinator does what two actors of the model do, who take away and who
rewrite; each has a run of its own here, in which the other's part is left out. What is worth
rewriting is what the walk wants, as is how long files stay in the trash, and what hints say. There
are no leases: whoever begins takes over. A sweep is a step of its own, shown the lease of the
attempt that it settles as over. Whoever gives up in the model dies.

Nobody reads: what readers do is for the models alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from modelhub.coordinator import keys
from modelhub.errors import AlreadyExists, NotFound
from modelhub.hub import Hub
from modelhub.records import Intent, Pin, decode, encode
from modelhub.results import Version
from modelhub.rules import RetentionRule
from modelhub.testing.protocol.collected import CreateFile, PutPin, Stores
from modelhub.testing.protocol.collecting import Collector
from modelhub.testing.protocol.collection import Collecting, Collection, State
from modelhub.testing.protocol.explore import Step
from modelhub.testing.protocol.replay.calls import (
    MODEL,
    Answer,
    Part,
    Request,
    away,
    doubled,
    unsure,
)
from modelhub.testing.protocol.replay.collecting_calls import (
    RUN_CALLS,
    WRITER_CALLS,
    Rewritten,
    as_in_the_model,
    placed_in_run,
    placed_in_sweep,
    placed_in_writer,
)
from modelhub.testing.protocol.replay.collecting_walks import (
    memory,
    skips_second,
    walk,
    wanted,
)
from modelhub.testing.protocol.replay.holding import (
    Mirror,
    begin,
    hints,
    open_hub,
    pack_id,
    pack_name,
    source,
)
from modelhub.testing.protocol.replay.processes import Process
from modelhub.testing.protocol.replay.staged import Staged, ending, follow, pending
from modelhub.testing.protocol.reusers import Publisher
from modelhub.testing.protocol.rewriting import Rewriter
from modelhub.testing.protocol.turns import DONE, Write

__all__ = ["RUN_CALLS", "WRITER_CALLS", "replay", "walk"]

_SCANS = ("scan_intents", "scan_log", "scan_packs")
_ANSWERS: dict[str, Answer] = {"ok": Request.make, "late": unsure, "doubled": doubled}
_AT_ONCE = (RetentionRule(deleted_days=0),)
_NO_EFFECT = {"move_file", "bury_pack", "claim_file", "remove_file"}
"""Steps that the coordinator passes over where they change nothing."""


def replay(configuration: Collection, steps: Sequence[Step[State]], folder: Path) -> set[str]:
    """Let the coordinator take the steps of a walk; the names of the calls that it made.

    Args:
        configuration: that of the model.
        steps: what happens, from the model's initial state on.
        folder: for files to publish; it may be the same for all walks of a configuration.

    Raises:
        Drift: see ``follow``.
    """
    model = Collecting(configuration)
    rewritten: Rewritten = {}
    return follow(
        configuration,
        model.initial(),
        steps,
        lambda: _Stage(model, folder, rewritten),
        as_in_the_model(rewritten),
    )


class _Stage(Staged[Stores]):
    """A hub with publishers, deleters, a sweeper, collectors and rewriters."""

    def __init__(self, model: Collecting, folder: Path, rewritten: Rewritten) -> None:
        super().__init__()
        self._model = model
        self._folder = folder
        self._rewritten = rewritten
        self._tasks = {one.name: one.task for one in model.publishers}
        self._stores = begin(model.configuration, folder)
        self._mirror = Mirror(self._stores, model.configuration)
        self._hints = {name: hints(self._stores, task) for name, task in self._tasks.items()}
        self._acknowledged: dict[str, set[str]] = defaultdict(set)
        self._parts: dict[str, dict[bytes, bytes]] = defaultdict(dict)
        self._early: set[str] = set()
        self._retention: tuple[RetentionRule, ...] = ()
        self._taken = 0

    # --- stores --------------------------------------------------------------------------------

    def look(self) -> Stores:
        seen = self._mirror.look()
        return replace(seen, log=self._renamed(seen))

    def expected(self, stores: Stores) -> Stores:
        """The same, in which only publishers' entries say which attempt put them."""
        return replace(stores, log=self._renamed(stores))

    def _renamed(self, stores: Stores) -> Any:
        return tuple(
            one if one.op == "publish" else replace(one, txid=one.txid.partition(".")[0])
            for one in stores.log
        )

    def part(self, call: Request, write: Write[Any]) -> Callable[[], Any]:
        match write:
            case PutPin(pin=pin):
                rows = {
                    key: value
                    for key, value in call.args[1].items()
                    if keys.parse_intent(key)[1:] == (pin.txid, pack_id(pin.pack))
                }
                return lambda: call.store.put_many(keys.INTENTS, rows)
            case CreateFile():
                return lambda: call.store.create(call.args[0]).write(b"torn")
        return partial(_made, call)

    # --- processes -----------------------------------------------------------------------------

    def start(self, name: str) -> Process:
        placed: Any = placed_in_run
        if name.startswith("c"):
            verb: Callable[[Hub], object] = partial(Hub.gc, rules=self._retention, trash_hours=0)
        elif name.startswith("r"):
            verb = Hub.gc
        elif name == "sweeper":
            verb, placed = Hub.sweep, placed_in_sweep
        elif name in {"delete", "undelete"}:
            verb, placed = partial(getattr(Hub, name), revision=f"{MODEL}@1"), placed_in_writer
        else:
            task = self._tasks[name]
            chunks = [*([task.chunk] if task.hint else []), f"only in {name}"]
            path = source(self._folder, name, chunks)
            verb, placed = partial(Hub.push, name=MODEL, path=path), placed_in_writer
        return Process(name, verb, self._stores, placed, open_hub)

    def act(self, before: State, steps: Sequence[Step[State]]) -> None:
        step = steps[0]
        self._taken += 1
        me, after = (memory(self._model, one, step.actor) for one in (before, step.state))
        if isinstance(me, Collector) and isinstance(after, Collector):
            self._collect(before, step, me, after)
        elif isinstance(me, Rewriter) and isinstance(after, Rewriter):
            self._rewrite(step, me, after)
        elif step.actor == "sweeper":
            self._sweep(step)
        else:
            self._write(step, me, after)

    def _answer(self, step: Step[State], answer: Answer | None = None) -> Request:
        """Let a process make the calls of a step; the last one of these."""
        process = self.process(step)
        made = pending(process, step)
        if made.part == Part("move_file", 0) and step.outcome == "late":
            process.answer(Request.make)
            made = pending(process, step)
        if made.name == "get_many intents" and step.outcome != "ok":
            process.answer(away)
            made = pending(process, step)
        self._check_subject(made, step)
        process.answer(answer or _ANSWERS[step.outcome])
        if step.outcome == "late":
            self.send(step, made)
        while step.outcome == "ok" and process.pending and process.pending.continues(made):
            made = process.pending
            process.answer(Request.make)
        return made

    def _check_subject(self, call: Request, step: Step[State]) -> None:
        """Whether a call is about the pack that its step is about."""
        if call.name.startswith("check_and_put packs"):
            about = pack_name(call.args[1].decode())
        elif call.name.startswith("weights ") and call.method != "list":
            about = pack_name(call.args[0][-32:]) if call.args else step.subject
        else:
            return
        assert about == step.subject, f"{step.actor} was to {step}, and {call} is about {about}"

    def _die(self, step: Step[State]) -> None:
        if step.actor in self._processes:
            self._processes.pop(step.actor).kill()

    # --- publishers and deleters ---------------------------------------------------------------

    def _write(self, step: Step[State], me: Any, after: Any) -> None:
        process = self.process(step)
        if not self._needs_none(step, me):
            self._answer(step, self._read(step, me, after))
        while process.pending and process.pending.action == "hints":
            process.answer(partial(_told, self._hints[step.actor]))
        if after.at != DONE:
            assert process.pending, f"{step.actor} was to go on, and {ending(process)}"
        elif after.told in {"ok", "refused"}:
            self.ended(process, step)
            told = f"{step.actor} is told {after.told}, and {ending(process)}"
            assert isinstance(process.result, Version) == (after.told == "ok"), told
        else:
            self._die(step)

    def _needs_none(self, step: Step[State], me: Any) -> bool:
        """Whether there is nothing to call: pins are there, or rows are read with others."""
        if not isinstance(me, Publisher):
            return False
        if step.action == "put_pins":
            known = self._acknowledged[step.subject]
            there = wanted(me) <= known
            if step.outcome == "ok":
                known |= wanted(me)
            return there
        if step.action == "read_packs" and me.at == "read_packs" and len(me.doubts) > 1:
            key = keys.pack(pack_id(me.doubts[0]))
            value = self._stores.rows.get(keys.PACKS, key)
            assert value is not None
            self._parts[step.actor][key] = value
            return True
        return False

    def _read(self, step: Step[State], me: Any, after: Any) -> Answer | None:
        del after
        if step.action != "read_packs" or not isinstance(me, Publisher):
            return None
        earlier = self._parts.pop(step.actor, {})
        return (lambda call: {**call.make(), **earlier}) if earlier else None

    def _sweep(self, step: Step[State]) -> None:
        """Settle one attempt, and no other."""
        now = datetime.now(UTC)

        def answer(call: Request) -> list[tuple[bytes, bytes]]:
            rows = []
            for key, value in call.make():
                _, txid, pack = keys.parse_intent(key)
                row = decode(value, Pin, txid) if pack else decode(value, Intent, txid)
                lease = now + timedelta(hours=1)
                if txid == step.subject:
                    lease = now - timedelta(days=1000)
                rows.append((key, encode(replace(row, lease=lease))))
            return rows

        process = self.start("sweeper")
        self._started.append(process)
        process.answer(answer)
        process.finish()

    # --- collections ---------------------------------------------------------------------------

    def _make(self, step: Step[State], action: str) -> None:
        """Let a run make a call that is no step now."""
        call = self.process(step).pending
        assert call is not None, f"{step.actor} was to {action}, and is through"
        assert call.action == action, f"{step.actor} was to {action}, and calls {call}"
        self.process(step).answer(Request.make)

    def _begin(self, step: Step[State]) -> None:
        """There is no lease."""
        self._stores.rows.delete_many(keys.SYSTEM, [keys.COLLECTION])
        self._parts.pop(step.actor, None)
        self.process(step)

    def _collect(self, before: State, step: Step[State], me: Collector, after: Collector) -> None:
        if step.action == "read_head":
            self._begin_to_collect(step, after)
        elif step.action in {"scan_intents", "scan_log"} and me.marking == 1:
            # A run that purges marked before it did.
            if step.actor not in self._early:
                self._answer(step)
        elif step.action in _SCANS:
            if self._scanned(step, me, after):
                self._go_on(step, me, after)
        elif step.action != "list_files":
            if not self._is_idle(before, step):
                self._change(step)
            self._go_on(step, me, after)

    def _begin_to_collect(self, step: Step[State], after: Collector) -> None:
        purges = after.at == "put_log"
        self._retention = _AT_ONCE if purges else ()
        self._begin(step)
        self._early.discard(step.actor)
        if purges:
            self._early.add(step.actor)
            self._make(step, "scan_intents")
            self._make(step, "scan_log")

    def _go_on(self, step: Step[State], me: Collector, after: Collector) -> None:
        """What belongs to no step: a second marking that the model spares itself, the trash."""
        if step.outcome != "ok":
            self._die(step)
            return
        if skips_second(me, after, step.outcome):
            for scan in _SCANS:
                self._make(step, scan)
        over = after.runs != me.runs
        call = self.process(step).pending
        if call and call.action == "list_trash" and (over or after.at == "remove_file"):
            removed = [job.pack for job in after.jobs if job.action == "remove_file"]
            self.process(step).answer(partial(_listed, removed))
        if over:
            self._over(step)

    def _over(self, step: Step[State]) -> None:
        process = self.process(step)
        self.ended(process, step)
        assert process.error is None, f"{step.actor} was to come to its end, and {ending(process)}"

    def _scanned(self, step: Step[State], me: Collector | Rewriter, after: Any) -> bool:
        """Read rows as the model does, in parts; whether that was the last."""
        parts = self._parts[step.actor]
        call = pending(self.process(step), step)
        if step.action == "scan_intents":
            for key, value in call.make():
                if keys.parse_intent(key)[1].endswith(f".{me.attempt}"):
                    parts[key] = value
            if me.attempt > 1:
                return False
            self._answer(step, lambda _: sorted(parts.items()))
        elif step.action == "scan_packs" and after.at == "scan_packs":
            parts |= {k: v for k, v in call.make() if "-" not in pack_name(k.decode())}
            return False
        elif step.action == "scan_packs":
            self._answer(step, lambda call: sorted((dict(call.make()) | parts).items()))
        else:
            self._answer(step)
        self._parts.pop(step.actor, None)
        return True

    def _change(self, step: Step[State]) -> None:
        """A change; one in three is sent twice, which the coordinator finds out."""
        made = pending(self.process(step), step)
        conditional = made.name.startswith("check_and_put packs")
        standing = self._stores.rows.get(*made.args[:2]) if conditional else None
        twice = conditional and standing == made.args[2] and self._taken % 3 == 0
        self._answer(step, doubled if twice and step.outcome == "ok" else None)

    def _is_idle(self, before: State, step: Step[State]) -> bool:
        """Whether a step changes nothing, and the coordinator saw that before."""
        if step.action not in _NO_EFFECT or before.stores != step.state.stores:
            return False
        call = self.process(step).pending
        if call is None or step.outcome != "ok" or call.action != step.action:
            return step.outcome == "ok"
        where = call.args[1].decode() if call.name.startswith("check") else call.args[0][-32:]
        return pack_name(where) != step.subject

    def _rewrite(self, step: Step[State], me: Rewriter, after: Rewriter) -> None:
        if step.action == "read_packs":
            if after.at == "condemn_pack":
                packs = tuple(name for name, _ in after.todo)
                self._rewritten[step.actor] = packs, f"{step.actor}-{me.runs + 1}"
                self._begin(step)
                for scan in _SCANS:
                    self._make(step, scan)
            return
        if step.action in _SCANS:
            if not self._scanned(step, me, after):
                return
        else:
            self._change(step)
        if step.outcome != "ok":
            self._die(step)
        elif step.action == "scan_intents" and after.at != "scan_log":
            self._make(step, "scan_log")
            self._make(step, "scan_packs")
        if step.outcome == "ok" and after.runs != me.runs:
            for scan in _SCANS if after.left[-1] == "not condemned" else ():
                self._make(step, scan)
            self._over(step)


def _made(call: Request) -> None:
    """A call that arrives late may find that others did it."""
    with suppress(NotFound, AlreadyExists):
        call.make()


def _told(found: Mapping[bytes, bytes], call: Request) -> dict[bytes, bytes]:
    """The hints that a publisher asks for, as they were in the beginning."""
    return {key: value for key, value in found.items() if key in call.args[1]}


def _listed(packs: Sequence[str], call: Request) -> list[Any]:
    """The files of these packs, in their order: the time of all others is not over."""
    found = {pack_name(info.path[-32:]): info for info in call.make()}
    return [found[pack] for pack in packs if pack in found]
