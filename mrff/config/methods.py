"""The named methods that a comparison runs: each is a way to override the run configuration.

A comparison starts from a dataset's configuration and lays a method's overrides over it, so that
everything a method does not speak of (data, split, rounds, messages) is the same for all of them.
Ablations take one thing away from MRFF or change one number of it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from mrff.config.declaration import ConfigError, Value
from mrff.config.names import full_names

Kind = Literal["mrff", "ablation", "baseline", "pooled", "floor"]

FEDERATED: tuple[Kind, ...] = ("mrff", "ablation", "baseline")
"""Kinds that run through ServerApp, ClientApp and strategy; the others see all data at once."""


@dataclass(frozen=True)
class Method:
    """One way to learn, or to predict without learning.

    ``mrff``, ``ablation`` and ``baseline`` are federated. ``pooled`` trains the network on
    everybody's data in one place, ``floor`` predicts from rates and trees on such data.
    """

    name: str
    description: str
    kind: Kind
    overrides: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def is_federated(self) -> bool:
        """Whether the data stays with the users."""
        return self.kind in FEDERATED


def method_named(name: str) -> Method:
    """The method of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known methods: {', '.join(METHODS)}"
        raise ConfigError(f"unknown method {name!r}; {hint}")
    return METHODS[name]


def overrides_of(name: str, base: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """``base`` (a dataset's settings) with the method's overrides over it, by full name.

    Raises:
        ConfigError: no method has that name, or no setting one in ``base``.
    """
    return {**full_names(base or {}), **method_named(name).overrides}


# One model, the same for everybody: what plain federated learning trains.
_ONE_MODEL: dict[str, Value] = {
    "num-experts": 1,
    "user-network-dim": "off",
    "user-embedding-dim": "off",
    "user-bias": False,
    "user-factors": False,
}
# Averaging several local steps, as in the papers; MRFF's defaults are one step and Adam's server.
# Learning rates of baselines: the best of two on the validation part of ml-100k (docs/methods.md).
_AVERAGING: dict[str, Value] = {
    "local-steps": 5,
    "local-learning-rate": 0.3,
    "server-optimizer": "average",
    "server-learning-rate": 1.0,
}


def _method(
    name: str,
    description: str,
    kind: Kind,
    /,
    base: Mapping[str, Value] = MappingProxyType({}),
    **overrides: Value,
) -> Method:
    keys = {key.replace("_", "-"): value for key, value in overrides.items()}
    return Method(name, description, kind, MappingProxyType(full_names({**base, **keys})))


_MRFF = (
    _method("mrff", "the method as configured", "mrff"),
    _method(
        "mrff-hard", "the gate as in the paper: no task gradient", "ablation", gate_mode="hard"
    ),
    _method(
        "gate-hidden",
        "the gate reads hidden states, as in the paper (this excludes feedback in the history)",
        "ablation",
        gate_input="hidden",
        history_feedback=False,
    ),
    _method("one-group", "one expert per layer: no groups", "ablation", num_experts=1),
    _method("groups-2", "2 experts per layer", "ablation", num_experts=2),
    _method("groups-8", "8 experts per layer", "ablation", num_experts=8),
    _method("groups-16", "16 experts per layer", "ablation", num_experts=16),
    _method(
        "no-private-network", "no network of the user's own", "ablation", user_network_dim="off"
    ),
    _method("no-user-factors", "no factors of the user's own", "ablation", user_factors=False),
    _method(
        "no-pooling",
        "experts follow their own users only and start apart, as in the paper",
        "ablation",
        expert_pooling=0.0,
    ),
    _method(
        "no-balance",
        "gates without balance loss that do not follow the loads",
        "ablation",
        balance_loss_weight=0.0,
        balance_rate=0.0,
    ),
    _method(
        "no-feedback",
        "past labels are neither in the history nor counted",
        "ablation",
        history_feedback=False,
        history_rates=False,
    ),
    _method(
        "no-rates", "the head reads no rates of the user's own", "ablation", history_rates=False
    ),
    _method("layers-1", "1 layer", "ablation", num_layers=1),
    _method("layers-3", "3 layers", "ablation", num_layers=3),
    _method("local-steps-2", "2 local steps", "ablation", local_steps=2),
    _method("local-steps-5", "5 local steps", "ablation", local_steps=5),
    _method("sampling-5", "5 % of the users per round", "ablation", sampling_rate=0.05),
    _method("sampling-50", "50 % of the users per round", "ablation", sampling_rate=0.5),
    _method("sampling-100", "every user in every round", "ablation", sampling_rate=1.0),
    _method(
        "server-average",
        "the server averages",
        "ablation",
        server_optimizer="average",
        server_learning_rate=1.0,
    ),
    _method(
        "server-momentum",
        "the server averages with momentum",
        "ablation",
        server_optimizer="momentum",
        server_learning_rate=0.3,
    ),
)

_BASELINES = (
    _method(
        "local-only",
        "every user trains a network alone: nothing is shared",
        "baseline",
        base=_ONE_MODEL,
        private_parameters="all",
        private_learning_rate=0.3,
        item_bias=False,  # one user's number per item says nothing of items they have not met
    ),
    _method(
        "fedavg",
        "one shared model, averaged (McMahan et al. 2017)",
        "baseline",
        base=_ONE_MODEL | _AVERAGING,
    ),
    _method(
        "fedprox",
        "fedavg with a pull towards the shared model (Li et al. 2020)",
        "baseline",
        base=_ONE_MODEL | _AVERAGING,
        proximal_weight=0.1,
    ),
    _method(
        "fedadam",
        "one shared model, Adam on the server (Reddi et al. 2021)",
        "baseline",
        base=_ONE_MODEL,
        server_optimizer="adam",
    ),
    _method(
        "fedper",
        "a shared body and a private head (Arivazhagan et al. 2019)",
        "baseline",
        base=_ONE_MODEL,
        private_parameters="head",
        private_learning_rate=0.05,
    ),
    _method(
        "user-embedding-only",
        "one shared model and a private embedding of the user",
        "baseline",
        num_experts=1,
        user_network_dim="off",
        user_bias=False,
        user_factors=False,
    ),
    _method(
        "ifca",
        "4 copies of the model, each user takes the one that fits best (Ghosh et al. 2020)",
        "baseline",
        base=_ONE_MODEL,
        clusters=4,
    ),
)

_CENTRAL = (
    _method("pooled", "MRFF's network trained on everybody's data in one place", "pooled"),
    _method("user-rate", "the user's rate of positive labels", "floor"),
    _method("user-item-rate", "the user's rate times the item's", "floor"),
    _method("user-feature-rate", "the user's rate times those of the item's features", "floor"),
    _method("boosted-trees", "gradient-boosted trees on rates and features", "floor"),
    _method(
        "boosted-trees-history",
        "the same trees, which also see what the user liked lately and of the same kind",
        "floor",
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType(
    {method.name: method for method in (*_MRFF, *_BASELINES, *_CENTRAL)}
)
