"""Gates that follow the loads: an expert with few users becomes likelier, round by round.

The balance loss works through the users' gradients and is one voice among many: an expert that no
user is near is chosen by nobody, and its share stays 0. Here the server moves the intercept of a
gate by the loads themselves (after Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for
Mixture-of-Experts", arXiv 2408.15664, 2024, which moves by their sign and for choosing only).
Loads are known to the server anyway, under privacy as noised sums; nothing more is asked of users.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strategies.aggregation import Arrays


def balanced_gates(public: Arrays, loads: Sequence[float], step: float) -> Arrays:
    """``b_k += step * (1 - K load_k)`` for the intercepts of every layer's gate.

    The intercepts of a layer keep their sum, and equal loads move nothing. An expert without users
    gains ``step`` per round, one with all of them loses ``(K - 1) step``.

    Args:
        public: public parameters; arrays that are no gate's intercept are handed on as they are.
        loads: shares of users per expert, row-major over (layers, K); empty: not known yet.
        step: in units of the gate's logits.
    """
    names = [name for name in gate_intercepts(public) if step and loads]
    if not names:
        return public
    moved = dict(public)
    shares = np.asarray(loads, dtype=np.float64).reshape(len(names), -1)
    for name, share in zip(names, shares, strict=True):
        change = step * (1.0 - share.size * share)
        moved[name] = (public[name] + change).astype(np.float32)
    return moved


def gate_intercepts(public: Arrays) -> list[str]:
    """Names of the gates' intercepts by layer; none where gates are not shared."""
    names: list[str] = []
    while (name := f"layers.{len(names)}.gate.linear.bias") in public:
        names.append(name)
    return names
