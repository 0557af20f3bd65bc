"""What a pickle would import, read off its instructions without following any of them."""

from __future__ import annotations

import os
import pickletools
from typing import BinaryIO

from modelhub.describe.pickle_policy import HIDDEN

Import = tuple[str, str]
"""A module, and the name within it."""

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
"""By what an instruction says of its argument, the bytes of the length in front of it."""

_TEXTS = (pickletools.pyunicode, pickletools.pybytes_or_str)
_MARK = pickletools.markobject
_NAME_BYTES = 4096
"""An argument over this is gone over unread, and is no module's name."""

_NAME_CHARS = 256
_INDEX_DIGITS = 9


class Unreadable(Exception):
    """The bytes are no pickle, or no more of them may be read."""


class Budget:
    """How much may be looked at: instructions, at about 2 µs each, and bytes."""

    def __init__(self, instructions: int, size_bytes: int) -> None:
        self._instructions = instructions
        self.left_bytes = size_bytes

    def step(self, size_bytes: int = 0, *, instructions: int = 0) -> None:
        """Use some of it; with nothing, see whether any was missing.

        Raises:
            Unreadable: there is not so much left.
        """
        self._instructions -= instructions
        self.left_bytes -= size_bytes
        if self._instructions < 0 or self.left_bytes < 0:
            raise Unreadable("too much to read")


class _Arguments:
    """The instructions' arguments, as far as names and the memo need them; all others are None.

    ``pickletools`` reads them whole, and pickles hold gigabytes of weights.
    """

    def __init__(self, file: BinaryIO, end: int, budget: Budget) -> None:
        self._file = file
        self._end = end
        self._budget = budget

    def take(self, size_bytes: int) -> bytes:
        """The next bytes."""
        self._budget.step(size_bytes)
        data = self._file.read(min(size_bytes, self._end - self._file.tell()))
        if len(data) < size_bytes:
            raise Unreadable("it ends in an instruction")
        return data

    def argument(self, opcode: pickletools.OpcodeInfo) -> object:
        """What follows the instruction."""
        if opcode.arg is None:
            return None
        if opcode.arg.n == pickletools.UP_TO_NEWLINE:
            return self._lines(opcode)
        width = _LENGTHS.get(opcode.arg.n)
        if width is None:
            return int.from_bytes(self.take(opcode.arg.n), "little")
        length = int.from_bytes(self.take(width), "little")
        if length <= _NAME_BYTES:
            return self.take(length).decode("utf-8", "replace")
        if self._file.tell() + length > self._end:
            raise Unreadable("it ends in an instruction")
        self._file.seek(length, os.SEEK_CUR)
        return None

    def _lines(self, opcode: pickletools.OpcodeInfo) -> object:
        line = self._line()
        match opcode.name:
            case "GLOBAL" | "INST":
                return _text(line), _text(self._line())
            case "UNICODE":
                return line and line.decode("raw-unicode-escape", "replace")
            case "STRING":
                return None if line is None or b"\\" in line else _text(line[1:-1])
            case "PUT" | "GET":
                return _index(line)
        return None

    def _line(self) -> bytes | None:
        """The next line; None where it is too long for a name."""
        line, more = self._some(), b""
        while not (line + more).endswith(b"\n"):
            more = self._some()
        return line[:-1] if line.endswith(b"\n") else None

    def _some(self) -> bytes:
        """Some of a line."""
        some = self._file.readline(min(_NAME_BYTES, self._end - self._file.tell()))
        self._budget.step(len(some))
        if not some:
            raise Unreadable("it ends in an instruction")
        return some


def _text(line: bytes | None) -> str | None:
    return None if line is None else line.decode("utf-8", "replace")


def _index(line: bytes | None) -> int:
    if line is None or not line.isdigit() or len(line) > _INDEX_DIGITS:
        raise Unreadable("not a place in the memo")
    return int(line)


def imports(file: BinaryIO, end: int, budget: Budget, found: set[Import]) -> None:
    """Add to ``found`` what the pickles that lie here import, one behind the other up to ``end``.

    ``file`` is seekable and buffered. What follows the first pickle need not be one: old files of
    PyTorch end with raw weights.

    Raises:
        Unreadable: the first is broken or no pickle, or there is more than may be read. What was
            found up to there is in ``found``: loading it would get as far.
    """
    _imports_of_one(file, end, budget, found)
    while file.tell() < end:
        try:
            _imports_of_one(file, end, budget, found)
        except Unreadable:
            budget.step()
            return


def _imports_of_one(file: BinaryIO, end: int, budget: Budget, found: set[Import]) -> None:
    stack: list[object] = []
    memo: dict[object, object] = {}
    arguments = _Arguments(file, end, budget)
    name = ""
    while name != "STOP":
        budget.step(instructions=1)
        opcode = _OPCODES.get(arguments.take(1))
        if opcode is None:
            raise Unreadable("an unknown instruction")
        name, argument = opcode.name, arguments.argument(opcode)
        match argument:
            case (module, inner):
                found.add((_name(module), _name(inner)))
        if name == "STACK_GLOBAL":
            if len(stack) < 2:
                raise Unreadable("nothing to import")
            module, inner = stack[-2:]
            found.add((_name(module), _name(inner)))
        elif name in ("EXT1", "EXT2", "EXT4"):
            found.add((HIDDEN, HIDDEN))
        _run(opcode, argument, stack, memo)


def _name(text: object) -> str:
    """A name that no module could have is as good as hidden."""
    if not isinstance(text, str) or len(text) > _NAME_CHARS:
        return HIDDEN
    return text if all(part.isidentifier() for part in text.split(".")) else HIDDEN


def _run(
    opcode: pickletools.OpcodeInfo,
    argument: object,
    stack: list[object],
    memo: dict[object, object],
) -> None:
    """Do to ``stack`` and ``memo`` what the instruction does, as far as texts are concerned.

    What is no text is None on the stack.
    """
    name, before = opcode.name, opcode.stack_before
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1] if stack else None
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo.get(argument))
    elif name == "DUP":
        stack.append(stack[-1] if stack else None)
    else:
        count = len(before)
        if _MARK in before or (name == "POP" and stack and stack[-1] is _MARK):
            while stack and stack.pop() is not _MARK:
                pass
            count = before.index(_MARK) if _MARK in before else 0
        del stack[len(stack) - min(count, len(stack)) :]
        for after in opcode.stack_after:
            stack.append(_MARK if after is _MARK else argument if after in _TEXTS else None)
