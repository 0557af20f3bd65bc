"""A hub's branches, tags and aliases: what ``hub.branch``, ``hub.tag`` and ``hub.alias`` are."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from modelhub import names
from modelhub.coordinator import log, refs, views
from modelhub.coordinator.context import Context
from modelhub.coordinator.log import Head
from modelhub.coordinator.transaction import commit
from modelhub.errors import InvalidInput
from modelhub.records import RefKind, State
from modelhub.results import Listing, Ref, RefChange


class _Refs:
    """What all three kinds can do.

    Revisions are texts as everywhere; ``NAME@`` may be left out. Every method raises ``NotFound``
    where there is no such model.
    """

    _kind: RefKind
    _known: Callable[[State], Mapping[str, int]]

    def __init__(self, ctx: Context, opened: Callable[[], None]) -> None:
        self._ctx = ctx
        self._opened = opened

    def list(self, name: str) -> Listing[Ref]:
        """All of one model, by name."""
        head = self._head(name)
        return Listing(Ref, [views.ref(head, ref) for ref in sorted(type(self)._known(head.state))])

    def history(self, name: str, ref: str) -> Listing[RefChange]:
        """What it named since when, newest first; also of one that was deleted.

        Raises:
            NotFound: there is none of this name, and never was.
        """
        wanted = names.ref_name(ref)
        head = self._head(name)
        found = refs.history(self._ctx.stores.rows, head, wanted)
        return Listing(RefChange, [views.ref_change(sealed, to) for sealed, to in found])

    def delete(self, name: str, ref: str, *, expect: str | None = None, message: str = "") -> Ref:
        """Delete it; the versions stay. What is returned names none.

        Args:
            name: the model.
            ref: which one.
            expect: the revision that it must name.
            message: why, for the log.

        Raises:
            NotFound: there is none of this name.
            Conflict: it does not name what is expected.
            Forbidden: it is protected.
            InvalidInput: it is of another kind, or the default branch.
        """
        return self._change(name, "delete", ref, expect=expect, message=message)

    def _change(
        self,
        name: str,
        act: refs.Act,
        ref: str,
        *,
        to: str | int = "",
        expect: str | None = None,
        message: str,
    ) -> Ref:
        plain, known = names.model_name(name), names.ref_name(ref)
        text = str(to) if isinstance(to, int) else to
        if known == names.DEFAULT_BRANCH and self._kind != "branch":
            raise InvalidInput(
                f"{known} is the default branch of every model", remedy="Choose another name."
            )
        plan = refs.MoveRef(
            self._ctx,
            self._kind,
            known,
            act,
            target=None if act == "delete" else names.relative_revision(plain, text, "revision"),
            expect=None if expect is None else names.relative_revision(plain, expect, "expect"),
            message=names.message_text(message),
        )
        self._ctx.policy(self._ctx.principal, self._kind, plain)
        self._opened()
        head = commit(self._ctx, plain, plan)
        if act == "delete":
            return Ref(name=plain, ref=known, kind=self._kind, number=None, protected=False)
        return views.ref(head, known)

    def _head(self, name: str) -> Head:
        plain = names.model_name(name)
        self._opened()
        rows = self._ctx.stores.rows
        return log.require(rows, log.read_head(rows, plain))


class Branches(_Refs):
    """Names that move with each version that is published onto them."""

    _kind = "branch"
    _known = staticmethod(lambda state: state.branches)

    def create(self, name: str, branch: str, *, at: str | None = None, message: str = "") -> Ref:
        """Begin a branch at a revision; without one, at the head of the default branch.

        One that is there already, at that version, is left alone.

        Raises:
            NotFound: the revision is not there, or deleted.
            AlreadyExists: the name is taken.
        """
        start = names.DEFAULT_BRANCH if at is None else at
        return self._change(name, "create", branch, to=start, message=message)

    def move(
        self, name: str, branch: str, to: str | int, *, expect: str | None = None, message: str = ""
    ) -> Ref:
        """Make a revision the head of a branch.

        Args:
            name: the model.
            branch: which branch.
            to: the revision.
            expect: the revision that the head must be now.
            message: why, for the log.

        Raises:
            NotFound: the branch or the revision is not there, or that is deleted.
            Conflict: the head is not what is expected.
            Forbidden: the branch is protected.
        """
        return self._change(name, "move", branch, to=to, expect=expect, message=message)


class Tags(_Refs):
    """Names that never move; once deleted, they can come back for the same version alone."""

    _kind = "tag"
    _known = staticmethod(lambda state: state.tags)

    def create(self, name: str, tag: str, to: str | int, *, message: str = "") -> Ref:
        """Give a revision a name for good. Repeated, it does nothing.

        Raises:
            NotFound: the revision is not there, or deleted.
            AlreadyExists: the name is taken, or was a tag of another version.
        """
        return self._change(name, "create", tag, to=to, message=message)


class Aliases(_Refs):
    """Names that are moved by hand, such as ``champion``."""

    _kind = "alias"
    _known = staticmethod(lambda state: state.aliases)

    def set(
        self, name: str, alias: str, to: str | int, *, expect: str | None = None, message: str = ""
    ) -> Ref:
        """Make an alias name a revision.

        Args:
            name: the model.
            alias: which alias; it comes into being where it is not there.
            to: the revision.
            expect: the revision that it must name now: of several who move it with the same
                ``expect``, one succeeds.
            message: why, for the log.

        Raises:
            NotFound: the revision is not there, or deleted.
            AlreadyExists: a branch or tag has the name.
            Conflict: it does not name what is expected.
            Forbidden: it is protected.
        """
        return self._change(name, "set", alias, to=to, expect=expect, message=message)
