from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from time import process_time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from modelhub.describe import describe
from modelhub.records import Metadata

CARD = """---
license: other
license_name: llama3
language: no
tags:
- text-generation
- 文本
datasets: [glue, wikipedia]
base_model: meta/llama
library_name: peft
author: [Ann, Bob]
owner: nlp-team
date: 2024-05-01
pipeline_tag: text-generation
released: 2024-06-02
rank: 16
model-index:
- name: foo
  results:
  - task: {type: text-classification}
    dataset: {name: GLUE, type: glue}
    metrics:
    - {type: accuracy, value: 0.91, name: Accuracy}
    - {name: F1, value: "0.5"}
  - metrics:
    - {type: loss, value: 3}
---
<!-- written

by a program -->
[![build](a)](b)
# A model 模型

```py
# not a heading
```

It reads **text**
and answers.

More.
"""


def read(folder: Path, card: str | bytes, name: str = "README.md") -> Metadata:
    location = folder / name
    location.write_bytes(card.encode() if isinstance(card, str) else card)
    return describe([(name, location)])


def skipped(metadata: Metadata) -> object:
    return metadata.extra.get("describe.skipped")


def test_a_hugging_face_card_fills_the_fields_it_has(tmp_path: Path) -> None:
    body = CARD.partition("---\n<")[2]
    assert read(tmp_path, CARD) == Metadata(
        title="A model 模型",
        description="It reads **text** and answers.",
        card=f"<{body}".strip(),
        owner="nlp-team",
        creator="Ann, Bob",
        created=datetime(2024, 5, 1, tzinfo=UTC),
        datasets=("glue", "wikipedia"),
        metrics={"accuracy on GLUE": 0.91, "F1 on GLUE": "0.5", "loss": 3},
        labels=("text-generation", "文本"),
        licence="llama3",
        framework="peft",
        bases=("meta/llama",),
        extra={
            "card.language": "no",
            "card.pipeline_tag": "text-generation",
            "card.released": "2024-06-02",
            "card.rank": 16,
        },
    )


@pytest.mark.parametrize(
    "card",
    [
        CARD.replace("\n", "\r\n"),
        "\ufeff" + CARD,
        "\n" + CARD,
    ],
    ids=["windows", "byte order mark", "blank line"],
)
def test_line_ends_and_marks_of_editors_change_nothing(tmp_path: Path, card: str) -> None:
    assert read(tmp_path, card) == read(tmp_path, CARD)


def test_what_front_matter_says_goes_before_the_text(tmp_path: Path) -> None:
    metadata = read(tmp_path, "---\ntitle: One\ndescription: |\n  a\n  b\n---\n# Two\n\nText.")
    assert (metadata.title, metadata.description) == ("One", "a\nb\n")


def test_a_card_without_front_matter_is_read_as_text(tmp_path: Path) -> None:
    metadata = read(tmp_path, "# Title\nText.\n\n---\n\nkey: value\n")
    assert (metadata.title, metadata.description) == ("Title", "Text.")
    assert metadata.card == "# Title\nText.\n\n---\n\nkey: value"
    assert skipped(metadata) is None


@pytest.mark.parametrize(
    ("body", "title", "description"),
    [
        ("First\n\nSecond", "", "First"),
        ("## Part\nText\n# Title", "Title", "Text"),
        ("~~~\n# no\nno\n~~~\nyes", "", "yes"),
        ("```inline``` is no block\n\nyes", "", "yes"),
        ("<div>\n| a | b |\n- item\n* item\n\n*yes*", "", "*yes*"),
        ("Text\n## ends it\nno", "", "Text"),
        ("```\nnever closed", "", ""),
        ("", "", ""),
    ],
)
def test_the_first_heading_and_paragraph_are_found(
    tmp_path: Path, body: str, title: str, description: str
) -> None:
    metadata = read(tmp_path, body)
    assert (metadata.title, metadata.description) == (title, description)


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        ("a: [", "README.md: front matter is not plain YAML"),
        ("a: \x07", "README.md: front matter is not plain YAML"),
        ("a: !!python/object/apply:os.system [ls]", "README.md: front matter is not plain YAML"),
        ("a: !!timestamp nonsense", "README.md: front matter is not plain YAML"),
        ("a: &x [1]\nb: *x", "README.md: front matter is not plain YAML"),
        ("a: " + "[" * 60_000, "README.md: front matter is not plain YAML"),
        ("? [a]\n: b", "README.md: front matter is not plain YAML"),
        ("- a\n- b", "README.md: front matter is not a mapping"),
        ("just words", "README.md: front matter is not a mapping"),
        ("a: " + "x" * 65_536, "README.md: front matter is over 64 KiB"),
    ],
)
def test_front_matter_that_cannot_be_read_is_noted_and_the_text_kept(
    tmp_path: Path, front: str, reason: str
) -> None:
    metadata = read(tmp_path, f"---\n{front}\n---\n# Title\n")
    assert skipped(metadata) == reason
    assert metadata.title == "Title"
    assert metadata.card == "# Title"


