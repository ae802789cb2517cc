"""The model card beside a run's best model: data, quality, privacy, limits, settings.

It goes where the model goes, so that it says nothing of a private run but what the run publishes:
no times, no bytes, and of the data what anybody may read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from mrff.config import RunConfig
from mrff.config.derived import SAME_TIME_MARKS
from mrff.config.names import SETTINGS
from mrff.data.schema import Schema
from mrff.io.files import write_bytes
from mrff.metrics import METRICS, shown
from mrff.privacy.accounting import epsilon_of
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.spending import WHOLE_DATASET, WINDOWS_MOVE, limit_of, server_ledger
from mrff.privacy.whole_run import once, whole_run
from server_app.run.absences import where_missing
from server_app.run.progress import among_drawn
from server_app.run.recorder import RunIdentity
from server_app.run.run_folder import RunFolder

_PLACES = ("data.home", "data.data-dir")  # of this machine; so is the group `run`
_LEARNED = {
    "click": "whether a user likes an item that they are shown",
    "next": "which item a user takes next",
    "both": "whether a user likes an item, and which one they take next",
}


def write_model_card(folder: RunFolder, summary: dict[str, Any], identity: RunIdentity) -> None:
    """Writes ``best/model_card.md``.

    Args:
        summary: as `server_app.run.results.write_summary` made it.
    """
    config, schema = identity.config, identity.schema
    schema = schema.public if config.privacy.is_private else schema
    parts = (
        ("Data", _data(schema)),
        ("Quality", _quality(summary, config)),
        ("Privacy", _privacy(folder, summary, identity)),
        ("Limits", _limits(summary, config)),
        ("Settings that differ from the defaults", _settings(config)),
    )
    lines = [
        f"# Model card: {folder.name}",
        "",
        f"Predicts {_LEARNED[config.objective]}. Trained by federated learning (MRFF, Zhang et "
        f"al., AAAI 2025, arXiv 2412.16969): {summary['rounds']} rounds, of which round "
        f"{summary['best_round']} is kept, in `model-round-{summary['best_round']}.safetensors`.",
    ]
    for title, told in parts:
        lines += ["", f"## {title}", "", *(f"* {line}" for line in told)]
    if folder.best.is_dir():  # no round, no model
        write_bytes(folder.model_card, ("\n".join(lines) + "\n").encode())


def _data(schema: Schema) -> Iterator[str]:
    yield f"Dataset `{schema.name}`, {schema.kind} rows; liked: {schema.label_rule}."
    counted = ", ".join(
        f"{schema.counts[what]:,} {what}"
        for what in ("users", "items", "interactions")
        if what in schema.counts
    )
    yield f"{counted}." if counted else f"{schema.num_items:,} items."
    yield f"Schema hash `{schema.schema_hash}`, version {schema.version} of its catalogue."
    if schema.content_hash:
        yield f"Content hash `{schema.content_hash}`."


def _quality(summary: dict[str, Any], config: RunConfig) -> Iterator[str]:
    best_by = METRICS[summary["best_by"]]
    value = summary[f"validation_{best_by.name}"]
    if value is not None:
        yield f"Validation {best_by.label} {value:.4f}; it chose the round, and flatters it."
    else:
        yield "Nothing was validated: the last round is kept."
    if summary["untested"]:
        yield f"No test: {summary['untested']}."
        return
    test, private = summary["test"], config.privacy.is_private
    for metric in shown(test):
        if test[metric.name] is not None:
            yield f"Test {metric.label} {test[metric.name]:.{metric.digits}f}."
    if private:
        yield "The test is noised: its numbers differ by chance from what they would be."
    else:
        yield (
            f"The test is the last {config.data.holdout} of each user: "
            f"{summary['test_targets']:,} targets of {summary['test_users']:,} users."
        )
    if summary["ranking_candidates"] is not None:
        yield f"Ranks are {among_drawn(summary['ranking_candidates'])}."
    mark = SAME_TIME_MARKS[summary["same_time"]]
    if mark:
        yield f"{mark.capitalize()}."


def _privacy(folder: RunFolder, summary: dict[str, Any], identity: RunIdentity) -> Iterator[str]:
    config = identity.config
    mechanism, privacy = mechanism_of(config), config.privacy
    release = mechanism.release(config)
    if release is None:
        yield "Mode `none`: no differential privacy, epsilon is unbounded."
        yield (
            "Users' own parameters and their interactions did not leave the nodes; sums of updates "
            "did, as they were. The model may tell whether somebody's rows were in the data."
        )
        return
    ledger = server_ledger(config.home / "state", identity.schema.known_as, privacy.unit)
    noted = ledger.releases(WHOLE_DATASET[0], folder.name)
    apart = once(config, tests=int(not summary["untested"]), began=True)
    limit = limit_of(privacy)
    released = whole_run(release.times(summary["rounds"]), noted, apart)
    epsilon = epsilon_of(released, limit.delta, limit.accountant)
    yield (
        f"Mode `{privacy.mode}`: epsilon {epsilon:.4f} at delta {limit.delta:g} "
        f"({limit.accountant}), for one {privacy.unit} that is there or not."
        if math.isfinite(epsilon)
        else "NOT PRIVATE: a test made the noise predictable, and whoever knows how subtracts it."
    )
    if privacy.unit == "record":
        yield f"A record is a window: {WINDOWS_MOVE}."
    yield f"Not trusted: {mechanism.not_trusted}. Covered: {mechanism.covers}."
    yield (
        "Other runs on the same data cost their own epsilon; all together: `mrff privacy report "
        f"{folder.name}` where the ledgers are."
    )


def _limits(summary: dict[str, Any], config: RunConfig) -> Iterator[str]:
    yield "It knows the items of its catalogue, and what people like those in the data did."
    yield (
        "It learned from what users were shown or found: it repeats what was popular, and what an "
        "item would do elsewhere is not known."
    )
    yield "How it fares for groups of people (age, gender, language) was not measured."
    yield (
        "The file holds what users share. A user of the training is answered by parameters of "
        "their own as well, which stay on their node; anybody else begins without."
    )
    if config.objective == "click":
        yield "It orders by liking, which is not choice."
    if summary["nodes_missing"]:
        yield f"Nodes were missing in {where_missing(summary['nodes_missing'])}."


def _settings(config: RunConfig) -> Iterator[str]:
    for key, value in config.to_flat().items():
        setting = SETTINGS[key]
        if value != setting.default and setting.group != "run" and key not in _PLACES:
            yield f"`{key} = {json.dumps(value)}` (default {json.dumps(setting.default)})"
