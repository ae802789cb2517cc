"""What every network of a run is, whatever it computes: parameters, each in one scope."""

from __future__ import annotations

from torch import nn


class Network(nn.Module):
    """Trained by nodes; its public and group parameters are shared, its private ones never.

    Parameters are named by scope in `mrff_model.scopes`. Private ones have a leading dimension of
    users, 1 in the module as built.
    """

    kept_private: str = "user"  # a key of `mrff_model.scopes.KEPT_PRIVATE`
