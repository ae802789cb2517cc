"""The named methods that a comparison runs: each is a way to override the run configuration.

A comparison starts from a dataset's configuration and lays a method's overrides over it, so that
everything a method does not speak of (data, split, rounds, messages) is the same for all of them.
Ablations take one thing away from MRFF or change one number of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mrff.config.declaration import ConfigError, Value
from mrff.config.names import full_names, nearest

Kind = Literal["mrff", "ablation", "baseline", "pooled", "floor"]
Overrides = dict[str, Value]  # settings by leaf

FEDERATED: tuple[Kind, ...] = ("mrff", "ablation", "baseline")
"""Kinds that run through ServerApp, ClientApp and strategy; the others see all data at once."""


@dataclass(frozen=True)
class Method:
    """One way to learn, or to predict without learning.

    ``mrff``, ``ablation`` and ``baseline`` are federated. ``pooled`` learns from
    everybody's data in one place, ``floor`` predicts from rates, counts and trees on such data.
    """

    name: str
    description: str
    kind: Kind
    overrides: Mapping[str, Value]  # by full name

    @property
    def draws(self) -> bool:
        """Whether it depends on the seed; the others count, or solve."""
        return self.name not in _DRAW_NOTHING

    @property
    def is_federated(self) -> bool:
        """Whether the data stays with the users."""
        return self.kind in FEDERATED


def method_named(name: str) -> Method:
    """The method of that name; ConfigError names the nearest where there is none."""
    if name not in METHODS:
        hint = nearest(name, METHODS, f"known methods: {', '.join(METHODS)}")
        raise ConfigError(f"unknown method {name!r}; {hint}")
    return METHODS[name]


def overrides_of(name: str, base: Mapping[str, Value] | None = None) -> dict[str, Value]:
    """``base`` (a dataset's settings) with the method's overrides over it, by full name."""
    return {**full_names(base or {}), **method_named(name).overrides}


# One model, the same for everybody: what plain federated learning trains.
_ONE_MODEL: Overrides = {
    "num-experts": 1,
    "user-network-dim": "off",
    "user-embedding-dim": "off",
    "user-bias": False,
    "user-factors": False,
}
# Averaging several local steps, as in the papers; MRFF's defaults are one step and Adam's server.
# Learning rates of baselines: the best of two on the validation part of ml-100k (docs/methods.md).
_AVERAGING: Overrides = {
    **_ONE_MODEL,
    "local-steps": 5,
    "local-learning-rate": 0.3,
    "server-optimizer": "average",
    "server-learning-rate": 1.0,
}
_TARGET_ATTENTION: Overrides = {"head": "target-attention", "num-layers": 1}
# What others made of an item, and a taste in closed form: both read labels of the past.
_NO_STATISTICS: Overrides = {
    "item-statistics": False,
    "kind-statistics": False,
    "closed-form-factors": "off",
}
_ABLATIONS: dict[str, tuple[str, Overrides]] = {
    "mrff-hard": ("the gate as in the paper: no task gradient", {"gate-mode": "hard"}),
    "gate-hidden": (
        "the gate reads hidden states, as in the paper (this excludes feedback in the history)",
        {"gate-input": "hidden", "history-feedback": False},
    ),
    "one-group": ("one expert per layer: no groups", {"num-experts": 1}),
    "groups-2": ("2 experts per layer", {"num-experts": 2}),
    "groups-8": ("8 experts per layer", {"num-experts": 8}),
    "groups-16": ("16 experts per layer", {"num-experts": 16}),
    "no-private-network": ("no network of the user's own", {"user-network-dim": "off"}),
    "no-user-factors": ("no factors of the user's own", {"user-factors": False}),
    "no-pooling": (
        "experts follow their own users only and start apart, as in the paper",
        {"expert-pooling": 0.0},
    ),
    "no-balance": (
        "gates without balance loss that do not follow the loads",
        {"balance-loss-weight": 0.0, "balance-rate": 0.0},
    ),
    "no-feedback": (
        "past labels are neither in the history nor counted",
        # said, or labels that are not shown would choose the groups
        {
            "history-feedback": False,
            "history-rates": False,
            "gate-mode": "switch",
            **_NO_STATISTICS,
        },
    ),
    "no-rates": ("the head reads no rates of the user's own", {"history-rates": False}),
    "no-statistics": ("the head reads nothing of what others make of items", _NO_STATISTICS),
    "no-kinds": ("the head reads nothing of kinds of items", {"kind-statistics": False}),
    "no-closed-form": ("no taste in closed form", {"closed-form-factors": "off"}),
    "no-history-times": ("past items do not say when they came", {"history-times": False}),
    "no-clock": ("the head reads no times", {"time-inputs": False}),
    "layers-1": ("1 layer", {"num-layers": 1}),
    "layers-3": ("3 layers", {"num-layers": 3}),
    "local-steps-2": ("2 local steps", {"local-steps": 2}),
    "local-steps-5": ("5 local steps", {"local-steps": 5}),
    "sampling-5": ("5 % of the users per round", {"sampling-rate": 0.05}),
    "sampling-50": ("50 % of the users per round", {"sampling-rate": 0.5}),
    "sampling-100": ("every user in every round", {"sampling-rate": 1.0}),
    "server-average": (
        "the server averages",
        {"server-optimizer": "average", "server-learning-rate": 1.0},
    ),
    "server-momentum": (
        "the server averages with momentum",
        {"server-optimizer": "momentum", "server-learning-rate": 0.3},
    ),
}
_BASELINES: dict[str, tuple[str, Overrides]] = {
    "local-only": (
        "every user trains a network alone: nothing is shared",
        # one user's number per item says nothing of items they have not met
        _ONE_MODEL
        | _NO_STATISTICS
        | {"private-parameters": "all", "private-learning-rate": 0.3, "item-bias": False},
    ),
    "fedavg": ("one shared model, averaged (McMahan et al. 2017)", _AVERAGING),
    "fedprox": (
        "fedavg with a pull towards the shared model (Li et al. 2020)",
        _AVERAGING | {"proximal-weight": 0.1},
    ),
    "fedadam": (
        "one shared model, Adam on the server (Reddi et al. 2021)",
        _ONE_MODEL | {"server-optimizer": "adam"},
    ),
    "fedper": (
        "a shared body and a private head (Arivazhagan et al. 2019)",
        _ONE_MODEL | {"private-parameters": "head", "private-learning-rate": 0.05},
    ),
    "user-embedding-only": (
        "one shared model and a private embedding of the user",
        {name: value for name, value in _ONE_MODEL.items() if name != "user-embedding-dim"},
    ),
    "federated-logistic": (
        "logistic regression on the inputs of the head, in rounds",
        _ONE_MODEL | {"head": "linear", "num-layers": 1},
    ),
    "din": (
        "one shared model whose target weighs the history (Zhou et al. 2018)",
        _ONE_MODEL | _TARGET_ATTENTION,
    ),
    "ifca": (
        "4 copies of the model, each user takes the one that fits best (Ghosh et al. 2020)",
        _ONE_MODEL | {"clusters": 4},
    ),
}
_NEXT: Overrides = {"objective": "next"}
_POOLED_RANKING: dict[str, tuple[str, Overrides]] = {
    "sasrec-pooled": (
        "one network of attention (Kang and McAuley 2018) trained on everybody's data in one place",
        _ONE_MODEL | {"backbone": "sasrec"},
    ),
    "hstu-pooled": (
        "one network of HSTU (Zhai et al. 2024) trained on everybody's data in one place",
        _ONE_MODEL | {"backbone": "hstu"},
    ),
    "item-knn": ("items like those of the history (Sarwar et al. 2001)", {}),
    "rules": ("what followed the latest items how often (Ludewig and Jannach 2018)", {}),
    "ease": ("every item from all the others of a user, in closed form (Steck 2019)", {}),
    "slit": ("the next item from the decayed history, in closed form (Choi et al. 2021)", {}),
    "ials": ("factors by alternating least squares (Hu et al. 2008)", {}),
    "bpr": ("factors by pairwise ranking (Rendle et al. 2009)", {}),
}
# Rivals in ranking the next item; each learns by settings of its own (docs/ranking.md).
_FACTORS: Overrides = {
    **_NEXT,
    "linear-items": "off",
    "num-layers": 1,
    "num-experts": 1,
    "feature-dim": 32,
    "sampling-rate": 1.0,
    "server-optimizer": "average",
    "server-learning-rate": 1.0,
    "server-final-rate": 1.0,
}
_BASELINES |= {
    "fedmf": (
        "users' vectors at home, the items' table averaged (Chai et al. 2021)",
        _FACTORS | {"algorithm": "fedmf", "user-bias": False},
    ),
    "pfedrec": (
        "a score function and fine-tuned items for each user (Zhang et al. 2023)",
        _FACTORS | {"algorithm": "pfedrec"},
    ),
}
# Models of what the head of clicks reads, whatever `network` says that this is.
_ON_INPUTS: dict[str, tuple[str, Overrides]] = {
    "logistic-inputs": ("logistic regression on the inputs of the head", {}),
    "lightgbm-inputs": ("trees by LightGBM on the same inputs (Ke et al. 2017)", {}),
    "catboost-inputs": ("trees by CatBoost on the same inputs (Prokhorenkova et al. 2018)", {}),
}
_KINDS: dict[Kind, dict[str, tuple[str, Overrides]]] = {
    "mrff": {"mrff": ("the method as configured", {})},
    "ablation": _ABLATIONS,
    "baseline": _BASELINES,
    "pooled": {
        "pooled": ("MRFF's network trained on everybody's data in one place", {}),
        "din-pooled": (
            "the network of din trained on everybody's data in one place",
            _ONE_MODEL | _TARGET_ATTENTION,
        ),
        **{name: (told, {**_NEXT, **more}) for name, (told, more) in _POOLED_RANKING.items()},
    },
    "floor": {
        "popularity": ("the next item by how often anybody met it", _NEXT),
        "user-rate": ("the user's rate of positive labels", {}),
        "user-item-rate": ("the user's rate times the item's", {}),
        "user-feature-rate": ("the user's rate times those of the item's features", {}),
        "boosted-trees": ("gradient-boosted trees on rates and features", {}),
        "boosted-trees-history": (
            "the same trees, which also see what the user liked lately and of the same kind",
            {},
        ),
        **_ON_INPUTS,
    },
}
_DRAW_NOTHING = {
    "user-rate", "user-item-rate", "user-feature-rate",
    "popularity", "item-knn", "rules", "ease", "slit",
}  # fmt: skip
METHODS: Mapping[str, Method] = {
    name: Method(name, description, kind, full_names(overrides))
    for kind, methods in _KINDS.items()
    for name, (description, overrides) in methods.items()
}
