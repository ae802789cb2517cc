"""Where a node keeps what, and who it is in secure sums: what needs neither data nor PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flwr.app import RecordDict

from client_app.pins import refuse_other_settings
from mrff.config import ConfigError, RunConfig
from mrff.wire.aggregation import NodeSide
from mrff.wire.aggregation.secure.client import SecureClient
from mrff.wire.requests import RunFacts


def node_side(config: RunConfig, node_config: Mapping[str, Any], run: RunFacts) -> NodeSide:
    """Of a node in a run.

    Raises:
        ConfigError: it has nowhere to keep anything, or insists on other settings.
    """
    refuse_other_settings(config, node_config)
    return NodeSide(
        config=config,
        node_config=node_config,
        training_folder=state_folder(node_config, run),
        folder=Path(str(node_config.get("state-dir", run.state_dir))).expanduser(),
    )


def secure_client(
    run_config: Mapping[str, Any], node_config: Mapping[str, Any], content: RecordDict
) -> SecureClient:
    """For the stages of a secure sum that need no data.

    Raises:
        ConfigError: settings that cannot be used, or a node without keys.
    """
    config, run = RunConfig.from_flat(run_config), RunFacts.of(content.config_records["run"])
    if not config.privacy.secure_aggregation:
        raise ConfigError("this run has privacy.secure-aggregation=false: there are no secure sums")
    return SecureClient(node_side(config, node_config, run))


def state_folder(node_config: Mapping[str, Any], run: RunFacts) -> Path:
    """Where a node keeps what belongs to one training.

    Raises:
        ConfigError: it has nowhere to keep anything.
    """
    training = run.training_id
    if "state-dir" in node_config:
        return Path(str(node_config["state-dir"])).expanduser().absolute() / training
    if "partition-id" not in node_config:
        raise ConfigError(
            "this node has nowhere to keep private parameters: start it with "
            "--node-config 'state-dir=\"/path/to/state\"'"
        )
    part = f"node-{node_config['partition-id']}-of-{node_config['num-partitions']}"
    return Path(run.state_dir) / training / part
