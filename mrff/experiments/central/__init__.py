"""Rivals that see everybody's data in one place. NOT federated."""

from collections.abc import Callable

Note = Callable[[int, float, float], None]
"""Is told of every validation: the step (a pass, a number of trees), AUC and log loss."""
