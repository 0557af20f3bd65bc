"""A search as people type it, made into a tree of clauses, or refused with the column.

Words side by side, ``"a phrase"``, ``field:value``, ``field:prefix*``, ranges (``>=1``, ``<2GB``,
``0.1..0.5``), ``AND``, ``OR``, ``NOT``, ``-clause`` and parentheses. NOT binds tighter than AND,
AND tighter than OR. What is none of these is plain text, whatever its punctuation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeGuard

from lark import Lark, Token, Transformer, UnexpectedInput

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.query.clauses import And, Bag, Clause, Equal, Not, Or, Phrase, Prefix, Word
from modelhub.query.fields import FIELDS, Kind, field_of, kind_of
from modelhub.query.ranges import pair_range, range_of

CHARS = 4096
DEPTH = 16
CLAUSES = 64

# A parser never waits for both WORD and VALUE. A ':' before a space or before '//' is punctuation.
_GRAMMAR = r"""
start: either?
?either: together (OR together)*
together: unary (AND? unary)*
?unary: (NOT | MINUS) unary     -> negated
      | LEFT either RIGHT       -> grouped
      | WORD                    -> word
      | QUOTED                  -> phrase
      | FIELD (VALUE | QUOTED)  -> fielded

LEFT: "("
RIGHT: ")"
AND.2: /AND(?![^\s()"])/
OR.2: /OR(?![^\s()"])/
NOT.2: /NOT(?![^\s()"])/
MINUS.2: /-(?=[^\s)-])/
FIELD.2: /[A-Za-z_][A-Za-z0-9_.-]*("([^"\\]|\\.)*")?:(?=[^\s):])(?!\/\/)/
QUOTED: /"([^"\\]|\\.)*"(?!:)/s
WORD: /(?!(AND|OR|NOT)(?![^\s()"]))[^\s()"]+/
VALUE: /[^\s()"]+/
%ignore /\s+/
"""
_EXPECTED = {
    "LEFT": "'('",
    "RIGHT": "')'",
    "AND": "AND",
    "OR": "OR",
    "WORD": "a word",
    "QUOTED": 'a "phrase"',
    "FIELD": "field:value",
    "VALUE": "a value",
    "$END": "the end",
}
_WIDE = str.maketrans("：（）“”", ':()""')
"""What input methods for Chinese write for the marks that mean something."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LETTER = re.compile(r"[^\W_]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class _Node(NamedTuple):
    """A clause with how deep it goes and the columns of its parts.

    ``loose``: it is a run of clauses side by side, in which no AND stands.
    """

    clause: Clause
    columns: tuple[int, ...]
    depth: int = 0
    loose: bool = False


def parse(text: str) -> Clause | None:
    """What ``text`` asks for; None where it asks for everything, being empty.

    Raises:
        InvalidInput: it is no such text, has over 4,096 characters or 64 clauses, or goes deeper
            than 16 parentheses and negations.
    """
    if len(text) > CHARS:
        raise _refusal(
            CHARS, f"a search of {len(text):,} characters; the limit is {CHARS:,}", "Shorten it."
        )
    if unstorable := _UNSTORABLE.search(text):
        raise _refusal(
            unstorable.start(),
            f"{shown(unstorable[0])} is in no text",
            "Leave out NUL and halves of surrogate pairs.",
        )
    try:
        found: Any = _parser().parse(text.translate(_WIDE))
    except UnexpectedInput as exc:
        raise _unexpected(text, exc) from exc
    return found  # type: ignore[no-any-return]


@functools.cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", lexer="contextual", transformer=_Clauses())


class _Clauses(Transformer[Token, Clause | None]):
    """Makes clauses of the grammar's rules, from the innermost outwards, while it parses."""

    def start(self, nodes: list[_Node]) -> Clause | None:
        if not nodes:
            return None
        (node,) = nodes
        if len(node.columns) > CLAUSES:
            raise _refusal(
                node.columns[CLAUSES] - 1,
                f"more than {CLAUSES} words and clauses",
                "Search for fewer, or put words that belong together into quotes.",
            )
        match node.clause:
            case Word(field="") | Phrase(field="") as bare:
                return Bag((bare,))
        return _bagged(node).clause

    def either(self, parts: list[_Node | Token]) -> _Node:
        nodes = [_bagged(part) for part in parts if isinstance(part, _Node)]
        return _joined(Or(tuple(node.clause for node in nodes)), nodes)

    def together(self, parts: list[_Node | Token]) -> _Node:
        nodes = [part for part in parts if isinstance(part, _Node)]
        if len(nodes) == 1:
            return nodes[0]
        joined = _joined(And(tuple(node.clause for node in nodes)), nodes)
        return joined._replace(loose=len(nodes) == len(parts))

    def negated(self, parts: list[Any]) -> _Node:
        token, node = parts
        return _deeper(token, node._replace(clause=Not(node.clause)))

    def grouped(self, parts: list[Any]) -> _Node:
        token, node, _ = parts
        return _deeper(token, _bagged(node))

    def word(self, parts: list[Token]) -> _Node:
        (token,) = parts
        name = token.removesuffix(":")
        if name != token and name in FIELDS:
            raise _refusal(
                _end(token), f"no value after {token}", f'Write {name}:VALUE, or "{token}".'
            )
        return _Node(Word(_plain(token)), (_column(token),))

    def phrase(self, parts: list[Token]) -> _Node:
        (token,) = parts
        return _Node(Phrase(_unquoted(token)), (_column(token),))

    def fielded(self, parts: list[Token]) -> _Node:
        name, value = parts
        with _at(name):
            field = _field(name)
        return _Node(_fielded(field, value), (_column(name),))


@contextmanager
def _at(token: Token) -> Iterator[None]:
    """Say of what is refused in the block where ``token`` begins."""
    try:
        yield
    except InvalidInput as exc:
        raise _refusal(_start(token), exc.message, exc.remedy) from exc


def _joined(clause: Clause, nodes: list[_Node]) -> _Node:
    columns = tuple(column for node in nodes for column in node.columns)
    return _Node(clause, columns, max(node.depth for node in nodes))


def _deeper(token: Token, node: _Node) -> _Node:
    if node.depth == DEPTH:
        raise _refusal(
            _start(token),
            f"parentheses and negations more than {DEPTH} deep",
            "Take some of them away.",
        )
    return node._replace(depth=node.depth + 1, loose=False)


def _bagged(node: _Node) -> _Node:
    """The node, with words and phrases that stand side by side in one ``Bag``."""
    if not (node.loose and isinstance(node.clause, And)):
        return node
    clauses = node.clause.clauses
    others = tuple(inner for inner in clauses if not _is_bare(inner))
    bare = tuple(inner for inner in clauses if _is_bare(inner) and _says(inner, beside=others))
    parts = (*([Bag(bare)] if bare else []), *others)
    clause = And(parts) if len(parts) > 1 else parts[0]
    return node._replace(clause=clause, loose=False)


def _says(part: Word | Phrase, *, beside: tuple[Clause, ...]) -> bool:
    """Whether it asks for anything: a dash or an emoji beside ``field:value`` is decoration."""
    return not beside or _LETTER.search(part.text) is not None


def _is_bare(clause: Clause) -> TypeGuard[Word | Phrase]:
    return isinstance(clause, Word | Phrase) and not clause.field


def _field(token: Token) -> str:
    group, quote, key = token[:-1].partition('"')
    return field_of(group + _ESCAPED.sub(r"\1", key[:-1]) if quote else group)


def _fielded(field: str, token: Token) -> Clause:
    kind, quoted = kind_of(field), token.type == "QUOTED"
    text = _unquoted(token) if quoted else str(token)
    if kind in {Kind.TEXT, Kind.NAME} and token.startswith("/"):
        raise _regular_expression(token)
    if kind is Kind.TEXT:
        return Phrase(text, field) if quoted else Word(_plain(token), field)
    with _at(token):
        if kind in {Kind.NUMBER, Kind.SIZE, Kind.TIME}:
            return range_of(field, kind, text)
        if kind is Kind.PAIR and not quoted and (found := pair_range(field, text)):
            return found
    if not text:
        raise _refusal(_start(token), "an empty value", "Write field:VALUE.")
    if quoted:
        return Equal(field, text)
    if text.endswith("*") and len(text) > 1:
        return Prefix(field, _plain(token, text[:-1]))
    plain = _plain(token)
    return Word(plain, field) if kind is Kind.NAME else Equal(field, plain)


def _plain(token: Token, text: str | None = None) -> str:
    """``text`` (or the whole token) if it holds no pattern that other searches know.

    Raises:
        InvalidInput: it does.
    """
    plain = str(token) if text is None else text
    if len(plain) > 2 and plain[0] == plain[-1] == "/":
        raise _regular_expression(token)
    if "*" in plain:
        raise _refusal(
            _start(token) + plain.index("*"),
            "'*' stands for nothing here",
            "It can end the value of a keyword or a name that is not in quotes, as in name:nlp.*; "
            "or put it into quotes.",
        )
    return plain


def _regular_expression(token: Token) -> InvalidInput:
    return _refusal(
        _start(token),
        f"{shown(str(token))} looks like a regular expression, and there are none",
        "Put it into quotes to search for its words.",
    )


def _unquoted(token: Token) -> str:
    return _ESCAPED.sub(r"\1", token[1:-1])


def _start(token: Token) -> int:
    assert token.start_pos is not None
    return token.start_pos


def _end(token: Token) -> int:
    return _start(token) + len(token)


def _column(token: Token) -> int:
    return _start(token) + 1


def _unexpected(text: str, exc: UnexpectedInput) -> InvalidInput:
    token = getattr(exc, "token", None)
    ended = token is not None and token.type == "$END"
    at = len(text) if ended else exc.pos_in_stream or 0
    expected = {
        _EXPECTED[name]
        for name in (getattr(exc, "accepts", None) or getattr(exc, "allowed", None) or ())
        if name in _EXPECTED
    }
    remedy = f"Expected here: {', '.join(sorted(expected))}."
    if ended:
        return _refusal(at, "the search ends", remedy)
    if text[at] in '"“”':
        closed = '"' in text[at + 1 :].translate(_WIDE)
        remedy = 'Write "a phrase", without a colon.' if closed else "Close it by another '\"'."
        return _refusal(at, "a quotation mark that does not close a phrase", remedy)
    if token is not None and token.type in {"AND", "OR", "NOT"}:
        remedy = f'{remedy} To search for the word, write "{token}".'
        return _refusal(at, f"unexpected {token}", remedy)
    if text[at] in ")）":
        return _refusal(at, f"unexpected {shown(text[at])}", "No parenthesis is open here.")
    return _refusal(at, f"unexpected {shown(text[at])}", remedy)


def _refusal(offset: int, what: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"column {offset + 1}: {what}", remedy=remedy)
