"""The tensors of a version, whichever of its files they are in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any

from modelhub.content.ahead import mapped
from modelhub.content.frameworks import casts
from modelhub.content.manifest import Manifest, ManifestFile
from modelhub.content.read import Reader
from modelhub.content.tensors import SUFFIXES, Tensor, contents, read_region
from modelhub.errors import InvalidInput, NotFound
from modelhub.names import shown
from modelhub.results import Listing, TensorInfo

_HEADERS_AT_ONCE = 4


class Tensors:
    """Named tensors, each read from the store when it is asked for; made by ``Hub.tensors``.

    In the shape of safetensors' ``safe_open``: loaders written for that work with this. Arrays are
    new and writable. Safe to use from several threads.
    """

    def __init__(
        self, reader: Reader, manifest: Manifest, files: Sequence[ManifestFile], framework: str
    ) -> None:
        self._cast = casts(framework)
        self._reader = reader
        self._manifest = manifest
        self._tensors: dict[str, Tensor] = {}
        self._metadata: dict[str, str] = {}
        read = partial(contents, reader, manifest)
        for found in [*mapped(read, looked_into(files), threads=_HEADERS_AT_ONCE)]:
            for tensor in found.tensors:
                self._add(tensor)
            self._metadata = found.metadata | self._metadata

    def __enter__(self) -> Tensors:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held open: this is for the sake of code that closes."""

    def keys(self) -> list[str]:
        """The names, file by file, and in the order in which they lie there."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str]:
        """The texts in the files' headers; where two files differ, what the first by path says."""
        return dict(self._metadata)

    def info(self, name: str) -> TensorInfo:
        """What one tensor is, and where.

        Raises:
            NotFound: there is none of this name.
        """
        return _info(self._tensor(name))

    def listing(self) -> Listing[TensorInfo]:
        """What each tensor is, and where, in the order of ``keys``."""
        return Listing(TensorInfo, [_info(tensor) for tensor in self._tensors.values()])

    def get_tensor(self, name: str) -> Any:
        """The whole tensor; nothing but the chunks that it lies in is read.

        Raises:
            NotFound: there is none of this name.
            InvalidInput: the framework has no such dtype.
            NotInstalled: numpy needs ml_dtypes for this dtype.
        """
        return self.get_slice(name)[...]

    def get_slice(self, name: str) -> TensorSlice:
        """The tensor for taking parts of it; nothing is read yet.

        Raises:
            NotFound: there is none of this name.
        """
        return TensorSlice(self, self._tensor(name))

    def read(self, tensor: Tensor, key: object) -> Any:
        """``tensor[key]`` as an array of the framework; see ``TensorSlice``."""
        cast = self._cast(tensor)
        try:
            data, shape = read_region(self._reader, self._manifest, tensor, key)
            return cast(data).reshape(shape)
        except (ValueError, OverflowError) as exc:
            raise InvalidInput(
                f"no array has the shape of {shown(tensor.name)}: {exc}",
                remedy="Read its bytes with `hub.open`.",
            ) from exc

    def _add(self, tensor: Tensor) -> None:
        other = self._tensors.setdefault(tensor.name, tensor)
        if other is not tensor:
            raise InvalidInput(
                f"{shown(tensor.name)} is in {shown(other.file.path)} and in "
                f"{shown(tensor.file.path)}",
                remedy="Narrow it down to files with names of their own by `include`.",
            )

    def _tensor(self, name: str) -> Tensor:
        found = self._tensors.get(name)
        if found is None:
            raise NotFound(
                f"there is no tensor {shown(str(name))}", remedy="`modelhub tensors` lists them."
            )
        return found


class TensorSlice:
    """A tensor of which parts are read, between brackets as with numpy."""

    def __init__(self, tensors: Tensors, tensor: Tensor) -> None:
        self._tensors = tensors
        self._tensor = tensor

    def get_shape(self) -> list[int]:
        """Its dimensions, outermost first."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """Its dtype, as safetensors spells it: ``BF16``, ``F32``."""
        return self._tensor.dtype

    def __getitem__(self, key: object) -> Any:
        """The part that whole numbers, slices and an ellipsis say.

        Read are the chunks of whole entries of the first dimension that is not narrowed to one
        entry: ``[3]`` and ``[3:5]`` read only these, ``[:, 3]`` reads all.

        Raises:
            InvalidInput: it is no such key, or not inside the tensor; or as for ``get_tensor``.
            NotInstalled: as for ``get_tensor``.
        """
        return self._tensors.read(self._tensor, key)


def looked_into(files: Sequence[ManifestFile]) -> list[ManifestFile]:
    """The files that a version's tensors are looked for in.

    Raises:
        NotFound: it has none of those that are known.
    """
    for suffixes in SUFFIXES:
        found = [file for file in files if file.path.endswith(suffixes)]
        if found:
            return found
    raise NotFound(
        f"none of the files ends in {' or '.join(suffix for kind in SUFFIXES for suffix in kind)}",
        remedy="`modelhub show --files` lists them; read others with `hub.open`.",
    )


def _info(tensor: Tensor) -> TensorInfo:
    return TensorInfo(
        name=tensor.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        size_bytes=tensor.size_bytes,
        file=tensor.file.path,
    )
