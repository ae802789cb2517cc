"""How many nodes a simulation has, what each computes with, and where: here or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from mrff.config import ConfigError

AUTO = "auto"
_STEP = 1e-4  # Ray counts GPUs in steps of this


@dataclass(frozen=True)
class Machine:
    """What a machine has for nodes."""

    name: str
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Federation:
    """The simulated nodes of a run.

    Args:
        cpus_per_node, gpus_per_node: what a node computes with; below 1, several share a GPU.
        gpus: the wish that `gpus_per_node` is decided by: ``auto`` or a number.
        ray_address: HOST:PORT of a Ray cluster; empty: Ray is started here, for this run alone.
    """

    nodes: int
    cpus_per_node: int = 1
    gpus: str = AUTO
    ray_address: str = ""
    gpus_per_node: float = 0.0

    def options(self) -> str:
        """What Flower is told: ``flwr run --federation-config``.

        Flower starts as many workers as Ray has room for, however few the nodes: Ray is given no
        more processors than the nodes can use. A cluster has what it has.
        """
        told = [
            f"num-supernodes={self.nodes}",
            f"client-resources-num-cpus={self.cpus_per_node}",
        ]
        if self.gpus_per_node:
            # Rounded down: three thirds, rounded up, would not fit a GPU.
            gpus = int(self.gpus_per_node / _STEP) * _STEP
            told += [f"client-resources-num-gpus={gpus:.4f}"]
        if not self.ray_address:
            wanted = min(os.cpu_count() or 1, self.nodes * self.cpus_per_node)
            told += [f"init-args-num-cpus={wanted}"]
        return " ".join(told)

    @property
    def variables(self) -> Mapping[str, str]:
        """Environment of Flower's programs: Flower has no option for Ray's address.

        ``local``: a cluster that somebody has started on this machine is left alone.
        """
        return {"RAY_ADDRESS": self.ray_address or "local"}

    def on(self, machines: Sequence[Machine], device: str) -> Federation:
        """The same, with `gpus_per_node` decided.

        Args:
            device: the setting ``training.device``.

        Raises:
            ConfigError: no node has room, or a GPU is asked for where none is.
        """
        if not self._workers(machines, 0.0):
            most = max((machine.cpus for machine in machines), default=0.0)
            raise ConfigError(
                f"--cpus-per-node {self.cpus_per_node}: no machine has more than {most:g}; lower it"
            )
        asked = self._asked(device)
        if asked == 0.0:
            return self
        if not any(machine.gpus for machine in machines):
            if asked is None and device == "auto":
                return self
            wish = f"training.device={device}" if asked is None else f"--gpus {self.gpus}"
            raise ConfigError(
                f"{wish}, but neither PyTorch nor Ray sees a GPU on "
                f"{', '.join(machine.name for machine in machines)}; use --gpus auto and "
                "training.device=auto"
            )
        share = self._share(machines) if asked is None else asked
        if not self._workers(machines, share):
            raise ConfigError(
                f"--gpus {self.gpus}: no machine has so many and {self.cpus_per_node} CPUs beside "
                "them; lower --gpus or --cpus-per-node"
            )
        return replace(self, gpus_per_node=share)

    def _asked(self, device: str) -> float | None:
        """GPUs per node; None: a share of those that there are."""
        if self.gpus == AUTO:
            return 0.0 if device == "cpu" else None
        try:
            asked = float(self.gpus)
        except ValueError:
            asked = -1.0
        if not (0 <= asked < 1 or (asked >= 1 and asked.is_integer())):
            raise ConfigError(f"--gpus must be auto, 0 to 1, or a whole number, got {self.gpus!r}")
        if (asked > 0 and device == "cpu") or (asked == 0 and device == "cuda"):
            raise ConfigError(f"--gpus {self.gpus} cannot go with training.device={device}")
        return 1 / int(1 / asked + _STEP) if 0 < asked < 1 else asked  # no rest of a GPU

    def _share(self, machines: Sequence[Machine]) -> float:
        """Of a GPU for each worker, the k-th part: others would not fit a GPU without a rest."""
        with_gpu = [machine for machine in machines if machine.gpus]
        workers = min(self.nodes, self._workers(with_gpu, 0.0))
        return 1 / ceil(workers / sum(machine.gpus for machine in with_gpu))

    def _workers(self, machines: Sequence[Machine], gpus: float) -> int:
        """How many the machines have room for."""
        return sum(
            min(
                int(machine.cpus / self.cpus_per_node),
                int(machine.gpus / gpus + _STEP) if gpus else int(machine.cpus),
            )
            for machine in machines
        )


def this_machine() -> Machine:
    """The machine that this runs on."""
    import torch  # heavy

    return Machine("this machine", os.cpu_count() or 1, torch.cuda.device_count())
