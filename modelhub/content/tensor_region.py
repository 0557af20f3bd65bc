"""What stands between the brackets of a tensor: which bytes that is, and what shape it has."""

from __future__ import annotations

from math import prod
from operator import index as as_int
from typing import NamedTuple

from modelhub.errors import InvalidInput


class Region(NamedTuple):
    """Part of a tensor: one run of its bytes, and what is wanted of that.

    Attributes:
        offset: where the run begins in the tensor, in elements.
        run: the shape of what lies in the run: whole entries of the outer dimensions.
        within: what is wanted of each dimension of ``run``.
        shape: the shape of what is wanted.
    """

    offset: int
    run: tuple[int, ...]
    within: tuple[slice, ...]
    shape: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether all of the run is wanted, as it lies."""
        return all(
            part == slice(0, size, 1) for part, size in zip(self.within, self.run, strict=True)
        )


def region(shape: tuple[int, ...], key: object, *, in_columns: bool = False) -> Region:
    """The region that ``tensor[key]`` means, as numpy understands it.

    ``key`` is a whole number, a slice, an ellipsis, or a tuple of these. The run is as short as
    the first dimensions allow: whole entries of the first that is not narrowed to a number. Where
    the tensor lies ``in_columns`` these are its last, and ``run`` and ``within`` are reversed.

    Raises:
        InvalidInput: it is something else, or not inside the tensor.
    """
    keys = _one_each(shape, key)
    wanted = [_wanted(size, part) for size, part in zip(shape, keys, strict=True)]
    kept = tuple(len(found) for found, part in zip(wanted, keys, strict=True) if _is_slice(part))
    if not prod(map(len, wanted)):
        return Region(0, (0,), (slice(0, 0, 1),), kept)
    if in_columns:
        shape, wanted = shape[::-1], wanted[::-1]
    offset, outer = 0, True
    run, within = [], []
    for axis, (size, found) in enumerate(zip(shape, wanted, strict=True)):
        low, high = (min(found), max(found) + 1) if outer else (0, size)
        if outer:
            offset += low * prod(shape[axis + 1 :])
        outer = outer and high - low == 1
        run.append(high - low)
        stop = found.stop - low
        within.append(slice(found.start - low, stop if stop >= 0 else None, found.step))
    return Region(offset, tuple(run), tuple(within), kept)


def _one_each(shape: tuple[int, ...], key: object) -> list[object]:
    """A key for every dimension."""
    keys = list(key) if isinstance(key, tuple) else [key]
    dots = [at for at, part in enumerate(keys) if part is Ellipsis]
    missing = len(shape) - len(keys) + len(dots)
    if missing < 0 or len(dots) > 1:
        raise InvalidInput(
            f"{len(keys)} indices for a tensor of shape {list(shape)}",
            remedy="Give at most one for each dimension, and one ellipsis.",
        )
    at = dots[0] if dots else len(keys)
    return [*keys[:at], *[slice(None)] * missing, *keys[at + len(dots) :]]


def _wanted(size: int, key: object) -> range:
    """Which entries of a dimension."""
    try:
        if isinstance(key, slice):
            found = range(*key.indices(size))
            return found if len(found) != 1 else range(found[0], found[0] + 1)
        at = range(size)[as_int(key)]  # type: ignore[arg-type]  # checked by the call itself
    except (TypeError, ValueError, IndexError) as exc:
        raise InvalidInput(
            f"{key!r} is no index of a dimension of {size}: {exc}",
            remedy="Use whole numbers, slices and an ellipsis, inside the tensor.",
        ) from exc
    return range(at, at + 1)


def _is_slice(key: object) -> bool:
    return isinstance(key, slice)
