"""Scores user by user, the oracle for everything that scores many at once."""

from __future__ import annotations

from client_app.learners import Cohort, SharedModel
from client_app.learners.serial import SerialLearner
from mrff.config import RunConfig
from mrff.metrics.metric import Scored
from mrff_model.building import tensors_of
from mrff_model.network import MRFFNetwork
from mrff_model.scopes import split_bank


def scored_alone(network: MRFFNetwork, config: RunConfig, cohort: Cohort) -> Scored:
    """The cohort's test by the shared model that the network holds."""
    public = {name: value.clone() for name, value in tensors_of(network, "public").items()}
    group = {n: v.clone() for n, v in split_bank(tensors_of(network, "group")).items()}
    return SerialLearner(network, config).score(SharedModel(0, public, group), cohort, "test")
