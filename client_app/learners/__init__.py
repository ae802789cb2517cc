"""How a node's users are trained. A new learner: its file, and its line in `learner_of`."""

from __future__ import annotations

from client_app.learners.cohort import CohortLearner
from client_app.learners.factors import FactorLearner
from client_app.learners.serial import SerialLearner
from mrff.algorithms import algorithm_of
from mrff.algorithms.learning import Cohort, Learner, SharedModel, Trained
from mrff.config import RunConfig
from mrff.privacy.mechanisms.base import Needs
from mrff_model.factors import FactorNetwork
from mrff_model.network import MRFFNetwork
from mrff_model.shared import Network

__all__ = ["Cohort", "Learner", "SharedModel", "Trained", "learner_of"]


DEFAULT: type[CohortLearner | SerialLearner] = CohortLearner  # a test may take the oracle


def learner_of(config: RunConfig, network: Network, needs: Needs) -> Learner:
    """The learner that gives a mechanism what it ``needs``."""
    if isinstance(network, FactorNetwork):
        return FactorLearner(network, config)
    assert isinstance(network, MRFFNetwork)
    if needs == "each_record":
        from client_app.learners.silo import SiloLearner  # brings Opacus

        return SiloLearner(network, config)
    return algorithm_of(config).learner(DEFAULT(network, config), config)
