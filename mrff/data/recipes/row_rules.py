"""Which rows of somebody's own data count, and which of them are liked."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.columns import Table
from mrff.data.conditions import Condition
from mrff.data.errors import DataError
from mrff.data.recipes.description import LabelRule

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


def choose(table: Table, where: Condition) -> int:
    """Leaves out the rows for which a condition does not hold, and says how many."""
    try:
        holds, _ = where.answers(table.columns)
    except ValueError as error:
        raise DataError(f"{table.path}: where = {error}") from None
    table.left_out |= ~holds
    return int(table.left_out.sum())


def labels_of(log: Table, rule: LabelRule) -> NDArray[np.int8]:
    """A label of every row, 1 where the rule holds; DataError for a row it says nothing of."""
    if rule.condition is not None:
        return _judged(log, rule.condition)
    if rule.column is None:  # what happened counts as liked
        return np.ones(log.num_rows, dtype=np.int8)
    if rule.operator is None:
        return log.binary(rule.column)
    compare = _COMPARE[rule.operator]
    try:
        limit = float(rule.value)
    except ValueError:
        if rule.operator not in ("==", "!="):
            raise DataError(
                f"label rule {rule.text!r}: {rule.operator} needs a number, got {rule.value!r}"
            ) from None
        texts = pc.fill_null(log.text(rule.column), "")
        return np.asarray(compare(np.asarray(texts, dtype=object), rule.value)).astype(np.int8)
    return np.asarray(compare(log.numbers(rule.column), limit)).astype(np.int8)


def _judged(log: Table, condition: Condition) -> NDArray[np.int8]:
    try:
        holds, unknown = condition.answers(log.columns)
    except ValueError as error:
        raise DataError(f"{log.path}: label = {error}") from None
    nothing = pa.nulls(log.num_rows)
    log.reject(" or ".join(condition.columns), unknown, nothing, "a value for the label rule")
    return holds.astype(np.int8)
