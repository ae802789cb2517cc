"""Gates that follow the loads: an expert with few users becomes likelier, round by round.

The balance loss works through the users' gradients and is one voice among many: an expert that no
user is near is chosen by nobody, and its share stays 0. Here the server moves the intercept of a
gate by the loads themselves (after Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for
Mixture-of-Experts", arXiv 2408.15664, 2024, which moves all experts by the sign of what they lack).
Groups need not be equal: an expert with half of an equal share is left alone. Where users are near
a tie between experts, as with a handful of interactions each, striving for equal loads moves a
tenth of them to and fro in every round. Loads are known to the server anyway, under privacy as
noised sums; nothing more is asked of users.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from mrff.wire.requests import Arrays

ENOUGH = 0.5  # of an equal share of the users: an expert with more is left alone


def balanced_gates(
    public: Arrays, loads: Sequence[float], step: float, *, trained: Collection[str]
) -> Arrays:
    """``b_k += step * max(0, 1 - 2 K load_k)`` for the intercepts of every layer's gate.

    An expert without users gains ``step`` per round, one with a quarter of an equal share half of
    it, one with half of an equal share or more nothing.

    Args:
        public: public parameters; arrays that are no gate's intercept are handed on as they are.
        loads: shares of users per expert, row-major over (layers, K); empty: not known yet.
        step: in units of the gate's logits.
        trained: names of the arrays that this round moved. A gate that nobody trained, since no
            user took part or since it is frozen, stays as it is.
    """
    names = gate_intercepts(public) if step and loads else []
    if not names:
        return public
    moved = dict(public)
    shares = np.asarray(loads, dtype=np.float64).reshape(len(names), -1)
    for name, share in zip(names, shares, strict=True):
        if name not in trained:
            continue
        change = step * np.maximum(0.0, 1.0 - share.size * share / ENOUGH)
        moved[name] = (public[name] + change).astype(np.float32)
    return moved


def gate_intercepts(public: Arrays) -> list[str]:
    """Names of the gates' intercepts by layer; none where gates are not shared."""
    names: list[str] = []
    while (name := f"layers.{len(names)}.gate.linear.bias") in public:
        names.append(name)
    return names
