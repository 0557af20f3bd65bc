"""A state machine over ``Hub``: whatever is done to it, it stays what plain dictionaries say.

Hypothesis draws sequences of verbs, faults, deaths, late writes and meetings of processes; after
every step the logs are compared with ``modelhub.testing.reference``, and one version is read. To
test a backend of your own, say how to open its stores::

    class OnMyStores(HubMachine):
        def open_stores(self, folder: Path) -> Stores:
            return Stores(weights=..., rows=..., search=...)

    TestOnMyStores = OnMyStores.TestCase
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from modelhub.coordinator import keys
from modelhub.errors import AlreadyExists, ModelhubError, NotFound, OutcomeUnknown
from modelhub.names import DEFAULT_BRANCH
from modelhub.testing.choices import (
    BRANCHES,
    GUARDED,
    MOMENTS,
    NAMES,
    PATTERNS,
    REFS,
    REQUESTS,
    UNKNOWN,
    Moment,
)
from modelhub.testing.crashes import LEFT_TO_COLLECTIONS, open_process
from modelhub.testing.faults import FAULTS, Call, Outcome, ProcessDied
from modelhub.testing.reference import (
    Ending,
    File,
    History,
    Kept,
    Operation,
    check_version,
    exact,
    in_turn,
    read_files,
    run,
    write_files,
)
from modelhub.testing.side_by_side import Late, SideBySide, refused

_some = precondition(lambda self: self.versions())
_some_live = precondition(lambda self: self.versions(live=True))


class HubMachine(SideBySide):
    """The rules: what may be done to a hub, and what it must answer."""

    # --- changes -------------------------------------------------------------------------------

    @rule(data=st.data(), name=st.sampled_from(NAMES), branch=st.sampled_from(BRANCHES))
    def push(self, data: st.DataObject, name: str, branch: str) -> None:
        """A new model, or its next version, on any branch."""
        self.do(self.push_of(data.draw, name, branch=branch))

    @_some
    @rule(data=st.data(), branch=st.sampled_from(BRANCHES))
    def push_what_is_there(self, data: st.DataObject, branch: str) -> None:
        """The files of any version again, to the same or another model."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        to = data.draw(st.sampled_from((name, *NAMES)))
        version = self.do(self.push_of(data.draw, to, branch=branch, files=kept.files))
        if version is None:
            return  # A tag or alias has the branch's name.
        assert version.content == self.hub.show(f"{name}@{kept.number}").content

    @_some
    @rule(data=st.data(), branch=st.sampled_from(BRANCHES))
    def push_with_expectation(self, data: st.DataObject, branch: str) -> None:
        """Of the right head, or of another: that is a conflict, and nothing changes."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        head = self.histories[name].parent_on(branch)
        expect = data.draw(st.sampled_from((head or 99, kept.number)))
        self.do(self.push_of(data.draw, name, branch=branch, expect=expect))

    @rule(data=st.data(), name=st.sampled_from(NAMES), request=st.sampled_from(REQUESTS))
    def push_with_request(self, data: st.DataObject, name: str, request: str) -> None:
        """With a request id: one that was used gives the version that it made."""
        self.do(self.push_of(data.draw, name, request=request))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def repeat_request(self, data: st.DataObject) -> None:
        """The same call as before, whatever came meanwhile; the first one may have failed."""
        self.do(data.draw(st.sampled_from(self.requests)))

    @_some_live
    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def push_from_base(self, data: st.DataObject, name: str) -> None:
        """Derived from a version of the same or another model."""
        base, kept = data.draw(st.sampled_from(self.versions(live=True)))
        self.do(self.push_of(data.draw, name, bases=(f"{base}@{kept.number}",)))

    @_some
    @rule(data=st.data())
    def edit(self, data: st.DataObject) -> None:
        """A live version, or a deleted one, which is refused."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        self.do(self.edit_of(data.draw, name, kept.number))

    @_some
    @rule(data=st.data(), deleted=st.booleans())
    def delete_or_undelete(self, data: st.DataObject, deleted: bool) -> None:
        """Head, middle, one that is so already, or one that never was."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        number = data.draw(st.sampled_from((kept.number, kept.number, 99)))
        self.do(self.retire_of(name, number, deleted=deleted))

    @_some_live
    @rule(data=st.data())
    def delete_head(self, data: st.DataObject) -> None:
        """By its branch; and before it without effect."""
        name, kept = data.draw(st.sampled_from(self.versions(live=True)))
        history = self.histories[name]
        if number := history.head(kept.branch):
            check_version(self.hub.delete(f"{name}@{kept.branch}", dry_run=True), history)
            self.do(self.retire_of(name, number, deleted=True, ref=kept.branch))

    @_some_live
    @rule(data=st.data())
    def delete_all(self, data: st.DataObject) -> None:
        """Every version of a model: nothing is left that could be pulled."""
        name, _ = data.draw(st.sampled_from(self.versions(live=True)))
        for guarded in self.histories[name].protected:
            self.do(self.protect_of(name, guarded, on=False))
        for number in self.histories[name].live():
            self.do(self.retire_of(name, number, deleted=True, force=True))
        refused(NotFound, lambda: self.hub.pull(name, self.folder / "nothing"))

    @_some
    @rule(data=st.data())
    def go_back(self, data: st.DataObject) -> None:
        """To a version, or to one of its files, on any branch."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        number = data.draw(st.sampled_from((kept.number, kept.number, 99)))
        self.do(self.restore_of(data.draw, name, number))

    @_some
    @rule(data=st.data())
    def merge(self, data: st.DataObject) -> None:
        """Any version into any branch."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        number = data.draw(st.sampled_from((kept.number, kept.number, 99)))
        self.do(self.merge_of(data.draw, name, number))

    @_some
    @rule(data=st.data())
    def move_ref(self, data: st.DataObject) -> None:
        """A branch, tag or alias, to a version that is live, deleted, or none at all."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        self.do(self.ref_of(data.draw, name, (kept.number, kept.number, 99)))

    @_some
    @rule(data=st.data(), ref=st.sampled_from(GUARDED), on=st.booleans())
    def protect(self, data: st.DataObject, ref: str, on: bool) -> None:
        """What is protected, or no longer; most of what it forbids is tried by other rules."""
        name, _ = data.draw(st.sampled_from(self.versions()))
        self.do(self.protect_of(name, ref, on=on))

    @_some
    @rule(data=st.data(), ref=st.sampled_from(REFS))
    def history_of_a_ref(self, data: st.DataObject, ref: str) -> None:
        """Every version that it meant, newest first."""
        name, _ = data.draw(st.sampled_from(self.versions()))
        past = self.histories[name].past
        meant = [0, *(entry.named.get(ref, 0) for entry in past)]
        changes = [now for before, now in pairwise(meant) if now != before]
        if not any(meant):
            refused(NotFound, lambda: self.hub.alias.history(name, ref))
            return
        told = [change.number or 0 for change in self.hub.alias.history(name, ref)][::-1]
        assert [now for before, now in pairwise([0, *told]) if now != before] == changes

    # --- failures and company ------------------------------------------------------------------

    @rule(data=st.data(), at=MOMENTS, outcome=st.sampled_from(FAULTS), lasts=st.booleans())
    def fail(self, data: st.DataObject, at: Moment, outcome: Outcome, lasts: bool) -> None:
        """A change whose process dies, or whose store fails, at some call or from then on."""
        self._fail(self.operation(data.draw), at, outcome, lasts=lasts)

    @rule(data=st.data(), outcome=st.sampled_from(UNKNOWN))
    def lose_commit(self, data: st.DataObject, outcome: Outcome) -> None:
        """A change whose rows are out of reach from its commit on: nobody knows if it landed."""
        self._fail(self.operation(data.draw), Moment(0, keys.LOG), outcome, lasts=True)

    def _fail(self, operation: Operation, at: Moment, outcome: Outcome, *, lasts: bool) -> None:
        before = self.histories[operation.name]
        after, _ = operation.after(before)
        is_now, stays = at.watch(), False

        def plan(call: Call) -> Outcome:
            nonlocal stays
            failing = is_now(call) or stays
            stays = failing and lasts
            return outcome if failing else Outcome.OK

        hub, faults = open_process(self.process.stores, plan)
        self.learn(operation.name, _possible(lambda: operation.run(hub), before, after))
        self.unswept.add(operation.name)
        if outcome is Outcome.LATE:
            landed = self.histories[operation.name] is after
            self.late.append(Late(faults, operation.name, before, None if landed else after))

    @precondition(lambda self: self.late)
    @rule(swept=st.booleans())
    def land(self, swept: bool) -> None:
        """What was on its way arrives: it takes effect only on top of what it was made for.

        After a sweep it takes none at all.
        """
        if swept:
            self.sweep()
        late = self.late.pop(0)
        late.faults.land()
        now = self.histories[late.name]
        landed = [late.after] if late.after is not None and now is late.before else []
        self.learn(late.name, [now, *landed])
        self.unswept.add(late.name)
        self.unhinted.add(late.name)

    @rule(data=st.data(), at=MOMENTS)
    def meet(self, data: st.DataObject, at: Moment) -> None:
        """One process changes a model in the middle of another's change of it."""
        first = self.operation(data.draw)
        second = self.operation(data.draw, first.name)
        other, ended = self.hub, list[Ending]()
        hub = self.interrupted(at, lambda: ended.append(run(second, other)))
        endings = [run(first, hub), *(ended or [run(second, other)])]
        before = self.histories[first.name]
        either = (in_turn(before, (first, second)), in_turn(before, (second, first)))
        orders = (either[0], (either[1][0], either[1][1][::-1]))
        possible = [history for history, told in orders if told == endings]
        assert possible, f"{first} and {second} ended with {endings}"
        self.learn(first.name, possible)
        self.unhinted.add(first.name)  # Whoever is done last may put the older summary.

    @rule(data=st.data(), at=MOMENTS)
    def sweep_midway(self, data: st.DataObject, at: Moment) -> None:
        """A sweeper that takes every lease for over comes in the middle of a change."""
        sweeper = self.hub
        self.do(self.operation(data.draw), self.interrupted(at, sweeper.sweep))

    @rule(data=st.data(), at=MOMENTS)
    def collect_midway(self, data: st.DataObject, at: Moment) -> None:
        """A collection, whose trash is emptied at once, comes in the middle of a change."""
        collector = self.hub
        collect = lambda: collector.gc(trash_hours=0)  # noqa: E731 - as short as a name
        self.do(self.operation(data.draw), self.interrupted(at, collect))

    @rule()
    def reopen(self) -> None:
        """A process ends, and another begins."""
        self.restart()

    # --- reading -------------------------------------------------------------------------------

    @_some
    @rule(data=st.data(), pattern=st.sampled_from((None, *PATTERNS)))
    def pull(self, data: st.DataObject, pattern: str | None) -> None:
        """The whole, or what a glob matches, into a new folder; what is deleted cannot be had."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        wanted = _matching(kept, pattern)
        include = () if pattern is None else (pattern,)
        with self.new_folder() as folder:
            if wanted and kept.number not in self.histories[name].deleted:
                self.hub.pull(f"{name}@{kept.number}", folder, include=include)
                assert read_files(folder) == wanted
            else:
                refused(
                    NotFound,
                    lambda: self.hub.pull(f"{name}@{kept.number}", folder, include=include),
                )
                assert not read_files(folder)

    @_some_live
    @rule(data=st.data())
    def pull_onto_other_bytes(self, data: st.DataObject) -> None:
        """Where a file is there with other bytes nothing is written, unless it is asked for."""
        name, kept = data.draw(st.sampled_from(self.versions(live=True)))
        path = data.draw(st.sampled_from(sorted(kept.files)))
        other = File(bytes(byte ^ 1 for byte in kept.files[path].data) or b"not empty", 0o600)
        before = {path: other, "a stranger": other}
        with self.new_folder() as folder:
            write_files(folder, before)
            refused(AlreadyExists, lambda: self.hub.pull(f"{name}@{kept.number}", folder))
            assert read_files(folder) == before
            self.hub.pull(f"{name}@{kept.number}", folder, overwrite=True)
            assert read_files(folder) == {**before, **kept.files}

    @_some_live
    @rule(data=st.data(), pattern=st.sampled_from((None, *PATTERNS)))
    def snapshot(self, data: st.DataObject, pattern: str | None) -> None:
        """Read-only files in the cache, in the same folder each time."""
        name, kept = data.draw(st.sampled_from(self.versions(live=True)))
        wanted = _matching(kept, pattern)
        include = () if pattern is None else (pattern,)
        if wanted:
            folder = self.hub.snapshot(f"{name}@{kept.number}", include=include)
            assert folder == self.hub.snapshot(f"{name}@{kept.number}", include=include)
            assert read_files(folder) == {
                path: File(file.data, file.mode & 0o555) for path, file in wanted.items()
            }

    @_some
    @rule(data=st.data(), digits=st.integers(8, 64))
    def show(self, data: st.DataObject, digits: int) -> None:
        """By number, by digest, and every branch's head."""
        name, kept = data.draw(st.sampled_from(self.versions()))
        history, hub = self.histories[name], self.hub
        shown = hub.show(f"{name}@{kept.number}")
        while shown.digest[:digits].isdigit():  # which would be a version's number
            digits += 1
        assert hub.show(f"{name}@{shown.digest[:digits]}") == shown
        for ref, number in history.named().items():
            if number:
                assert hub.show(f"{name}@{ref}").number == number
            else:
                refused(NotFound, lambda: hub.show(f"{name}@{ref}"))  # noqa: B023

    @_some
    @rule(data=st.data())
    def show_at_a_time(self, data: st.DataObject) -> None:
        """What a branch, tag or alias meant when some entry was the newest."""
        name, _ = data.draw(st.sampled_from(self.versions()))
        history, hub = self.histories[name], self.hub
        moment = data.draw(st.sampled_from(range(len(history.past))))
        times = [entry.created for entry in hub.log(name)][::-1]
        assert times == sorted(times)
        last = max(index for index, time in enumerate(times) if time == times[moment])
        ref = data.draw(st.sampled_from(("", *REFS)))
        revision = f"{name}@{ref}{'@' * bool(ref)}{{{times[moment].isoformat()}}}"
        if number := history.past[last].named.get(ref or DEFAULT_BRANCH):
            assert hub.show(revision).number == number
        else:
            refused(NotFound, lambda: hub.show(revision))

    @rule(name=st.sampled_from(NAMES), limit=st.integers(1, 8))
    def log(self, name: str, limit: int) -> None:
        """The newest entries first."""
        past = self.histories[name].outline().past[::-1]
        if past:
            log = self.hub.log(name, limit=limit)
            told = [(entry.op, entry.number or 0, entry.message) for entry in log]
            assert told == past[:limit]
        else:
            refused(NotFound, lambda: self.hub.log(name))

    @rule(pattern=st.sampled_from(("*", "nlp.*", "?sr", "none*")))
    def list(self, pattern: str) -> None:
        """Models by name; their summaries may lag only where something failed."""
        listed = {summary.name: summary for summary in self.hub.list(pattern=pattern)}
        there = {name: history for name, history in self.histories.items() if history.versions}
        assert [*listed] == sorted(name for name in there if fnmatchcase(name, pattern))
        for name in listed.keys() - self.unswept - self.unhinted:
            history, summary = there[name], listed[name]
            assert (summary.head or 0) == history.head()
            assert summary.versions == len(history.live())
            if head := history.versions.get(history.head()):
                assert summary.title == head.facts.get("title", "")
                assert summary.total_bytes == sum(len(file.data) for file in head.files.values())

    @_some_live
    @rule(data=st.data())
    def diff(self, data: st.DataObject) -> None:
        """Files and metadata of any two live versions."""
        (a, old), (b, new) = (
            data.draw(st.sampled_from(self.versions(live=True))) for _ in range(2)
        )
        diff = self.hub.diff(f"{a}@{old.number}", f"{b}@{new.number}")
        assert {change.path: change.status for change in diff.files} == {
            path: status
            for path in old.files.keys() | new.files.keys()
            if (status := _status(old.files.get(path), new.files.get(path)))
        }
        assert {change.field.partition(".")[0] for change in diff.metadata} == {
            field
            for field in old.facts.keys() | new.facts.keys()
            if exact({"": old.facts.get(field)}) != exact({"": new.facts.get(field)})
        }

    @_some_live
    @rule(data=st.data())
    def files(self, data: st.DataObject) -> None:
        """By path, and every byte of them verified."""
        name, kept = data.draw(st.sampled_from(self.versions(live=True)))
        listed = self.hub.files(f"{name}@{kept.number}")
        assert [(file.path, file.size_bytes, file.mode) for file in listed] == [
            (path, len(file.data), file.mode) for path, file in sorted(kept.files.items())
        ]
        health = self.hub.verify(f"{name}@{kept.number}")
        assert not health.findings
        assert health.checked["files"] == len(kept.files)

    @rule(data=st.data(), all_versions=st.booleans())
    def search(self, data: st.DataObject, all_versions: bool) -> None:
        """A word of one version, one of all, or none at all, as a sweep leaves them."""
        word = data.draw(st.sampled_from(self.words))
        if self.unswept:
            self.sweep()
        self.refresh_search()
        asked = f'"{word}"' if word else ""
        result = self.hub.search(asked, limit=1000, all_versions=all_versions)
        found = [(hit.name, hit.number) for hit in result.hits]
        assert result.total == len(found)
        assert sorted(found) == sorted(
            (name, kept.number)
            for name, kept in self.versions(live=True)
            if all_versions or kept.number == self.histories[name].head()
            if not word or word in kept.facts.get("description", "").split()
        )

    # --- looking after -------------------------------------------------------------------------

    @rule()
    def sweep(self) -> None:
        """With every lease over, a sweep leaves nothing to do."""
        process = self.process
        process.hub.sweep()
        self.swept()
        assert not [*process.stores.rows.scan(keys.INTENTS, *keys.intents_range())]

    @rule()
    def collect(self) -> None:
        """Only what nobody can ask for goes; after a sweep, every file that has no row."""
        self.sweep()
        stores, hub = self.process.stores, self.hub
        hub.gc(trash_hours=0)
        rows = {key.decode() for key, _ in stores.rows.scan(keys.PACKS, b"\0", b"\xff")}
        assert {info.path.rpartition("/")[2] for info in stores.weights.list("packs")} <= rows

    @rule(bytes_too=st.booleans())
    def fsck(self, bytes_too: bool) -> None:
        """After a sweep nothing is wrong, but for hints that were overtaken by older ones.

        Nor but for what a collection finishes.
        """
        self.sweep()
        allowed = LEFT_TO_COLLECTIONS | ({"hint-stale"} if self.unhinted else set())
        findings = self.hub.fsck(data=bytes_too).findings
        assert not [finding for finding in findings if finding.kind not in allowed]


def _possible(act: Callable[[], object], before: History, after: History) -> list[History]:
    """What a change that failed may have left, by how it ended."""
    try:
        act()
    except (ProcessDied, OutcomeUnknown):
        return [before, after]
    except ModelhubError:
        return [before]
    return [after]


def _matching(kept: Kept, pattern: str | None) -> dict[str, File]:
    matches = PATTERNS[pattern] if pattern else lambda _path: True
    return {path: file for path, file in kept.files.items() if matches(path)}


def _status(old: File | None, new: File | None) -> str:
    if old is None:
        return "added"
    if new is None:
        return "removed"
    if old.data != new.data:
        return "changed"
    return "mode" if old.mode != new.mode else ""
