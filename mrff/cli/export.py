"""``mrff export``: one user's model for a device, checked against PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrff.cli.options import DataDir, Run, StateDir, User


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
    from mrff.ops.export import TOLERANCE, export_user  # these bring torch
    from mrff.ops.nodes import NodesAtHand, open_user
    from mrff.ops.trained_run import find_run, load_best

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
    print(f"{folder} holds the user's private parameters: only its owner can read it")
