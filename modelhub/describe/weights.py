"""The headers of safetensors files: their size in parameters, and what was written into them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from modelhub.content.safetensors_layout import safetensors_header
from modelhub.describe.draft import Draft

_FRAMEWORKS = {"pt": "pytorch", "tf": "tensorflow", "np": "numpy"}


def read_weights(files: Sequence[tuple[str, Path]], draft: Draft) -> None:
    """Add to ``draft`` what the headers of safetensors files say, shards of one model as a whole.

    One that cannot be read is skipped, and noted.
    """
    tensors = parameters = 0
    dtypes: set[str] = set()
    for name, location in files:
        try:
            with location.open("rb") as file:
                header = safetensors_header(file, location.stat().st_size)
        except OSError as exc:
            draft.skip(f"{name}: {exc.strerror}")
            continue
        if header is None:
            draft.skip(f"{name}: not a safetensors file")
            continue
        tensors += len(header.tensors)
        parameters += sum(math.prod(tensor.shape) for tensor in header.tensors.values())
        dtypes.update(tensor.dtype for tensor in header.tensors.values())
        for key, value in header.metadata.items():
            if key == "format":
                draft.text("framework", _FRAMEWORKS.get(value, value))
            draft.pair("extra", f"safetensors.{key}", value)
    if tensors:
        draft.pair("extra", "weights.tensors", tensors)
        draft.pair("extra", "weights.parameters", parameters)
        draft.pair("extra", "weights.dtypes", ", ".join(sorted(dtypes)))
