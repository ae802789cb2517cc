"""How often nodes were missing in a run: what no table may hide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PHASES = {"round": "training rounds", "validation": "validations", "query": "queries"}


def absences(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Phases in which nodes gave no reply that counts, from a run's whole history; {} if none.

    A node that had been asked in an earlier phase and was not connected in a later one is missing
    there, too. ``phases`` has for every kind of phase (short ones, all, most nodes missing at
    once), ``test`` the nodes missing in the test, ``nodes`` the most that were ever asked.
    """
    nodes, missing = 0, dict[str, list[int]]()
    for entry in history:
        nodes = max(nodes, entry.get("sent", 0))
        missing.setdefault(entry["kind"], []).append(nodes - entry.get("replies", nodes))
    phases = {
        kind: (sum(n > 0 for n in counts), len(counts), max(counts))
        for kind, counts in missing.items()
        if kind in PHASES and any(counts)
    }
    test = missing.get("test", [0])[-1]
    return {"nodes": nodes, "phases": phases, "test": test} if phases or test else {}


def where_missing(found: Mapping[str, Any]) -> str:
    """``12 of 60 training rounds (at most 2 of 4 nodes), the test (1 of 4 nodes)``."""
    nodes = found["nodes"]
    parts = [
        f"{short} of {of} {PHASES[kind]} (at most {most} of {nodes} nodes)"
        for kind, (short, of, most) in found["phases"].items()
    ]
    if found["test"]:
        users = f", {found['users']:,} users untested" if found.get("users") else ""
        parts.append(f"the test ({found['test']} of {nodes} nodes{users})")
    return ", ".join(parts)
