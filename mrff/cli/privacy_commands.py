"""``mrff privacy``: plan a budget, report what a run promises, audit a mechanism."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrff.config import ConfigError

if TYPE_CHECKING:
    from mrff.privacy.planning import Plan

PLAN_KEYS = ("epsilon", "delta", "noise_multiplier", "rounds", "sampling_rate")


def add_parser(subparsers: Any) -> None:
    """Adds ``privacy`` and its commands; each sets ``handler``, which returns the exit status."""
    privacy = subparsers.add_parser("privacy", help="plan, report and audit differential privacy")
    commands = privacy.add_subparsers(dest="privacy_command", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "plan",
        help="solve for epsilon, noise multiplier, rounds or sampling rate",
        description="Give three of --epsilon, --noise-multiplier, --rounds and --sampling-rate: "
        "the fourth is solved for.",
    )
    command.add_argument("--epsilon", type=float, metavar="E")
    command.add_argument("--delta", type=float, default=1e-5, metavar="D", help="(1e-05)")
    command.add_argument("--rounds", type=int, metavar="N")
    command.add_argument("--sampling-rate", type=float, metavar="Q", help="Poisson, 0 to 1")
    command.add_argument("--noise-multiplier", type=float, metavar="Z")
    command.add_argument(
        "--local-steps", type=int, default=1, metavar="N",
        help="noisy steps in each round: those of local-dp-sgd (1)",
    )  # fmt: skip
    command.add_argument("--accountant", choices=("prv", "rdp"), default="prv")
    command.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    command.set_defaults(handler=_plan)

    command = commands.add_parser("report", help="what a run promises, to whom, and what not")
    command.add_argument("run", metavar="RUN", help="name under HOME/runs, or a folder")
    command.add_argument("--json", action="store_true", help="the numbers as one JSON object")
    command.set_defaults(handler=_report)

    command = commands.add_parser(
        "audit",
        help="an empirical lower bound on epsilon, by canaries in a real training",
        description="Trains once with planted users, each there or not by a fair coin, and guesses "
        "from what is released who was there (Steinke, Nasr and Jagielski 2023). Audits "
        "privacy-mode=central-user unless told otherwise; with -c privacy-mode=none nothing is "
        "claimed, and the bounds show what an attacker learns without privacy.",
    )
    command.add_argument("dataset", metavar="FOLDER-or-NAME", help="a prepared one")
    command.add_argument("--config", type=Path, metavar="TOML", help="settings, as in conf/")
    command.add_argument(
        "-c", "--set", dest="changes", action="append", default=[], metavar="KEY=VALUE",
        help="one setting; may be given often and wins over --config",
    )  # fmt: skip
    command.add_argument("--canaries", type=int, default=400, metavar="M", help="(400)")
    command.add_argument("--users", type=int, default=300, metavar="N", help="real ones (300)")
    command.add_argument("--confidence", type=float, default=0.95, metavar="P", help="(0.95)")
    command.add_argument("--seed", type=int, default=0, help="of the canaries' coins (0)")
    command.add_argument(
        "--without-noise", action="store_true", help="plant the bug that an audit has to find"
    )
    command.add_argument("--json", action="store_true", help="one JSON object instead of sentences")
    command.set_defaults(handler=_audit)


def _plan(arguments: argparse.Namespace) -> int:
    from mrff.privacy.planning import solve  # brings the accountants

    plan = solve(
        delta=arguments.delta,
        epsilon=arguments.epsilon,
        noise_multiplier=arguments.noise_multiplier,
        rounds=arguments.rounds,
        sampling_rate=arguments.sampling_rate,
        local_steps=arguments.local_steps,
        accountant=arguments.accountant,
    )
    if arguments.json:
        print(json.dumps({key: asdict(plan)[key] for key in PLAN_KEYS}))
        return 0
    solved = [key for key in PLAN_KEYS if getattr(arguments, key) is None]
    _print_plan(plan, solved, arguments.accountant)
    return 0


def _print_plan(plan: Plan, solved: list[str], accountant: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for key, value in asdict(plan).items():
        mark = "<- solved" if key in solved else ""
        table.add_row(key.replace("_", "-"), f"{value:.6g}", mark)
    table.add_row("accountant", accountant, "")
    Console(width=100).print(table)


def _report(arguments: argparse.Namespace) -> int:
    from mrff.ops.privacy_report import open_report

    report = open_report(arguments.run)
    if arguments.json:
        print(json.dumps(report.numbers()))
    else:
        print("\n".join(report.sentences()))
    return 0


def _audit(arguments: argparse.Namespace) -> int:
    from mrff.cli.data_commands import dataset_folder
    from mrff.experiments.audits.audit import audit
    from mrff.ops.simulation import read_settings

    if not 0.5 < arguments.confidence < 1.0:
        raise ConfigError(f"confidence must be between 0.5 and 1, got {arguments.confidence}")
    values = read_settings(arguments.config, arguments.changes)
    values = {"privacy-mode": "central-user", **values}
    found = audit(
        dataset_folder(arguments.dataset),
        values,
        canaries=arguments.canaries,
        users=arguments.users,
        confidence=arguments.confidence,
        seed=arguments.seed,
        noise=not arguments.without_noise,
    )
    print(json.dumps(found.numbers()) if arguments.json else "\n".join(found.sentences()))
    return 0
