"""A search from its question to its answer: what is asked, what was found, the file to run with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mrff.config import ConfigError, RunConfig
from mrff.config.fitting import fitting
from mrff.config.names import GROUPS, SETTINGS
from mrff.data.dataset import load_dataset
from mrff.data.errors import DataError
from mrff.data.facts import facts_of
from mrff.data.floors import floors
from mrff.data.schema import Schema
from mrff.data.targets import ending_with_targets
from mrff.io.files import write_bytes
from mrff.metrics import metric_named
from mrff.ops.engine import stop_left_behind
from mrff.ops.simulation import Values
from mrff.ops.tuning.space import ITEM_SUMS, SPACES, Space
from mrff.ops.tuning.study import (
    DEFAULTS,
    FITTED,
    POINT,
    Search,
    completed,
    open_study,
    search,
)
from mrff.ops.tuning.study import SETTINGS as NOTED
from mrff.ops.tuning.trials import Workshop
from server_app.objective import settled

_FEW = 8  # trials; of fewer, no importance is told
_OF_TRIALS = ("run.name", "data.home", "evaluation.score-test", "run.tensorboard")


@dataclass(frozen=True)
class Found:
    """What a search came to.

    ``axes`` has by setting: its importance (None: too few trials), the best trial's value, the
    default, and how many values were tried. ``points`` and ``floor`` are validation measures.
    """

    measure: str
    best: float
    trial: int
    trials: int
    axes: list[tuple[str, float | None, Any, Any, int]]
    points: dict[str, float]
    floor: tuple[str, float] | None
    file: Path


def tune(
    folder: Path, values: Values, workshop: Workshop, budget: float, tell: Callable[[str], None]
) -> Found:
    """Searches settings for a prepared dataset, or goes on with a search, and writes the best.

    Args:
        folder: of the dataset; all of it, not a node's shard.
        values: settings that are not searched, by full name.
        workshop: its home holds the journal and gets ``best.toml``.
        budget: seconds.

    Raises:
        ConfigError: settings or a budget that cannot be used, or Optuna is not installed.
        DataError: the dataset cannot be tuned on.
        FlowerError: run after run fails.
    """
    schema = Schema.load(folder)
    asked, config = _asked(folder, schema, values)
    metric = metric_named(config.best_by)
    about = json.dumps([schema.content_hash or schema.schema_hash, asked.base], sort_keys=True)
    name = f"{schema.name}-{blake2b(about.encode(), digest_size=4).hexdigest()}"
    with _alone(workshop.home):
        study = open_study(workshop.home / "journal.log", name, higher=metric.better == "higher")
        if before := len(completed(study)):
            tell(f"going on after {before} trials that are done")
        search(study, asked, workshop, budget, tell)
    if not completed(study):
        raise ConfigError(
            f"no run on {schema.name} could be measured: {metric.label} of its validation is "
            "undefined; use a larger holdout"
        )
    return _found(study, asked, config, folder, workshop.home / "best.toml")


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Keeps other searches away, and removes what a killed one left."""
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{home} is searched by another process; wait, or use --out") from None
    try:
        stop_left_behind(home / "flower")
        for left in ("runs", "state"):
            shutil.rmtree(home / left, ignore_errors=True)
        yield
    finally:
        lock.release()


def _asked(folder: Path, schema: Schema, values: Values) -> tuple[Search, RunConfig]:
    base: Values = {"data.dataset": schema.name, "data.data-dir": str(folder), **values}
    given = RunConfig.from_flat(base)
    if given.privacy.mode != "none":
        raise ConfigError(
            f"privacy.mode={given.privacy.mode} cannot be tuned: every trial would spend its "
            "users' budget, and nothing is validated; use privacy.mode=none"
        )
    config = settled(given, schema)
    facts = facts_of(folder, schema)
    if facts is None:
        raise DataError(f"{folder} is a part of a dataset; tune on all of it")
    space = _open_axes(config, values, folder)
    plain: Values = {key: SETTINGS[key].plain for key in space}
    found: Values = {one.key: one.value for one in fitting(config, facts)}
    base |= {
        "run.fit-settings": False,
        "run.tensorboard": False,
        "evaluation.score-test": False,
    }
    off_axes = {key: value for key, value in found.items() if key not in space}
    fits = {key: found.get(key, plain[key]) for key in space}
    points: dict[str, Values] = {FITTED: fits, DEFAULTS: plain}  # the likelier one first
    return Search(
        space=space,
        base=base,
        off_axes=off_axes,
        points=points,
        rounds=config.server.num_server_rounds,
    ), config


