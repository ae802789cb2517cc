"""What a deployed run must come to: the same apps in this process, without any network."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, MessageType, RecordDict

from client_app.app import app as client_app
from client_app.private_store import PrivateStore
from mrff.config import RunConfig, full_names
from mrff.data.dataset import load_dataset
from mrff.data.shard import node_folder
from mrff.wire.requests import Request
from server_app.app import app as server_app
from server_app.run.checkpoint import load_checkpoint
from tests.support.deployment import CHECKOUT, Federation, Values
from tests.support.local_grid import LocalGrid


def run_in_process(
    home: Path, data: Path, *, nodes: int, absent: Mapping[int, Collection[int]], settings: Values
) -> None:
    """Trains with ``nodes`` nodes in this process; the run's name is ``reference``.

    Args:
        data: the whole prepared dataset; node i has the users of shard i.
        absent: for a round, the nodes that did not train in it.
    """
    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    values: Values = full_names(pyproject["tool"]["flwr"]["app"]["config"])
    values |= full_names({
        "dataset": "ml-100k", "data-dir": str(data), "home": str(home), "run.name": "reference",
        "checkpoint-every": 1, "expected-nodes": nodes, "tensorboard": False,
        "run.fit-settings": False,
    })  # fmt: skip
    values |= full_names({name.replace("_", "-"): value for name, value in settings.items()})

    def client(message: Message, context: Context) -> Message:
        if message.metadata.message_type == MessageType.TRAIN:
            number = Request.read(message.content).facts.round
            if context.node_config["partition-id"] in absent.get(number, ()):
                raise ConnectionError("absent")
        return client_app(message, context)

    context = Context(run_id=1, node_id=1, node_config={}, state=RecordDict(), run_config=values)
    server_app(LocalGrid(client, nodes, values), context)


def shared_parameters(home: Path, run: str) -> dict[str, np.ndarray]:
    """Public and group parameters after the last checkpointed round."""
    state = load_checkpoint(home / "runs" / run / "checkpoint").state
    return {**state.public, **state.group}


def private_parameters(
    store: Path, shard: Path, *, round_number: int, epochs: tuple[int, ...], like: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Of all users of the shard: (U, ...) arrays, the newest version up to ``round_number``."""
    keys = load_dataset(shard).user_keys
    parameters, _ = PrivateStore(store, epochs).load(
        keys, up_to_round=round_number, initial=like, num_layers=2
    )
    return {name: value.numpy() for name, value in parameters.items()}


def epoch_starts(home: Path, run: str) -> tuple[int, ...]:
    """The rounds at which the run began and was taken up again."""
    return tuple(load_checkpoint(home / "runs" / run / "checkpoint").state.epoch_starts)


def initial_private(data: Path, settings: Values) -> dict[str, Any]:
    """A new user's own parameters, (1, ...) each."""
    from mrff_model.building import build_network, tensors_of

    pyproject = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    config = RunConfig.from_flat(
        {**full_names(pyproject["tool"]["flwr"]["app"]["config"]), **full_names(settings)}
    )
    dataset = load_dataset(data)
    network = build_network(
        config.network_arguments(), dataset.schema, dataset.item_features, seed=config.training.seed
    )
    return {name: value.clone() for name, value in tensors_of(network, "private").items()}


def lost_users(
    federation: Federation,
    run: str,
    folder: Path,
    data: Path,
    absent: Mapping[int, Collection[int]],
    settings: Values,
    *,
    nodes: int = 2,
) -> int:
    """Users whose private parameters are not what they are when nothing goes wrong.

    The shared parameters are compared too: a lost or doubled update of one user would show there.

    Args:
        folder: for the same run in one process.
        absent: the nodes whose users did not train in a round, by round.
        nodes: shards that the run was trained on.
    """
    home = folder / f"reference-of-{run}"
    run_in_process(home, data, nodes=nodes, absent=absent, settings=settings)
    ours, wanted = shared_parameters(federation.home, run), shared_parameters(home, "reference")
    assert ours.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(ours[name], array, atol=1e-5, err_msg=name)
    initial = initial_private(data, {})
    last, lost = int(settings["num_server_rounds"]), 0
    for node in range(nodes):
        shard = node_folder(federation.shards, node)
        kept = private_parameters(
            federation.state(node) / run, shard, round_number=last,
            epochs=epoch_starts(federation.home, run), like=initial,
        )  # fmt: skip
        true = private_parameters(
            home / f"state/reference/node-{node}-of-{nodes}", shard, round_number=last,
            epochs=(0,), like=initial,
        )  # fmt: skip
        new = {name: value.numpy() for name, value in initial.items()}
        assert _differ(true, new).sum() > len(_differ(true, new)) / 10, "too few users have trained"
        lost += int(_differ(kept, true).sum())
    return lost


def _differ(some: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> np.ndarray:
    """(U,) whether a user has other parameters; a step moves their embedding by about 3e-4.

    Not every array moves far: what lies before a layer that starts at zero moves in second order.
    """
    near = (np.isclose(some[name], others[name], rtol=0, atol=1e-6) for name in some)
    alike: np.ndarray = np.all([a.reshape(len(a), -1).all(axis=1) for a in near], axis=0)
    return ~alike
