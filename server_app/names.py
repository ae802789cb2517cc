"""Whether the names in a configuration are those of registered things, asked before a run."""

from __future__ import annotations

from mrff.config import ConfigError, RunConfig


def check_names(config: RunConfig) -> None:
    """Looks the configured names up where they are registered.

    Raises:
        ConfigError: one is unknown, or its settings cannot go together.
    """
    from mrff.algorithms import algorithm_of  # these bring PyTorch
    from mrff.metrics import metric_named
    from mrff.privacy.mechanisms import mechanism_of
    from mrff_model.backbones import backbone_named
    from mrff_model.heads import head_named

    mechanism_of(config)
    algorithm_of(config)
    try:
        backbone_named(config.network.backbone)
        head_named(config.network.head)
        metric_named(config.best_by)
    except ValueError as error:
        raise ConfigError(str(error)) from error
