"""The run configuration: typed, validated, the same for server, clients and command line."""

from mrff.config.declaration import ConfigError
from mrff.config.derived import LEARNED_OF, ONLY_OF, TimesRead
from mrff.config.names import FREE_KEYS, full_names
from mrff.config.privacy import PrivacySettings
from mrff.config.run_config import RunConfig
from mrff.config.settings import (
    DataSettings,
    EvaluationSettings,
    NetworkSettings,
    RunSettings,
    ServerSettings,
    TrainingSettings,
)

__all__ = [
    "FREE_KEYS",
    "LEARNED_OF",
    "ONLY_OF",
    "ConfigError",
    "DataSettings",
    "EvaluationSettings",
    "NetworkSettings",
    "PrivacySettings",
    "RunConfig",
    "RunSettings",
    "ServerSettings",
    "TimesRead",
    "TrainingSettings",
    "full_names",
]
