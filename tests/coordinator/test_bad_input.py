"""Bad input to every verb: the named error, what to do about it, and nothing written.

What a test expects to fail for now is strict: it says so once that has come right.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelhub
from modelhub.errors import Conflict, InvalidInput, NotFound
from modelhub.hub import Hub
from tests.coordinator.conftest import MOOD, hub_folder, push, refused

LONG = 40_000

BAD_NAMES = [
    *("", " ", ".", "..", "../up", "/", "/etc/passwd", "a/b", "nlp/../mood", "a..b", ".hidden"),
    *("-rf", "%2e%2e", "nlp%2emood", "nlp%2fmood", "a\\b", "..\\up", "a\0b", "a\nb", "a\tb", "a b"),
    *("nlp.mood\n", "NLP.Mood", "nlp.mood\u200f", "\u202enlp.mood", "nlp\u200b.mood"),
    *("n\u217cp.mood", "nlp.m\u043eod", "\uff4elp.mood", "nlp.moo\u0064\u0301", "nlp\u2024mood"),
    *("情感", "a" * 129, "a" * LONG, "\ud800", "nlp:mood", "nlp*", "$(id)", "'; DROP TABLE log"),
]
BAD_SELECTORS = [
    *("", " ", "0", "00", "-1", "+1", ".1", " 1", "1 ", "1@2", "\uff11", "\u0661", "9" * 13),
    *("..", "../1", "a/b", "a\\b", "a\0b", "a\nb", "%31", "\u202e1", "ma\u0456n", "a" * 129),
    *("{}", "{", "}", "{yesterday}", "{2026-13-01}", "{2026-02-30}", "main@{", "main@{}"),
    *("main{2026-01-01}", "../x@{2026-01-01}", "{2026-01-01\0}", "f" * LONG, "a" * LONG, "\udfff"),
]
MISSING = [
    *("nlp.nowhere", "nlp.nowhere@1", f"{MOOD}@3", f"{MOOD}@999999999999", f"{MOOD}@next"),
    *(f"{MOOD}@deadbeef", f"{MOOD}@{'ab' * 32}", f"{MOOD}@{{2001-01-01}}"),
    *(f"{MOOD}@{{0001-01-01}}", f"{MOOD}@next@{{2001-01-01}}"),
]


Verb = Callable[[Hub, str], object]
REVISION_VERBS: dict[str, Verb] = {
    "show": lambda hub, text: hub.show(text),
    "files": lambda hub, text: hub.files(text),
    "pull": lambda hub, text: hub.pull(text, hub_folder(hub).parent / "pulled"),
    "snapshot": lambda hub, text: hub.snapshot(text),
    "verify": lambda hub, text: hub.verify(text),
    "edit": lambda hub, text: hub.edit(text, title="new"),
    "delete": lambda hub, text: hub.delete(text),
    "delete --dry-run": lambda hub, text: hub.delete(text, dry_run=True),
    "undelete": lambda hub, text: hub.undelete(text),
    "diff a": lambda hub, text: hub.diff(text, MOOD),
    "diff b": lambda hub, text: hub.diff(MOOD, text),
    "push --base": lambda hub, text: push(hub, bases=[MOOD, text]),
}
NAME_VERBS: dict[str, Verb] = {
    "push": push,
    "log": lambda hub, text: hub.log(text),
}


# --- names and revisions -----------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("verb", [*NAME_VERBS, *REVISION_VERBS])
def test_what_is_no_name_is_refused_by_every_verb(hub: Hub, verb: str) -> None:
    act = (NAME_VERBS | REVISION_VERBS)[verb]
    for name in BAD_NAMES:
        about = ascii(name)[:60]
        for text in [name] if verb in NAME_VERBS else [name, f"{name}@1"]:
            refused(InvalidInput, lambda text=text: act(hub, text), about, "is not a model name")  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("verb", REVISION_VERBS)
def test_what_is_no_revision_is_refused_by_every_verb(hub: Hub, verb: str) -> None:
    for selector in BAD_SELECTORS:
        text = f"{MOOD}@{selector}"
        refused(InvalidInput, lambda text=text: REVISION_VERBS[verb](hub, text))  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("verb", REVISION_VERBS)
def test_what_is_not_there_is_named_by_every_verb(hub: Hub, verb: str) -> None:
    for text in MISSING:
        about = text.partition("@")[0]
        refused(NotFound, lambda text=text: REVISION_VERBS[verb](hub, text), about)  # type: ignore[misc]
    refused(NotFound, lambda: hub.log("nlp.nowhere"), "nlp.nowhere")


@pytest.mark.usefixtures("nothing_changes")
def test_a_push_takes_no_other_branch_or_expectation(hub: Hub) -> None:
    for branch in [*BAD_NAMES, "3", "deadbeef"]:
        if branch not in {"NLP.Mood"}:  # branches may have capitals
            about = ascii(branch)[:60]
            refused(InvalidInput, lambda branch=branch: push(hub, branch=branch), about)  # type: ignore[misc]
    for expect in BAD_SELECTORS:
        refused(InvalidInput, lambda expect=expect: push(hub, expect=expect))  # type: ignore[misc]
    refused(InvalidInput, lambda: push(hub, expect="nlp.other@1"), "nlp.other@1")
    for expect in ("1", "3", "next", "deadbeef", "{2001-01-01}", f"{MOOD}@1"):
        refused(Conflict, lambda expect=expect: push(hub, expect=expect), MOOD)  # type: ignore[misc]


def test_bad_input_makes_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.bin").write_bytes(b"a")
    with modelhub.connect(tmp_path / "hub") as hub:
        for name in BAD_NAMES:
            refused(InvalidInput, lambda name=name: push(hub, name))  # type: ignore[misc]
        refused(InvalidInput, lambda: push(hub, message="x" * 2**20))
        refused(NotFound, lambda: hub.push(MOOD, tmp_path / "nowhere"))
        for verb in REVISION_VERBS.keys() - {"push --base"}:
            refused(NotFound, lambda verb=verb: REVISION_VERBS[verb](hub, MOOD), "hub")  # type: ignore[misc]
    assert not (tmp_path / "hub").exists()


# --- texts, numbers, patterns ------------------------------------------------------------------

ROW = {"card": "x" * 65_000, "description": "y" * 65_000}
BAD_FACTS: list[dict[str, Any]] = [
    *({"title": 7}, {"title": "two\nlines"}, {"title": "x" * 513}, {"title": "\ud800"}),
    *({"description": "x" * 65_537}, {"description": "a\0b"}, {"card": b"bytes"}),
    *({"labels": "one"}, {"labels": [7]}, {"labels": [""]}, {"labels": ["x"] * 65}),
    *(
        {"labels": ["x" * 129]},
        {"datasets": {"a": "b"}},
        {"datasets": [str(i) for i in range(257)]},
    ),
    *({"params": {"a": math.nan}}, {"metrics": {"a": math.inf}}, {"extra": {"a": -math.inf}}),
    *({"params": {"a": 2**63}}, {"params": {"a": 1j}}, {"params": {"a": [1]}}, {"params": {7: 1}}),
    *({"params": {"": 1}}, {"params": {"k" * 129: 1}}, {"params": {"a\n": 1}}, {"params": [1]}),
    *(
        {"params": {str(i): i for i in range(257)}},
        {"params": {"a": "x" * 4097}},
        {"params": "a=1"},
    ),
    *({"created": "yesterday"}, {"created": 7}, {"created": "0001-01-01T00:00+14:00"}),
    *({"colour": "red"}, {"number": 7}, {"deleted": True}),
    ROW | {"params": {str(i): "z" * 4000 for i in range(64)}},
]


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("verb", ["push", "edit"])
def test_facts_that_cannot_be_stored_are_refused(hub: Hub, verb: str) -> None:
    act = push if verb == "push" else lambda hub, **facts: hub.edit(MOOD, **facts)
    for facts in BAD_FACTS:
        field = next(iter(facts)) if len(facts) == 1 else "262,144"
        about = "time" if field == "created" else field
        refused(InvalidInput, lambda facts=facts: act(hub, **facts), about)  # type: ignore[misc]


BAD_OPTIONS: list[dict[str, Any]] = [
    *({"message": "x" * 2**20}, {"message": "a\0b"}, {"message": "\ud800"}),
    *({"request_id": ""}, {"request_id": "x" * 257}, {"request_id": "a\nb"}, {"request_id": "é"}),
    *({"request_id": 7}, {"branch": 7}, {"branch": None}, {"bases": [7]}, {"bases": [None]}),
    *({"exclude": [pattern]} for pattern in ("!", "/", "//", "\\", "[", "[z-a]")),
]


@pytest.mark.usefixtures("nothing_changes")
def test_options_of_a_push_that_are_none_are_refused(hub: Hub) -> None:
    for options in BAD_OPTIONS:
        refused(InvalidInput, lambda options=options: push(hub, **options))  # type: ignore[misc]
    refused(InvalidInput, lambda: push(hub, exclude=["*"]), "no files")
    for verb in (hub.edit, hub.delete, hub.undelete):
        refused(InvalidInput, lambda verb=verb: verb(MOOD, message="x" * 2**20), "message")  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
def test_a_pull_says_which_pattern_or_folder_it_cannot_use(hub: Hub, tmp_path: Path) -> None:
    folder = tmp_path / "pulled"
    for pattern in ("nothing.like.it", "!config.json", "x" * LONG):
        refused(NotFound, lambda pattern=pattern: hub.pull(MOOD, folder, include=[pattern]))  # type: ignore[misc]
        refused(NotFound, lambda pattern=pattern: hub.snapshot(MOOD, include=[pattern]))  # type: ignore[misc]
    for dest in ("", "a\0b"):
        refused(InvalidInput, lambda dest=dest: hub.pull(MOOD, dest))  # type: ignore[misc]


@pytest.mark.usefixtures("nothing_changes")
@pytest.mark.parametrize("pattern", ["!", "/", "\\", "[", "[z-a]"])
def test_a_pull_takes_no_pattern_that_is_none(hub: Hub, tmp_path: Path, pattern: str) -> None:
    act = lambda: hub.pull(MOOD, tmp_path / "elsewhere", include=[pattern])  # noqa: E731
    refused(InvalidInput, act, ascii(pattern))


@pytest.mark.usefixtures("nothing_changes")
def test_searches_and_logs_have_bounds(hub: Hub) -> None:
    for text in ("a\0b", "\ud800", "x" * 4097):
        refused(InvalidInput, lambda text=text: hub.search(text))  # type: ignore[misc]
    for bounds in (
        *({"limit": 0}, {"limit": 1001}, {"limit": 10**9}, {"after": "x"}, {"sort": "owner"}),
        *({"sort": "lr"}, {"facets": ["size"]}, {"facets": ["x"]}, {"facets": ["label"] * 11}),
    ):
        refused(InvalidInput, lambda bounds=bounds: hub.search("x", **bounds))  # type: ignore[misc]
    for limit in (0, -1):
        refused(InvalidInput, lambda limit=limit: hub.log(MOOD, limit=limit))  # type: ignore[misc]


WRONG_TYPES: dict[str, Callable[[Any], object]] = {
    "push of a number": lambda hub: hub.push(MOOD, 7),
    "push of bytes": lambda hub: hub.push(MOOD, b"model"),
    "message": lambda hub: push(hub, message=7),
    "expect": lambda hub: push(hub, expect=7),
    "exclude with a number": lambda hub: push(hub, exclude=[7]),
    "exclude as a text": lambda hub: push(hub, exclude="weights.bin"),
    "bases as a text": lambda hub: push(hub, bases="nlp"),
    "include as a text": lambda hub: hub.snapshot(MOOD, include="*.nothing"),
    "list": lambda hub: hub.list(pattern=7),
    "search": lambda hub: hub.search(None),
    "search limit": lambda hub: hub.search("x", limit="3"),
    "search after": lambda hub: hub.search("x", after=3),
    "search sort": lambda hub: hub.search("x", sort=None),
    "search facets as a text": lambda hub: hub.search("x", facets="label"),
    "search like": lambda hub: hub.search("x", like=3),
    "log limit": lambda hub: hub.log(MOOD, limit="3"),
    "pull": lambda hub: hub.pull(MOOD, 7),
}


@pytest.mark.usefixtures("nothing_changes")
def test_names_and_revisions_are_texts(hub: Hub) -> None:
    wrong: list[Any] = [None, 7, b"nlp.mood", 1.5, ["nlp.mood"], object]
    for value in wrong:
        for act in (NAME_VERBS | REVISION_VERBS).values():
            refused(InvalidInput, lambda act=act, value=value: act(hub, value))  # type: ignore[misc]


@pytest.mark.parametrize("wrong", WRONG_TYPES)
def test_an_argument_of_the_wrong_type_is_refused(hub: Hub, wrong: str) -> None:
    refused(InvalidInput, lambda: WRONG_TYPES[wrong](hub))
