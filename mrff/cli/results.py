"""What a run gives: ``mrff export`` a user's model, ``mrff report`` one HTML page that needs no
network. (Lists are in `mrff.cli.recommend`.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrff.cli.terminal import DataDir, Run, StateDir, User
from mrff.config import RunConfig
from mrff.io.files import write_bytes


def export(
    run: Run,
    user: User,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to make; it is private.")],
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> None:
    """One user's model for a device (ONNX).

    RUN is the name of a run, or its folder.
    """
    from mrff.ops.export import TOLERANCE, export_user, network_alone  # these bring torch
    from mrff.ops.nodes import NodesAtHand
    from mrff.ops.trained_run import find_run, load_best
    from mrff.ops.user_model import open_user

    nodes = NodesAtHand(load_best(find_run(run)), data_dir, state_dir)
    model = open_user(nodes, user)
    folder = out.expanduser().absolute()
    difference = export_user(model, nodes, folder)
    print(model.provenance)
    if difference is None:
        print(
            "NOT CHECKED against PyTorch: onnxruntime is not installed (pip install 'mrff[export]')"
        )
    else:
        print(f"onnxruntime and PyTorch agree: logits differ by {difference:.1e} < {TOLERANCE:g}")
    if model.mixture is not None:
        print(network_alone(model.mixture))
    print(f"{folder} holds the user's private parameters: only its owner can read it")


def report(
    run: Run,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Page to write (report.html in its folder).")
    ] = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
    public: Annotated[
        bool, typer.Option("--public", help="Leave out what is drawn from private state.")
    ] = False,
    against: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Another run: are the same users together there?"),
    ] = None,
) -> None:
    """A run or comparison as one HTML page.

    RUN is the name of either, or its folder.
    """
    from mrff.experiments.reports.comparison_page import comparison_page  # these bring plotly
    from mrff.experiments.reports.run_page import run_page
    from mrff.ops.trained_run import find_run

    folder = _comparison(run)
    if folder is not None:
        page = comparison_page(folder)
    else:
        folder = find_run(run).path
        page = run_page(run, data_dir=data_dir, state_dir=state_dir, public=public, against=against)
    file = (out or folder / "report.html").expanduser().absolute()
    content = page.encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, content)
    print(f"{file} ({len(content) / 1e6:.1f} MB, no network needed)")


def _comparison(name: str) -> Path | None:
    """The folder of a comparison given as one, or by its name under ``MRFF_HOME``."""
    from mrff.experiments.comparison.files import is_comparison  # brings pandas

    named = RunConfig.from_flat({}).home / "comparisons" / name
    folders = (Path(name).expanduser().absolute(), named)
    return next((folder for folder in folders if is_comparison(folder)), None)
