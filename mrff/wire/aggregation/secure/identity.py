"""Who a node is in secure sums, and what it insists on; both from its own configuration."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mrff.config import ConfigError
from mrff.wire.aggregation.secure.primitives import verify_key_of
from mrff.wire.aggregation.secure.shares import Identity

KEY, ROSTER = "secure-key", "secure-roster"
LEAST_NODES, SUMS_PER_ROUND = "secure-min-nodes", "secure-sums-per-round"
SECURE_KEYS = (KEY, ROSTER, LEAST_NODES, SUMS_PER_ROUND)


@dataclass(frozen=True)
class Pins:
    """What a node insists on, whatever the server says.

    Args:
        least_nodes: of a sum that it takes part in.
        sums_per_round: of one phase (training, evaluation, a query) that it helps to open.
    """

    least_nodes: int = 2
    sums_per_round: int = 4

    @classmethod
    def of(cls, node_config: Mapping[str, Any]) -> Pins:
        """From the node's configuration."""
        own = cls()
        return cls(
            int(node_config.get(LEAST_NODES, own.least_nodes)),
            int(node_config.get(SUMS_PER_ROUND, own.sums_per_round)),
        )


def identity_of(node_config: Mapping[str, Any]) -> Identity:
    """By ``secure-key`` and ``secure-roster``; a simulated node gets a key of the moment.

    Raises:
        ConfigError: a deployed node without key or roster, or a key that is not in the roster.
    """
    if KEY not in node_config and "partition-id" in node_config and "data-dir" not in node_config:
        return Identity.fresh(f"node-{node_config['partition-id']}")
    if KEY not in node_config or ROSTER not in node_config:
        raise ConfigError(
            "privacy.secure-aggregation=true needs a key of this node and the keys of all: make "
            "them with mrff deploy keys, start the node with "
            f'--node-config \'{KEY}="node-0/secure.key" {ROSTER}="node-0/secure-roster.json"\''
        )
    signing_key, roster = _signing_key(_path(node_config[KEY])), _roster(_path(node_config[ROSTER]))
    own = verify_key_of(signing_key)
    names = [name for name, key in roster.items() if key == own]
    if len(names) != 1:
        raise ConfigError(
            f"this node's {KEY} stands {len(names)} times in its {ROSTER}, it must stand there "
            "once: bring the roster that mrff deploy keys wrote with this key"
        )
    return Identity(names[0], signing_key, roster)


def _path(value: Any) -> Path:
    return Path(str(value)).expanduser()


def _signing_key(path: Path) -> bytes:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"this node's {KEY} cannot be read: {type(error).__name__}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"this node's {KEY} must be an Ed25519 key, as mrff deploy keys makes it")
    return key.private_bytes_raw()


def _roster(path: Path) -> dict[str, bytes]:
    try:
        listed = json.loads(path.read_text()).items()
        found = {str(name): b64decode(key, validate=True) for name, key in listed}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"this node's {ROSTER} cannot be read: {type(error).__name__}") from error
    if not found or any(len(key) != 32 for key in found.values()):
        raise ConfigError(f"this node's {ROSTER} must hold Ed25519 keys by the names of nodes")
    return found
