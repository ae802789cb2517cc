"""Arrays rounded at random to 8 or 4 bits, which is how they travel where a run compresses them.

Each row has a scale of its own, at least its largest magnitude, and each value becomes one of the
two neighbouring steps of that scale, itself on average (stochastic rounding: Alistarh et al.,
"QSGD", 2017). So sums over rounded arrays are unbiased. Where columns differ much in size, they
have factors beside: a head's weights of a small input, as users' own embeddings are, would else be
noise in rows of large ones, and Adam makes as long steps of it. What is left is coded by zlib: zstd
would be a dependency more and makes no less of it.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrff.wire.packing import pack, unpack

Arrays = dict[str, NDArray[np.float32]]
LEAST_ROW = 64  # narrower rows share a scale, which costs a byte
MOST = 2**31 - 1  # bytes that a block may unpack to: no message without compression has more
UNEVEN = 8.0  # where a column is so many times larger than another, all have factors
_ZEROS = 255  # the scale of a row of zeros
_FACTORS = np.append(np.exp2(-np.arange(_ZEROS) / 8.0), 0.0)  # of an array's largest magnitude
_HEADER, _LARGEST, _SCALES, _VALUES = "arrays", "largest", "scales", "values"
_UNEVEN, _COLUMNS = "uneven", "columns"  # which arrays have factors of columns, and these


@dataclass(frozen=True)
class Rounding:
    """To this many bits a value.

    Args:
        bits: 8 or 4.
    """

    bits: int

    @property
    def format(self) -> str:
        """How a record says that its bytes are to be read so."""
        return f"rounded-{self.bits}"

    @property
    def levels(self) -> int:
        """Steps from zero to a row's scale, either way."""
        return int(2 ** (self.bits - 1)) - 1

    def pack(self, arrays: Mapping[str, NDArray[Any]], seed: int) -> bytes:
        """The arrays, rounded by draws that depend on ``seed`` and on the arrays alone.

        What is not finite is no number afterwards either: whoever reads it refuses it.
        """
        exact = {n: np.asarray(a, np.float32, order="C") for n, a in sorted(arrays.items())}
        draws = np.random.default_rng(_key(exact, seed))
        columns = [_columns_of(array) for array in exact.values()]
        rounded = [
            self._rounded(_even(a, c), draws) for a, c in zip(exact.values(), columns, strict=True)
        ]
        values = np.concatenate([np.zeros(0, np.int8), *(values for _, _, values in rounded)])
        named = [[name, array.shape] for name, array in exact.items()]
        parts: dict[str, NDArray[Any]] = {
            _HEADER: np.frombuffer(json.dumps(named, separators=(",", ":")).encode(), np.uint8),
            _LARGEST: np.array([largest for largest, _, _ in rounded], np.float32),
            _SCALES: np.concatenate([np.zeros(0, np.uint8), *(scales for _, scales, _ in rounded)]),
            _VALUES: self._joined(values),
            _UNEVEN: np.array([len(codes) > 0 for codes in columns], np.uint8),
            _COLUMNS: np.concatenate([np.zeros(0, np.uint8), *columns]),
        }
        return zlib.compress(pack(parts))

    def unpack(self, block: bytes, most: int = MOST) -> Arrays:
        """The inverse of `pack`, up to the rounding.

        Args:
            most: bytes that the block may unpack to; more are never allocated.

        Raises:
            ValueError: it is no such block.
        """
        parts = unpack(_inflated(block, most))
        if {n: (a.dtype, a.ndim) for n, a in parts.items()} != _KINDS:
            raise ValueError("it holds other parts than rounded arrays have")
        named = list(_named(parts[_HEADER].tobytes()))
        rows = [_rows(shape) for _, shape in named]
        largest, scales = parts[_LARGEST], parts[_SCALES]
        total = sum(math.prod(shape) for _, shape in named)
        uneven, columns = parts[_UNEVEN].astype(bool), parts[_COLUMNS]
        wide = sum(_width(shape) for (_, shape), has in zip(named, uneven, strict=False) if has)
        found = len(largest), len(scales), len(parts[_VALUES]), len(uneven), len(columns)
        scaled, packed = sum(count for count, _ in rows), -(-total * self.bits // 8)
        claimed = len(named), scaled, packed, len(named), wide
        if found != claimed:
            raise ValueError(f"its header claims {claimed} scales and bytes, it holds {found}")
        values = self._parted(parts[_VALUES], total)
        if np.abs(values.astype(np.int16)).max(initial=0) > self.levels:
            raise ValueError(f"it holds a value beyond {self.levels} steps")
        arrays, first, row, column = {}, 0, 0, 0
        for (name, shape), (count, width), top, has in zip(
            named, rows, largest.tolist(), uneven.tolist(), strict=True
        ):
            if not (math.isfinite(top) and top >= 0.0):
                raise ValueError(f"array {name} has the scale {top}, not a finite one from 0 up")
            size = math.prod(shape)
            of_row = (_FACTORS[scales[row : row + count]] * (top / self.levels)).astype(np.float32)
            of_value = np.repeat(of_row, width)[:size]
            array = values[first : first + size] * of_value
            if has and size:
                codes = columns[column : column + _width(shape)]
                array = (array.reshape(-1, len(codes)) * _FACTORS[codes]).astype(np.float32)
                column += len(codes)
            arrays[name] = array.reshape(shape)
            first, row = first + size, row + count
        return arrays

    def _rounded(
        self, array: NDArray[np.float32], draws: np.random.Generator
    ) -> tuple[float, NDArray[np.uint8], NDArray[np.int8]]:
        """The largest magnitude, codes of the rows' scales, and steps of all values."""
        count, width = _rows(array.shape)
        rows = np.zeros((count, width), np.float32)
        rows.reshape(-1)[: array.size] = array.reshape(-1)
        tops = np.abs(rows).max(axis=1, initial=0.0).astype(np.float64)
        largest = float(tops.max(initial=0.0))
        if not (math.isfinite(largest) and largest > 0.0):
            return largest, np.full(count, _ZEROS, np.uint8), np.zeros(array.size, np.int8)
        scales = _codes(tops, largest)
        steps = _FACTORS[scales] * (largest / self.levels)  # float64: none of them is too small
        rows /= np.where(steps > 0.0, steps, 1.0)[:, None]
        rows += draws.random(rows.shape, dtype=np.float32)
        steps_of = np.clip(np.floor(rows), -self.levels, self.levels).astype(np.int8)
        return largest, scales, steps_of.reshape(-1)[: array.size]

    def _joined(self, values: NDArray[np.int8]) -> NDArray[np.uint8]:
        if self.bits == 8:
            return values.view(np.uint8)
        nibbles = np.zeros(-(-len(values) // 2) * 2, np.uint8)
        nibbles[: len(values)] = values + self.levels
        return np.asarray(nibbles[::2] << 4 | nibbles[1::2], np.uint8)

    def _parted(self, joined: NDArray[np.uint8], total: int) -> NDArray[np.int8]:
        if self.bits == 8:
            return joined.view(np.int8)
        nibbles = np.stack([joined >> 4, joined & 15], axis=1).reshape(-1)[:total]
        return nibbles.astype(np.int8) - np.int8(self.levels)


ROUNDINGS = {rounding.format: rounding for rounding in (Rounding(8), Rounding(4))}
"""By how records name them."""
_KINDS = {
    _HEADER: (np.dtype(np.uint8), 1),
    _LARGEST: (np.dtype(np.float32), 1),
    _SCALES: (np.dtype(np.uint8), 1),
    _VALUES: (np.dtype(np.uint8), 1),
    _UNEVEN: (np.dtype(np.uint8), 1),
    _COLUMNS: (np.dtype(np.uint8), 1),
}


def _key(arrays: Mapping[str, NDArray[Any]], seed: int) -> int:
    """The same for the same arrays, whoever rounds them and when."""
    digest = blake2b(str(seed).encode(), digest_size=16)
    for name, array in arrays.items():
        digest.update(f"{name} {array.shape}".encode())
        digest.update(array.data)
    return int.from_bytes(digest.digest(), "little")


def _codes(tops: NDArray[np.float64], largest: float) -> NDArray[np.uint8]:
    """The least of `_FACTORS` that times ``largest``, which is finite, is at least each top."""
    with np.errstate(divide="ignore"):
        codes = np.floor(8.0 * (np.log2(largest) - np.log2(tops)))
    return np.where(tops > 0.0, np.minimum(codes, _ZEROS - 1), _ZEROS).astype(np.uint8)


def _columns_of(array: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Codes of a matrix's factors by column; none where they are much alike, or not finite."""
    width = _width(array.shape)
    if array.ndim < 2 or not array.size:
        return np.zeros(0, np.uint8)
    tops = np.abs(array.reshape(-1, width)).max(axis=0).astype(np.float64)
    some = tops[tops > 0.0]
    if not len(some) or not np.isfinite(some).all() or some.max() <= UNEVEN * some.min():
        return np.zeros(0, np.uint8)
    return _codes(tops, float(some.max()))


def _even(array: NDArray[np.float32], codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The array without the factors of its columns, no value of it larger than its largest."""
    if not len(codes):
        return array
    factors = _FACTORS[codes]
    even = array.reshape(-1, len(codes)) / np.where(factors > 0.0, factors, 1.0)
    return np.asarray(even.reshape(array.shape), np.float32)


def _width(shape: tuple[int, ...]) -> int:
    """Columns of a matrix."""
    return math.prod(shape[1:])


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    """How many scales an array has, and of how many values each."""
    size = math.prod(shape)
    width = math.prod(shape[1:]) if len(shape) > 1 else size
    if 0 < width < LEAST_ROW:
        width *= -(-LEAST_ROW // width)
    return (-(-size // width) if size else 0), max(width, 1)


def _inflated(block: bytes, most: int) -> bytes:
    inflate = zlib.decompressobj()
    try:
        raw = inflate.decompress(block, most + 1)
    except zlib.error as error:
        raise ValueError(f"not zlib: {error}") from error
    if len(raw) > most:
        raise ValueError(f"it unpacks to more than {most} bytes")
    if not inflate.eof or inflate.unused_data:
        raise ValueError("not zlib: it is cut off, or something follows it")
    return raw


def _named(header: bytes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes."""
    try:
        found = [(name, tuple(shape)) for name, shape in json.loads(header)]
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its header cannot be read: {error}") from error
    if len({repr(name) for name, _ in found}) != len(found):
        raise ValueError("its header names an array twice")
    for name, shape in found:
        whole = all(type(side) is int and 0 <= side <= MOST for side in shape)
        if not (isinstance(name, str) and whole and len(shape) <= 32):
            raise ValueError(f"its header says of an array that it has the shape {shape!r}")
        yield name, shape
