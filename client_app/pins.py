"""What a node insists on, whatever the server says: settings of a run that it has pinned.

A node's own configuration may hold any setting of a run by its name, such as ``mode="laplace"``,
``secure-aggregation=true``, ``histogram-bins=64``. A run with another value is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from client_app.evaluation_limit import NAME as EVALUATION_LIMIT
from mrff.config import ConfigError, RunConfig, full_names
from mrff.config.names import SETTINGS, refuse_unknown
from mrff.wire.aggregation.secure.identity import SECURE_KEYS

PLACES = ("data-dir", "state-dir", "partition-id", "num-partitions")
LIMITS = ("epsilon-budget", "delta")  # the node's own, beside which a run's may be any
OWN = (*PLACES, *LIMITS, EVALUATION_LIMIT, *SECURE_KEYS)


def refuse_other_settings(config: RunConfig, node_config: Mapping[str, Any]) -> None:
    """Whether the run is as the node wants runs.

    Raises:
        ConfigError: a setting has another value, or a key of the node is unknown: a pin with a
            slip in its name would protect nobody.
    """
    wanted = {name: value for name, value in node_config.items() if name not in OWN}
    leaves = [setting.leaf for setting in SETTINGS.values()]
    refuse_unknown(wanted, [*OWN, *SETTINGS, *leaves])
    for key, value in full_names(wanted).items():
        setting, run = SETTINGS[key], config.to_flat()[key]
        if setting.written(setting.parsed(value)) != run:
            raise ConfigError(
                f"this node takes part in runs with {key}={setting.written(setting.parsed(value))} "
                f"only, this one has {run}: change the run, or the node's --node-config"
            )
