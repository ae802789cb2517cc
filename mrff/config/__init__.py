"""The run configuration: typed, validated, the same for server, clients and command line."""

from mrff.config.parsing import ConfigError
from mrff.config.privacy import PrivacySettings
from mrff.config.run_config import RunConfig
from mrff.config.settings import (
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
