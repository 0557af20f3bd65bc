"""What a zip archive holds and where, read from its directory within bounds."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO, NamedTuple

from modelhub.content.layout.fields import Fields
from modelhub.content.layout.spans import Unsound

MAGIC = b"PK\x03\x04"
STORED = 0
DEFLATED = 8

_DIRECTORY_BYTES = 16 << 20
_MOST_MEMBERS = 1 << 16

_LOCAL = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_MAGIC = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_MOST_COMMENT_BYTES = 2**16 - 1
_ENCRYPTED = 1
_WIDE_EXTRA = 1
_WIDE = 2**32 - 1
"""In place of a number that is too large for its field and stands among the 64-bit ones."""


class Member(NamedTuple):
    """A file in an archive: how it is stored, its size there and unpacked, and where its header is.

    What is encrypted has ``method`` -1.
    """

    name: str
    method: int
    stored_bytes: int
    size_bytes: int
    header_at: int


def zip_members(file: BinaryIO, size_bytes: int) -> list[Member]:
    """The members of the archive that ``file`` is, in the order of its directory.

    Raises:
        Unsound: it is none, or one with a directory over 16 MiB, more than 65,536 members or
            something before its beginning.
    """
    tail = min(size_bytes, _MOST_COMMENT_BYTES + _END.size)
    data = Fields(file, size_bytes - tail, tail).take(tail)
    at = data.rfind(b"PK\x05\x06")
    if at < 0 or tail - at < _END.size:
        raise Unsound("no archive")
    _, _, _, _, count, directory_bytes, begin, comment = _END.unpack_from(data, at)
    end = size_bytes - tail + at
    if at + _END.size + comment != tail:
        raise Unsound("something follows the archive")
    if data[max(0, at - _LOCATOR.size) : at].startswith(_LOCATOR_MAGIC):
        end, count, directory_bytes, begin = _wide_end(file, end)
    if directory_bytes > _DIRECTORY_BYTES or count > _MOST_MEMBERS:
        raise Unsound("too large a directory")
    if begin + directory_bytes != end:
        raise Unsound("the directory is not where the archive ends")
    fields = Fields(file, begin, directory_bytes)
    members = [_member(fields) for _ in range(count)]
    if any(member.header_at + member.stored_bytes > begin for member in members):
        raise Unsound("a member lies beyond the archive")
    return members


def _wide_end(file: BinaryIO, end: int) -> tuple[int, int, int, int]:
    """Where a large archive's directory ends, its members, its size and its beginning."""
    at = end - _LOCATOR.size - _END64.size
    if at < 0:
        raise Unsound("no room for a large archive's end")
    fields = Fields(file, at, end - at)
    values = _END64.unpack(fields.take(_END64.size))
    _, _, found_at, _ = _LOCATOR.unpack(fields.take(_LOCATOR.size))
    if values[0] != b"PK\x06\x06" or found_at != at:
        raise Unsound("not the end of a large archive")
    return at, *values[-3:]


def _member(fields: Fields) -> Member:
    entry = _ENTRY.unpack(fields.take(_ENTRY.size))
    magic, _, _, flags, method, _, _, _, stored, size, names, extras, comments, *_, at = entry
    if magic != b"PK\x01\x02":
        raise Unsound("not an entry of a directory")
    try:
        name = fields.take(names).decode()
    except UnicodeDecodeError as exc:
        raise Unsound("a name that is no text") from exc
    wide = _wide_numbers(fields.take(extras))
    fields.skip(comments)
    size, stored, at = (
        wide.pop(0) if value == _WIDE and wide else value for value in (size, stored, at)
    )
    return Member(name, -1 if flags & _ENCRYPTED else method, stored, size, at)


def _wide_numbers(extra: bytes) -> list[int]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        found = extra[at + 4 : at + 4 + length]
        if kind == _WIDE_EXTRA:
            return [value for (value,) in struct.iter_unpack("<Q", found[: len(found) // 8 * 8])]
        at += 4 + length
    return []


def member_begin(file: BinaryIO, member: Member) -> int:
    """Where the bytes of ``member`` begin in the archive.

    Raises:
        Unsound: its own header is not what the directory says.
    """
    fields = Fields(file, member.header_at, _LOCAL.size + 2 * 2**16)
    header: tuple[Any, ...] = _LOCAL.unpack(fields.take(_LOCAL.size))
    magic, _, flags, method, *_, names, extras = header
    name = fields.take(names)
    found = Member(
        name.decode("utf-8", "replace"), -1 if flags & _ENCRYPTED else method, *member[2:]
    )
    if magic != MAGIC or found != member:
        raise Unsound("not the member that the directory says")
    return fields.at + int(extras)
