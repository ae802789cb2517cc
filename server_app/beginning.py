"""The state a run starts from: a new model, or that of the checkpoint it resumes."""

from __future__ import annotations

from logging import getLogger
from pathlib import Path

from mrff.config import LEARNED_OF, RunConfig
from mrff.data.dataset import Catalogue
from mrff.data.schema import Schema
from mrff.io.files import write_json
from server_app.continuing import check_origin, continued_state
from server_app.model import initial_state
from server_app.run.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_goes_on,
    check_same_configuration,
    load_checkpoint,
)
from server_app.run.history import History
from server_app.run.run_folder import RunFolder
from strategies.state import TrainingState

log = getLogger("flwr")


def begin(config: RunConfig, catalogue: Catalogue, folder: RunFolder) -> TrainingState:
    """Prepares ``folder`` for the run and returns its first state.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or of other data.
        ConfigError: the checkpoint is of another configuration, or past the last round asked for;
            or the run to go on from does not fit.
    """
    if not config.run.resume:
        state, told = (
            continued_state(config, catalogue)
            if config.run.start_from
            else (initial_state(config, catalogue), [])
        )
        for line in told:
            log.info(line)
        write_json(folder.config, config.to_flat())
        return state
    state = _checkpointed(config, catalogue, folder)
    check_origin(config, state)
    state.resumed()
    if before := state.compare_by(config.best_by, before=_best_by_before(config)):
        text = "round %d is the best by %s; this version compares by %s, from here on and anew"
        log.warning(text, state.best_round, before, config.best_by)
    History(folder.history).cut_after(state.round, state.validated_round)
    folder.summary.unlink(missing_ok=True)
    write_json(folder.config, config.to_flat())
    log.info("resuming run %s after round %d", folder.name, state.round)
    return state


def _best_by_before(config: RunConfig) -> str:
    """The measure of states that do not name it, as that version chose it."""
    changed = config.objective == "both" and not config.evaluation.select_best_by
    return "auc" if changed else config.best_by


def check_same_data(checkpoint: Checkpoint, config: RunConfig, schema: Schema) -> None:
    """Whether a run is resumed on the data it began with.

    Raises:
        CheckpointError: it is not.
    """
    if schema.ancestor_of(checkpoint.schema_hash):
        name = Path(config.run.resume or "").name
        raise CheckpointError(
            f"run {name} was trained before the catalogue of {schema.name} grew to version "
            f"{schema.version}: a run ends with the catalogue it began with; go on with a new run "
            f"and run.start-from={name}"
        )
    if checkpoint.schema_hash != schema.schema_hash:
        raise CheckpointError(
            f"the checkpoint belongs to data with schema hash {checkpoint.schema_hash}, "
            f"{config.dataset_path} has {schema.schema_hash}; resume with the same data"
        )


def _checkpointed(config: RunConfig, catalogue: Catalogue, folder: RunFolder) -> TrainingState:
    checkpoint = load_checkpoint(folder.checkpoints)
    check_same_data(checkpoint, config, catalogue.schema)
    saved = checkpoint.config
    if saved.get("training.objective") == "auto":  # a run from before they stored what they learn
        saved = {**saved, "training.objective": LEARNED_OF[catalogue.schema.kind]}
    check_same_configuration(saved, config.to_flat())
    check_goes_on(checkpoint, config.server.num_server_rounds, folder.name)
    return checkpoint.state
