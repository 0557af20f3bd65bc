"""The Hub: one object, one method a verb."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Unpack, get_args, overload

from msgspec import structs

from modelhub import names
from modelhub.content.encoder import StoragePolicy, storage_policy
from modelhub.content.manifest import Manifest
from modelhub.content.source import as_path, is_remote, local_path
from modelhub.content.stored_file import open_stored
from modelhub.content.tree import survey
from modelhub.coordinator import (
    backup,
    bootstrap,
    chunk_rows,
    collect,
    compare,
    deliver,
    fetch,
    fsck,
    hints,
    index,
    keys,
    lineage,
    log,
    publish,
    recover,
    refs,
    reindex,
    relatives,
    restore,
    retention,
    retire,
    spelt,
    status,
    sweep,
    verify,
    versions,
    views,
)
from modelhub.coordinator import repair as mend
from modelhub.coordinator.cache import Cache
from modelhub.coordinator.context import Context, Progress, ignore_progress
from modelhub.coordinator.fsck import Reading
from modelhub.coordinator.log import Head
from modelhub.coordinator.pace import paced
from modelhub.coordinator.similar import similar
from modelhub.coordinator.state import exists
from modelhub.coordinator.transaction import Plan, commit
from modelhub.describe import describe
from modelhub.describe.facts import Facts
from modelhub.describe.facts import apply as apply_facts
from modelhub.errors import (
    CorruptData,
    InvalidInput,
    ModelhubError,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from modelhub.names import DEFAULT_BRANCH, Revision
from modelhub.query.clauses import And, Clause
from modelhub.query.fields import SCORE, facet_of, sort_of
from modelhub.records import Fence, Metadata, ModelHint, Published, decode, encode
from modelhub.refs import Aliases, Branches, Tags
from modelhub.results import (
    TRASH_HOURS,
    BackedUp,
    Collected,
    Diff,
    FieldChange,
    FileChange,
    FileInfo,
    Health,
    Lineage,
    Listing,
    LogEntry,
    Made,
    ModelSummary,
    Reindexed,
    ReindexMode,
    Restored,
    SearchResult,
    Status,
    Sweep,
    TensorChange,
    Version,
)
from modelhub.rules import RetentionRule
from modelhub.stores import Folder, Query

if TYPE_CHECKING:
    from modelhub.content.frameworks import Framework
    from modelhub.coordinator.tensors import Tensors


_PATTERNS_TOLD, _TOLD_CHARS = 3, 500


class Hub:
    """Where models live. Made by ``modelhub.connect``; safe to use from several threads.

    Revisions are texts: ``NAME`` (the head of its default branch), or ``NAME@`` followed by a
    number, a branch, tag or alias, 8 or more digits of a commit digest, ``{TIME}`` or
    ``REF@{TIME}``. Every method raises
    ``InvalidInput`` for bad arguments before any I/O, ``Unavailable`` when a store is away,
    ``CorruptData`` rather than serve what does not match its hash, and, apart from ``init`` and
    ``push``, ``NotFound`` where there is no hub.

    ``branch``, ``tag`` and ``alias`` create, list, move and delete these.
    """

    def __init__(self, ctx: Context, *, address: str, cache: Path | Cache) -> None:
        self._ctx = ctx
        self._address = address
        self._cache = cache if isinstance(cache, Cache) else Cache(cache, hub=address)
        self._known = False
        self.branch = Branches(ctx, self._open)
        self.tag = Tags(ctx, self._open)
        self.alias = Aliases(ctx, self._open)

    def __repr__(self) -> str:
        return f"Hub({self._address!r}, principal={self._ctx.principal!r})"

    def __enter__(self) -> Hub:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections and files. Idempotent."""
        for store in (self._ctx.stores.rows, self._ctx.stores.search, self._ctx.stores.weights):
            store.close()

    # --- publishing and changing ---------------------------------------------------------------

    def init(self) -> Made:
        """Make what is missing of the hub, and see that its weight store takes and keeps a file.

        That is its tables, search index and format record. What is there stays as it is.

        Raises:
            InvalidInput: a hub of a newer format is there, or models without a format record, or
                the folder cannot hold a hub.
            Forbidden: a store may not be written.
        """
        made = bootstrap.initialise(self._ctx)
        self._known = True
        bootstrap.try_weights(self._ctx)
        return made

    def push(
        self,
        name: str,
        path: str | os.PathLike[str] | Mapping[str, Any],
        *,
        message: str = "",
        branch: str = DEFAULT_BRANCH,
        bases: Sequence[str] = (),
        expect: str | None = None,
        request_id: str | None = None,
        skip_identical: bool = False,
        wait_search: bool = False,
        exclude: Sequence[str] = (),
        follow_symlinks: bool = False,
        policy: StoragePolicy | None = None,
        progress: Progress = ignore_progress,
        **facts: Unpack[Facts],
    ) -> Version:
        """Publish a new version of ``name`` and return it; whole, or not at all.

        Args:
            name: the model; it comes into being with its first version.
            path: a file or folder, or a mapping of names to numpy arrays, which is stored as
                ``model.safetensors``.
            message: what is new, for the log.
            branch: whose head the version becomes; a new one starts at the default branch's head.
            bases: revisions of this hub that the model was derived from.
            expect: the revision that the branch's head must be (``NAME@`` may be left out).
            request_id: any text that identifies this call: repeated with it, the call returns the
                version that it made before instead of making a second one.
            skip_identical: where the head of the branch has the same files, byte for byte, return
                that version and publish none, whatever the metadata.
            wait_search: return when searches find the version; else they do within about a second,
                or when search is back.
            exclude: patterns of files to leave out, as in ``.gitignore``; ``.modelhubignore`` in
                the folder is honoured too.
            follow_symlinks: store what links point to; without it a link is refused.
            policy: how much work is spent on storing fewer bytes: ``"fast"`` none, ``"auto"`` what
                two cores do at about the speed of a disk, ``"small"`` several times that. By
                default the hub's own, which is ``"auto"`` where nothing else was set.
            progress: called with ``"push"``, bytes done and bytes in all.
            facts: descriptive metadata; overrides what the model's own files say.

        Raises:
            InvalidInput: a name, pattern, fact or file is not acceptable.
            NotFound: the path, or a base, is not there.
            Forbidden: a file cannot be read.
            Conflict: the head is not the expected one, or a file changed while it was read.
            OutcomeUnknown: the row store went away during the commit; repeat with a request id.
            Unavailable: a store is away. Of ``wait_search`` alone the message says that the version
                was published.
            NotInstalled: arrays were given, and safetensors is missing.
        """
        plain = names.model_name(name)
        push = publish.Push(
            self._ctx,
            plain,
            sources=(),
            metadata=apply_facts(Metadata(), facts),
            message=names.message_text(message),
            branch=names.ref_name(branch),
            expect=None if expect is None else names.relative_revision(plain, expect, "expect"),
            request="" if request_id is None else names.request_id(request_id),
            skip_identical=skip_identical,
            policy=None if policy is None else storage_policy(policy),
            progress=progress,
        )
        parsed = [names.revision(base) for base in names.texts(bases, "bases")]
        self._ctx.policy(self._ctx.principal, "push", plain)
        with as_path(path) as root:
            sources = survey(
                root, exclude=names.texts(exclude, "exclude"), follow_symlinks=follow_symlinks
            )
            told = describe([(source.path, source.location) for source in sources])
            push.sources = sources
            push.metadata = apply_facts(told, facts)
            encode(push.metadata)  # One that no row can hold is refused before anything is stored.
            self._open(create=not parsed and expect is None)
            push.bases = tuple(self._number_of(base) for base in parsed)
            head = commit(self._ctx, plain, push)
            version = _version(head, push)
            if wait_search:
                assert push.published is not None
                index.wait(self._ctx, head, push.published)
            return self._with_identical(head, push, version) if push.stored_before else version

    def _with_identical(self, head: Head, push: publish.Push, version: Version) -> Version:
        """``version``, with those that have the same files: nothing of it was new."""
        assert push.published is not None
        try:
            found = publish.identical(self._ctx, head, push.published)
        except ModelhubError:
            return version  # It stands, whatever cannot be read of others.
        return structs.replace(version, identical=found)

    def edit(self, revision: str, *, message: str = "", **facts: Unpack[Facts]) -> Version:
        """Change the descriptive metadata of a version, never a byte of its files.

        Args:
            revision: which version.
            message: why, for the log.
            facts: fields to replace; ``params``, ``metrics`` and ``extra`` are merged key by key,
                and a
                value of None removes its key or clears its field.

        Raises:
            NotFound: the version is not there, or deleted.
            OutcomeUnknown: the row store went away during the commit; the call may be repeated.
        """
        plan = retire.Edit(
            self._ctx, names.revision(revision), dict(facts), names.message_text(message)
        )
        apply_facts(Metadata(), facts)
        return self._change(plan)

    def delete(
        self, revision: str, *, message: str = "", dry_run: bool = False, force: bool = False
    ) -> Version:
        """Hide a version behind a tombstone, until ``undelete`` brings it back.

        Its number stays taken. A branch whose head it was moves to its nearest live ancestor.
        Deleting what is deleted does nothing. With ``dry_run`` nothing is changed, and the version
        is returned as it is. With ``force`` also one that a tag or alias names, which then leads
        nowhere until it is undeleted or the name is moved, and one that is a base.

        Raises:
            NotFound: the version is not there.
            Conflict: a tag or alias names it, or a live version is based on it.
            Forbidden: the model is protected, or a branch or alias that the deletion concerns.
            OutcomeUnknown: the row store went away during the commit; the call may be repeated.
        """
        if dry_run:
            return self.show(revision)
        parsed = names.revision(revision)
        text = names.message_text(message)
        return self._change(
            retire.Retire(self._ctx, parsed, deleted=True, message=text, force=force)
        )

    def undelete(self, revision: str, *, message: str = "") -> Version:
        """Bring a deleted version back.

        Branch heads go to where they would be had it never been deleted.

        Raises:
            NotFound: the version is not there.
            OutcomeUnknown: the row store went away during the commit; the call may be repeated.
        """
        parsed = names.revision(revision)
        return self._change(
            retire.Retire(self._ctx, parsed, deleted=False, message=names.message_text(message))
        )

    def purge(
        self, revision: str, *, message: str = "", dry_run: bool = False, force: bool = False
    ) -> Version:
        """Delete a version for good, with its metadata, whatever retention says: a legal erasure.

        Nothing brings it back. Its number stays taken, and the log goes on telling who published
        and who purged it, with their messages. The bytes that no other version shares go with the
        next collection, at once with ``hub.gc(trash_hours=0)``. Repeated, it finishes what an
        interrupted call began.

        Args:
            revision: which version; best by its number.
            message: why, for the log.
            dry_run: change nothing, and return the version as it is.
            force: also where a tag or alias names it, or another version is based on it.

        Raises:
            NotFound: the version is not there.
            Conflict: as in ``delete``.
            Forbidden: the model is protected, or a branch or alias that the deletion concerns.
            OutcomeUnknown: the row store went away; repeat the call.
        """
        if dry_run:
            return self.show(revision)
        text = names.message_text(message)
        self._ctx.policy(self._ctx.principal, "purge", names.revision(revision).model)
        deleted = self.delete(revision, message=text, force=force)
        try:
            while not retention.erase(self._ctx, deleted.name, deleted.number, text):
                # Somebody brought it back between the two entries.
                named = f"{deleted.name}@{deleted.number}"
                deleted = self.delete(named, message=text, force=force)
        except Unavailable as exc:
            raise OutcomeUnknown(
                f"{deleted.name}@{deleted.number} is deleted, and not purged yet: {exc.message}",
                remedy="Purge it again.",
            ) from exc
        return structs.replace(deleted, metadata=Metadata())

    def rollback(
        self,
        name: str,
        *,
        to: str | int | None = None,
        at: str | None = None,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
    ) -> Version:
        """Publish an old version's files and metadata as the next version of a branch.

        Nothing is stored again, and no version changes or goes: the log tells both. Where the
        branch's head is like that version already, it is returned.

        Args:
            name: the model.
            to: the revision to go back to (``NAME@`` may be left out).
            at: instead, a time (ISO 8601, UTC without an offset): what the branch was then.
            branch: whose head the new version becomes.
            message: why, for the log.

        Raises:
            NotFound: the branch or the version is not there, or that is deleted.
            InvalidInput: neither ``to`` nor ``at`` was given, or both.
        """
        plain, onto = names.model_name(name), names.ref_name(branch)
        if (to is None) == (at is None):
            raise InvalidInput(
                f"where {plain} is to go back to is said {'twice' if to else 'nowhere'}",
                remedy="Give either a revision or a time.",
            )
        text = f"{plain}@{onto}@{{{at}}}" if to is None else str(to)
        target = names.relative_revision(plain, text, "to")
        return self._restore(target, onto, (), message or f"back to {target.text}")

    def restore(
        self,
        revision: str,
        include: Sequence[str],
        *,
        branch: str = DEFAULT_BRANCH,
        message: str = "",
    ) -> Version:
        """Publish a branch's head with some files as they were in an old version.

        Args:
            revision: the version that has the files.
            include: globs (gitignore syntax) of the files to bring back.
            branch: whose head the new version follows, and becomes.
            message: why, for the log.

        Raises:
            NotFound: the branch or the version is not there or deleted, or no file matches.
        """
        target, wanted = names.revision(revision), names.texts(include, "include")
        if not wanted:
            raise InvalidInput(
                "no file is named", remedy="Name some, or bring all back with `rollback`."
            )
        told = message or f"{_some(wanted)} of {target.text}"
        return self._restore(target, names.ref_name(branch), wanted, told)

    def merge(
        self,
        name: str,
        source: str,
        *,
        into: str = DEFAULT_BRANCH,
        prefer: str | None = None,
        strategy: str | None = None,
        weight: float = 0.5,
        scale: float = 1.0,
        message: str = "",
    ) -> Version:
        """Publish what a revision changed since its line parted from a branch, onto that branch.

        Three-way, against the nearest common ancestor: a file, or a tensor of a safetensors file,
        that one side left alone is taken from the other. What both changed is a conflict, unless
        ``strategy`` or ``prefer`` settles it. Metadata is merged field by field, with the branch's
        own where both changed one; how it was merged stands in its ``extra``. Where the branch has
        all of the revision already, its head is returned.

        Args:
            name: the model.
            source: the revision to merge (``NAME@`` may be left out).
            into: the branch.
            prefer: ``"ours"`` (the branch's) or ``"theirs"``, for whatever is in conflict.
            strategy: for weights that are in conflict: ``"average"``, ``"weighted"``, ``"slerp"``
                or ``"task-arithmetic"``; ``modelhub.content.blend`` has the formulas.
            weight: theirs' share, 0 to 1; for ``weighted`` and ``slerp``.
            scale: of what both changed, for ``task-arithmetic``.
            message: why, for the log.

        Raises:
            NotFound: the branch or the revision is not there, or that is deleted.
            Conflict: both sides changed the same, and nothing settles it; the message names it.
            InvalidInput: a strategy or number is none.
        """
        from modelhub.content.blend import parse_blend  # needs numpy
        from modelhub.coordinator.merge import Merge

        plain, onto = names.model_name(name), names.ref_name(into)
        target = names.relative_revision(plain, source, "source")
        if prefer not in (None, "ours", "theirs"):
            raise InvalidInput(
                f"{names.shown(str(prefer))} is no side to prefer", remedy="Use ours or theirs."
            )
        if strategy is None and (weight, scale) != (0.5, 1.0):
            raise InvalidInput(
                "a weight or scale without a strategy", remedy="Name the strategy that takes it."
            )
        blend = None if strategy is None else parse_blend(strategy, weight, scale)
        plan = Merge(
            self._ctx,
            plain,
            sources=(),
            metadata=Metadata(),
            message=names.message_text(message or f"merge of {target.text}"),
            branch=onto,
            target=target,
            blend=blend,
            prefer=prefer,  # type: ignore[arg-type]
        )
        self._ctx.policy(self._ctx.principal, plan.op, plain)
        self._open()
        return _version(commit(self._ctx, plain, plan), plan)

    def _restore(
        self, target: Revision, branch: str, include: Sequence[str], message: str
    ) -> Version:
        plan = restore.Restore(
            self._ctx,
            target.model,
            sources=(),
            metadata=Metadata(),
            message=names.message_text(message),
            branch=branch,
            target=target,
            include=include,
        )
        self._ctx.policy(self._ctx.principal, plan.op, target.model)
        self._open()
        return _version(commit(self._ctx, target.model, plan), plan)

    def protect(self, name: str, ref: str | None = None, *, message: str = "") -> None:
        """Protect a branch or alias, or without ``ref`` the whole model. Idempotent.

        A protected branch takes new versions, but nobody moves or deletes it, or deletes its head.
        A protected alias stays where it is. Of a protected model no version, branch, tag or alias
        is moved or deleted.

        Raises:
            NotFound: the model, or what is to be protected, is not there.
            InvalidInput: it is a tag, which never moves.
        """
        self._protect(name, ref, message, on=True)

    def unprotect(self, name: str, ref: str | None = None, *, message: str = "") -> None:
        """Lift what ``protect`` put on. Idempotent.

        Raises:
            NotFound: the model, or what is to be protected no longer, is not there.
        """
        self._protect(name, ref, message, on=False)

    def _protect(self, name: str, ref: str | None, message: str, *, on: bool) -> None:
        plain, wanted = names.model_name(name), "" if ref is None else names.ref_name(ref)
        plan = refs.Protect(self._ctx, wanted, on, names.message_text(message))
        self._ctx.policy(self._ctx.principal, plan.op, plain)
        self._open()
        commit(self._ctx, plain, plan)

    def _change(self, plan: retire.Retire | retire.Edit) -> Version:
        name = plan.revision.model
        self._ctx.policy(self._ctx.principal, plan.op, name)
        self._open()
        return _version(commit(self._ctx, name, plan), plan)

    # --- reading -------------------------------------------------------------------------------

    def list(self, *, pattern: str = "*") -> Listing[ModelSummary]:
        """The models whose names match the shell pattern, by name: one scan of their summaries."""
        (wanted,) = names.texts([pattern], "pattern")
        self._open()
        found = []
        for key, value in self._ctx.stores.rows.scan(keys.MODELS, b"\0", b"\xff"):
            name = key.decode()
            if not fnmatchcase(name, wanted):
                continue
            summary = self._summary(name, value)
            if summary is not None:
                found.append(summary)
        return Listing(ModelSummary, found)

    def _summary(self, name: str, value: bytes) -> ModelSummary | None:
        try:
            hint = decode(value, ModelHint, f"the summary of {name}")
        except CorruptData:
            hint = ModelHint()  # A hint that cannot be read is no hint.
        if hint.updated is None:
            # Put before the model's first entry, and not refreshed since: only the log knows.
            head = log.read_head(self._ctx.stores.rows, name)
            if not exists(head.state):
                return None
            hint = hints.model_hint(self._ctx, head, {})
        assert hint.updated is not None
        return ModelSummary(
            name=name,
            head=hint.head or None,
            versions=hint.versions,
            title=hint.title,
            updated=hint.updated,
            total_bytes=hint.size_bytes,
        )

    def show(self, revision: str) -> Version:
        """A version's record and metadata; deleted ones too.

        Raises:
            NotFound: the version is not there.
        """
        head, number = self._resolve(revision)
        return self._version(head, number)

    def files(self, revision: str) -> Listing[FileInfo]:
        """The files of a version, by path.

        Raises:
            NotFound: the version is not there, or deleted.
        """
        manifest = self._manifest(*self._resolve(revision, live=True))
        return Listing(
            FileInfo,
            [
                FileInfo(
                    path=file.path,
                    size_bytes=file.size_bytes,
                    mode=file.mode,
                    digest=file.digest,
                )
                for file in manifest.files
            ],
        )

    def log(
        self,
        name: str,
        *,
        limit: int | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> Listing[LogEntry]:
        """A model's changes, newest first, at most ``limit`` of them.

        ``since`` and ``until`` are times as in revisions (ISO 8601, UTC without an offset), both
        included.

        Raises:
            NotFound: there is no such model.
        """
        plain = names.model_name(name)
        if limit is not None and names.count(limit, "limit") == 0:
            raise InvalidInput("a limit of 0 entries", remedy="Use 1 or more.")
        begin, end = (None if text is None else names.instant(text) for text in (since, until))
        self._open()
        rows = self._ctx.stores.rows
        head = log.require(rows, self._head(plain))
        newest = head.seq if end is None else versions.last_entry_at(rows, head, end)
        listed: list[LogEntry] = []
        for sealed in log.entries(rows, plain, newest=newest) if newest else ():
            if begin is not None and sealed.entry.time < begin:
                break
            if not isinstance(sealed.entry.change, Fence):
                listed.append(views.log_entry(sealed))
                if len(listed) == limit:
                    break
        return Listing(LogEntry, listed)

    def search(
        self,
        text: str = "",
        *,
        limit: int = 20,
        after: str | None = None,
        all_versions: bool = False,
        sort: str = SCORE,
        facets: Sequence[str] = (),
        like: str | None = None,
    ) -> SearchResult:
        """The versions that match ``text``, best first; all of them where it is empty.

        ``text`` is words in any script (Chinese, Japanese and Korean need no spaces), ``"a
        phrase"``, ``field:value``, ``name:nlp.*``, ranges such as ``created:>=2026-01-01``,
        ``size:<2GB`` and ``param.lr:0.01..0.1``, joined by AND, OR, NOT (or ``-``) and parentheses.
        One or two words must both occur, of more a third.

        Args:
            text: what to look for.
            limit: how many hits at most, up to 1,000.
            after: the ``next`` of a result of the same search, for the page behind it.
            all_versions: not only each model's current version.
            sort: ``score``, ``name``, ``number``, ``files``, ``size``, ``created``, ``param.KEY``,
                ``metric.KEY`` or ``extra.KEY``, with a ``-`` in front the other way round.
            facets: fields such as ``label`` whose ten most frequent values to count.
            like: a revision: only models that have words in common with it, the most alike first.

        Raises:
            InvalidInput: ``text`` is no search; the message names the column.
            NotFound: there is no revision ``like``.
        """
        from modelhub.query.parse import parse  # loads the parser, which no other verb needs

        where = parse(names.texts([text], "text")[0])
        query = Query(
            current_only=not all_versions,
            limit=names.count(limit, "limit"),
            after=None if after is None else names.texts([after], "after")[0],
            sort=sort_of(names.texts([sort], "sort")[0]),
            facets=tuple(map(facet_of, names.texts(facets, "facets"))),
            highlight=True,
        )
        self._open()
        asked = where if like is None else self._like(like, where)

        def answer(target: str) -> SearchResult:
            page = self._ctx.stores.search.search(target, structs.replace(query, where=asked))
            suggestion = None
            if not page.total and where is not None and like is None:
                suggestion = spelt.suggestion(self._ctx.stores.search, target, query, where)
            return views.search_result(page, suggestion)

        return index.on_live(self._ctx, answer)

    def _like(self, text: str, where: Clause | None) -> Clause:
        """What makes a model similar to a revision, and matches ``where`` besides."""
        head, number = self._resolve(text, live=True)
        published = versions.publication(self._ctx.stores.rows, head, number)
        metadata = versions.metadata_row(self._ctx.stores.rows, head, published).metadata
        alike = similar(index.render(head, published, metadata))
        return alike if where is None else And((where, alike))

    def diff(
        self, a: str, b: str, *, weights: bool = True, progress: Progress = ignore_progress
    ) -> Diff:
        """What changes from revision ``a`` to revision ``b``, of the same model or of two.

        That is files, metadata, and the tensors by name, with their distances: of safetensors (also
        sharded) and GGUF files, ONNX initialisers, or numpy's arrays. Tensors whose digests are
        equal are not read; the others are, a few pieces at a time.

        Args:
            a: the older revision.
            b: the newer one.
            weights: whether to look into files at all.
            progress: called with ``"diff"``, bytes compared and bytes to compare.

        Raises:
            NotFound: one of them is not there, or deleted.
            NotInstalled: ml_dtypes is missing for a dtype that numpy has not.
        """
        sides = []
        for text in (a, b):
            head, number = self._resolve(text, live=True)
            sides.append((self._version(head, number), self._manifest(head, number)))
        (old, old_files), (new, new_files) = sides
        found = None
        if weights and old.content != new.content:
            from modelhub.coordinator.compare_tensors import compare_tensors  # needs numpy

            found = compare_tensors(self._ctx, old_files, new_files, progress)
        changed = compare.changed_fields(old.metadata, new.metadata)
        return Diff(
            a=f"{old.name}@{old.number}",
            b=f"{new.name}@{new.number}",
            files=Listing(FileChange, list(compare.changed_files(old_files, new_files))),
            metadata=Listing(FieldChange, list(changed)),
            tensors=found.tensors if found else Listing(TensorChange, []) if weights else None,
            overall=found.overall if found else None,
            bytes_read=found.bytes_read if found else 0,
        )

    def lineage(self, revision: str, *, depth: int | None = None, down: bool = True) -> Lineage:
        """What a version was made of, and what was made of it.

        That is the versions before it and those that were merged, its bases in this hub and
        elsewhere, the datasets and the code commit that its metadata name; and every version, of
        any model, that follows it or names it as its base.

        Args:
            revision: which version.
            depth: how many steps away; all without one.
            down: whether descendants are looked for too.

        Raises:
            NotFound: the version is not there.
        """
        if depth is not None:
            names.count(depth, "depth")
        head, number = self._resolve(revision)
        return lineage.trace(self._ctx, head, number, depth=depth, down=down)

    # --- fetching ------------------------------------------------------------------------------

    @overload
    def pull(
        self,
        revision: str,
        dest: os.PathLike[str],
        *,
        include: Sequence[str] = ...,
        overwrite: bool = ...,
        progress: Progress = ...,
    ) -> Path: ...
    @overload
    def pull(
        self,
        revision: str,
        dest: str,
        *,
        include: Sequence[str] = ...,
        overwrite: bool = ...,
        progress: Progress = ...,
    ) -> Path | str: ...
    def pull(
        self,
        revision: str,
        dest: str | os.PathLike[str],
        *,
        include: Sequence[str] = (),
        overwrite: bool = False,
        progress: Progress = ignore_progress,
    ) -> Path | str:
        """Write a version's files into the folder ``dest``, verified, and return it.

        A file appears under its name only when it is whole; an interrupted pull goes on where it
        stopped (into a URL, after the last whole file). Files that are there already with the right
        bytes are kept as they are.

        Args:
            revision: which version.
            dest: a folder, which is made where it is missing; or the URL of one, such as
                ``hdfs://HOST:PORT/PATH`` or ``s3://BUCKET/PATH``.
            include: globs (gitignore syntax) of the files wanted; all without one.
            overwrite: replace files that are there with other bytes.
            progress: called with ``"pull"``, bytes done and bytes in all.

        Raises:
            NotFound: the version is not there or deleted, or no file matches.
            AlreadyExists: a file is there with other bytes; nothing was written.
            Forbidden: the folder may not be written.
        """
        wanted = names.texts(include, "include")
        if is_remote(dest):
            with closing(self._ctx.folders(dest)) as remote:
                manifest = self._manifest(*self._resolve(revision, live=True))
                files = fetch.select(manifest, wanted)
                deliver.deliver(
                    self._ctx, manifest, files, remote, overwrite=overwrite, progress=progress
                )
            return dest
        folder = local_path(dest)
        manifest = self._manifest(*self._resolve(revision, live=True))
        files = fetch.select(manifest, wanted)
        fetch.fetch(self._ctx, manifest, files, folder, overwrite=overwrite, progress=progress)
        return folder

    def export(
        self,
        revision: str,
        root: str | os.PathLike[str],
        *,
        progress: Progress = ignore_progress,
    ) -> str:
        """Write a version's files to ``ROOT/NAME/N``, and return that path or URL.

        It appears in one step, whole, so that Hive, Spark or a server that knows nothing of the hub
        can read it there. Exported again, it is checked byte for byte and left as it is.

        Args:
            revision: which version.
            root: a folder, or the URL of one on a file system that can rename folders.
            progress: called with ``"pull"``, bytes done and bytes in all.

        Raises:
            NotFound: the version is not there or deleted.
            AlreadyExists: something else is there.
            InvalidInput: the file system cannot rename folders in one step.
        """
        with closing(self._folder(root)) as folder:
            head, number = self._resolve(revision, live=True)
            path = deliver.export(
                self._ctx,
                self._manifest(head, number),
                folder,
                name=head.name,
                number=number,
                progress=progress,
            )
        return f"{os.fspath(root).rstrip('/')}/{path}"

    def snapshot(
        self,
        revision: str,
        *,
        include: Sequence[str] = (),
        progress: Progress = ignore_progress,
    ) -> Path:
        """A read-only folder with a version's verified files, fetched once into the local cache.

        The same content has the same folder, whatever its name, and a file that several snapshots
        have is stored once; files may be mapped into memory. Where the cache has a limit, the
        folder stays for an hour at least after this call. The cache may be deleted at any time.
        ``AutoModel.from_pretrained(hub.snapshot("nlp.x"))`` works.

        Offline, this is the folder that the same revision and ``include``, or the version's number,
        gave last time, and no store is asked.

        Raises:
            NotFound: the version is not there or deleted, or no file matches; offline, it is not in
                the cache.
            Forbidden: the cache may not be written.
        """
        wanted = names.texts(include, "include")
        if self._cache.offline:
            return self._cache.recall(names.revision(revision).text, wanted)
        head, number = self._resolve(revision, live=True)
        manifest = self._manifest(head, number)
        files = fetch.select(manifest, wanted)
        folder = self._cache.snapshot(self._ctx, manifest, files, progress)
        for name in (revision, f"{head.name}@{number}"):
            self._cache.remember(name, wanted, folder)
        return folder

    def open(self, revision: str, path: str) -> io.BufferedReader:
        """One file of a version, seekable, read from the store as far as it is needed.

        It is a Python file like any other: ``numpy.load``, ``zipfile`` and ``json.load`` take it.
        Every byte is verified before it is handed on.

        Raises:
            NotFound: the version is not there or deleted, or has no such file.
        """
        (wanted,) = names.texts([path], "path")
        manifest = self._manifest(*self._resolve(revision, live=True))
        for file in manifest.files:
            if file.path == wanted:
                return open_stored(self._ctx.reader, manifest, file)
        raise NotFound(
            f"{revision} has no file {names.shown(wanted)}",
            remedy="`modelhub show --files` lists them.",
        )

    def tensors(
        self, revision: str, *, include: Sequence[str] = (), framework: Framework = "numpy"
    ) -> Tensors:
        """The tensors of a version's files by name, in the shape of safetensors' ``safe_open``.

        Looked into are its safetensors and GGUF files; where it has none, the initialisers of ONNX
        models; else numpy's files: an ``.npy`` is one tensor, named as its path without the ending,
        and an ``.npz`` has those of its members. Only headers are read now. ``get_tensor(name)``
        reads the chunks of one tensor, and ``get_slice(name)[3:5]`` those of a part of it.

        Args:
            revision: which version.
            include: globs (gitignore syntax) of the files to look into; all without one.
            framework: what arrays are made for: ``"numpy"`` or ``"torch"``.

        Raises:
            NotFound: the version is not there or deleted, or has no such file.
            InvalidInput: a tensor's name is in two of the files, or a file is compressed or not of
                the format that its name says.
            NotInstalled: the framework is missing.
        """
        from modelhub.coordinator.tensors import Tensors

        wanted = names.texts(include, "include")
        manifest = self._manifest(*self._resolve(revision, live=True))
        files = fetch.select(manifest, wanted)
        return Tensors(self._ctx.reader, manifest, files, framework)

    # --- looking after -------------------------------------------------------------------------

    def verify(self, revision: str, *, progress: Progress = ignore_progress) -> Health:
        """Read and check every byte of one version.

        Raises:
            NotFound: the version is not there, or purged.
        """
        head, number = self._resolve(revision)
        versions.require_unpurged(head, number)
        return verify.verify_version(self._ctx, head, number, progress)

    def fsck(
        self,
        *,
        data: bool = True,
        sample: float | None = None,
        part: int | None = None,
        rate: float | None = None,
        resume: bool = False,
        repair: bool = False,
        dry_run: bool = False,
        source: str | os.PathLike[str] | None = None,
        progress: Progress = ignore_progress,
    ) -> Health:
        """Check the whole hub: rows, hints, packs, manifests, search, intents, and every chunk.

        With ``repair``, put right what can be made from a second source. The log is never
        rewritten, and nothing is removed: files that were made anew go to ``quarantine``, rows that
        were replaced are kept in the table ``system``.

        Args:
            data: also read chunks; without it, all but the bytes inside packs.
            sample: read this share of the chunks, another one each day: over 1/``sample`` days
                every chunk is read.
            part: which share, where it is not to follow from the day.
            rate: read at most so many bytes of chunks a second.
            resume: go on reading where a check was broken off that was to be resumed.
            repair: mend what was found, and say of each finding whether it is ``repaired``.
            dry_run: of ``repair``: write nothing, and say what would be done.
            source: of ``repair``: a folder with files of models, for chunks whole nowhere else.
            progress: called with a phase, how much is done, and how much there is (0: unknown).

        Raises:
            Conflict: another check that can be resumed is under way.
            Unavailable: a store is away.
        """
        reading = self._reading(sample, part, rate, resume=resume) if data else None
        if repair:
            self._ctx.policy(self._ctx.principal, "repair", "")
        self._open()
        if not repair:
            return fsck.check_hub(self._ctx, reading, progress=progress)
        check = fsck.run_check(self._ctx, reading, progress)
        files = None if source is None else Path(source)
        return mend.repair(self._ctx, check, files=files, dry_run=dry_run, progress=progress)

    def _reading(
        self, sample: float | None, part: int | None, rate: float | None, *, resume: bool
    ) -> Reading:
        """Which bytes a check reads, and how fast."""
        share = 1.0 if sample is None else names.amount(sample, "sample", least=1e-6, most=1)
        parts = math.ceil(1 / share)
        if part is None:
            part = self._ctx.clock.now().toordinal() if parts > 1 else 0
        pace = None if rate is None else names.amount(rate, "rate", least=1, most=1e15)
        return Reading(parts, part % parts, paced(pace, self._ctx.pause), resume)

    def sweep(self, *, chunks: bool = False, progress: Progress = ignore_progress) -> Sweep:
        """Settle what crashed writers left behind, and bring search up to the log.

        With ``chunks`` also put the row of every chunk again, from the packs themselves: for a hub
        that lost those rows, and with them the knowledge of what need not be stored again.
        """
        self._open()
        swept = sweep.sweep(self._ctx, progress)
        if not chunks:
            return swept
        return structs.replace(swept, chunks=chunk_rows.put_chunk_rows(self._ctx, progress))

    def reindex(
        self, mode: ReindexMode = "whole", *, progress: Progress = ignore_progress
    ) -> Reindexed:
        """Bring search up to the log, while everybody goes on publishing and searching.

        Only one run is under way at a time; one that was interrupted is gone on with by the next.

        Args:
            mode: ``"whole"`` makes a new search target from the log, puts it in the place of the
                live one and drops that; ``"incremental"`` compares sequences and writes the
                documents that are lost or behind; ``"scheduled"`` does the former where it was
                begun or the form of documents has changed, else the latter.
            progress: called with ``"reindex"`` or ``"compare"``, documents done, and 0.

        Raises:
            Conflict: another run is under way.
            Unavailable: a store is away; the next run goes on from here.
        """
        if mode not in get_args(ReindexMode):
            raise InvalidInput(
                f"{names.shown(str(mode))} is no way to re-index",
                remedy=f"Use {', '.join(get_args(ReindexMode))}.",
            )
        self._open()
        return reindex.reindex(self._ctx, mode, progress)

    def gc(
        self,
        rules: Sequence[RetentionRule] = (),
        *,
        trash_hours: float = TRASH_HOURS,
        rate: float | None = None,
        dry_run: bool = False,
        progress: Progress = ignore_progress,
    ) -> Collected:
        """Delete what retention no longer keeps, and take away what nothing refers to any more.

        Live versions that no rule keeps are deleted, as by ``delete``; deleted ones whose time is
        over are purged, and can never come back. Packs that no version and no push refers to go to
        the trash, and leave it ``trash_hours`` later. Everybody goes on meanwhile; a run that was
        interrupted is made anew by the next.

        Args:
            rules: what to keep, the first one that fits a model; without one, live versions are
                kept for ever and deleted ones for 30 days.
            trash_hours: how long a file stays in the trash, for readers that began before.
            rate: at most so many rows and files a second; as fast as it goes without one.
            dry_run: write nothing, and say what would be done.
            progress: called with ``"gc"``, models looked at, and 0.

        Raises:
            Conflict: another run is under way.
            CorruptData: something could not be read that may be in use; nothing was taken away.
            Unavailable: a store is away; the next run begins afresh.
        """
        hours = names.amount(trash_hours, "trash_hours")
        pace = paced(None if rate is None else names.amount(rate, "rate", least=1), self._ctx.pause)
        self._ctx.policy(self._ctx.principal, "gc", "")
        self._open()
        return collect.collect(
            self._ctx,
            rules,
            trash_hours=hours,
            dry_run=dry_run,
            throttle=pace,
            progress=progress,
        )

    def backup(
        self,
        url: str | os.PathLike[str],
        *,
        whole: bool = False,
        progress: Progress = ignore_progress,
    ) -> BackedUp:
        """Add a backup of the whole hub to a folder of any file system, while everybody goes on.

        Every model comes into it as it was when the backup began. What the folder holds already is
        not copied again; a backup that was interrupted counts for nothing, and the next one copies
        what it had not.

        Args:
            url: a folder, or the URL of one.
            whole: stand by itself, instead of going on from the last one; packs are shared still.
            progress: called with ``"backup models"`` and ``"backup packs"``, how many, and 0.

        Raises:
            Conflict: a collection or another backup is under way.
            CorruptData: a log cannot be read.
            InvalidInput: the folder holds another hub's backup, or the hub is not what it was.
        """
        self._ctx.policy(self._ctx.principal, "backup", "")
        with closing(self._folder(url)) as folder:
            self._open()
            return backup.back_up(self._ctx, folder, whole=whole, progress=progress)

    def recover(
        self,
        url: str | os.PathLike[str],
        models: str = "*",
        *,
        at: str | None = None,
        dry_run: bool = False,
        progress: Progress = ignore_progress,
    ) -> Restored:
        """Bring models back from a backup, into an empty hub or one that lost them.

        Nothing that is there is changed: models that are absent come back whole, of those that lost
        their newest entries these, and those that went on otherwise are named and left alone.
        Repeated, it goes on where it was interrupted.

        Args:
            url: the folder that ``backup`` wrote into.
            models: a glob; all models without one.
            at: a moment (ISO 8601; UTC where it has no offset): as they were then, instead of at
                the last backup. Numbers given since are never given again.
            dry_run: write nothing, and say what would come back.
            progress: called with ``"restore models"``, how many, and 0.

        Raises:
            NotFound: there is no backup, or none from then or later.
            CorruptData: the backup is damaged.
            Conflict: a collection is under way, or others changed a model meanwhile.
        """
        moment = None if at is None else names.instant(at)
        self._ctx.policy(self._ctx.principal, "restore", "")
        with closing(self._folder(url)) as folder:
            return recover.restore_hub(
                self._ctx, folder, pattern=models, at=moment, dry_run=dry_run, progress=progress
            )

    def status(self) -> Status:
        """How each store is; one that is away is a result, not an error."""
        return status.status(self._ctx, self._address)

    # --- inside --------------------------------------------------------------------------------

    def _open(self, *, create: bool = False) -> None:
        """Make sure that there is a hub that this release can read."""
        if self._known:
            return
        try:
            bootstrap.recognise(self._ctx)
        except NotFound as exc:
            if not create:
                raise NotFound(
                    f"there is no hub at {self._address}",
                    remedy="Push a model to make it, or name another with --hub or MODELHUB_HOME.",
                ) from exc
            bootstrap.initialise(self._ctx)
        self._known = True

    def _folder(self, url: str | os.PathLike[str]) -> Folder:
        return self._ctx.folders(url if is_remote(url) else local_path(url).absolute().as_uri())

    def _head(self, name: str) -> Head:
        return log.read_head(self._ctx.stores.rows, name)

    def _resolve(self, text: str, *, live: bool = False) -> tuple[Head, int]:
        parsed = names.revision(text)
        self._open()
        head = self._head(parsed.model)
        find = versions.resolve_live if live else versions.resolve
        return head, find(self._ctx.stores.rows, head, parsed)

    def _number_of(self, base: Revision) -> str:
        head = self._head(base.model)
        return f"{base.model}@{versions.resolve_live(self._ctx.stores.rows, head, base)}"

    def _manifest(self, head: Head, number: int) -> Manifest:
        published = versions.publication(self._ctx.stores.rows, head, number)
        return relatives.read_manifest(self._ctx, published)

    def _version(self, head: Head, number: int) -> Version:
        rows = self._ctx.stores.rows
        published = versions.publication(rows, head, number)
        return views.version(head, published, publish.known_metadata(rows, head, published)[number])


def _version(head: Head, plan: Plan) -> Version:
    """The version that ``plan`` was about, as of ``head``, without reading anything."""
    assert plan.published is not None
    assert isinstance(plan.published.entry.change, Published)
    return views.version(head, plan.published, plan.known[plan.published.entry.change.number])


def _some(patterns: Sequence[str]) -> str:
    """The first of some patterns, for a log message."""
    told = [each if each.isprintable() else names.shown(each)[1:-1] for each in patterns]
    more = f" and {len(told) - _PATTERNS_TOLD} more" if len(told) > _PATTERNS_TOLD else ""
    return ", ".join(told[:_PATTERNS_TOLD])[:_TOLD_CHARS] + more
