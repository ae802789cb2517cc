"""``mrff privacy``: plan a budget, report what a run promises, audit a mechanism."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

import click
import typer

from mrff.cli.terminal import AsJson, Changes, Config, Dataset, Run, print_json, print_table
from mrff.config import ConfigError, PrivacySettings

PLAN_KEYS = (
    "epsilon",
    "delta",
    "noise_multiplier",
    "rounds",
    "sampling_rate",
    "test_noise",
    "item_noise",
)

commands = typer.Typer(help="Plan, report and audit differential privacy.", rich_markup_mode="rich")


@commands.command("plan")
def plan(
    epsilon: Annotated[float | None, typer.Option(metavar="E")] = None,
    delta: Annotated[float, typer.Option(metavar="D")] = 1e-5,
    rounds: Annotated[int | None, typer.Option(metavar="N")] = None,
    sampling_rate: Annotated[
        float | None, typer.Option(metavar="Q", help="Poisson, 0 to 1.")
    ] = None,
    noise_multiplier: Annotated[float | None, typer.Option(metavar="Z")] = None,
    local_steps: Annotated[
        int, typer.Option(metavar="N", help="Noisy steps in each round: those of local-dp-sgd.")
    ] = 1,
    accountant: Annotated[
        Literal["prv", "rdp"], typer.Option(click_type=click.Choice(("prv", "rdp")))
    ] = "prv",
    grid_steps: Annotated[
        int, typer.Option(metavar="N", min=0, help="privacy.grid-steps of distributed-user.")
    ] = 0,
    test_noise: Annotated[
        float,
        typer.Option(
            metavar="Z", help="privacy.test-noise, half of it for unit record; 0: no test."
        ),
    ] = PrivacySettings().test_noise,
    item_noise: Annotated[
        float,
        typer.Option(metavar="Z", help="privacy.item-noise, of network.item-statistics; 0: none."),
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Solve for epsilon, noise multiplier, rounds or sampling rate.

    Give three of --epsilon, --noise-multiplier, --rounds and --sampling-rate: the fourth is solved
    for. Epsilon is of the rounds, the one test after them and, with --item-noise, the one sum of
    items before them. With --grid-steps the noise is that of distributed-user, which goes with
    --sampling-rate 1 and --accountant rdp.
    """
    from mrff.privacy.planning import Plan, solve  # the accountants bring torch

    wish = Plan(
        epsilon=epsilon, delta=delta, noise_multiplier=noise_multiplier, rounds=rounds,
        sampling_rate=sampling_rate, local_steps=local_steps, accountant=accountant,
        test_noise=test_noise, item_noise=item_noise, grid_steps=grid_steps,
    )  # fmt: skip
    found = asdict(solve(wish))
    if as_json:
        print_json({key: found[key] for key in PLAN_KEYS})
        return
    rows = []
    for key, value in found.items():
        if key in ("grid_steps", "test_noise", "item_noise") and not value:
            continue
        mark = "<- solved" if getattr(wish, key) is None else ""
        shown = value if isinstance(value, str) else f"{value:.6g}"
        rows.append((key.replace("_", "-"), shown, mark))
    print_table((), rows)
    once = ["the one test after them"] if test_noise else []
    once += ["the one sum of items before them"] if item_noise else []
    print(f"Counted: {' and '.join(['the rounds', *once])}.")
    print("Not counted: rounds that are trained again after a stop, other runs on the same data.")


@commands.command("report")
def report(run: Run, as_json: AsJson = False) -> None:
    """What a run promises, to whom, and what not.

    RUN is the name of a run, or its folder.
    """
    from mrff.ops.privacy_report import open_report  # brings torch

    found = open_report(run)
    print_json(found.numbers()) if as_json else print("\n".join(found.sentences()))


@commands.command("audit")
def audit(
    dataset: Dataset,
    changes: Changes,
    config: Config = None,
    canaries: Annotated[int, typer.Option(metavar="M", help="Planted users.")] = 1000,
    canaries_in: Annotated[
        Literal["updates", "data"],
        typer.Option(
            click_type=click.Choice(("updates", "data")),
            help="Random directions through the mechanism, or histories through a training.",
        ),
    ] = "updates",
    users: Annotated[
        int, typer.Option(metavar="N", help="Real ones, beside canaries in data.")
    ] = 300,
    confidence: Annotated[float, typer.Option(metavar="P", help="Of the bounds.")] = 0.95,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the canaries' coins.")] = 0,
    without_noise: Annotated[
        bool, typer.Option("--without-noise", help="Plant the bug that an audit has to find.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """An empirical lower bound on epsilon, by canaries in one run.

    Planted users are there or not, each by a fair coin, and what is released says who was there
    (Steinke, Nasr and Jagielski 2023). Audits privacy.mode=central-user unless told otherwise. With
    --canaries-in data users are planted into a training; then -c privacy.mode=none shows what an
    attacker learns without privacy. DATASET is a prepared folder or its name.
    """
    from mrff.experiments.audits.audit import AuditSetup  # brings torch
    from mrff.experiments.audits.audit import audit as audited
    from mrff.ops.datasets import dataset_folder
    from mrff.ops.simulation import read_settings

    if not 0.5 < confidence < 1.0:
        raise ConfigError(f"confidence must be between 0.5 and 1, got {confidence}")
    values = {"privacy.mode": "central-user", **read_settings(config, changes)}
    setup = AuditSetup(
        canaries, users, confidence, seed, noise=not without_noise, canaries_in=canaries_in
    )
    found = audited(dataset_folder(dataset), values, setup)
    print_json(found.numbers()) if as_json else print("\n".join(found.sentences()))
