"""The flags that describe a version, for ``push`` and ``edit``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from modelhub.errors import InvalidInput
from modelhub.names import shown
from modelhub.records import Scalar

F = TypeVar("F", bound=Callable[..., Any])


def _pairs(_: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, Scalar]:
    return dict(_pair(param.opts[0], text) for text in given)


def _pair(flag: str, text: str) -> tuple[str, Scalar]:
    from modelhub.describe.facts import parse_value

    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidInput(
            f"{flag} {shown(text)} is not KEY=VALUE", remedy=f"Write it as in {flag} lr=0.001."
        )
    return key, parse_value(value)


def _text(flags: Sequence[str], help_text: str, metavar: str = "TEXT") -> Callable[[F], F]:
    return click.option(*flags, metavar=metavar, help=help_text)


def _texts(flag: str, field: str, help_text: str) -> Callable[[F], F]:
    return click.option(flag, field, metavar="TEXT", multiple=True, help=help_text)


def _mapping(flag: str, field: str, help_text: str) -> Callable[[F], F]:
    return click.option(
        flag, field, metavar="KEY=VALUE", multiple=True, callback=_pairs, help=help_text
    )


def describing(function: F) -> F:
    """Add the describing flags to a verb; it hands what it gets for them to ``given``."""
    for option in reversed(
        (
            _text(["--title"], "A short title."),
            _text(["--description"], "What it is and is good for."),
            _text(["--owner"], "Who answers for it."),
            _text(["--creator"], "Who made it."),
            _text(["--created"], "When it was made, in ISO 8601.", "TIME"),
            _text(["--licence", "--license", "licence"], "As in apache-2.0.", "ID"),
            _text(["--framework"], "As in pytorch."),
            _texts("--dataset", "datasets", "Trained on this; repeatable."),
            _texts("--label", "labels", "A keyword; repeatable."),
            _mapping("--param", "params", "A training parameter; repeatable."),
            _mapping("--metric", "metrics", "A measured result; repeatable."),
            _mapping("--set", "extra", "Anything else; repeatable."),
        )
    ):
        function = option(function)
    return function


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were there, as Hub's keywords; an empty text counts."""
    return {name: value for name, value in flags.items() if value not in (None, (), {})}


def cleared(facts: dict[str, Any], unset: Sequence[str]) -> dict[str, Any]:
    """``facts`` with the fields in ``unset``, such as ``title`` or ``params.lr``, taken away.

    Raises:
        InvalidInput: there is no such field, or it is to be set and unset at once.
    """
    from modelhub.describe.facts import Facts

    for text in unset:
        field, dot, key = text.partition(".")
        if field not in Facts.__annotations__:
            raise InvalidInput(
                f"{shown(text)} is not a field of a version's metadata",
                remedy=f"The fields are {', '.join(Facts.__annotations__)}; or as in params.lr.",
            )
        keys = facts.setdefault(field, {}) if dot else facts
        name = key if dot else field
        if not isinstance(keys, dict) or keys.get(name) is not None:
            raise InvalidInput(
                f"{shown(text)} is to be set and unset at once", remedy="Leave out one of the two."
            )
        keys[name] = None
    return facts
