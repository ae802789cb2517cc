"""How fast the server moves what: by round, and gates, biases and the body at their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mrff_model.scopes import rate_kind


@dataclass(frozen=True)
class LearningRates:
    """Factors of the server optimiser's learning rate.

    The rate falls along a cosine (Loshchilov and Hutter, "SGDR", 2017, without restarts) from 1 to
    ``final_factor`` in ``decay_rounds`` rounds and stays there. The horizon is not the number of
    rounds of a run: a resumed run goes on as if it had never stopped.

    Args:
        gate_factor: of gates; at the full rate they flip most users between experts every round.
        item_bias_factor: of the items' biases, most of which seldom have a gradient.
        body_factor: of all that comes before a head, gates included: embeddings, layers, experts.
            A step of Adam has the same length whatever the gradient: at the head's rate the body
            has learned rows by heart before the head has learned what its inputs say.
        decay_rounds: rounds until ``final_factor`` is reached; 0: the rate never falls.
        final_factor: of the full rate.
    """

    gate_factor: float = 1.0
    item_bias_factor: float = 1.0
    body_factor: float = 1.0
    decay_rounds: int = 0
    final_factor: float = 1.0

    def factor(self, name: str, server_round: int) -> float:
        """The factor for the array ``name`` in round ``server_round``, counted from 1."""
        return self.of_array(name) * self.of_round(server_round)

    def of_round(self, server_round: float) -> float:
        """The part of the factor that is the same for all arrays; between rounds as well."""
        if not self.decay_rounds:
            return 1.0
        progress = min(1.0, (server_round - 1) / self.decay_rounds)
        remaining = 0.5 * (1.0 + math.cos(math.pi * progress))
        return self.final_factor + (1.0 - self.final_factor) * remaining

    def of_array(self, name: str) -> float:
        """The part of the factor that does not depend on the round."""
        factors = {
            "gate": self.body_factor * self.gate_factor,
            "item_bias": self.item_bias_factor,
            "body": self.body_factor,
            "other": 1.0,
        }
        return factors[rate_kind(name)]
