"""All that a run has released of a unit that took part in every round."""

from __future__ import annotations

from dataclasses import replace

from mrff.config import RunConfig
from mrff.privacy.accounting import Release, merged
from mrff.privacy.chains import History
from mrff.privacy.mechanisms import mechanism_of
from mrff.privacy.noised_evaluation import NoisyTest


def once(config: RunConfig, *, tests: int, began: bool) -> History:
    """What is asked apart from the rounds: the sum of items before them, the test after them."""
    items = mechanism_of(config).items(config)
    return (*[NoisyTest(config).release] * tests, *([items.release] if items and began else []))


def whole_run(rounds: Release, noted: History, apart: History) -> History:
    """A ledger's notes where they have all of the rounds, those done again included.

    Args:
        rounds: of each round once; with ``apart`` they stand in where no ledger has the run.
    """
    of_rounds = sum(release.steps for release in noted if _kind(release) == _kind(rounds))
    return noted if of_rounds >= rounds.steps else merged([rounds, *apart])


def _kind(release: Release) -> Release:
    return replace(release, steps=1, predictable=False)
