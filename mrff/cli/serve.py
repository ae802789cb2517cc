"""``mrff serve``: answers on this machine, for as long as it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mrff.cli.terminal import DataDir, Run, StateDir

Port = Annotated[int, typer.Option(metavar="PORT", min=0, max=65535, help="0: any free one.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Whoever knows it may ask; made if missing."),
]


def serve(
    run: Run,
    port: Port = 8765,
    token_file: TokenFile = None,
    data_dir: DataDir = None,
    state_dir: StateDir = None,
) -> None:
    """Answers over HTTP on this machine: lists for its users, and for histories in a request.

    RUN is the name of a run, or its folder. A newer best model is taken up by itself.
    """
    from mrff.config import RunConfig
    from mrff.ops.nodes import NodesAtHand  # brings torch
    from mrff.ops.trained_run import find_run, load_best
    from mrff.serving.api import application
    from mrff.serving.guard import token_of
    from mrff.serving.newest import Newest
    from mrff.serving.server import answer_at

    folder = find_run(run)
    file = token_file or RunConfig.from_flat({}).home / "serve.token"
    token = token_of(file.expanduser().absolute())
    newest = Newest(folder, lambda: NodesAtHand(load_best(folder), data_dir, state_dir))

    def tell(address: str) -> None:
        about = newest.served.about
        print(f"run {folder.name}, model of round {about['best_round']}: {about['ordered_by']}")
        print(f"page:  {address}/#token={token}")
        print(f"API:   {address}/docs, with the header Authorization: Bearer $(cat {file})")
        print("end it with Ctrl-C", flush=True)

    answer_at(application(newest, token), port, tell)
