"""The search by itself: order of trials, budget, what goes on, what is refused. No run is made."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import pytest

from mrff.config import ConfigError
from mrff.ops.control import FlowerError
from mrff.ops.simulation import Values
from mrff.ops.tuning.space import OneOf, Range
from mrff.ops.tuning.study import (
    DEFAULTS,
    FITTED,
    POINT,
    Search,
    completed,
    open_study,
    search,
    seconds_of,
)
from mrff.ops.tuning.trials import Standing, StoppedError

RATE, WEIGHTING = "server.server-learning-rate", "training.user-weighting"
ASKED = Search(
    space={RATE: Range(0.001, 0.1), WEIGHTING: OneOf(("uniform", "targets"))},
    base={"data.dataset": "made-up"},
    off_axes={"training.linear-items": 10},
    points={
        DEFAULTS: {RATE: 0.01, WEIGHTING: "uniform"},
        FITTED: {RATE: 0.003, WEIGHTING: "targets"},
    },
    rounds=8,
)


@dataclass
class MadeUp:
    """Answers as a run would, by its rate; ``stops`` raises instead at the n-th run."""

    home: Path
    stops: dict[int, BaseException] = field(default_factory=dict)
    seconds: float = 0.0
    seen: list[Values] = field(default_factory=list)

    def run(self, name: str, values: Values, watch: Callable[[Standing], bool]) -> float | None:
        self.seen.append(values)
        value = float(values[RATE]) * (2 if values[WEIGHTING] == "targets" else 1)
        for number in (2, 4, 6):
            standing = Standing(self.seconds, self.seconds * 2, {number: value * number / 8})
            if not watch(standing):
                raise StoppedError
        if len(self.seen) in self.stops:
            raise self.stops[len(self.seen)]
        return value


def searched(home: Path, made_up: Any, tries: int, *, budget: float = 1000.0) -> list[str]:
    """What a search says that is interrupted after so many runs, unless it ends before."""
    told: list[str] = []
    made_up.stops.setdefault(tries, KeyboardInterrupt())
    study = open_study(home / "journal.log", "made-up", higher=True)
    try:
        search(study, ASKED, made_up, budget, told.append)
    except KeyboardInterrupt:
        told.append("interrupted")
    return told


def test_defaults_first_then_what_fits_then_the_search(tmp_path: Path) -> None:
    made_up = MadeUp(tmp_path)
    told = searched(tmp_path, made_up, 5)
    assert made_up.seen[0] == {"data.dataset": "made-up", **ASKED.points[DEFAULTS]}
    assert made_up.seen[1] == {**ASKED.base, **ASKED.off_axes, **ASKED.points[FITTED]}
    assert told[:2] == [
        "trial 0 (defaults): 0.0100, best 0.0100 (trial 0)",
        "trial 1 (fitted defaults): 0.0060, best 0.0100 (trial 0)",
    ]
    assert all(0.001 <= float(values[RATE]) <= 0.1 for values in made_up.seen)
    assert told[-1] == "interrupted"


def test_an_interrupted_search_loses_the_running_trial_only(tmp_path: Path) -> None:
    first = MadeUp(tmp_path)
    assert searched(tmp_path, first, 2)[-1] == "interrupted"  # in the second one
    second = MadeUp(tmp_path)
    searched(tmp_path, second, 3)
    assert second.seen[0][RATE] == 0.003  # the fitting ones were lost, and are run again
    done = completed(open_study(tmp_path / "journal.log", "made-up", higher=True))
    assert [trial.user_attrs.get(POINT) for trial in done] == [DEFAULTS, FITTED, None]
    assert first.seen[0] != second.seen[-1]


def test_a_killed_search_leaves_no_trial_that_runs(tmp_path: Path) -> None:
    study = open_study(tmp_path / "journal.log", "made-up", higher=True)
    study.ask()
    again = open_study(tmp_path / "journal.log", "made-up", higher=True)
    assert [trial.state.name for trial in again.trials] == ["FAIL"]


def test_a_budget_too_small_for_one_run_says_how_long_it_takes(tmp_path: Path) -> None:
    slow = MadeUp(tmp_path, seconds=90.0)
    wanted = r"budget of 1 min 40 s is too small for one run: a run of 8 rounds takes about 3 min"
    with pytest.raises(ConfigError, match=wanted) as error:
        searched(tmp_path, slow, 9, budget=100.0)
    assert "\n" not in str(error.value)
    assert len(slow.seen) == 1


def test_runs_below_the_median_are_ended(tmp_path: Path) -> None:
    told = searched(tmp_path, MadeUp(tmp_path), 25)
    assert any("pruned" in line for line in told)
    assert not any("pruned" in line for line in told[:2])


def test_one_failed_run_is_told_three_in_a_row_end_the_search(tmp_path: Path) -> None:
    fails = {number: FlowerError("lost") for number in (3, 5, 6, 7)}
    made_up, told = MadeUp(tmp_path, fails), list[str]()
    study = open_study(tmp_path / "journal.log", "made-up", higher=True)
    study.pruner = optuna.pruners.NopPruner()
    with pytest.raises(FlowerError, match="lost"):
        search(study, ASKED, made_up, 1000.0, told.append)  # type: ignore[arg-type]
    assert len(made_up.seen) == 7
    assert "trial 2 failed (lost)" in told[2]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("30m", 1800.0), ("1.5h", 5400.0), (" 2h ", 7200.0)]
)
def test_budgets(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-3m", "0s", "3 days", "1e3s"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match="--budget must be a time such as 30m"):
        seconds_of(text)


def test_without_optuna_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'mrff\[tune\]'"):
        open_study(tmp_path / "journal.log", "made-up", higher=True)
