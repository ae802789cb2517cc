"""What nodes of a simulation compute with, and what Flower and Ray are told of it."""

from __future__ import annotations

import os

import pytest

from mrff.config import ConfigError
from mrff.ops.federation import Federation, Machine

LAPTOP = [Machine("laptop", 8, 0)]
ONE_GPU = [Machine("server", 16, 1)]
MIXED = [Machine("a", 16, 2), Machine("b", 16, 0)]


@pytest.mark.parametrize(
    ("nodes", "cpus_per_node", "cpus", "ray_cpus"),
    [
        (2, 1, 16, 2),  # or Flower would start 16 workers for two nodes
        (2, 4, 16, 8),
        (943, 1, 16, 16),  # more nodes than processors take turns
    ],
)
def test_ray_gets_no_more_processors_than_the_nodes_can_use(
    nodes: int, cpus_per_node: int, cpus: int, ray_cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    assert Federation(nodes, cpus_per_node).options() == (
        f"num-supernodes={nodes} client-resources-num-cpus={cpus_per_node} "
        f"init-args-num-cpus={ray_cpus}"
    )


def test_a_cluster_has_the_processors_it_has() -> None:
    """Ray refuses to be told; and without an address no cluster of somebody else is joined."""
    on_cluster = Federation(4, ray_address="10.0.0.1:6379")
    assert on_cluster.options() == "num-supernodes=4 client-resources-num-cpus=1"
    assert on_cluster.variables == {"RAY_ADDRESS": "10.0.0.1:6379"}
    assert Federation(4).variables == {"RAY_ADDRESS": "local"}


@pytest.mark.parametrize(
    ("gpus", "nodes", "machines", "device", "expected"),
    [
        ("auto", 4, LAPTOP, "auto", 0.0),
        ("auto", 4, ONE_GPU, "auto", 1 / 4),
        ("auto", 64, ONE_GPU, "auto", 1 / 16),  # as many workers as processors
        ("auto", 1, ONE_GPU, "cuda", 1.0),
        ("auto", 4, ONE_GPU, "cpu", 0.0),
        ("auto", 3, MIXED, "auto", 1 / 2),  # two thirds would leave one node without
        ("0", 4, ONE_GPU, "auto", 0.0),
        ("1", 4, ONE_GPU, "auto", 1.0),
        ("0.3", 4, ONE_GPU, "auto", 1 / 3),
        ("0.3333", 4, ONE_GPU, "auto", 1 / 3),
        ("2", 4, MIXED, "auto", 2.0),
    ],
)
def test_gpus_of_a_node(
    gpus: str, nodes: int, machines: list[Machine], device: str, expected: float
) -> None:
    assert Federation(nodes, gpus=gpus).on(machines, device).gpus_per_node == expected


def test_thirds_of_a_gpu_fit_it_three_times() -> None:
    """Flower counts workers as int(1 / share): a share that is rounded up loses one."""
    told = Federation(3).on(ONE_GPU, "auto").options()
    assert "client-resources-num-gpus=0.3333 " in told


@pytest.mark.parametrize(
    ("federation", "device", "reason"),
    [
        (Federation(2, gpus="1"), "auto", "--gpus 1, but neither PyTorch nor Ray sees a GPU on la"),
        (Federation(2), "cuda", "training.device=cuda, but neither PyTorch nor Ray sees a GPU"),
        (Federation(2, gpus="1"), "cpu", "--gpus 1 cannot go with training.device=cpu"),
        (Federation(2, gpus="0"), "cuda", "--gpus 0 cannot go with training.device=cuda"),
        (Federation(2, gpus="1.5"), "auto", "must be auto, 0 to 1, or a whole number, got '1.5'"),
        (Federation(2, gpus="some"), "auto", "must be auto, .* got 'some'"),
        (Federation(2, gpus="-1"), "auto", "must be auto, .* got '-1'"),
        (Federation(2, gpus="nan"), "auto", "must be auto, .* got 'nan'"),
        (Federation(2, gpus="inf"), "auto", "must be auto, .* got 'inf'"),
        (Federation(2, 9), "auto", "--cpus-per-node 9: no machine has more than 8; lower it"),
    ],
)
def test_what_a_machine_without_a_gpu_refuses(
    federation: Federation, device: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        federation.on(LAPTOP, device)


def test_more_gpus_than_any_machine_has() -> None:
    with pytest.raises(ConfigError, match=r"--gpus 3: no machine has so many and 1 CPUs"):
        Federation(2, gpus="3").on(MIXED, "auto")
