"""DuckDB as a calculator: a database in memory that reads what it is handed and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "lock_configuration": "true",
    "threads": "1",  # rows stay in order
}


def closed_database() -> duckdb.DuckDBPyConnection:
    """It opens no file, loads no extension, and its settings cannot be changed."""
    import duckdb  # heavy, and only where own data has conditions or is JSON

    return duckdb.connect(":memory:", config=_CLOSED)
