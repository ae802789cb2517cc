"""``mrff export``: one user's model for a device, checked against PyTorch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mrff.cli.recommend_command import add_user_arguments, provenance
from mrff.ops.export import TOLERANCE, export_user, require_onnx
from mrff.ops.nodes import NodesAtHand, open_user
from mrff.ops.trained_run import RunError, find_run, load_best


def add_parser(subparsers: Any) -> None:
    """Adds ``export``; it sets ``handler``, which returns the exit status."""
    command = subparsers.add_parser("export", help="one user's model for a device (ONNX)")
    add_user_arguments(command)
    command.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to make; it is private"
    )
    command.set_defaults(handler=_export)


def _export(arguments: argparse.Namespace) -> int:
    best = load_best(find_run(arguments.run))
    require_onnx()
    nodes = NodesAtHand(best, arguments.data_dir, arguments.state_dir)
    user = open_user(nodes, arguments.user)
    if not user.is_known:
        raise RunError(
            f"user {arguments.user!r} is not in {nodes.dataset_folder}, nothing was exported; "
            "mrff recommend shows what the shared model says to a user without history"
        )
    out = arguments.out.expanduser().absolute()
    difference = export_user(
        user, best, user_id=arguments.user, dataset=nodes.dataset_folder, out=out
    )
    print(provenance(user, arguments.user, best.round))
    if difference is None:
        print(
            "NOT CHECKED against PyTorch: onnxruntime is not installed (pip install 'mrff[export]')"
        )
    else:
        print(f"onnxruntime and PyTorch agree: logits differ by {difference:.1e} < {TOLERANCE:g}")
    print(f"{out} holds the user's private parameters: only its owner can read it")
    return 0
