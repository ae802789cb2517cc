"""The ClientApp: Flower calls it with a message, it answers for the users of its node.

A deployed node answers every message in a new process: the stages of a secure sum that need neither
network nor data do not import PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.errors import without_paths
from client_app.sides import secure_client
from mrff.wire.replies import Reply
from mrff.wire.requests import Request

if TYPE_CHECKING:
    from client_app.node import Node

app = ClientApp(mods=[without_paths])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the round's users on this node; answers with sums of their updates."""
    from client_app.train import train_round  # brings PyTorch

    return _answer(message, context, train_round)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Scores this node's users on held-out interactions; answers with sums and histograms."""
    from client_app.evaluate import evaluate_round  # brings PyTorch

    return _answer(message, context, evaluate_round)


@app.query("item_counts")
def count_items(message: Message, context: Context) -> Message:
    """Answers with how often each item is in the training part of this node's users."""
    from client_app.item_sums import item_counts  # brings PyTorch

    return _answer(message, context, item_counts)


@app.query("item_rates")
def rate_items(message: Message, context: Context) -> Message:
    """Answers with how often each item was met and liked in the training part."""
    from client_app.item_sums import item_rates  # brings PyTorch

    return _answer(message, context, item_rates)


@app.query("factor_sums")
def add_up_for_item_vectors(message: Message, context: Context) -> Message:
    """Answers with the sums that item vectors are solved from."""
    from client_app.item_sums import factor_sums  # brings PyTorch

    return _answer(message, context, factor_sums)


@app.query("linear_sums")
def add_up_for_linear_models(message: Message, context: Context) -> Message:
    """Answers with the sums that closed-form linear models are solved from."""
    from client_app.item_sums import linear_sums  # brings PyTorch

    return _answer(message, context, linear_sums)


@app.query("secure_keys")
def show_keys(message: Message, context: Context) -> Message:
    """Answers with keys for one secure sum."""
    node = secure_client(context.run_config, context.node_config, message.content)
    return Message(node.keys(message.content), reply_to=message)


@app.query("secure_shares")
def share_secrets(message: Message, context: Context) -> Message:
    """Answers with what other nodes need to open the sum without this node."""
    node = secure_client(context.run_config, context.node_config, message.content)
    return Message(node.shares(message.content), reply_to=message)


@app.query("secure_unmask")
def open_sum(message: Message, context: Context) -> Message:
    """Signs who is left, then answers with what opens their sum."""
    node = secure_client(context.run_config, context.node_config, message.content)
    return Message(node.unmask(message.content), reply_to=message)


def _answer(message: Message, context: Context, work: Callable[[Node, Request], Reply]) -> Message:
    from client_app.behind import as_known, with_zeros  # these bring PyTorch
    from client_app.node import open_node

    request = Request.read(message.content)
    node = open_node(context.run_config, context.node_config, request)

    def answered(honest_nodes: int) -> Reply:
        whole = node.aggregation.received(request, message.content)
        reply = work(replace(node, honest_nodes=honest_nodes), as_known(whole, node))
        return with_zeros(reply, whole)

    content = node.aggregation.submit(message.content, answered)
    return Message(content, reply_to=message)
