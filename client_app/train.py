"""A training round on a node, read aloud."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from client_app.evaluate import score_users
from client_app.learners import learner_of
from client_app.node import Node
from mrff.algorithms.learning import rows_of
from mrff.sums import CohortSums
from mrff.sums.cohort_sums import as_numbers
from mrff.wire.replies import Reply
from mrff.wire.requests import BESIDE, Request


def train_round(node: Node, request: Request) -> Reply:
    """Trains the users of this round and keeps their private parameters.

    The validation that a request asks for beside is of the model that came: of the round before.

    Raises:
        BudgetExceededError: a user's budget does not allow the round; nothing was computed.
        ConfigError: the node does not take part in such rounds.
    """
    facts = request.facts
    beside = CohortSums()
    if facts.part:
        before = replace(request, facts=replace(facts, round=facts.round - 1))
        beside = score_users(node, before).prefixed(BESIDE)
    mechanism = node.mechanism.client(node.view(request))
    learner = learner_of(node.config, node.network, mechanism.needs)
    model, admitted = node.model(request), mechanism.admit()
    sums = CohortSums()
    for cohort in node.cohorts(
        node.users[admitted],
        up_to_round=facts.round - 1,
        together=mechanism.needs == "each_record",
        even_nobody=mechanism.needs == "each_user",  # whether anybody was drawn may be secret
    ):
        trained = learner.train(model, cohort, mechanism)
        if mechanism.moves_private:
            node.store.save(
                cohort.keys[trained.kept],
                rows_of(trained.private, trained.kept),
                trained.routes[trained.kept],
                round_number=facts.round,
                keep_up_to=(facts.checkpoint_round, facts.best_round),
            )
        sums += trained.sums
        sums += CohortSums({}, as_numbers({"dropped": int(np.sum(~trained.kept))}))
    released = mechanism.release_node(sums, admitted)
    return Reply(facts.round, released + beside)
