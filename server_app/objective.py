"""What a run learns, once its data is known, and whether that data can teach it."""

from __future__ import annotations

from mrff.config import ConfigError, RunConfig
from mrff.data.schema import Schema


def settled(config: RunConfig, schema: Schema) -> RunConfig:
    """The configuration with what it leaves to the data decided, as nodes decide it.

    Raises:
        ConfigError: a measure to choose the best round by that the objective does not have, or
            data without labels, with one label only, without item features, or with ids alone
            where a network reads none, for an objective that needs them.
    """
    from mrff.metrics import READS, metric_named  # brings PyTorch

    config = config.for_data(schema.kind)
    objective, name = config.objective, config.data.dataset
    chosen = config.evaluation.select_best_by
    if chosen and not metric_named(chosen).reads <= READS[objective]:
        raise ConfigError(
            f"evaluation.select-best-by={chosen} cannot go with training.objective={objective}, "
            "which measures no such thing; leave it at auto"
        )
    if objective != "next" and schema.one_class:
        raise ConfigError(
            f"training.objective={objective} cannot go with data.dataset={name}: by its label rule "
            f"{schema.label_rule!r} no row is {schema.one_class}; choose training.objective=next, "
            "or prepare it with another rule"
        )
    if not schema.item_features:
        raise ConfigError(
            f"training.objective={objective} cannot go with data.dataset={name}: its items have "
            "neither an id nor other features to be told apart by; prepare it with an id "
            '([items.features], item = "id")'
        )
    if config.network.item_ids == "features" and all(f.kind == "id" for f in schema.item_features):
        raise ConfigError(
            f"network.item-ids=features cannot go with data.dataset={name}: its items have an id "
            "and nothing else; use network.item-ids=hashed"
        )
    return config
