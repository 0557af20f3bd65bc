"""Which files are left out of a version: gitignore's patterns, decided as git decides.

A folder is judged before what lies in it and by its own path alone; of several patterns that match
the last one counts. General matchers also let a pattern for a folder speak for every path below it,
so the common ``*``, ``!*/``, ``!*.safetensors`` would leave out what lies in folders, unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from modelhub.errors import InvalidInput
from modelhub.names import shown

_TOKEN = re.compile(
    r"""
      \\ (?P<escaped> . )
    | (?P<folders> (?: ^ | (?<=/) ) \*\*+ / )       # any number of folders, none too
    | (?P<everything> (?: ^ | (?<=/) ) \*\*+ $ )
    | (?P<run> \*+ )
    | (?P<one> \? )
    | \[ (?P<negated> [!^]? ) (?P<set> \]? (?: \\. | [^]\\] )* ) \]
    | (?P<plain> [^\\[] )
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_SET = re.compile(r"\\(.)|([^\\])", re.DOTALL)
_TRAILING_SPACES = re.compile(r"(?<!\\) +$")


class _Rule(msgspec.Struct, frozen=True):
    regex: re.Pattern[str]
    keeps: bool
    folders_only: bool


class IgnoreRules:
    """The patterns of ``lines``, later ones before earlier ones.

    Raises:
        InvalidInput: a line is no pattern. Git would pass over it, and a file that was to stay
            private would be published.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        rules = [_rule(_TRAILING_SPACES.sub("", line)) for line in lines]
        self._rules = [rule for rule in reversed(rules) if rule is not None]

    def ignores(self, path: str, *, is_folder: bool) -> bool:
        """Whether ``path`` is left out, given that no folder above it is."""
        for rule in self._rules:
            if (is_folder or not rule.folders_only) and rule.regex.fullmatch(path):
                return not rule.keeps
        return False


def _rule(line: str) -> _Rule | None:
    if not line or line.startswith("#"):
        return None
    keeps = line.startswith("!")
    glob = line[keeps:]
    folders_only = glob.endswith("/")
    glob = glob.removesuffix("/")
    anchored = "/" in glob
    try:
        expression = _expression(glob.removeprefix("/"))
        regex = re.compile(expression if anchored else f"(?:.*/)?{expression}", re.DOTALL)
    except (ValueError, re.error) as exc:
        raise InvalidInput(
            f"{shown(line)} is no pattern", remedy="Write patterns as in .gitignore."
        ) from exc
    return _Rule(regex, keeps, folders_only)


def _expression(glob: str) -> str:
    """``glob`` as a regular expression; raises ValueError where it is no glob."""
    parts = []
    at = 0
    while at < len(glob):
        token = _TOKEN.match(glob, at)
        if token is None:
            raise ValueError(glob)
        parts.append(_part(token))
        at = token.end()
    if not parts:
        raise ValueError(glob)
    return "".join(parts)


def _part(token: re.Match[str]) -> str:
    if token["folders"]:
        return "(?:.*/)?"
    if token["everything"]:
        return ".+"
    if token["run"]:
        return "[^/]*"
    if token["one"]:
        return "[^/]"
    if token["set"] is not None:
        members = _IN_SET.sub(_member, token["set"])
        return f"(?!/)[{'^' if token['negated'] else ''}{members}]"
    return re.escape(token["escaped"] or token["plain"])


def _member(token: re.Match[str]) -> str:
    return "-" if token[2] == "-" else re.escape(token[1] or token[2])
