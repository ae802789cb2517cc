"""The cryptography of secure sums: all of it from ``cryptography``, each piece with its purpose.

Agreement is X25519, keys are derived by HKDF with SHA-256, masks are ChaCha20 keystreams, what only
one node may read is sealed by ChaCha20-Poly1305, signatures are Ed25519. Every key has one purpose
and one use: so nonces are zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

KEY_BYTES, SIGNATURE_BYTES = 32, 64
_NONCE, _SEAL_NONCE = bytes(16), bytes(12)
_BLOCK = 1 << 16  # bytes of keystream at once: stay in the cache, a third of the time of 2^22


class SecureError(ValueError):
    """A secure sum cannot go on: somebody broke off, or did what the protocol forbids."""


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, each with its length, so that no two lists of parts run together."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "little"))
        hashed.update(part)
    return hashed.digest()


def names_digest(names: Iterable[str]) -> bytes:
    """Of a set of nodes, in whatever order."""
    return digest(*(name.encode() for name in sorted(names)))


def public_of(private: bytes) -> bytes:
    """The public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def derived_key(secret: bytes, about: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose, from a secret of as many."""
    return HKDF(SHA256(), KEY_BYTES, salt=about, info=purpose.encode()).derive(secret)


def agreed_key(private: bytes, public: bytes, about: bytes, purpose: str) -> bytes:
    """The key that two nodes share and nobody else knows; the same from either side.

    Raises:
        SecureError: ``public`` is no key, or one that would make the secret known to all.
    """
    try:
        other = X25519PublicKey.from_public_bytes(public)
        secret = X25519PrivateKey.from_private_bytes(private).exchange(other)
    except ValueError as error:
        raise SecureError(f"a node's public key cannot be used: {error}") from error
    return derived_key(secret, about, purpose)


def add_keystream(values: NDArray[np.unsignedinteger], key: bytes, *, subtract: bool) -> None:
    """Adds the ChaCha20 stream of ``key`` to unsigned ``values``, which wrap around, in place."""
    stream = Cipher(algorithms.ChaCha20(key, _NONCE), mode=None).encryptor()
    step = _BLOCK // values.itemsize
    for first in range(0, len(values), step):
        part = values[first : first + step]
        mask = np.frombuffer(stream.update(bytes(part.nbytes)), dtype=part.dtype)
        (np.subtract if subtract else np.add)(part, mask, out=part)


def sealed(key: bytes, content: bytes, about: bytes) -> bytes:
    """``content`` for whoever has ``key``, bound to what it is about."""
    return ChaCha20Poly1305(key).encrypt(_SEAL_NONCE, content, about)


def unsealed(key: bytes, content: bytes, about: bytes) -> bytes:
    """The inverse of `sealed`.

    Raises:
        SecureError: it was changed, or is about something else.
    """
    try:
        return ChaCha20Poly1305(key).decrypt(_SEAL_NONCE, content, about)
    except InvalidTag as error:
        raise SecureError("a sealed share was changed or belongs to another round") from error


def verify_key_of(signing_key: bytes) -> bytes:
    """The public half of an Ed25519 key."""
    return Ed25519PrivateKey.from_private_bytes(signing_key).public_key().public_bytes_raw()


def signature(signing_key: bytes, content: bytes) -> bytes:
    """64 bytes."""
    return Ed25519PrivateKey.from_private_bytes(signing_key).sign(content)


def is_signed(verify_key: bytes, content: bytes, found: bytes) -> bool:
    """Whether ``found`` is the signature of ``content`` by that key."""
    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(found, content)
    except (InvalidSignature, ValueError):
        return False
    return True
