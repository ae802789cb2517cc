"""``mrff run``: a simulation through ``flwr run``, started and stopped cleanly."""

from __future__ import annotations

from mrff.cli.options import App, Changes, Config, CpusPerNode, Nodes


def run(
    changes: Changes,
    config: Config = None,
    nodes: Nodes = 4,
    cpus_per_node: CpusPerNode = 1,
    app: App = None,
) -> None:
    """Train in Flower's simulation on this machine."""
    from mrff.ops.simulation import read_settings, simulate  # pyarrow is slow to import

    values = read_settings(config, changes)
    simulate(values, nodes=nodes, cpus_per_node=cpus_per_node, app=app)
