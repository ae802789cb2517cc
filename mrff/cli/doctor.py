"""``mrff doctor``: what would fail on this machine, and how to mend it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from mrff.cli.terminal import AsJson, print_json, print_table

Port = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", min=1, max=65535,
        help="Where a SuperLink is to listen: then it has to be free (else 8000 is looked at).",
    ),
]  # fmt: skip
Deployment = Annotated[
    bool,
    typer.Option(
        "--deployment",
        help="For a server or node: what only simulations and reports need may be missing.",
    ),
]  # fmt: skip


def doctor(
    superlink_port: Port = None, deployment: Deployment = False, as_json: AsJson = False
) -> None:
    """Check what a run needs: versions, ports, disk, GPU, Ray, Flower, proxies, clock.

    Exit status 2 if something would fail.
    """
    from mrff.config import RunConfig
    from mrff.ops.doctor import CHECKS, FAULT, Place
    from mrff.ops.flower_app import app_folder

    place = Place(RunConfig.from_flat({}).home, app_folder(None), superlink_port, deployment)
    findings = {name: check(place) for name, check in CHECKS.items()}
    if as_json:
        print_json([{"check": name, **asdict(finding)} for name, finding in findings.items()])
    else:
        rows = ((name, f.state, f.found, f.mend) for name, f in findings.items())
        print_table(("check", "state", "found", "how to mend it"), rows, lines=True)
    faults = [name for name, finding in findings.items() if finding.state == FAULT]
    if not as_json:
        print(
            f"would fail: {', '.join(faults)}" if faults else "nothing here would make a run fail"
        )
    if faults:
        raise typer.Exit(2)
