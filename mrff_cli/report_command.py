"""``mrff report``: a run, or a comparison, as one HTML page that needs no network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrff_cli.trained_run import find_run
from server_app.durable import write_bytes


def add_parser(subparsers: Any) -> None:
    """Adds ``report``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("report", help="a run as one HTML page with charts")
    command.add_argument("run", metavar="RUN", help="name of a run, or its folder")
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="page to write (default: report.html in the run)"
    )
    command.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="a deployed node's shard (default: the run's)"
    )
    command.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="a deployed node's private state"
    )
    command.set_defaults(handler=_report)


def _report(arguments: argparse.Namespace) -> int:
    # plotly takes a second to import: only here
    from mrff_cli.reporting.run_page import run_page

    page = run_page(arguments.run, data_dir=arguments.data_dir, state_dir=arguments.state_dir)
    folder = find_run(arguments.run).path
    out = (arguments.out or folder / "report.html").expanduser().absolute()
    content = page.html().encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    print(f"{out} ({len(content) / 1e6:.1f} MB, no network needed)")
    return 0
