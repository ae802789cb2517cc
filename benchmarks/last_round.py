"""How good is a run's last model, whichever round was best?

    python benchmarks/last_round.py --runs RUN ...

Runs of the same length are compared by it without the luck of the round that validation chose.
Every user is scored by the last checkpoint, with the parameters of their own and without; nodes
and data have to lie on this machine. AUC and LogLoss of validation and test, clicks only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from measuring import read_options, show
from sklearn.metrics import log_loss, roc_auc_score

from client_app.learners import learner_of
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import BestModel, find_run, load_best
from mrff.wire.requests import Part
from mrff_model.building import load_shared
from server_app.run.checkpoint import load_checkpoint
from strategies.state import TrainingState

NEWEST, NONE = 2**31, 0  # rounds up to which private parameters are read


def main() -> None:
    """Prints a row for each run."""
    options = read_options(__doc__, "json", runs={"nargs": "+", "required": True})
    rows = []
    for run in options.runs:
        folder = find_run(run)
        last = load_checkpoint(folder.checkpoints).state
        best = load_best(folder)
        row: dict[str, Any] = {"run": folder.name, "round": last.round}
        for part in ("valid", "test"):
            for name, up_to in (("", NEWEST), (" shared", NONE)):
                auc, loss = measured(best, last, part, up_to)
                row[f"{part} auc{name}"] = round(auc, 4)
                row[f"{part} logloss{name}"] = round(loss, 4)
        rows.append(row)
    show(rows, options.json)


def measured(best: BestModel, last: TrainingState, part: Part, up_to: int) -> tuple[float, float]:
    """AUC and LogLoss of all users by the last model.

    Args:
        up_to: the round after which a user's private parameters are too new.
    """
    logits, labels = [], []
    for node in NodesAtHand(best).open_all():
        load_shared(node.mrff, last.public, last.group)
        learner = learner_of(node.config.for_scoring, node.network, "sum")
        for cohort in node.cohorts(node.tested, up_to_round=up_to):
            scored = learner.score_as_loaded(cohort, part)
            assert scored.logits is not None
            logits.append(scored.logits.ravel())
            labels.append(scored.labels.ravel())
    said, liked = np.concatenate(logits), np.concatenate(labels)
    chance = 1.0 / (1.0 + np.exp(-said))
    return float(roc_auc_score(liked, said)), float(log_loss(liked, chance))


if __name__ == "__main__":
    main()
