"""What a new run begins with that goes on from another one, maybe on a catalogue that grew.

It begins with the best model of that run, and with the server optimiser's moments as they were
saved last. Rows of new items and values begin as `mrff_model.growing` says; arrays that only
another objective has begin as in any run.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from mrff.algorithms import algorithm_of, network_of
from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Catalogue
from mrff.data.schema import Ancestor
from mrff.wire.requests import Arrays, EarlierRun
from mrff_model.building import tensors_of
from mrff_model.growing import NewItems, may_grow
from server_app.model import initial_state
from server_app.run.checkpoint import load_checkpoint
from server_app.run.run_folder import named_run
from strategies.server_optimizer import BlockState
from strategies.state import TrainingState

# Arrays that depend on the objective, or are counted anew: one of the two runs may lack them.
_OF_OBJECTIVE = re.compile(
    r"(clusters\.\d+\.)?(head|next_head|item_bias|user_features|item_statistics)\..+"
)
_NO_SHAPE = ("objective", "dropout", "initial_scale", "gate_input")


def continued_state(config: RunConfig, catalogue: Catalogue) -> tuple[TrainingState, list[str]]:
    """The state of a new run that goes on from the one that ``run.start-from`` names.

    Returns:
        The state before its first round, and what whoever reads the log should know.

    Raises:
        CheckpointError: there is no such run, or its checkpoint is damaged.
        ConfigError: it is of other data, or its network is not this run's.
    """
    folder = named_run(config, "start-from", config.run.start_from or "")
    checkpoint = load_checkpoint(folder.checkpoints)
    old, schema = checkpoint.state, catalogue.schema
    earlier = _version(checkpoint.schema_hash, catalogue, folder.name)
    saved = RunConfig.from_flat(checkpoint.config).for_data(schema.kind)
    _check_private(saved, config, catalogue, grown=earlier.num_items < schema.num_items)
    fresh = initial_state(config, catalogue)
    best = (old.best_public, old.best_group) if old.best_round else (old.public, old.group)
    ids = {feature.name for feature in schema.item_features if feature.kind == "id"}
    new = NewItems.of(catalogue.item_codes, ids, earlier.num_items)
    _check_places(saved, config)
    try:
        shared = _begun({**fresh.public, **fresh.group}, {**best[0], **best[1]}, new)
        shared = _mixed(shared, {**fresh.public, **fresh.group}, config.run.start_share)
    except ValueError as error:
        raise _misfit(folder.name, str(error), saved, config) from None
    last = EarlierRun(folder.name, old.best_round or old.round, tuple(old.epoch_starts))
    same_steps = saved.server.server_optimizer == config.server.server_optimizer
    state = TrainingState(
        public={name: shared[name] for name in fresh.public},
        group={name: shared[name] for name in fresh.group},
        optimizer={
            name: _with_rows(moments, shared[name].shape)
            for name, moments in old.optimizer.items()
            if same_steps and name in shared
        },
        loads=old.loads if saved.routes_shape == config.routes_shape else [],
        lineage=[last.text, *old.lineage],
    )
    return state, _told(last, saved, config, schema.num_items - earlier.num_items)


def check_origin(config: RunConfig, state: TrainingState) -> None:
    """Whether a resumed run began where ``run.start-from`` says, if it says anything.

    Raises:
        ConfigError: it began elsewhere.
    """
    named = config.run.start_from
    began = EarlierRun.of(state.lineage[0]).training_id if state.lineage else "nothing"
    if named and Path(named).name != began:
        raise ConfigError(
            f"run.start-from={named} cannot go with run.resume={config.run.resume}, which began "
            f"with {began}: leave run.start-from out"
        )


def _version(schema_hash: str, catalogue: Catalogue, run: str) -> Ancestor:
    """The version of the dataset that the run was trained on."""
    schema = catalogue.schema
    if schema_hash == schema.schema_hash:
        return schema.as_ancestor
    found = schema.ancestor_of(schema_hash)
    if found is None:
        raise ConfigError(
            f"run.start-from={run} was trained on data with schema hash {schema_hash}, which is no "
            f"version of {schema.name} ({schema.schema_hash}, version {schema.version}): start "
            "from a run on this dataset"
        )
    return found


def _check_private(
    saved: RunConfig, config: RunConfig, catalogue: Catalogue, *, grown: bool
) -> None:
    """What nodes keep has to mean the same in both runs; they never show it."""
    run, kept = config.run.start_from, config.network.private_parameters
    if algorithm_of(saved).name != algorithm_of(config).name:
        raise ConfigError(
            f"run.start-from={run} has training.algorithm={algorithm_of(saved).name}, this run "
            f"{algorithm_of(config).name}: start from a run of the same algorithm"
        )
    if saved.network.private_parameters != kept:
        raise ConfigError(
            f"run.start-from={run} has network.private-parameters="
            f"{saved.network.private_parameters}, this run {kept}: let them be the same"
        )
    if kept == "all" and grown:
        raise ConfigError(
            f"run.start-from={run} cannot go with network.private-parameters=all: the catalogue "
            "grew, and the tables that would grow are on nodes only; begin a new run"
        )
    there, here = (
        tensors_of(network_of(c, catalogue.schema, catalogue.item_codes, seed=0), "private")
        for c in (saved, config)
    )
    for name in sorted(there.keys() & here.keys()):
        if there[name].shape != here[name].shape:
            shapes = f"{tuple(there[name].shape)} there, {tuple(here[name].shape)} here"
            raise _misfit(run or "", f"private {name} has shape {shapes}", saved, config)


def _check_places(saved: RunConfig, config: RunConfig) -> None:
    """A longer table is one that grew only where items have the same rows in both runs."""
    there, here = (
        (c.network.item_ids, c.network.hash_rows if c.network.item_ids == "hashed" else 0)
        for c in (saved, config)
    )
    if there != here:
        raise _misfit(config.run.start_from or "", "items have other rows", saved, config)


def _begun(fresh: Arrays, old: Arrays, new: NewItems) -> Arrays:
    """The new run's arrays with the values of the old ones.

    Raises:
        ValueError: an array of one of them does not fit the other; the message says which.
    """
    for name in sorted(fresh.keys() ^ old.keys()):
        if not _OF_OBJECTIVE.fullmatch(name):
            raise ValueError(f"{name} is in {'this run' if name in fresh else 'that run'} only")
    shared = dict(fresh)
    for name in sorted(fresh.keys() & old.keys()):
        if may_grow(name, old[name].shape, fresh[name].shape):
            shared[name] = new.extended(name, old[name], len(fresh[name]))
        elif old[name].shape == fresh[name].shape:
            shared[name] = old[name]
        else:
            raise ValueError(f"{name} has shape {old[name].shape} there, {fresh[name].shape} here")
    return shared


def _mixed(begun: Arrays, fresh: Arrays, share: float) -> Arrays:
    """A share of what was learned and the rest as drawn: "shrink and perturb" (Ash and Adams, "On
    warm-starting neural network training", NeurIPS 2020).

    A model that has learned the old rows by heart learns less from new ones than a new model.
    """
    if share == 1.0:
        return begun
    return {name: share * begun[name] + (1.0 - share) * fresh[name] for name in begun}


def _with_rows(moments: BlockState, shape: tuple[int, ...]) -> BlockState:
    """An array's moments, 0 for rows that are new."""
    return {
        slot: np.pad(values, [(0, shape[0] - len(values)), *[(0, 0)] * (values.ndim - 1)])
        if values.ndim
        else values
        for slot, values in moments.items()
    }


def _misfit(run: str, what: str, saved: RunConfig, config: RunConfig) -> ConfigError:
    there, here = saved.network_arguments(), config.network_arguments()
    told = [
        f"{name.replace('_', '-')} {there[name]} there, {here[name]} here"
        for name in there
        if there[name] != here[name] and name not in _NO_SHAPE
    ]
    return ConfigError(
        f"run.start-from={run} has another network ({'; '.join([*told, what])}): give this run the "
        "network settings of that one"
    )


def _told(last: EarlierRun, saved: RunConfig, config: RunConfig, new_items: int) -> list[str]:
    lines = [f"going on from run {last.training_id}, round {last.round}; {new_items} items are new"]
    if _has_seen(saved, config):
        lines.append(
            f"run {last.training_id} trained on rows that this run holds out, where they are no "
            "newer: what is measured on them is too good. Take over data.holdout="
            f"{saved.data.holdout} and data.validation-users={saved.data.validation_users:g}"
        )
    if not config.privacy.is_private or saved.privacy.is_private:
        return lines
    warning = (
        f"run {last.training_id} had privacy.mode=none: what is promised covers the rounds of this "
        "run, not what its first model knew"
    )
    return [*lines, warning]


def _has_seen(saved: RunConfig, config: RunConfig) -> bool:
    """Whether the earlier run's training part holds what this run measures on."""
    if config.tests:
        return saved.data.holdout < config.data.holdout
    return not saved.tests and saved.validation_share < config.validation_share
