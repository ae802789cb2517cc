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

Floats = NDArray[np.float64]
_STEP = 2.0**-53  # of uniform numbers
_BLOCK = 1 << 20  # numbers drawn at once: bounds memory
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

    def uniform(self, count: int) -> Floats:
        """(count,) numbers in (0, 1), multiples of 2**-54."""
        bits = np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)
        return ((bits >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53

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