def _open_axes(config: RunConfig, values: Values, folder: Path) -> Space:
    """Those that nobody has set, and that can go with what was and with the data."""
    space = {key: axis for key, axis in SPACES[config.objective].items() if key not in values}
    try:
        load_dataset(folder, replace(config.times_read, inputs=True))
    except DataError:  # its times are no times of day
        space.pop("network.time-inputs", None)
        space.pop("network.history-times", None)
    try:
        RunConfig.from_flat({"network.item-bias": False, **values, "network.item-statistics": True})
    except ConfigError:
        return {key: axis for key, axis in space.items() if key not in ITEM_SUMS}
    return space


def _found(study: Any, asked: Search, config: RunConfig, folder: Path, file: Path) -> Found:
    done, best = completed(study), study.best_trial
    settings: Values = best.user_attrs[NOTED]
    importance = _importance(study) if len(done) >= _FEW else {}
    axes = [
        (
            key,
            importance.get(key),
            settings[key],
            asked.points[DEFAULTS][key],
            len({trial.params.get(key) for trial in done}),
        )
        for key in asked.space
    ]
    axes.sort(key=lambda axis: -(axis[1] or 0.0))
    points = {
        trial.user_attrs[POINT]: float(trial.value) for trial in done if POINT in trial.user_attrs
    }
    metric = metric_named(config.best_by)
    told = f"validation {metric.label} {best.value:.4f}, trial {best.number} of {len(done)}"
    write_bytes(file, _toml(settings, told).encode())
    return Found(
        measure=metric.label,
        best=float(best.value),
        trial=best.number,
        trials=len(done),
        axes=axes,
        points=points,
        floor=_floor(config, folder),
        file=file,
    )


def _importance(study: Any) -> dict[str, float]:
    """By setting, how much of the differences between trials it explains; they add up to 1."""
    from optuna.importance import get_param_importances  # an extra, and scikit-learn

    try:
        return dict(get_param_importances(study))
    except (RuntimeError, ValueError):  # all trials are alike
        return {}


def _floor(config: RunConfig, folder: Path) -> tuple[str, float] | None:
    """The best floor of the validation by the measure that is searched by; None: there is none."""
    dataset, holdout = load_dataset(folder), config.data.holdout
    if config.best_by == "auc":
        try:
            found = floors(dataset, holdout=holdout, part="valid")
        except DataError:
            return None
        named = {
            "user rate": found.user,
            "user x item rate": found.user_item,
            "user x feature rates": found.user_features,
        }
        return max(((n, f.auc) for n, f in named.items() if f is not None), key=lambda f: f[1])
    if config.best_by in ("ndcg10", "hr10"):
        from mrff.ops.popularity import popularity_floor  # brings PyTorch

        if config.holds_out_targets:
            dataset = ending_with_targets(dataset, holdout=holdout)
        lists = popularity_floor(dataset, holdout=holdout, part="valid")
        return "popularity", float(getattr(lists, config.best_by))
    return None


def _toml(settings: Values, told: str) -> str:
    """A file for `mrff run --config`, in tables as in conf/."""
    kept = {k: v for k, v in settings.items() if k not in _OF_TRIALS}
    lines = [f"# made by mrff tune: {told}", "# mrff run --config best.toml"]
    for group in GROUPS:
        own = {k: v for k, v in kept.items() if SETTINGS[k].group == group}
        if own:
            lines += ["", f"[{group}]"]
            lines += [f"{SETTINGS[k].leaf} = {json.dumps(own[k])}" for k in SETTINGS if k in own]
    return "\n".join(lines) + "\n"
