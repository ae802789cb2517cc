"""Whether a run's dataset is there, asked before anything heavy is imported or started."""

from __future__ import annotations

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import check_nodes
from mrff.data.schema import SCHEMA_FILE, Schema


def is_prepared(config: RunConfig) -> bool:
    """Whether the folder holds a dataset; where not, a dataset with a recipe can be prepared.

    Raises:
        ConfigError: ``data-dir`` names a folder that holds none.
    """
    found = (config.dataset_path / SCHEMA_FILE).exists()
    if not found and config.data.data_dir:
        raise ConfigError(
            f"data-dir={config.data.data_dir!r} holds no prepared dataset "
            f"({config.dataset_path / SCHEMA_FILE} is missing); make it with: mrff data prepare"
        )
    return found


def check_everybody_has_users(nodes: int, schema: Schema) -> None:
    """Whether the users of a dataset go round among the nodes of a simulation.

    Raises:
        DataError: there are fewer users than nodes.
    """
    users = schema.counts.get("users")
    if users is not None:
        check_nodes(nodes, int(users))
