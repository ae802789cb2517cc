"""What Flower is told of a simulation; tests/flower/test_simulation.py runs the engine."""

from __future__ import annotations

import pytest

from mrff.ops.control import federation_config


@pytest.mark.parametrize(
    ("nodes", "cpus_per_node", "cpus", "ray_cpus"),
    [
        (2, 1, 16, 2),  # or Flower would start 16 workers for two nodes
        (2, 4, 16, 8),
        (943, 1, 16, 16),  # more nodes than processors take turns
        (1, 4, 2, 2),  # a node that wants more than there is: Flower refuses it
    ],
)
def test_ray_gets_no_more_processors_than_the_nodes_can_use(
    nodes: int, cpus_per_node: int, cpus: int, ray_cpus: int
) -> None:
    assert federation_config(nodes, cpus_per_node, cpus=cpus) == (
        f"num-supernodes={nodes} client-resources-num-cpus={cpus_per_node} "
        f"init-args-num-cpus={ray_cpus}"
    )
