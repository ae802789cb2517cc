"""Everything a run carries from round to round, in a form that a checkpoint can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from mrff.metrics.metric import Metric
from mrff.wire.requests import Arrays
from strategies.server_optimizer import OptimizerState, flatten_states, unflatten_states


@dataclass
class TrainingState:
    """The state after ``round`` rounds. The strategy owns it and changes it between rounds only.

    ``loads`` are the shares of users per expert of the last round that had users, row-major over
    (layers, K); empty before. ``epoch_starts`` are the rounds at which the run began and was taken
    up again, so that nodes can drop private state of rounds the server has forgotten. ``lineage``
    names the runs this one went on from, see `RunFacts`. Arrays are replaced, never written into.
    """

    public: Arrays
    group: Arrays
    round: int = 0
    loads: list[float] = field(default_factory=list)
    optimizer: OptimizerState = field(default_factory=dict)
    validated_round: int = 0  # last validated one, 0: none
    best_round: int = 0
    best_value: float | None = None  # of the metric that the best is chosen by
    best_by: str = ""  # its name; empty: none yet, or from before it was stored
    best_public: Arrays = field(default_factory=dict)
    best_group: Arrays = field(default_factory=dict)
    stale_validations: int = 0  # since the best one
    checkpoint_round: int = 0  # last durable one, 0: none
    epoch_starts: list[int] = field(default_factory=lambda: [0])
    bytes_down: int = 0
    bytes_up: int = 0
    seconds: float = 0.0
    clipping_norm: float = 0.0  # of the next private round; 0: that of the configuration
    lineage: list[str] = field(default_factory=list)
    copy: Arrays = field(default_factory=dict)  # of the model, as nodes have it; `copy_of` says
    copy_of: str = ""  # of which: see `ModelCopy`

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays, by ``part/name``."""
        parts: dict[str, Mapping[str, NDArray[Any]]] = {
            "public": self.public,
            "group": self.group,
            "best-public": self.best_public,
            "best-group": self.best_group,
            "optimizer": flatten_states(self.optimizer),
            "copy": self.copy,
        }
        return {f"{part}/{name}": a for part, arrays in parts.items() for name, a in arrays.items()}

    def numbers(self) -> dict[str, Any]:
        """Everything but the arrays, fit for JSON; Python's JSON keeps floats exact."""
        return {name: getattr(self, name) for name in (*_NUMBERS, "lineage", "copy_of")}

    @classmethod
    def restored(
        cls, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]
    ) -> TrainingState:
        """The inverse of `arrays` and `numbers`.

        Raises:
            KeyError: a number is missing, or an array belongs to no part.
        """
        parts: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in _PARTS}
        for name, array in arrays.items():
            part, _, inner = name.partition("/")
            parts[part][inner] = array
        return cls(
            public=parts["public"],
            group=parts["group"],
            best_public=parts["best-public"],
            best_group=parts["best-group"],
            optimizer=unflatten_states(parts["optimizer"]),
            **{name: numbers[name] for name in _NUMBERS if name != "best_by"},
            best_by=numbers.get("best_by", ""),
            lineage=list(numbers.get("lineage", ())),  # runs of earlier releases have none
            copy=parts["copy"],
            copy_of=numbers.get("copy_of", ""),
        )

    def resumed(self) -> None:
        """Marks that the run is taken up again from here."""
        self.epoch_starts = [*self.epoch_starts, self.round]

    def compare_by(self, name: str, *, before: str) -> str:
        """Begins the search for the best anew if it was by another metric, and returns its name.

        Args:
            before: what it was by where the state does not say.
        """
        other = self.best_by or before
        if self.best_value is None or other == name:
            return ""
        self.best_value, self.stale_validations = None, 0
        return other

    def take_last(self) -> None:
        """The last round's model is the one that counts, where nothing is validated."""
        self.best_round, self.best_value = self.round, None
        self.best_public, self.best_group = dict(self.public), dict(self.group)

    def note_validation(self, metric: Metric, value: float | None) -> bool:
        """Keeps the current model as the best if it is by ``metric``; says whether it is.

        Without any defined value so far, the latest model counts as the best.
        """
        self.validated_round = self.round
        better = metric.is_better(value, self.best_value)
        if better:
            self.best_round, self.best_value = self.round, value
            self.best_by = metric.name
            self.best_public = dict(self.public)
            self.best_group = dict(self.group)
            self.stale_validations = 0
        else:
            self.stale_validations += 1
        return better


_PARTS = ("public", "group", "best-public", "best-group", "optimizer", "copy")
_NUMBERS = (
    "round",
    "loads",
    "validated_round",
    "best_round",
    "best_value",
    "best_by",
    "stale_validations",
    "checkpoint_round",
    "epoch_starts",
    "bytes_down",
    "bytes_up",
    "seconds",
    "clipping_norm",
)
