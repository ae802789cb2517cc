"""The search: which settings are tried next, within a budget of time, and what is on record.

Optuna (Akiba et al., KDD 2019) proposes them by its tree-structured Parzen estimator and prunes
runs below the median. Its journal is a file of lines: what is in it survives whatever ends us.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mrff.config import ConfigError
from mrff.ops.control import FlowerError
from mrff.ops.simulation import Values
from mrff.ops.tuning.space import Space, agreeing
from mrff.ops.tuning.trials import Standing, StoppedError, Workshop
from server_app.run.progress import duration

DEFAULTS, FITTED = "defaults", "fitted defaults"
POINT, SETTINGS, SECONDS = "point", "settings", "seconds"  # what a trial is noted with
_WARM_TRIALS = 4  # with fewer there is no median to be below of
_MOST_FAILURES = 3  # one after the other
_UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Search:
    """What is searched.

    Args:
        space: the axes, by full name of a setting.
        base: settings of every trial.
        off_axes: what the data asks for besides; the defaults go without.
        points: tried before all others, by name: their values of all axes.
        rounds: of every trial.
        higher: whether more of the measure is better.
    """

    space: Space
    base: Values
    off_axes: Values
    points: Mapping[str, Values]
    rounds: int
    higher: bool = True


def seconds_of(budget: str) -> float:
    """``30m``, ``1.5h`` or ``90s`` in seconds.

    Raises:
        ConfigError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget.strip())
    if not found or not float(found[1]):
        raise ConfigError(f"--budget must be a time such as 30m, 2h or 90s, got {budget!r}")
    return float(found[1]) * _UNITS[found[2]]


def open_study(journal: Path, name: str, *, higher: bool) -> Any:
    """The study of that name in a journal, a new one if there is none.

    Raises:
        ConfigError: Optuna is not installed.
    """
    optuna = _optuna()
    from optuna.storages import JournalStorage  # an extra
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=name,
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="maximize" if higher else "minimize",
        load_if_exists=True,
    )
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished() and trial.state.name == "RUNNING":
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)  # it was interrupted
    # Another seed in every session: the same one would propose the same settings again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=_WARM_TRIALS)
    return study


def completed(study: Any) -> list[Any]:
    """The trials that ran to their end, in their order."""
    return [trial for trial in study.trials if trial.state.name == "COMPLETE"]


def search(
    study: Any, asked: Search, workshop: Workshop, budget: float, tell: Callable[[str], None]
) -> None:
    """Tries settings until the next run would not fit into the budget any more.

    Args:
        budget: seconds of this command; what was tried before is not counted.
        tell: shown a line for each trial.

    Raises:
        ConfigError: the budget is too small for one run.
        FlowerError: run after run fails.
    """
    ends = time.monotonic() + budget
    failures = 0
    tried = 0
    while True:
        before = [trial.user_attrs[SECONDS] for trial in completed(study)]
        left = ends - time.monotonic()
        if before and max(before[-5:]) > left:
            if not tried:
                raise _too_small(budget, asked, max(before[-5:]))
            return
        trial, point, values = _next(study, asked)
        try:
            outcome = _tried(trial, values, asked, workshop, left)
            failures = 0
        except FlowerError as error:
            failures += 1
            study.tell(trial, state=_optuna().trial.TrialState.FAIL)
            log = workshop.home / f"{_name(study, trial)}.log"
            tell(f"trial {trial.number} failed ({error}); its log is {log}")
            if failures == _MOST_FAILURES or point:
                raise
            continue
        tried += 1
        tell(f"trial {trial.number}{f' ({point})' if point else ''}: {outcome}")
        if outcome is _OUT_OF_TIME:
            return


_OUT_OF_TIME = "ended with the budget"


def _next(study: Any, asked: Search) -> tuple[Any, str, Values]:
    """A trial, the name of its point if it is one, and its settings."""
    done = {trial.user_attrs.get(POINT) for trial in completed(study)}
    for point, values in asked.points.items():
        if point not in done:
            study.enqueue_trial(values, user_attrs={POINT: point})
            break
    else:
        point = ""
    trial = study.ask()
    chosen = {key: axis.suggest(trial, key) for key, axis in asked.space.items()}
    off_axes = {} if point == DEFAULTS else asked.off_axes
    settings = agreeing({**asked.base, **off_axes, **chosen})
    trial.set_user_attr(SETTINGS, settings)
    return trial, point, settings


def _tried(trial: Any, values: Values, asked: Search, workshop: Workshop, left: float) -> str:
    """Runs a trial and notes what came out."""
    study, reported = trial.study, set[int]()
    states = _optuna().trial.TrialState
    first = not completed(study)
    pruned = False

    def watch(standing: Standing) -> bool:
        nonlocal pruned
        for number, value in standing.validations.items():
            if number not in reported:
                reported.add(number)
                trial.report(value, number)
        if first and (standing.whole or standing.seconds) > left:
            raise _too_small(left, asked, standing.whole)
        late = max(reported, default=0) * 4 >= asked.rounds  # the first quarter says little
        pruned = late and POINT not in trial.user_attrs and trial.should_prune()
        return not pruned and standing.seconds < left

    began = time.monotonic()
    try:
        value = workshop.run(_name(study, trial), values, watch)
    except StoppedError:
        study.tell(trial, state=states.PRUNED if pruned else states.FAIL)
        return "pruned: below the median" if pruned else _OUT_OF_TIME
    except BaseException as error:
        if not isinstance(error, FlowerError):
            study.tell(trial, state=states.FAIL)
        raise
    trial.set_user_attr(SECONDS, time.monotonic() - began)
    if value is None:
        study.tell(trial, state=states.FAIL)
        return "nothing to measure: validation is undefined"
    study.tell(trial, value)
    return f"{value:.4f}, best {study.best_value:.4f} (trial {study.best_trial.number})"


def _name(study: Any, trial: Any) -> str:
    return f"{study.study_name}-{trial.number}"


def _too_small(budget: float, asked: Search, needed: float | None) -> ConfigError:
    if needed is None:
        told = f"a run of {asked.rounds} rounds needs more than that"
    else:
        told = f"a run of {asked.rounds} rounds takes about {duration(needed)} here"
    return ConfigError(
        f"the budget of {duration(budget)} is too small for one run: {told}; give more with "
        "--budget, or fewer rounds with -c num-server-rounds=N"
    )


def _optuna() -> ModuleType:
    try:
        import optuna  # an extra
    except ImportError as error:
        raise ConfigError(
            "mrff tune needs the package optuna, which is not installed; pip install 'mrff[tune]'"
        ) from error
    return optuna
