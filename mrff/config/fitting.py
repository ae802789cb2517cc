"""What settings follow from a dataset's numbers: the rules, each with its reason.

They are what was learned by hand on six datasets (docs/results.md, docs/ranking.md), and none of
them knows a dataset's name. A rule is asked only for a setting that nobody has said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mrff.config.declaration import Value
from mrff.config.names import SETTINGS
from mrff.config.run_config import RunConfig

Rule = Callable[[RunConfig, "DataFacts"], tuple[Value, str] | None]

MANY = 50  # interactions of the median user from which a taste of their own can be learned
SHORT = 10  # and below which mostly the item decides
SEEN_OFTEN = 20.0  # rows per item from which an embedding alone says how good an item is
RARE = 0.1  # share of one label below which rounds would go into learning how rare it is
FEW_USERS = 800  # too few for four groups
TASTE_ROWS = 4.0  # rows per item from which a taste in closed form helps (docs/inputs.md)
KIND_ROWS = 5.0  # and below which their kinds say what items cannot (docs/inputs.md)
MANY_ROWS = 500_000  # and of all items, from which it is worth twice the width
LINEAR_ITEMS = 4000  # more gained nothing (docs/ranking.md); the cost grows with the cube


@dataclass(frozen=True)
class DataFacts:
    """Numbers of a dataset; ``median`` and ``longest`` are of interactions per user.

    ``positive`` is the share of positive labels; 0 where there are none. ``real_times`` says
    whether the times of rows are dates, ``kinds`` how many features items have beside their id.
    """

    users: int
    items: int
    rows: int
    median: float
    longest: int
    items_have_ids: bool
    positive: float = 0.5
    real_times: bool = False
    kinds: int = 0

    @property
    def rows_per_item(self) -> float:
        """How often the mean item was met."""
        return self.rows / max(self.items, 1)

    @property
    def wide(self) -> bool:
        """Whether there are far more items than users to tell them apart by."""
        return self.items_have_ids and self.items >= 5 * self.users


@dataclass(frozen=True)
class Fitted:
    """One setting that follows from the data, and why."""

    key: str
    value: Value
    reason: str

    def __str__(self) -> str:
        """``user-factors=true (165 interactions per user)``."""
        shown = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.key.rpartition('.')[2]}={shown} ({self.reason})"


def fitting(config: RunConfig, facts: DataFacts) -> list[Fitted]:
    """What the data asks for among the settings that are open, in the order of the rules.

    A rule knows what those before it have chosen.

    Args:
        config: with its objective settled, see `RunConfig.for_data`.
    """
    if config.training.algorithm not in (None, "mrff"):  # rivals are as they are
        return []
    chosen = []
    for key, rule in RULES.items():
        if key in config.to_fit and (found := rule(config, facts)) is not None:
            chosen.append(Fitted(key, *found))
            config = _with(config, key, found[0])
    return chosen


def _with(config: RunConfig, key: str, value: Value) -> RunConfig:
    setting = SETTINGS[key]
    group = getattr(config, setting.group)
    changed = replace(group, **{setting.attribute: setting.parsed(value)})
    return replace(config, **{setting.group: changed})


def _item_statistics(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    network = config.network
    if config.objective == "next" or network.item_bias or network.private_parameters == "all":
        return None
    return True, "what others make of an item, by sums before round 1"


def _kind_statistics(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    rare = facts.kinds and facts.rows_per_item < KIND_ROWS
    if not config.network.item_statistics or not rare:
        return None
    return True, f"{facts.rows_per_item:.1f} rows per item: kinds say more"


def _closed_form_factors(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if not config.network.item_statistics or facts.wide or facts.rows_per_item < TASTE_ROWS:
        return None
    if facts.rows >= MANY_ROWS:
        return 16, f"{facts.rows:,} rows tell tastes"
    return 8, f"{facts.rows_per_item:.1f} rows per item"


def _time_inputs(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "next" or not facts.real_times:
        return None
    return True, "times of rows are dates"


def _windows(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "next" or facts.longest <= config.data.window_length:
        return None
    return "all", f"histories of up to {facts.longest:,} rows"


def _weighting(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "next":
        return None
    return "targets", "rows count alike: long histories teach the items"


def _user_factors(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective != "click" or facts.median < MANY or facts.users < FEW_USERS:
        return None
    if config.network.closed_form_factors:  # a taste already
        return None
    return True, f"{facts.median:g} interactions per user (median)"


def _user_factors_rate(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if not config.network.user_factors:
        return None
    rate = min(40.0, max(2.0, facts.rows / 25_000))
    return round(rate, 1), f"{facts.rows:,} rows teach the items' side"


def _item_bias(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "next" or config.network.item_statistics:  # items have their own say
        return None
    if not facts.items_have_ids:
        return True, "items have no id of their own"
    if facts.rows_per_item < SEEN_OFTEN:
        return True, f"{facts.rows_per_item:.1f} rows per item"
    return None


def _item_bias_rate(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "next":
        return None if facts.items_have_ids else (30.0, "items have no id of their own")
    if facts.wide:
        return 30.0, f"{facts.items:,} items for {facts.users:,} users"
    if facts.median < SHORT and facts.items_have_ids:
        return 5.0, f"{facts.median:g} interactions per user (median): the item decides"
    return None


def _server_rate(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective != "click" or not facts.wide:
        return None
    return 0.003, f"{facts.items:,} items for {facts.users:,} users: rows are learned by heart"


def _feature_dim(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective != "click" or not facts.items_have_ids:
        return None
    if facts.rows_per_item >= SEEN_OFTEN:
        return None
    return 2 if facts.rows_per_item < 4 else 4, f"{facts.rows_per_item:.1f} rows per item"


def _dropout(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective != "click" or not (facts.median < SHORT or facts.rows_per_item < 2):
        return None
    return 0.5, f"{facts.median:g} interactions per user (median)"


def _experts(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.network.clusters:
        return None
    if config.objective == "next":
        if facts.median >= MANY and facts.users >= FEW_USERS:
            return None
        return 1, f"{facts.median:g} interactions per user (median) tell no groups"
    if facts.users < FEW_USERS:
        return 2, f"{facts.users:,} users"
    if facts.median < 3:
        return 2, f"{facts.median:g} interactions per user (median)"
    return None


def _initial_logit(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    share = facts.positive
    if config.objective == "next" or not 0.0 < share < 1.0 or RARE <= share <= 1.0 - RARE:
        return None
    odds = share / (1.0 - share)
    return round(min(9.0, max(-9.0, math.log(odds))), 2), f"{share:.1%} of the labels are positive"


def _user_network(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective != "next":
        return None
    return "off", "the next item: it learns a user's few items by heart"


def _linear_items(config: RunConfig, facts: DataFacts) -> tuple[Value, str] | None:
    if config.objective == "click":
        return None
    return min(facts.items, LINEAR_ITEMS), "linear models rank beside the network"


RULES: Mapping[str, Rule] = {
    "network.item-statistics": _item_statistics,
    "network.kind-statistics": _kind_statistics,
    "network.closed-form-factors": _closed_form_factors,
    "network.time-inputs": _time_inputs,
    "data.max-windows-per-user": _windows,
    "training.user-weighting": _weighting,
    "network.user-factors": _user_factors,
    "training.user-factors-learning-rate": _user_factors_rate,
    "network.item-bias": _item_bias,
    "server.item-bias-learning-rate-factor": _item_bias_rate,
    "server.server-learning-rate": _server_rate,
    "network.feature-dim": _feature_dim,
    "network.dropout": _dropout,
    "network.num-experts": _experts,
    "training.initial-logit": _initial_logit,
    "network.user-network-dim": _user_network,
    "training.linear-items": _linear_items,
}
"""The rule of every fitted setting, by its full name."""
