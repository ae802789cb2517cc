"""The ServerApp: reads the configuration, waits for nodes, trains, leaves results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from logging import getLogger

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mrff.config import RunConfig
from mrff.io.printing import escape_unprintable
from mrff.privacy.mechanisms import mechanism_of
from mrff.wire.aggregation import RoundFailedError
from mrff.wire.records import array_record
from mrff.wire.requests import RunFacts
from server_app.beginning import begin
from server_app.data_folder import check_everybody_has_users, open_catalogue
from server_app.fitting import fitted
from server_app.names import check_names
from server_app.nodes import MissingNodesError, wait_for_nodes
from server_app.objective import settled
from server_app.parts import make_strategy, server_view
from server_app.run.model_card import write_model_card
from server_app.run.recorder import Recorder, RunIdentity
from server_app.run.results import final_line, print_table, write_summary
from server_app.run.run_folder import open_run_folder
from server_app.simulation_workers import in_simulation, replace_dead_workers
from strategies.mrff import MRFF

app = ServerApp()
log = getLogger("flwr")


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, from configuration to summary."""
    escape_unprintable()
    with _named_errors():
        # Everything that can be wrong before the first round is found here.
        config = RunConfig.from_flat(context.run_config)
        check_names(config)
        mechanism = mechanism_of(config)
        catalogue = open_catalogue(config)
        config = settled(config, catalogue.schema)
        found = fitted(config, catalogue.schema)
        config = config.with_fitted(found)
        if in_simulation(grid):
            replace_dead_workers()
        with open_run_folder(config, run_id=context.run_id) as folder:
            state = begin(config, catalogue, folder)
            server_half = mechanism.server(server_view(config, catalogue.schema, folder.name))
            server = config.server
            nodes = wait_for_nodes(
                grid, server.expected_nodes or 0, timeout=server.node_wait_seconds
            )
            if in_simulation(grid):
                check_everybody_has_users(nodes, catalogue.schema)
            identity = RunIdentity(config, catalogue.schema)
            with Recorder(folder, identity) as recorder:
                recorder.save(state)  # before any node hears of this run, or of its resumption
                strategy = make_strategy(
                    config, state, server_half, recorder, catalogue.schema.num_items
                )
                facts = identity.facts(folder.name, state.lineage)
                _train_and_test(strategy, grid, config, replace(facts, fitted=json.dumps(found)))
            if recorder.test is not None or not config.asks_test:
                summary = write_summary(folder, state, recorder.test, identity)
                write_model_card(folder, summary, identity)
                print_table(summary)
                log.info(final_line(summary))


def _train_and_test(strategy: MRFF, grid: Grid, config: RunConfig, facts: RunFacts) -> None:
    state = strategy.state
    try:
        strategy.start(
            grid,
            array_record(state.public),
            num_rounds=config.server.num_server_rounds,
            timeout=config.server.reply_timeout_seconds,
            train_config=facts.record(),
            evaluate_config=facts.record(),
        )
    except Exception:
        log.error("round %d is saved; continue with resume=%r", state.round, facts.training_id)
        raise


@contextmanager
def _named_errors() -> Iterator[None]:
    """Logs what the user can mend as one line; Flower adds the trace and fails the run."""
    try:
        yield
    except (ValueError, OSError, RoundFailedError, MissingNodesError) as error:
        log.error("MRFF stopped: %s", error)
        raise
