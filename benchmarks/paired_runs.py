"""Runs that differ in one setting, paired by seed: their means and differences.

Every value and seed is a run of its own through Flower, with the name CONFIG-VALUE-SEED under
--home; runs that are there already are read.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEASURES = {"click": ("auc", "log_loss"), "next": ("ndcg10", "hr10")}
BYTES = ("down", "up", "bytes")
PAIRED: dict[str, dict[str, Any]] = {
    "home": {"type": Path, "default": Path("~/.mrff")},
    "seeds": {"type": int, "nargs": "+", "default": [0, 1, 2, 3, 4]},
}


def compared(options: Any, setting: str, values: Sequence[str]) -> list[dict[str, Any]]:
    """A row per value: means over seeds, differences from the first value, ratio of its bytes.

    Args:
        options: config, set, nodes and those of `PAIRED`.
    """
    if options.config is None:
        raise SystemExit("--config is needed: settings, as in conf/")
    runs = {
        value: [
            result(options, f"{value}-{seed}", [f"seed={seed}", f"{setting}={value}"])
            for seed in options.seeds
        ]
        for value in values
    }
    first = runs[values[0]]
    rows = []
    for value, found in runs.items():
        row: dict[str, Any] = {setting: value, "seeds": len(found)}
        for name in first[0]:
            measured = [run[name] for run in found]
            row[name] = statistics.mean(measured)
            if name in BYTES:
                row[name] = round(row[name])
            elif found is not first:
                row[f"{name}_change"] = paired(measured, [run[name] for run in first])
        row["ratio"] = statistics.mean(run["bytes"] for run in first) / row["bytes"]
        rows.append(row)
    return rows


def result(options: Any, name: str, changes: Sequence[str]) -> dict[str, float]:
    """Of one run: measures of its test, bytes of a round, and its late validations' mean.

    Args:
        changes: settings, each ``KEY=VALUE``, over those of the configuration.
    """
    home = options.home.expanduser().absolute()
    name = f"{options.config.stem}-{name}"
    folder = home / "runs" / name
    if not (folder / "summary.json").exists():
        settings = [f"name={name}", *changes, *options.set]
        given = [part for setting in settings for part in ("-c", setting)]
        nodes, config = str(options.nodes), str(options.config)
        command = [str(Path(sys.executable).parent / "mrff"), "run", "--nodes", nodes]
        subprocess.run([*command, "--config", config, "-c", f"home={home}", *given], check=True)
    test = json.loads((folder / "summary.json").read_text())["test"]
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    rounds = [entry for entry in history if entry["kind"] == "round"]
    measures = MEASURES["click" if test.get("auc") is not None else "next"]
    validations = [entry for entry in history if entry["kind"] == "validation"]
    late = [entry[measures[0]] for entry in validations if entry["round"] > len(rounds) / 2]
    down, up = (
        statistics.mean(entry[f"bytes_{way}"] for entry in rounds) for way in ("down", "up")
    )
    found = {measure: test[measure] for measure in measures}
    return {**found, "late_validations": statistics.mean(late), "down": down, "up": up,
            "bytes": down + up}  # fmt: skip


def paired(values: list[float], exact: list[float]) -> str:
    """Mean difference and its standard error."""
    changes = [value - other for value, other in zip(values, exact, strict=True)]
    error = statistics.stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.nan
    return f"{statistics.mean(changes):+.4f} +- {error:.4f}"
