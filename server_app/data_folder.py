"""A run's dataset: whether it is there, and its catalogue, before anything heavy is imported."""

from __future__ import annotations

from logging import getLogger

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Catalogue, check_nodes, load_catalogue
from mrff.data.schema import SCHEMA_FILE, Schema

log = getLogger("flwr")


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


def open_catalogue(config: RunConfig) -> Catalogue:
    """Reads the catalogue; a dataset with a recipe is prepared on its first use.

    Raises:
        ConfigError: ``data-dir`` holds no prepared dataset.
        DataError: the dataset cannot be prepared or read.
    """
    if not is_prepared(config):
        _prepare(config)
    return load_catalogue(config.dataset_path)


def check_everybody_has_users(nodes: int, schema: Schema) -> None:
    """Whether the users of a dataset go round among the nodes of a simulation.

    Raises:
        DataError: there are fewer users than nodes.
    """
    users = schema.counts.get("users")
    if users is not None:
        check_nodes(nodes, int(users))


def _prepare(config: RunConfig) -> None:
    from mrff.data.prepare import prepare  # pyarrow's readers: a prepared dataset needs none

    log.info("preparing dataset %s in %s (first use)", config.data.dataset, config.dataset_path)
    reported: set[str] = set()

    def progress(stage: str, done: int, total: int | None) -> None:
        if stage not in reported:
            reported.add(stage)
            log.info("  %s", stage)

    prepare(config.data.dataset, out=config.dataset_path, progress=progress)
