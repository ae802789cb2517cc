"""What follows from several settings of a run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from mrff.config.evidence import against_evidence
from mrff.config.names import Groups

Objective = Literal["click", "next", "both"]
LEARNED_OF: Mapping[str, Objective] = {"labelled": "click", "events": "next", "both": "both"}
"""What ``training.objective=auto`` learns, by the kind of a dataset's rows."""
ONLY_OF: Mapping[str, frozenset[Objective]] = {
    "training.linear-items": frozenset({"next", "both"}),
    "network.time-inputs": frozenset({"click", "both"}),
}
"""Settings that a run with another objective does not take over from an earlier one."""
SAME_TIME_MARKS = {"known": "", "unknown": "labels of the same time unknown"}
"""How results are marked wherever they are shown, by ``data.same-time``."""


@dataclasses.dataclass(frozen=True)
class TimesRead:
    """What a run reads of the times of rows; by default nothing."""

    same_time: str = "known"  # `data.same-time`
    inputs: bool = False  # `network.time-inputs` or `network.history-times`: real times


@dataclass(frozen=True)
class Derived(Groups):
    """The settings of a run, by the part that reads them, and what follows from several."""

    def network_arguments(self) -> dict[str, Any]:
        """The fields of `mrff_model.shape.NetworkShape`."""
        shape = dataclasses.asdict(self.network) | {
            "window_length": self.data.window_length,
            "same_time": self.data.same_time,
            "objective": self.objective,
            "gate_mode": self.gate_mode,
            "gate_input": self.gate_input,
            "noised_statistics": self.network.item_statistics and self.privacy.is_private,
            "feature_mix": self.feature_mix,
            "feature_dim": self.network.feature_dim or (8 if self.feature_mix == "concat" else 48),
        }
        del shape["clusters"]
        for width in (
            "hidden_dim",
            "expert_dim",
            "user_network_dim",
            "user_embedding_dim",
            "closed_form_factors",
        ):
            shape[width] = shape[width] or 0
        return shape

    @property
    def objective(self) -> Objective:
        """What is learned; before `for_data`, as if the data had labels."""
        return cast(Objective, self.training.objective or LEARNED_OF["labelled"])

    @property
    def holds_out_targets(self) -> bool:
        """Whether a user's held-out rows are their last liked ones; clicks need both labels."""
        return self.objective == "next" and self.data.targets == "liked"

    @property
    def times_read(self) -> TimesRead:
        """What the run reads of the times of rows."""
        network = self.network
        return TimesRead(self.data.same_time, network.time_inputs or network.history_times)

    @property
    def same_time_mark(self) -> str:
        """How this run's results are marked; empty for what is usual."""
        return SAME_TIME_MARKS[self.data.same_time]

    @property
    def reads_item_statistics(self) -> bool:
        """Whether rows have to be known as those that item statistics were summed over."""
        return self.network.item_statistics and self.objective != "next"

    @property
    def tests(self) -> bool:
        """Whether anything is held out for a test; final training holds nothing out."""
        return self.data.holdout > 0

    @property
    def asks_test(self) -> bool:
        """Whether nodes are asked for the test."""
        return self.tests and self.evaluation.score_test

    @property
    def validation_share(self) -> float:
        """Share of users who do not train in final training; private modes validate nothing."""
        return 0.0 if self.privacy.is_private else self.data.validation_users

    @property
    def validates_somebody(self) -> bool:
        """Whether any user is scored at all."""
        return self.tests or self.validation_share > 0.0

    @property
    def gate_mode(self) -> str:
        """What choosing a group means, see `mrff_model.block.Block`.

        Where the network is shown past labels, it reads from them what a group would say; where
        it is not, labels are the only evidence of a user's groups (docs/groups.md).
        """
        network = self.network
        shown = network.history_feedback or network.history_rates or network.item_statistics
        several = network.num_experts > 1
        can = several and not shown and not any(against_evidence(self, self.objective))
        return network.gate_mode or ("evidence" if can else "switch")

    @property
    def gate_input(self) -> str:
        """What the gates read."""
        learned = "history" if self.objective == "click" else "earlier"
        return self.network.gate_input or learned

    @property
    def feature_mix(self) -> str:
        """How an item's features become its embedding."""
        return self.network.feature_mix or ("concat" if self.objective == "click" else "sum")

    @property
    def best_by(self) -> str:
        """The validation metric that says which round's model is best."""
        both = "auc" if self.privacy.mode != "none" else "auc_ndcg10"  # there are no validations
        learned = {"click": "auc", "next": "ndcg10", "both": both}[self.objective]
        return self.evaluation.select_best_by or learned

    @property
    def routes_shape(self) -> tuple[int, int]:
        """Layers and experts that a user is routed through; copies of a network are one layer."""
        if self.network.clusters:
            return 1, self.network.clusters
        return self.network.num_layers, self.network.num_experts

    @property
    def pools_experts(self) -> bool:
        """Whether experts start alike and follow everybody's mean in part."""
        several = self.network.num_experts > 1 and not self.network.clusters
        return several and self.server.expert_pooling > 0.0

    @property
    def home(self) -> Path:
        """Absolute folder for data, runs and private state."""
        named = self.data.home or os.environ.get("MRFF_HOME") or "~/.mrff"
        return Path(named).expanduser().absolute()

    @property
    def dataset_path(self) -> Path:
        """Absolute folder of the prepared dataset."""
        if self.data.data_dir:
            return Path(self.data.data_dir).expanduser().absolute()
        return self.home / "data" / self.data.dataset
