"""Settings that follow from a dataset's numbers: the rules, and that what is said wins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrff.config import RunConfig, full_names
from mrff.config.fitting import RULES, DataFacts, fitting
from mrff.config.names import SETTINGS

# users, items, rows, median, longest, items have ids; as the six datasets have them
ML_1M = DataFacts(6040, 3883, 1_000_209, 96.0, 2314, True, real_times=True, kinds=2)
CIAODVD = DataFacts(17615, 16121, 72_345, 1.0, 1106, True, real_times=True, kinds=1)
AMAZON = DataFacts(16841, 8663, 31_286, 1.0, 400, True, real_times=True)
KUAIRAND = DataFacts(664, 9359, 41_704, 54.0, 255, True, real_times=True, kinds=1)
KUAISAR = DataFacts(1791, 69704, 117_590, 55.0, 400, False, real_times=True, kinds=6)


def fitted(facts: DataFacts, kind: str = "labelled", **typed: Any) -> dict[str, Any]:
    """What the data asks for, by the last part of a name."""
    values = full_names({name.replace("_", "-"): value for name, value in typed.items()})
    found = fitting(RunConfig.from_flat(values).for_data(kind), facts)
    return {one.key.rpartition(".")[2]: one.value for one in found}


def test_every_fitted_setting_has_a_rule() -> None:
    assert set(RULES) == {key for key, setting in SETTINGS.items() if setting.fitted}


def test_what_others_make_of_items_is_summed_and_tastes_are_solved_for() -> None:
    assert fitted(ML_1M) == {
        "item-statistics": True,
        "closed-form-factors": 16,
        "time-inputs": True,
        "max-windows-per-user": "all",
        "user-weighting": "targets",
    }
    assert fitted(replace(ML_1M, rows=499_999))["closed-form-factors"] == 8
    assert "closed-form-factors" not in fitted(KUAISAR)  # 1.7 rows per item
    assert "closed-form-factors" not in fitted(KUAIRAND)  # 14 items per user
    assert "time-inputs" not in fitted(replace(ML_1M, real_times=False))
    assert {"item-statistics", "time-inputs"}.isdisjoint(fitted(ML_1M, "events"))


def test_kinds_say_what_rare_items_cannot() -> None:
    assert fitted(KUAISAR)["kind-statistics"] is True
    assert fitted(KUAIRAND)["kind-statistics"] is True
    assert "kind-statistics" not in fitted(ML_1M)  # 258 rows per item
    assert "kind-statistics" not in fitted(AMAZON)  # items have an id and nothing else
    assert "kind-statistics" not in fitted(KUAISAR, item_statistics=False)


def test_long_histories_teach_a_taste() -> None:
    """Where it is not solved for: by embeddings."""
    for typed in ({"item_statistics": False}, {"closed_form_factors": "off"}):
        found = fitted(ML_1M, **typed)
        assert found["user-factors"] is True
        assert found["user-factors-learning-rate"] == 40.0  # 1,000,209 / 25,000
    assert "user-factors-learning-rate" not in fitted(ML_1M, user_factors=False)


def test_what_cannot_go_with_items_statistics_keeps_them_out() -> None:
    for typed in ({"item_bias": True}, {"private_parameters": "all"}):
        assert {"item-statistics", "closed-form-factors"}.isdisjoint(fitted(ML_1M, **typed))


def test_where_histories_are_short_the_item_decides() -> None:
    assert "item-bias" not in fitted(CIAODVD)  # its rate among others says as much
    found = fitted(CIAODVD, item_statistics=False)
    assert found["item-bias"] is True
    assert "user-factors" not in found
    assert (found["feature-dim"], found["dropout"]) == (4, 0.5)  # 4.5 rows per item
    assert fitted(AMAZON)["feature-dim"] == 2  # 3.6 rows per item


def test_a_catalogue_much_larger_than_the_users() -> None:
    found = fitted(KUAIRAND)
    assert (found["server-learning-rate"], found["item-bias-learning-rate-factor"]) == (0.003, 30.0)
    assert found["num-experts"] == 2
    assert "server-learning-rate" not in fitted(KUAISAR)  # items have no rows of their own


@pytest.mark.parametrize(
    ("share", "logit"), [(0.01, -4.6), (0.99, 4.6), (0.05, -2.94), (0.1, None), (0.5, None)]
)
def test_rare_labels_are_expected_from_the_start(share: float, logit: float | None) -> None:
    facts = replace(ML_1M, positive=share)
    assert fitted(facts).get("initial-logit") == logit  # log(0.01 / 0.99) = -4.595
    assert "initial-logit" not in fitted(facts, "events")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_one_label_alone_has_no_odds(share: float) -> None:
    assert "initial-logit" not in fitted(replace(ML_1M, positive=share))


def test_the_next_item() -> None:
    assert fitted(CIAODVD, "events") == {
        "num-experts": 1, "user-network-dim": "off", "linear-items": 4000,
    }  # fmt: skip
    assert fitted(ML_1M, "events")["linear-items"] == 3883


@pytest.mark.parametrize("typed", [{"user_factors": False}, {"dropout": 0.3}, {"num_experts": 4}])
def test_what_is_said_wins_though_it_is_the_default(typed: dict[str, Any]) -> None:
    name = next(iter(typed)).replace("_", "-")
    config = RunConfig.from_flat(full_names({name: typed[next(iter(typed))]}))
    every = {key: SETTINGS[key].plain for key in RULES}
    every |= {"network.user-factors": True, "network.dropout": 0.5, "network.num-experts": 2}
    assert config.with_fitted(every).to_flat()[full_name(name)] == next(iter(typed.values()))


def full_name(leaf: str) -> str:
    return next(iter(full_names({leaf: 0})))


@pytest.mark.parametrize(
    "values", [{"run.fit-settings": False}, {"privacy.mode": "central-user"}], ids=str
)
def test_nothing_follows_from_data_of_a_private_run_or_where_it_is_switched_off(
    values: dict[str, Any],
) -> None:
    config = RunConfig.from_flat(values).for_data("labelled")
    assert fitting(config, ML_1M) == []
    assert config.with_fitted({"network.user-factors": True}).network.user_factors is False
    assert "auto" not in {config.to_flat()[key] for key in RULES if key != "network.feature-dim"}


@given(
    facts=st.builds(
        DataFacts,
        users=st.integers(1, 10**7),
        items=st.integers(1, 10**7),
        rows=st.integers(1, 10**9),
        median=st.floats(1, 10**4),
        longest=st.integers(1, 10**5),
        items_have_ids=st.booleans(),
        positive=st.floats(0, 1),
        real_times=st.booleans(),
    ),
    kind=st.sampled_from(["labelled", "events", "both"]),
)
def test_whatever_the_data_the_settings_can_be_used_and_are_stored_as_they_are(
    facts: DataFacts, kind: str
) -> None:
    config = RunConfig.from_flat({}).for_data(kind)
    found = {one.key: one.value for one in fitting(config, facts)}
    settled = config.with_fitted(found)
    stored = settled.to_flat()
    assert {key: stored[key] for key in found} == found
    assert RunConfig.from_flat(stored) == settled  # it needs no data to be read again
    assert settled.to_fit == frozenset()
    assert settled.with_fitted({"network.dropout": 0.9}) == settled
