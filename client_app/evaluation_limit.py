"""How many evaluations a node answers: each is a query that a crafted model may ask.

A node sets it by ``--node-config 'evaluation-limit=300'``. All runs that share its state folder
count together: a limit of each run would end with the next run. Those of private modes count as
well: in central-user the noise is the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mrff.config import ConfigError
from mrff.io.sqlite import opened, transaction

NAME = "evaluation-limit"
FILE = "evaluations.sqlite"
_SCHEMA = "CREATE TABLE answered (number INTEGER NOT NULL); INSERT INTO answered VALUES (0)"


def limit_of(node_config: Mapping[str, Any]) -> int | None:
    """The node's limit; None: it has none.

    Raises:
        ConfigError: no whole number from 0.
    """
    if NAME not in node_config:
        return None
    limit = node_config[NAME]
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ConfigError(f"this node's {NAME}={limit!r} must be a whole number from 0")
    return limit


def note_evaluation(folder: Path, limit: int) -> None:
    """Counts one more, durably, before anything is computed.

    Args:
        folder: the node's own that outlives runs, beside its ledger.

    Raises:
        ConfigError: that would be one too many.
    """
    with opened(folder / FILE, _SCHEMA) as database, transaction(database):
        database.execute("UPDATE answered SET number = number + 1")
        if database.execute("SELECT number FROM answered").fetchone()[0] > limit:
            raise ConfigError(
                f"this node has answered the {limit} evaluations of its {NAME}: evaluate less "
                f"often (evaluation.evaluate-every), or raise {NAME} in its --node-config"
            )
