"""Settings that cannot keep the promise of a privacy mode are refused, with the way out."""

from __future__ import annotations

import pytest

from mrff.config import ConfigError, RunConfig, full_names
from mrff.privacy.mechanisms import mechanism_of

DP_SGD = {"privacy.mode": "local-dp-sgd"}
RECORDS = {**DP_SGD, "privacy.unit": "record", "max-windows-per-user": "all"}
CENTRAL = {"privacy.mode": "central-user"}
LAPLACE = {"privacy.mode": "laplace"}
DISTRIBUTED = {
    "privacy.mode": "distributed-user",
    "secure-aggregation": True,
    "accountant": "rdp",
    "sampling-rate": 1.0,
}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CENTRAL, "user-weighting": "targets"}, "use training.user-weighting=uniform"),
        (
            {**DP_SGD, "user-weighting": "targets"},
            "would count for more than privacy.clipping-norm",
        ),
        (
            {**DP_SGD, "max-windows-per-user": 3},
            "privacy.unit=user in privacy.mode=local-dp-sgd needs "
            "data.max-windows-per-user=1, got 3",
        ),
        (
            {**DP_SGD, "privacy.unit": "record", "max-windows-per-user": "all"},
            "privacy.private-training=free cannot go with several windows per user",
        ),
        ({**DP_SGD, "local-optimizer": "adam"}, "use sgd, and Adam on the server"),
        ({**DP_SGD, "gate-mode": "evidence"}, "would put one record into the gradients of the"),
        ({**CENTRAL, "privacy.unit": "record"}, "it clips whole users; use privacy.unit=user"),
        ({**LAPLACE, "private-training": "noised"}, "use privacy.private-training=free or frozen"),
        ({**CENTRAL, "record-sampling-rate": 0.5}, "it samples users (training.sampling-rate)"),
        (
            {**CENTRAL, "adaptive-clipping": True, "route-share": 0.0},
            "adaptive-clipping=true cannot go with privacy.route-share=0",
        ),
        ({**CENTRAL, "clipping-weights": "head"}, "must be prefix=factor, separated by commas"),
        ({**CENTRAL, "clipping-weights": "head=-1"}, "got 'head=-1'"),
        (
            {"keep-test-scores": True, "privacy.mode": "central-user"},
            "keep-test-scores=true cannot go with privacy.mode=central-user",
        ),
        (
            {"user-factors": True, "privacy.mode": "local-dp-sgd", "private-training": "noised"},
            "user-factors=true cannot go with privacy.private-training=noised: how far factors "
            "move tells how many targets a user has; use network.user-factors=false, "
            "or privacy.private-training=free or frozen",
        ),
        (
            {"privacy.mode": "central-user", "max-update-norm": 5.0},
            "max-update-norm=5 cannot go with privacy.mode=central-user",
        ),
        (
            {"privacy.mode": "central-user", "clusters": 2, "num-experts": 1},
            "network.clusters=2 cannot go with privacy.mode=central-user, which knows MRFF's "
            "uploads only; use network.clusters=off or privacy.mode=none",
        ),
        (
            {**DISTRIBUTED, "secure-aggregation": False},
            "privacy.secure-aggregation=false cannot go with privacy.mode=distributed-user: one "
            "node's noise hides nobody; use privacy.secure-aggregation=true",
        ),
        (
            {**DISTRIBUTED, "accountant": "prv"},
            "privacy.accountant=prv cannot go with privacy.mode=distributed-user: Skellam noise "
            "is counted in Renyi divergence; use privacy.accountant=rdp",
        ),
        ({**DISTRIBUTED, "sampling-rate": 0.2}, "use training.sampling-rate=1"),
        ({**DISTRIBUTED, "privacy.unit": "record"}, "it clips whole users; use privacy.unit=user"),
        (
            {**DISTRIBUTED, "noise-multiplier": 0.003},
            "is noise of 12.3 steps of the grid, too small for it (16 to 262,144); "
            "use more grid-steps",
        ),
        (
            {**DISTRIBUTED, "test-noise": 100.0},
            "privacy.test-noise=100 with privacy.grid-steps=4096 is noise of 4.1e+05 steps of the "
            "grid, too large for it (16 to 262,144); "
            "use fewer grid-steps",
        ),
        ({"grid-steps": 0}, "grid-steps must be between 1 and 1e+06, got 0"),
        ({"noise-multiplier": 0.0}, "noise-multiplier must be greater than 0, got 0.0"),
        ({"noise-multiplier": -1.0}, "noise-multiplier must be greater than 0, got -1.0"),
        ({"delta": 0.0}, "delta must be greater than 0"),
        ({"delta": 0.7}, "at most 0.5, got 0.7"),
        ({"clipping-norm": 0.0}, "clipping-norm must be greater than 0, got 0.0"),
        ({"epsilon-budget": -1.0}, 'epsilon-budget must be greater than 0 or "off", got -1.0'),
        ({"privacy.mode": "dp"}, "privacy.mode must be one of none, local-dp-sgd"),
        ({"accountant": "gdp"}, "accountant must be one of prv, rdp, got 'gdp'"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_refused(values: dict[str, bool | int | float | str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mechanism_of(RunConfig.from_flat(full_names(values)))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {
            **DP_SGD,
            "privacy.unit": "record",
            "max-windows-per-user": "all",
            "private-training": "noised",
        },
        {
            **DP_SGD,
            "privacy.unit": "record",
            "max-windows-per-user": "all",
            "private-training": "frozen",
        },
        {**CENTRAL, "max-windows-per-user": "all"},
        {**LAPLACE, "local-optimizer": "adam"},
        {**DISTRIBUTED, "noise-multiplier": 4.94, "private-training": "frozen"},
        {"user-weighting": "targets"},
    ],
)
def test_accepted(values: dict[str, bool | int | float | str]) -> None:
    mechanism_of(RunConfig.from_flat(full_names(values)))


def test_the_longest_prefix_gives_an_array_its_weight() -> None:
    privacy = RunConfig.from_flat(
        {"privacy.clipping-weights": "item=4, item_features.genres = 0.5"}
    ).privacy
    assert privacy.clipping_weight("item_features.item_table.weight") == 4.0
    assert privacy.clipping_weight("item_features.genres_table.weight") == 0.5
    assert privacy.clipping_weight("head.up.weight") == 1.0
