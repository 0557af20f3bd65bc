"""``config.json``, as the transformers library writes it."""

from __future__ import annotations

import json
from pathlib import Path

from modelhub.describe.draft import Draft

_CONFIG_BYTES = 1024 * 1024

_KEYS = (
    "model_type",
    "architectures",
    "transformers_version",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "vocab_size",
    "d_model",
    "num_layers",
    "n_embd",
    "n_layer",
    "n_head",
)


def read_config(name: str, location: Path, draft: Draft) -> None:
    """Add what the configuration at ``location`` says to ``draft``, if it has at most 1 MiB.

    Raises:
        OSError: it cannot be read.
    """
    with location.open("rb") as file:
        data = file.read(_CONFIG_BYTES + 1)
    if len(data) > _CONFIG_BYTES:
        draft.skip(f"{name}: over {_CONFIG_BYTES // 1024:,} KiB")
        return
    try:
        config = json.loads(data)  # which takes Infinity, as real configurations have it
    except (ValueError, RecursionError):
        draft.skip(f"{name}: not JSON")
        return
    if not isinstance(config, dict):
        draft.skip(f"{name}: not a JSON object")
        return
    if config.get("transformers_version"):
        draft.text("framework", "transformers")
    for key in _KEYS:
        draft.pair("extra", f"config.{key}", config.get(key))
    draft.pair("extra", "config.dtype", config.get("dtype") or config.get("torch_dtype"))
