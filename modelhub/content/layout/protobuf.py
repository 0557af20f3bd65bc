"""Messages of Protocol Buffers, walked field by field without reading what nobody asks for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from modelhub.content.layout.fields import Fields
from modelhub.content.layout.spans import Unsound

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_TEXT_BYTES = 4096
_MOST_PACKED_BYTES = 1024


class Extent(NamedTuple):
    """Where in a file bytes begin, and how many they are."""

    begin: int
    size_bytes: int


class Field(NamedTuple):
    """A field's number, and its value: an integer, or where its bytes are."""

    number: int
    integer: int = 0
    extent: Extent = Extent(0, 0)


class Messages:
    """The messages in ``file``, of which at most ``most_fields`` are looked at in all.

    Everything raises Unsound where it meets no message, or more than it may read.
    """

    def __init__(self, file: BinaryIO, most_fields: int) -> None:
        self._file = file
        self._left = most_fields

    def fields(self, message: Extent) -> Iterator[Field]:
        """The fields of the message there, whose own may be looked at meanwhile."""
        fields = Fields(self._file, *message)
        while fields.left_bytes:
            self._left -= 1
            if self._left < 0:
                raise Unsound("too many fields")
            tag = _varint(fields)
            number, kind = tag >> 3, tag & 7
            if kind == _VARINT:
                yield Field(number, _varint(fields))
            elif kind in (_FIXED32, _FIXED64):
                yield Field(number, fields.number(4 if kind == _FIXED32 else 8))
            elif kind == _BYTES:
                length = _varint(fields)
                found = Extent(fields.at, length)
                fields.skip(length)
                yield Field(number, extent=found)
            else:
                raise Unsound("an unknown kind of field")
            self._file.seek(fields.at)

    def messages(self, message: Extent, number: int) -> Iterator[Extent]:
        """The messages that the field of that number of a message holds."""
        return (field.extent for field in self.fields(message) if field.number == number)

    def text(self, extent: Extent) -> str:
        """The text there, of at most 4 KiB."""
        if extent.size_bytes > _MOST_TEXT_BYTES:
            raise Unsound("too long a text")
        try:
            return Fields(self._file, *extent).take(extent.size_bytes).decode()
        except UnicodeDecodeError as exc:
            raise Unsound("no text") from exc

    def integers(self, field: Field) -> list[int]:
        """The integers of a repeated field, which may be packed into one, of at most 1 KiB."""
        if not field.extent.size_bytes:
            return [field.integer]
        if field.extent.size_bytes > _MOST_PACKED_BYTES:
            raise Unsound("too many integers")
        fields = Fields(self._file, *field.extent)
        found = []
        while fields.left_bytes:
            found.append(_varint(fields))
        return found


def _varint(fields: Fields) -> int:
    value = 0
    for shift in range(0, 70, 7):
        (byte,) = fields.take(1)
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value
    raise Unsound("an integer without end")
