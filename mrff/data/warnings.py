"""What is allowed in prepared data and yet spoils what is learned from it."""

from __future__ import annotations

from pathlib import Path

from mrff.data.label_order import LabelOrder, first_rows, label_order
from mrff.data.losses import losses_of
from mrff.data.schema import USERS_FILE, Schema


def warnings_of(schema: Schema, order: LabelOrder | None) -> list[str]:
    """A line each.

    Args:
        order: see `order_of`.
    """
    found = losses_of(schema)
    if schema.kind != "events" and schema.one_class:
        found.append(
            f"by the label rule {schema.label_rule!r} no row is {schema.one_class}, so that "
            "training.objective=click has nothing to learn; choose next, or leave "
            "interactions.label out: every row is an event then"
        )
    if schema.num_items == 1:
        found.append("the catalogue has one item, so that there is nothing to choose from")
    return found + ([order.warning] if order and order.warning else [])


def order_of(folder: Path, schema: Schema) -> LabelOrder | None:
    """How well labels can be told from the order of rows; None where there is no saying."""
    if schema.kind == "events" or not (folder / USERS_FILE).is_file():
        return None
    return label_order(first_rows(folder))
