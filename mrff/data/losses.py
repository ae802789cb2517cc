"""What a dataset loses while it is prepared: the reasons, and how much of it is too much."""

from __future__ import annotations

from pathlib import Path

from mrff.data.columns import Table
from mrff.data.errors import DataError
from mrff.data.schema import Schema

MALFORMED = "malformed rows"
LEFT_OUT = "rows that where leaves out"
MISSING = "rows of items missing from the catalogue"
SWALLOWED = "lines within quoted values, each with as many fields as a row"

MOST_MALFORMED = 0.5  # of a file's rows: of more, its description does not fit it
WORTH_A_WARNING = 0.05  # of the interactions read
MOST_WITHOUT_FEATURES = 0.5  # of the users, where there is a file of their features


def check_malformed(table: Table, files: tuple[Path, ...]) -> None:
    """Raises DataError where most rows of the files that a table was read from are malformed."""
    rows = table.num_rows + table.malformed - int(table.left_out.sum())
    if table.num_bad > MOST_MALFORMED * rows:
        raise DataError(
            f"{', '.join(file.name for file in files)}: {table.num_bad:,} of {rows:,} rows are "
            f"malformed, more than {MOST_MALFORMED:.0%}, so that the description does not fit; "
            f"set on-bad-row to error to see the first one"
        )


def losses_of(schema: Schema) -> list[str]:
    """Losses that may be meant, and mostly are not; a line each."""
    dropped, found = schema.counts.get("dropped", {}), []
    lost = {reason: dropped.get(reason, 0) for reason in (MALFORMED, MISSING)}
    read = schema.counts.get("interactions", 0) + sum(lost.values())
    for reason, count in lost.items():
        if count > WORTH_A_WARNING * read:
            found.append(
                f"{count / read:.0%} of the rows are dropped: {reason}; check a few of them"
            )
    without, users = schema.source.get("users_without_features", 0), schema.counts.get("users", 0)
    if without > MOST_WITHOUT_FEATURES * users:
        found.append(
            f"{without:,} of {users:,} users are not in the file of users; check whether both "
            "write ids in the same way"
        )
    if SWALLOWED in dropped:
        found.append(
            f"{dropped[SWALLOWED]:,} {SWALLOWED}: if these are rows and no text on several lines, "
            "a quote is missing before them; mend the file, or set quote to '' if quotes mean "
            "nothing in it"
        )
    return found
