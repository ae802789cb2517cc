"""``mrff report``: a run, or a comparison, as one HTML page that needs no network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrff.config import RunConfig
from mrff.io.files import write_bytes
from mrff.ops.trained_run import find_run


def add_parser(subparsers: Any) -> None:
    """Adds ``report``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("report", help="a run or comparison as one HTML page")
    command.add_argument(
        "run", metavar="RUN", help="name or folder of a run, or of a comparison (mrff compare)"
    )
    command.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="page to write (report.html in its folder)",
    )
    command.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="a deployed node's shard (default: the run's)"
    )
    command.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="a deployed node's private state"
    )
    command.add_argument(
        "--public", action="store_true", help="leave out what is drawn from private state"
    )
    command.set_defaults(handler=_report)


def _report(arguments: argparse.Namespace) -> int:
    # plotly takes a second to import: only here
    from mrff.experiments.reports.comparison_page import comparison_page
    from mrff.experiments.reports.run_page import run_page

    compared = find_comparison(arguments.run)
    if compared is not None:
        folder, page = compared, comparison_page(compared)
    else:
        folder = find_run(arguments.run).path
        page = run_page(
            arguments.run,
            data_dir=arguments.data_dir,
            state_dir=arguments.state_dir,
            public=arguments.public,
        )
    out = (arguments.out or folder / "report.html").expanduser().absolute()
    content = page.html().encode()
    out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, content)
    print(f"{out} ({len(content) / 1e6:.1f} MB, no network needed)")
    return 0


def find_comparison(name: str) -> Path | None:
    """The folder of a comparison given as one, or by its name under ``MRFF_HOME``."""
    from mrff.experiments.reports.comparison_files import is_comparison

    named = RunConfig.from_flat({}).home / "comparisons" / name
    folders = (Path(name).expanduser().absolute(), named)
    return next((folder for folder in folders if is_comparison(folder)), None)
