"""Scores a node's users on held-out interactions; what leaves is sums, no label and no score."""

from __future__ import annotations

from client_app.evaluation_limit import note_evaluation
from client_app.kept_scores import keep_scores
from client_app.learners import learner_of
from client_app.node import Node
from mrff.config import ConfigError
from mrff.metrics import READS, evaluation_of
from mrff.metrics.metric import Scored
from mrff.metrics.people import skipped
from mrff.sums import CohortSums
from mrff.sums.cohort_sums import zeros_of
from mrff.wire.replies import Reply
from mrff.wire.requests import Part, Request


def evaluate_round(node: Node, request: Request) -> Reply:
    """Answers an evaluate message by the versions of its round.

    Raises:
        BudgetExceededError: a user's budget does not allow it.
        ConfigError: a private run asks for more than its test, or the node has a budget and the
            answer would be neither noised nor charged, or it has answered as many as it wants.
    """
    if node.mechanism.hides_routes and request.facts.part != "test":
        raise ConfigError(
            f"privacy.mode={node.config.privacy.mode} has one test and no validations: this "
            "node answers no other evaluation"
        )
    if request.facts.part == "test" and not node.config.tests:
        raise ConfigError("data.holdout=0 holds nothing out: this node has no test to answer")
    if node.evaluation_limit is not None:
        note_evaluation(node.ledger_folder, node.evaluation_limit)
    view = node.view(request)
    return Reply(request.facts.round, node.mechanism.evaluated(view, score_users(node, request)))


def score_users(node: Node, request: Request) -> CohortSums:
    """The sums over all users of the node; test scores stay here, where a comparison asks."""
    part: Part = "test" if request.facts.part == "test" else "valid"
    model = node.model(request)
    evaluation = evaluation_of(node.config, private=node.mechanism.hides_routes).by(
        1 if model.mixture is None else len(model.mixture.mixes),
        listed=(request.run.items or node.dataset.schema.num_items) if part == "test" else 0,
    )
    learner = learner_of(node.config.for_scoring, node.network, "sum")
    rows: Part = part if node.config.tests else "test"  # who validates ends with their last row
    keeps = part == "test" and node.config.evaluation.keep_test_scores
    kept: list[Scored] = []
    sums = zeros_of(evaluation.quantities())
    for cohort in node.cohorts(node.tested, up_to_round=request.facts.round):
        scored = learner.score(model, cohort, rows)
        sums += evaluation.sums_of(scored)
        if keeps:
            kept.append(scored)
    if kept:
        clicks = "logits" in READS[node.config.objective]
        keep_scores(node.store.folder, node.dataset.user_keys[node.tested], kept, clicks=clicks)
    sums += skipped(node.dataset.num_users - len(node.tested))
    return sums
