"""New versions with old content: what is stored is taken over, and no byte of it read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from modelhub.content.manifest import Manifest
from modelhub.content.stored_file import StoredSource
from modelhub.coordinator import versions
from modelhub.coordinator.context import Context
from modelhub.coordinator.fetch import select
from modelhub.coordinator.log import Head, Sealed, require
from modelhub.coordinator.publish import Push, known_metadata
from modelhub.coordinator.relatives import read_manifest
from modelhub.errors import CorruptData, InvalidInput, NotFound
from modelhub.names import Revision, shown
from modelhub.records import Metadata, Published


@dataclass(frozen=True)
class Content:
    """What a version holds: its files by path, and what describes it, as of some head."""

    published: Sealed
    manifest: Manifest
    files: Mapping[str, StoredSource]
    metadata: Metadata
    bases: tuple[str, ...]

    def is_like(self, other: Content) -> bool:
        """Whether a version with the one would be a version with the other."""
        alike = self.metadata == other.metadata and self.bases == other.bases
        return alike and _digests(self.files) == _digests(other.files)


def content_of(ctx: Context, head: Head, number: int) -> Content:
    """What a version holds, deleted or not.

    Raises:
        CorruptData: its manifest or metadata cannot be read.
    """
    rows = ctx.stores.rows
    published = versions.publication(rows, head, number)
    assert isinstance(published.entry.change, Published)
    manifest = read_manifest(ctx, published)
    return Content(
        published,
        manifest,
        {file.path: StoredSource(ctx.reader, manifest, file) for file in manifest.files},
        known_metadata(rows, head, published)[number],
        published.entry.change.version.bases,
    )


@dataclass
class Restore(Push):
    """Publish what ``target`` holds as the next version of its branch (a ``Plan``).

    A whole version brings its metadata, as it is now, and what it was derived from. With
    ``include`` the files that match replace those of the branch's head, or are added to them, and
    the rest stays. Where the head is as wanted already, it stays the head.
    """

    target: Revision | None = None
    include: Sequence[str] = ()
    op: str = "rollback"
    _settled: tuple[int, Metadata, int] | None = None

    def choose(self, head: Head, parent: int) -> bool:
        """Find the old version, and see what of the branch's head differs from it.

        Raises:
            NotFound: the branch or the target is not there, or no file matches.
        """
        assert self.target is not None
        require(self.ctx.stores.rows, head)
        if self.branch not in head.state.branches:
            raise versions.unknown_ref(head, self.branch)
        number = versions.resolve_live(self.ctx.stores.rows, head, self.target)
        wanted = content_of(self.ctx, head, number)
        current = self._current(head, parent)
        if self.include:
            if current is None:
                raise NotFound(
                    f"every version on branch {self.branch} of {head.name} is deleted",
                    remedy="Bring a whole version back, or undelete one.",
                )
            wanted = self._with_files(current, wanted)
        if current is not None and wanted.is_like(current):
            self.published, self.known = current.published, {parent: current.metadata}
            return False
        settled = (number, wanted.metadata, parent if self.include else 0)
        if settled == self._settled:
            return True
        self._settled = settled
        self.sources = [wanted.files[path] for path in sorted(wanted.files)]
        self.metadata, self.bases, self.origin = wanted.metadata, wanted.bases, number
        assert isinstance(wanted.published.entry.change, Published)
        self.manifests = (wanted.published.entry.change.version.manifest,)
        self.forget()
        return True

    def _current(self, head: Head, parent: int) -> Content | None:
        """What the branch's head holds; a damaged one stops nobody from going back."""
        try:
            return content_of(self.ctx, head, parent) if parent else None
        except CorruptData:
            if self.include:
                raise
            return None

    def _with_files(self, current: Content, old: Content) -> Content:
        """``current``, with those files of ``old`` that are asked for."""
        chosen = {file.path: old.files[file.path] for file in select(old.manifest, self.include)}
        files = {**current.files, **chosen}
        for folder, path in folders_that_are_files(files):
            raise InvalidInput(
                f"{shown(folder)} would be a file and, for {shown(path)}, a folder",
                remedy="Bring the whole version back, or other files.",
            )
        return Content(current.published, old.manifest, files, current.metadata, current.bases)


def folders_that_are_files(paths: Collection[str]) -> Iterator[tuple[str, str]]:
    """Paths that another one of these lies below, with that one."""
    for path in sorted(paths):
        for folder in accumulate(path.split("/")[:-1], "{}/{}".format):
            if folder in paths:
                yield folder, path


def _digests(files: Mapping[str, StoredSource]) -> dict[str, tuple[str, int]]:
    return {path: (source.file.digest, source.mode) for path, source in files.items()}