def test_front_matter_without_an_end_is_noted(tmp_path: Path) -> None:
    note = "README.md: front matter has no end within 128 KiB"
    assert skipped(read(tmp_path, "---\na: b\n")) == note
    assert skipped(read(tmp_path, "---\n" + "a: b\n" * 100_000)) == note


def test_a_file_that_is_no_text_is_noted(tmp_path: Path) -> None:
    for data in (b"\xff\xfe#\0", b"# a\0b", b"# Titl\xe9"):
        assert read(tmp_path, data) == Metadata(
            extra={"describe.skipped": "README.md: not UTF-8 text"}
        )


def test_values_that_fit_no_field_are_named(tmp_path: Path) -> None:
    metadata = read(
        tmp_path,
        "---\ncreated: someday\ntags: [ok, {a: b}]\nowner: {name: x}\nwidget: [{text: hi}]\n"
        f'"a\\u202eb": 1\nhuge: {"9" * 5000}.0\ntitle: "\\0"\n---\n',
    )
    assert metadata.labels == ("ok",)
    assert metadata.owner == metadata.title == ""
    note = "left out: title, owner, created, labels, card.widget, 'card.a\\u202eb'"
    assert skipped(metadata) == note
    assert metadata.extra["card.huge"] == "9" * 4096


def test_long_values_are_cut_at_a_character(tmp_path: Path) -> None:
    metadata = read(
        tmp_path,
        f"---\ntitle: {'语' * 600}\nnote: {'语' * 3000}\n---\n{'a' + '语' * 40_000}",
    )
    assert metadata.title == "语" * 512
    assert metadata.extra["card.note"] == "语" * 1365
    assert metadata.card == "a" + "语" * 21_845
    assert metadata.description == "a" + "语" * 1365


def test_a_file_that_ends_the_read_inside_a_character_is_text_all_the_same(tmp_path: Path) -> None:
    for lead in ("", "a", "aa"):
        assert read(tmp_path, lead + "语" * 60_000).card.startswith(lead + "语")


def test_lists_and_pairs_stop_at_their_limits(tmp_path: Path) -> None:
    tags = [f"tag {number}" for number in range(100)]
    more = "".join(f"key{number}: {number}\n" for number in range(300))
    metadata = read(tmp_path, f"---\ntags: {tags}\n{more}---\n")
    assert metadata.labels == tuple(tags[:64])
    assert len(metadata.extra) == 129
    assert skipped(metadata) == "left out: labels, extra"


def test_readme_goes_before_model_card_whatever_their_case(tmp_path: Path) -> None:
    files = []
    for name, text in (
        ("MODEL_CARD.md", "---\nlicence: mit\n---\n# Card"),
        ("ReadMe.md", "# Read me"),
        ("deep/README.md", "---\nowner: nobody\n---"),
    ):
        location = tmp_path / name
        location.parent.mkdir(exist_ok=True)
        location.write_text(text)
        files.append((name, location))
    assert describe(files) == Metadata(title="Read me", card="# Read me", licence="mit")


@pytest.mark.parametrize(
    "front",
    [
        "a: b\n" * 13_000,
        "".join(f"k{number}: [1, 2]\n" for number in range(4_000)),
        "tags: [" + "a," * 32_000 + "]",
        "a: " + "{a: " * 15_000,
        "a: '" + "''" * 32_000 + "'",
        "? " * 32_000,
        "- " * 32_000,
        "\n" * 65_000,
        "a: b\n" + " " * 65_000,
    ],
    ids=lambda front: front[:12],
)
def test_hostile_front_matter_costs_seconds_at_most(tmp_path: Path, front: str) -> None:
    began = process_time()
    read(tmp_path, f"---\n{front}\n---\n")
    assert process_time() - began < 20


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = st.sampled_from(
    ["title", "tags", "license", "author", "datasets", "base_model", "created", "model-index"]
)


@given(st.dictionaries(KEYS | st.text(max_size=8), JSON_LIKE, max_size=6))
def test_whatever_front_matter_holds_the_text_is_kept(
    tmp_path_factory: pytest.TempPathFactory, front: dict[str, object]
) -> None:
    text = yaml.safe_dump(front, allow_unicode=True, default_flow_style=None)
    folder = tmp_path_factory.mktemp("card")
    assert read(folder, f"---\n{text}---\nThe text.").card == "The text."
