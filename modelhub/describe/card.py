"""Model cards: the YAML front matter that Hugging Face defined, and Markdown below it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from modelhub.describe.draft import Draft, cut
from modelhub.describe.facts import TEXT_BYTES, parse_value

_FRONT_BYTES = 64 * 1024
_PARAGRAPH_BYTES = 4 * 1024

_DEPTH = 32
_FRONT = re.compile(r"\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FENCES = ("```", "~~~")
_NO_PARAGRAPH = (*_FENCES, "#", "<", "!", "[!", "|", "---", "- ", "* ")
_TEXTS = {
    "title": ("title", "model_name"),
    "description": ("description", "model_description"),
    "owner": ("owner",),
    "creator": ("creator", "author", "authors"),
    "created": ("created", "date"),
    "licence": ("license_name", "licence", "license"),
    "framework": ("library_name", "framework"),
}
_LISTS = {
    "labels": ("tags",),
    "datasets": ("datasets", "dataset"),
    "bases": ("base_model",),
}


def read_card(name: str, location: Path, draft: Draft) -> None:
    """Add what the model card at ``location`` says to ``draft``, under 64 KiB each of its parts.

    Raises:
        OSError: it cannot be read.
    """
    limit = _FRONT_BYTES + TEXT_BYTES
    with location.open("rb") as file:
        data = file.read(limit + 1)
    try:
        # Where the read ends inside a character, that is not the card's fault.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) <= limit)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        draft.skip(f"{name}: not UTF-8 text")
        return
    text = text.replace("\r\n", "\n")
    front = _FRONT.match(text)
    body = text[front.end() :] if front else text
    if front:
        _front_matter(name, front[1], draft)
    elif text.startswith("---\n"):
        draft.skip(f"{name}: front matter has no end within {limit // 1024} KiB")
    title, paragraph = _outline(body)
    draft.text("title", title)
    draft.text("description", cut(paragraph, _PARAGRAPH_BYTES))
    draft.text("card", body.strip())


def _front_matter(name: str, text: str, draft: Draft) -> None:
    if len(text.encode()) > _FRONT_BYTES:
        draft.skip(f"{name}: front matter is over {_FRONT_BYTES // 1024} KiB")
        return
    try:
        front = _Loader(text).get_single_data()
    except yaml.YAMLError:
        draft.skip(f"{name}: front matter is not plain YAML")
        return
    if isinstance(front, dict):
        _fields(front, draft)
    elif front is not None:
        draft.skip(f"{name}: front matter is not a mapping")


def _fields(front: dict[object, object], draft: Draft) -> None:
    for field, keys in _TEXTS.items():
        for key in keys:
            draft.text(field, front.pop(key, None))
    for field, keys in _LISTS.items():
        for key in keys:
            draft.texts(field, front.pop(key, None))
    for metric, value in _results(front.pop("model-index", None)):
        draft.pair("metrics", metric, value)
    for name, value in front.items():
        draft.pair("extra", f"card.{name}", value)


def _results(index: object) -> Iterator[tuple[str, object]]:
    """The metrics of a ``model-index``, as ``accuracy on GLUE``."""
    for model in _mappings(index):
        for result in _mappings(model.get("results")):
            dataset = result.get("dataset")
            where = dataset.get("name") or dataset.get("type") if isinstance(dataset, dict) else ""
            for metric in _mappings(result.get("metrics")):
                what = metric.get("type") or metric.get("name")
                yield f"{what} on {where}" if where else str(what), metric.get("value")


def _mappings(value: object) -> list[dict[Any, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _outline(body: str) -> tuple[str, str]:
    """The first heading of Markdown, and its first paragraph: both outside code and comments."""
    title = inside = ""  # inside: what ends the code block or comment that a line is in
    paragraph: list[str] = []
    ended = False
    for line in map(str.strip, body.splitlines()):
        if inside:
            inside = "" if inside in line else inside
        elif line and not ended and not line.startswith(_NO_PARAGRAPH):
            paragraph.append(line)
        else:
            ended = bool(paragraph)
            if line.startswith("# "):
                title = title or line[2:].strip()
            elif line.startswith("<!--"):
                inside = "" if "-->" in line else "-->"
            elif line.startswith(_FENCES) and "`" not in line.lstrip("`~"):
                inside = line[:3]
    return title, " ".join(paragraph)


class _Loader(yaml.SafeLoader):
    """YAML of texts, lists and mappings, 32 deep, where a plain scalar is typed by ``parse_value``.

    So ``no`` is Norwegian, dates stay ISO text, and 1:30 is no number of minutes. Aliases, with
    which a few lines stand for gigabytes, and explicit types are refused.
    """

    yaml_implicit_resolvers = {None: [("!plain", re.compile(""))]}  # noqa: RUF012
    yaml_constructors = {  # noqa: RUF012
        "!plain": lambda loader, node: _plain(loader.construct_scalar(node)),
        "tag:yaml.org,2002:str": yaml.SafeLoader.construct_yaml_str,
        "tag:yaml.org,2002:seq": yaml.SafeLoader.construct_yaml_seq,
        "tag:yaml.org,2002:map": yaml.SafeLoader.construct_yaml_map,
        None: yaml.SafeLoader.construct_undefined,
    }
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self._depth == _DEPTH or self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("too deep, or an alias")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _plain(text: str) -> object:
    return None if text.lower() in {"", "~", "null"} else parse_value(text)
