"""Which rows of somebody's own data count, and which of them are liked."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mrff.data.columns import Table
from mrff.data.conditions import Condition
from mrff.data.errors import DataError
from mrff.data.recipes.toml_keys import Keys
from mrff.data.schema import EVENT_RULE

_RULE = re.compile(r"\s*(.+?)\s*(>=|<=|==|!=|=|>|<)\s*(.+?)\s*")
_JOINED = re.compile(r"\b(and|or)\b", re.IGNORECASE)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class LabelRule:
    """``column operator value``, or a column of 0 and 1 if ``operator`` is None; or a condition.

    Without columns every row is an event.
    """

    text: str
    column: str | None = None
    operator: str | None = None
    value: str = ""
    condition: Condition | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it reads."""
        if self.condition is not None:
            return self.condition.columns
        return () if self.column is None else (self.column,)


def label_rule(keys: Keys) -> LabelRule:
    """What ``label`` says; DataError where it says nothing that is understood."""
    text = keys.text("label", "")
    if not text:
        return LabelRule(EVENT_RULE)
    if _JOINED.search(_QUOTED.sub("", text)):
        return LabelRule(text, condition=condition(keys, "label"))
    match = _RULE.fullmatch(text)
    if match is None:
        if any(sign in text for sign in "<>=!"):
            wanted = "a column or 'column operator value' with one of >=, >, <=, <, ==, !="
            raise keys.wrong("label", f"must be {wanted}, got {text!r}")
        return LabelRule(text, text.strip())
    column, sign, value = match.groups()
    return LabelRule(text, column, "==" if sign == "=" else sign, value.strip("'\""))


def condition(keys: Keys, key: str) -> Condition | None:
    """What a key says, None if it is absent; DataError where that is no condition."""
    text = keys.text(key, "")
    try:
        return Condition.read(text) if text else None
    except ValueError as error:
        raise keys.wrong(key, str(error)) from None


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
