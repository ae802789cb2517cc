"""The ServerApp: reads the configuration, waits for nodes, trains, leaves results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import getLogger

from flwr.app import ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp

from mrff.config import RunConfig
from server_app.beginning import begin
from server_app.model import Catalogue, open_catalogue
from server_app.model_steps import learning_rates_of, optimizer_of
from server_app.nodes import MissingNodesError, wait_for_nodes
from server_app.privacy import make_aggregation
from server_app.run.recorder import Recorder
from server_app.run.results import final_line, print_table, write_summary
from server_app.run.run_folder import RunFolder, open_run_folder
from strategies.messages import array_record
from strategies.mrff import MRFF
from strategies.receiving import RoundFailedError
from strategies.round_sums import Aggregation
from strategies.state import TrainingState

app = ServerApp()
log = getLogger("flwr")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, from configuration to summary."""
    with _named_errors():
        # Everything that can be wrong before the first round is found here.
        config = RunConfig.from_flat(context.run_config)
        catalogue = open_catalogue(config)
        with open_run_folder(config, run_id=context.run_id) as folder:
            state = begin(config, catalogue, folder)
            aggregation = make_aggregation(config, catalogue.schema, folder.name)
            server = config.server
            wait_for_nodes(grid, server.expected_nodes, timeout=server.node_wait_seconds)
            _run(grid, config, catalogue, folder, state, aggregation)


def _run(
    grid: Grid,
    config: RunConfig,
    catalogue: Catalogue,
    folder: RunFolder,
    state: TrainingState,
    aggregation: Aggregation,
) -> None:
    """Trains and tests, and writes down everything."""
    rounds, schema_hash = config.server.num_server_rounds, catalogue.schema.schema_hash
    facts = ConfigRecord(
        {
            "schema-hash": schema_hash,
            "training-id": folder.name,
            "data-dir": str(config.dataset_path),
            "state-dir": str(config.home / "state"),
        }
    )
    with Recorder(
        folder,
        config=config.to_flat(),
        schema_hash=schema_hash,
        rounds=rounds,
        tensorboard=config.output.tensorboard,
    ) as recorder:
        recorder.save(state)  # before any node hears of this run, or of its resumption
        strategy = make_strategy(config, state, recorder, aggregation)
        try:
            strategy.start(
                grid,
                array_record(state.public),
                num_rounds=rounds,
                timeout=config.server.reply_timeout_seconds,
                train_config=facts,
                evaluate_config=facts,
            )
        except Exception:
            log.error("round %d is saved; continue with resume=%r", state.round, folder.name)
            raise
    if recorder.test is not None:
        dataset = catalogue.schema.name
        summary = write_summary(
            folder, state, recorder.test, dataset=dataset, schema_hash=schema_hash
        )
        print_table(summary)
        log.info(final_line(summary))


def make_strategy(
    config: RunConfig,
    state: TrainingState,
    recorder: Recorder,
    aggregation: Aggregation | None = None,
) -> MRFF:
    """The strategy that the configuration asks for."""
    server, evaluation = config.server, config.evaluation
    return MRFF(
        state,
        optimizer_of(server),
        observer=recorder,
        learning_rates=learning_rates_of(server),
        balance_rate=server.balance_rate,
        send_window=server.send_window,
        reply_timeout=server.reply_timeout_seconds,
        min_reply_fraction=server.min_reply_fraction,
        evaluate_every=evaluation.evaluate_every,
        early_stop_patience=evaluation.early_stop_patience,
        checkpoint_every=config.output.checkpoint_every,
        histogram_bins=evaluation.histogram_bins,
        aggregation=aggregation,
        validate_beside_training=evaluation.validate_beside_training,
        routes_shape=config.routes_shape,
    )


@contextmanager
def _named_errors() -> Iterator[None]:
    """Logs what the user can mend as one line; Flower adds the trace and fails the run."""
    try:
        yield
    except (ValueError, OSError, RoundFailedError, MissingNodesError) as error:
        log.error("MRFF stopped: %s", error)
        raise
