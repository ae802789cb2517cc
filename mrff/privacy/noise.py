"""Privacy noise and secret coins from a cryptographic stream.

PyTorch's and NumPy's generators can be rebuilt from their output, and PyTorch's CPU generator is
seeded with 32 bits only. Here the bits are a ChaCha20 stream under a key of 256 fresh bits from the
operating system. Values are computed in float64 and rounded to float32 together with what they
hide; the low bits that give float noise away (Mironov 2012; Holohan and Braghin 2021) do not
survive that rounding. A test may make the streams predictable in its own process; no
configuration and no environment can.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

from mrff.privacy.skellam import skellam_table

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]
_STEP = 2.0**-53  # of uniform numbers
_BLOCK = 1 << 20  # numbers drawn at once: bounds memory
_CACHED = 1 << 16  # numbers rounded at once: they stay in the cache
_test_seed: int | None = None


@contextmanager
def predictable(seed: int) -> Iterator[None]:
    """For tests: meanwhile streams of this process depend on ``seed`` and their purpose alone."""
    global _test_seed
    before, _test_seed = _test_seed, seed
    try:
        yield
    finally:
        _test_seed = before


def is_predictable() -> bool:
    """Whether a test makes noise predictable; then coins and streams are keyed by user as well."""
    return _test_seed is not None


class NoiseSource:
    """A stream of independent random numbers.

    Args:
        seed: None for a fresh secret key. A number makes the stream predictable: for tests only.
        purpose: streams of one seed with different purposes are independent.
    """

    def __init__(self, seed: int | None = None, purpose: str = "") -> None:
        seed = _test_seed if seed is None else seed
        self.is_secret = seed is None
        if seed is None:
            key = secrets.token_bytes(32)
        else:
            key = blake2b(f"{seed}/{purpose}".encode(), digest_size=32).digest()
        self._stream = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()

    def words(self, count: int) -> NDArray[np.uint64]:
        """(count,) numbers of 64 random bits."""
        return np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)

    def uniform(self, count: int) -> Floats:
        """(count,) numbers in (0, 1), multiples of 2**-54."""
        return ((self.words(count) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53

    def exponential(self, count: int) -> Floats:
        """(count,) exponential numbers of mean 1, without an upper end.

        -log of a uniform number ends at 37.4, beyond which noise would never hide anything. The
        distribution has no memory: behind the last of the 2**53 steps it begins anew.
        """
        uniform = self.uniform(count)
        found = -np.log(uniform)
        (last,) = np.nonzero(uniform < _STEP)
        if len(last):
            found[last] = self.exponential(len(last)) - math.log(_STEP)
        return found

    def coins(self, count: int, rate: float) -> NDArray[np.bool_]:
        """(count,) booleans, each true with probability ``rate``."""
        return self.uniform(count) < rate

    def gaussian(self, shape: tuple[int, ...], deviation: float) -> Floats:
        """Independent normal numbers of mean 0 (Box and Muller 1958)."""
        noise = np.empty(math.prod(shape))
        for first in range(0, len(noise), _BLOCK):
            part = noise[first : first + _BLOCK]
            half = (len(part) + 1) // 2
            radius = np.sqrt(2.0 * self.exponential(half))
            angle = 2.0 * np.pi * self.uniform(half)
            part[:half] = radius * np.cos(angle)
            part[half:] = (radius * np.sin(angle))[: len(part) - half]
        noise *= deviation
        return noise.reshape(shape)

    def noised(self, values: Floats, deviation: float) -> Floats:
        """``values`` with Gaussian noise, as they may be seen: rounded to float32 together.

        Of a float64 sum the low bits are those of the noise: they tell what it was added to.
        """
        noisy = values + self.gaussian(values.shape, deviation)
        return noisy.astype(np.float32).astype(np.float64)

    def laplace_sums(self, shape: tuple[int, ...], scale: float, count: int) -> Floats:
        """Sums of ``count`` independent Laplace numbers of mean 0."""
        total = np.zeros(math.prod(shape))
        for first in range(0, len(total), _BLOCK):
            part = total[first : first + _BLOCK]
            for _ in range(count):  # the difference of two exponential numbers
                part -= self.exponential(len(part))
                part += self.exponential(len(part))
        total *= scale
        return total.reshape(shape)

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each value as one of the two whole numbers beside it, itself on average.

        The average is off by at most 2**-24, what the fractions are compared in.
        """
        flat = values.ravel()
        whole = np.empty_like(flat)
        for first in range(0, len(flat), _CACHED):
            part, of_part = flat[first : first + _CACHED], whole[first : first + _CACHED]
            np.floor(part, out=of_part)
            bits = self.words((len(part) + 1) // 2).view(np.uint32)[: len(part)]
            coins = (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)
            of_part += coins < part - of_part
        return whole.reshape(values.shape)

    def skellam(self, shape: tuple[int, ...], variance: int) -> Whole:
        """Independent Skellam numbers of mean 0 (see `mrff.privacy.skellam`).

        Raises:
            ValueError: the variance is below 1, or too large.
        """
        table = skellam_table(variance)
        noise = np.empty(math.prod(shape), np.int64)
        for first in range(0, len(noise), _BLOCK):
            part = noise[first : first + _BLOCK]
            words = self.words(len(part))
            high = words >> np.uint64(1)
            above = np.searchsorted(table.high, high, side="right")
            part[:] = len(table.high) - above
            # A number as large as a bound's high bits: 64 more decide, once in 10**14.
            for place in np.flatnonzero(table.high[np.maximum(above - 1, 0)] == high):
                same = table.low[table.high == high[place]]
                part[place] += int((same > self.words(1)[0]).sum())
            part[(words & np.uint64(1)) == 1] *= -1
        return noise.reshape(shape)
