"""Pickles in a version's files: what they import is noted, as a warning and no more.

Nothing is loaded. A pickle is a program, and this is a look at its words: what is found may be
harmless, and what is not found may still be there.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from modelhub.content.layout import npy, zipped
from modelhub.content.layout.npy import npy_header
from modelhub.content.layout.spans import Unsound
from modelhub.content.layout.zipped import Member, member_begin, zip_members
from modelhub.describe.draft import Draft
from modelhub.describe.pickle_code import Budget, Import, Unreadable, imports
from modelhub.describe.pickle_policy import HIDDEN, is_dangerous

SUFFIXES = (
    *(".pt", ".pth", ".bin", ".ckpt"),
    *(".pkl", ".pickle", ".joblib"),
    *(".npy", ".npz"),
)

_ALWAYS = (".pkl", ".pickle", ".joblib")
"""The others hold pickles if they begin like one."""

_INSTRUCTIONS = 1_000_000
_SIZE_BYTES = 64 << 20
_MEMBERS = (".pkl", ".pickle", ".npy")


def read_pickles(files: Sequence[tuple[str, Path]], draft: Draft) -> None:
    """Add to ``draft`` what pickles in files of ``SUFFIXES`` import, and what of it is dangerous.

    In all, a million instructions and 64 MiB are looked at. A file of which something was not, or
    could not be, is noted.
    """
    budget = Budget(_INSTRUCTIONS, _SIZE_BYTES)
    everything: set[str] = set()
    dangerous: list[str] = []
    for name, location in files:
        if not name.lower().endswith(SUFFIXES):
            continue
        found: set[Import] = set()
        try:
            with location.open("rb") as file:
                _look(file, location.stat().st_size, name.lower(), budget, found)
        except OSError as exc:
            draft.skip(f"{name}: {exc.strerror}")
        except (Unreadable, Unsound):
            draft.skip(f"{name}: pickle not read to its end")
        everything.update(map(".".join, found))
        bad = sorted(".".join(each) for each in found if is_dangerous(*each))
        if bad:
            dangerous.append(f"{name}: {', '.join(bad)}")
    draft.pair("extra", "pickle.dangerous", "; ".join(dangerous))
    draft.pair("extra", "pickle.imports", sorted(everything))


def _look(file: BinaryIO, end: int, name: str, budget: Budget, found: set[Import]) -> None:
    """Add to ``found`` what the pickles in ``file`` import.

    Raises:
        Unreadable, Unsound: some of them could not be read.
    """
    magic = file.read(len(npy.MAGIC))
    file.seek(0)
    if magic.startswith(zipped.MAGIC):
        _look_into_archive(file, end, budget, found)
    elif magic == npy.MAGIC:
        _look_into_array(file, 0, end, budget, found)
    elif magic.startswith(b"\x80") or name.endswith(_ALWAYS):
        imports(file, end, budget, found)
    else:
        found |= _in_what_may_be_none(file, end, budget)


def _in_what_may_be_none(file: BinaryIO, end: int, budget: Budget) -> set[Import]:
    """What a file imports that does not begin as pickles mostly do.

    If it breaks off it is most likely none, and what its noise seems to hide is nothing.
    """
    found: set[Import] = set()
    try:
        imports(file, end, budget, found)
    except Unreadable:
        return {each for each in found if HIDDEN not in each}
    return found


def _look_into_archive(file: BinaryIO, end: int, budget: Budget, found: set[Import]) -> None:
    unread: Exception | None = None
    for member in zip_members(file, end):
        if member.name.lower().endswith(_MEMBERS):
            try:
                unpacked, begin, stop = _unpacked(file, member, budget)
                if member.name.lower().endswith(".npy"):
                    _look_into_array(unpacked, begin, stop, budget, found)
                else:
                    unpacked.seek(begin)
                    imports(unpacked, stop, budget, found)
            except (Unreadable, Unsound) as exc:
                unread = exc
    if unread is not None:
        raise unread


def _look_into_array(
    file: BinaryIO, begin: int, end: int, budget: Budget, found: set[Import]
) -> None:
    header = npy_header(file, begin, end - begin)
    if header.dtype == "O":
        file.seek(begin + header.size_bytes)
        imports(file, end, budget, found)


def _unpacked(file: BinaryIO, member: Member, budget: Budget) -> tuple[BinaryIO, int, int]:
    """A file in which the member's bytes lie as they were, where they begin and where they end."""
    begin = member_begin(file, member)
    if member.method == zipped.STORED:
        return file, begin, begin + member.stored_bytes
    if member.method != zipped.DEFLATED:
        raise Unreadable("packed in an unknown way")
    budget.step(member.stored_bytes)
    file.seek(begin)
    unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = unpacking.decompress(file.read(member.stored_bytes), max(1, budget.left_bytes))
    except zlib.error as exc:
        raise Unreadable("broken") from exc
    budget.step(len(data))
    return io.BytesIO(data), 0, len(data)
