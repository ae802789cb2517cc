"""The run configuration: typed, validated, the same for server, clients and command line."""

from mrff_config.parsing import ConfigError
from mrff_config.privacy import PrivacySettings
from mrff_config.run_config import RunConfig
from mrff_config.settings import (
    DataSettings,
    EvaluationSettings,
    NetworkSettings,
    OutputSettings,
    ServerSettings,
    TrainingSettings,
)

__all__ = [
    "ConfigError",
    "DataSettings",
    "EvaluationSettings",
    "NetworkSettings",
    "OutputSettings",
    "PrivacySettings",
    "RunConfig",
    "ServerSettings",
    "TrainingSettings",
]
