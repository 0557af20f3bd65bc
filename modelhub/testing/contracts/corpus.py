"""Documents and searches for the contract of ``SearchIndex``: chosen ones, and random ones."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

MODELS: dict[str, dict[str, Any]] = {
    "nlp": {
        "name": "nlp.sentiment-v2",
        "number": 3,
        "current": True,
        "title": "Sentiment of short texts",
        "description": "基于BERT的中文情感分析模型",
        "labels": ["中文", "NLP"],
        "owner": "Ops Team",
        "creator": "li",
        "actor": "ci",
        "datasets": ["reviews-2025"],
        "framework": "PyTorch",
        "licence": "Apache-2.0",
        "aliases": ["champion"],
        "branches": ["main"],
        "tags": ["v1.0"],
        "bases": ["nlp.base@1", "google-bert/bert-base-chinese"],
        "parents": ["nlp.sentiment-v2@2"],
        "origin": [],
        "digest": "5f0c93ab",
        "message": "a longer vocabulary",
        "size_bytes": 2_000_000_000,
        "files": 3,
        "created": "2026-01-31T23:59:59.999999+00:00",
        "params": {"lr": 0.01, "optimizer": "AdamW", "warm up": True, "depth": "12"},
        "metrics": {"f1": 0.93, "top-1": 91},
        "extra": {"config.hidden_size": 768},
    },
    "vision": {
        "name": "vision.ocr",
        "number": 10,
        "current": True,
        "title": "Printed text in photographs",
        "labels": ["ocr"],
        "owner": "vision",
        "framework": "onnx",
        "size_bytes": 2_000_000_001,
        "files": 1,
        "created": "2026-02-01T00:00:00+00:00",
        "params": {"lr": 1, "depth": 12},
        "metrics": {"f1": -0.5},
    },
}
_NLP, _VISION, _BOTH = ["nlp"], ["vision"], ["nlp", "vision"]
CLAUSES: list[tuple[str, list[str]]] = [
    ("name:nlp", _NLP),
    ("name:sentiment-v2", _NLP),
    ('name:"nlp.sentiment-v2"', _NLP),
    ('name:"nlp.sentiment"', []),
    ("name:nlp.sent*", _NLP),
    ("name:sent*", []),
    ("title:text", _BOTH),
    ('title:"short texts"', _NLP),
    ('title:"texts short"', []),
    ("title:bert", []),
    ("description:情感分析", _NLP),
    ("description:情析", []),
    ("BERT的中文", _NLP),
    ("message:vocabulary", _NLP),
    ("vocabulary", []),
    ("label:nlp", _NLP),
    ("labels:中文", _NLP),
    ("label:n", []),
    ("owner:ops", []),
    ('owner:"ops  TEAM"', _NLP),
    ("owner:op*", _NLP),
    ("creator:li", _NLP),
    ("actor:ci", _NLP),
    ("dataset:reviews-2025", _NLP),
    ("framework:pytorch", _NLP),
    ("license:apache-2.0 licence:APACHE*", _NLP),
    ("alias:champion branch:main tag:v1.0", _NLP),
    ("base:nlp.base@*", _NLP),
    ("base:google-bert/bert-base-chinese", _NLP),
    ("parent:nlp.sentiment-v2@2", _NLP),
    ("origin:nlp.sentiment-v2@1", []),
    ("digest:5f0c*", _NLP),
    ("size:2GB", _NLP),
    ("size:>2GB", _VISION),
    ("size:>=2GB", _BOTH),
    ("size:<=2000000kB", _NLP),
    ("size:1.9GB..2GB", _NLP),
    ("files:..2", _VISION),
    ("number:4..", _VISION),
    ("number:3..10", _BOTH),
    ("created:2026-01", _NLP),
    ("created:2026-01-31", _NLP),
    ("created:2026", _BOTH),
    ("created:>2026-01-31", _VISION),
    ("created:>=2026-01-31", _BOTH),
    ("created:<=2026-01-31", _NLP),
    ("created:<2026-02-01", _NLP),
    ("created:2026-01-31..2026-02-01", _BOTH),
    ("created:2026-02-01T00:00Z", _VISION),
    ("created:2026-02-01T01:00+01:00", _VISION),
    ("param.lr:0.01..0.1", _NLP),
    ("param.lr:0.01", _NLP),
    ("params.lr:>0.01", _VISION),
    ("param.optimizer:adamw", _NLP),
    ("param.optimizer:adam*", _NLP),
    ('param."warm up":true', _NLP),
    ("param.depth:12", _VISION),
    ('param.depth:"12"', _NLP),
    ("metric.top-1:91", _NLP),
    ("metric.f1:<0", _VISION),
    ("metric.F1:0.93", []),
    ("extra.config.hidden_size:>=768", _NLP),
    ("param.lr:0.01 metric.f1:<0", []),
    ("NOT framework:onnx", _NLP),
    ("NOT param.nothing:1", _BOTH),
    ("owner:vision OR label:中文", _BOTH),
]
"""Searches, and which of ``MODELS`` each finds."""

_WORDS = (
    *("alpha", "beta", "betas", "translation", "translating", "gamma.delta", "v2", "the", "of"),
    *("情感", "情感分析", "感", "析情", "分析的模型", "BERT情感", "café", "CAFE", "!", "x-1"),
)
_TEXTS = st.lists(st.sampled_from(_WORDS), max_size=6).map(" ".join)
_KEYWORDS = st.sampled_from(["a", "A", "ab", "a b", "é", "情感", ""])
_NUMBERS = st.sampled_from([0, 1, 2, -1, 10, 2**53 + 1])
_SCALARS = _KEYWORDS | st.sampled_from([0, 1, 0.5, -1.5, True, False, 1e300])

BODIES = st.fixed_dictionaries(
    {},
    optional={
        "current": st.booleans(),
        "name": st.sampled_from(["alpha", "alpha.beta", "gamma.delta", "v2"]),
        "title": _TEXTS,
        "description": _TEXTS,
        "card": _TEXTS,
        "message": _TEXTS,
        "labels": st.lists(_KEYWORDS | _TEXTS, max_size=3),
        "owner": _KEYWORDS,
        "number": _NUMBERS,
        "size_bytes": _NUMBERS,
        "created": st.sampled_from(["2026-01-01T00:00:00+00:00", "1969-12-31T23:59:59.9999+00:00"]),
        "params": st.dictionaries(st.sampled_from(["a", "b"]), _SCALARS),
    },
)

_FIELDED = st.builds(
    "{}:{}".format,
    st.sampled_from(["name", "title", "message", "label", "owner"]),
    st.sampled_from(_WORDS[:-2]),
)
_QUOTED = st.builds(
    '{}"{}"'.format,
    st.sampled_from(["", "", "title:", "message:"]),
    _TEXTS,
) | st.builds(
    '{}:"{}"'.format, st.sampled_from(["name", "owner", "param.a"]), _KEYWORDS.filter(bool)
)
_PREFIXES = st.builds(
    "{}:{}*".format, st.sampled_from(["name", "label", "owner", "param.a"]), st.sampled_from("aA情")
)
_RANGES = st.builds(
    "{}:{}{}".format,
    st.sampled_from(["number", "size", "param.a", "param.b"]),
    st.sampled_from(["", ">", ">=", "<", "<="]),
    st.sampled_from(["0", "1", "0.5", "9007199254740992", "9007199254740993", "1e20"]),
) | st.sampled_from(["created:1969", "created:>1969", "number:0..1", "param.a:-1.5..0.5"])
_LEAVES = st.sampled_from(_WORDS) | _FIELDED | _QUOTED | _PREFIXES | _RANGES


def _nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, min_size=2, max_size=3)
    return (
        several.map(" AND ".join)
        | several.map(" OR ".join)
        | several.map(" ".join)
        | inner.map("NOT ({})".format)
    ).map("({})".format)


QUERIES = st.one_of(
    st.recursive(_LEAVES, _nested, max_leaves=6),
    st.lists(st.sampled_from(_WORDS) | _QUOTED, min_size=1, max_size=6).map(" ".join),
    st.lists(_LEAVES, min_size=1, max_size=5).map(" ".join),
)
"""Searches about ``BODIES``, many of which some of those match."""
