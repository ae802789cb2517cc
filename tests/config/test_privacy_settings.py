"""Settings that cannot keep the promise of a privacy mode are refused, with the way out."""

from __future__ import annotations

import pytest

from mrff.config import ConfigError, RunConfig

DP_SGD = {"privacy-mode": "local-dp-sgd"}
CENTRAL = {"privacy-mode": "central-user"}
LAPLACE = {"privacy-mode": "laplace"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CENTRAL, "user-weighting": "targets"}, "use user-weighting=uniform"),
        ({**DP_SGD, "user-weighting": "targets"}, "would count for more than clipping-norm"),
        (
            {**DP_SGD, "max-windows-per-user": 3},
            "privacy-unit=user in privacy-mode=local-dp-sgd needs max-windows-per-user=1, got 3",
        ),
        (
            {**DP_SGD, "privacy-unit": "record", "max-windows-per-user": 0},
            "own-parameters=free cannot go with several windows per user",
        ),
        ({**DP_SGD, "local-optimizer": "adam"}, "use sgd, and Adam on the server"),
        ({**CENTRAL, "privacy-unit": "record"}, "it clips whole users; use privacy-unit=user"),
        ({**LAPLACE, "own-parameters": "noised"}, "use own-parameters=free or frozen"),
        ({**CENTRAL, "record-sampling-rate": 0.5}, "it samples users (sampling-rate)"),
        (
            {**CENTRAL, "adaptive-clipping": True, "route-share": 0.0},
            "adaptive-clipping=true cannot go with route-share=0",
        ),
        ({**CENTRAL, "clipping-weights": "head"}, "must be prefix=factor, separated by commas"),
        ({**CENTRAL, "clipping-weights": "head=-1"}, "got 'head=-1'"),
        ({"noise-multiplier": 0.0}, "noise-multiplier must be greater than 0, got 0.0"),
        ({"noise-multiplier": -1.0}, "noise-multiplier must be greater than 0, got -1.0"),
        ({"delta": 0.0}, "delta must be greater than 0"),
        ({"delta": 0.7}, "at most 0.5, got 0.7"),
        ({"clipping-norm": 0.0}, "clipping-norm must be greater than 0, got 0.0"),
        ({"epsilon-budget": -1.0}, "epsilon-budget must be at least 0, got -1.0"),
        ({"privacy-mode": "dp"}, "privacy-mode must be one of none, local-dp-sgd"),
        ({"accountant": "gdp"}, "accountant must be one of prv, rdp, got 'gdp'"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_refused(values: dict[str, bool | int | float | str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RunConfig.from_flat(values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {**DP_SGD, "privacy-unit": "record", "max-windows-per-user": 0, "own-parameters": "noised"},
        {**DP_SGD, "privacy-unit": "record", "max-windows-per-user": 0, "own-parameters": "frozen"},
        {**CENTRAL, "max-windows-per-user": 0},
        {**LAPLACE, "local-optimizer": "adam"},
        {"user-weighting": "targets"},
    ],
)
def test_accepted(values: dict[str, bool | int | float | str]) -> None:
    RunConfig.from_flat(values)


def test_the_longest_prefix_gives_an_array_its_weight() -> None:
    privacy = RunConfig.from_flat(
        {"clipping-weights": "item=4, item_features.genres = 0.5"}
    ).privacy
    assert privacy.clipping_weight("item_features.item_table.weight") == 4.0
    assert privacy.clipping_weight("item_features.genres_table.weight") == 0.5
    assert privacy.clipping_weight("head.up.weight") == 1.0
