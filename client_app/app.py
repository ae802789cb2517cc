"""The ClientApp: Flower calls it with a message, it answers for the users of its node."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.evaluate import evaluate_round
from client_app.item_sums import item_counts, linear_sums
from client_app.node import open_node
from client_app.train import train_round
from mrff.wire.requests import Request

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the round's users on this node; answers with sums of their updates."""
    request = Request.read(message.content)
    node = open_node(context.run_config, context.node_config, request)
    return Message(node.aggregation.submit(train_round(node, request)), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Scores this node's users on held-out interactions; answers with sums and histograms."""
    request = Request.read(message.content)
    node = open_node(context.run_config, context.node_config, request)
    return Message(node.aggregation.submit(evaluate_round(node, request)), reply_to=message)


@app.query("item_counts")
def count_items(message: Message, context: Context) -> Message:
    """Answers with how often each item is in the training part of this node's users."""
    request = Request.read(message.content)
    node = open_node(context.run_config, context.node_config, request)
    return Message(node.aggregation.submit(item_counts(node, request)), reply_to=message)


@app.query("linear_sums")
def add_up_for_linear_models(message: Message, context: Context) -> Message:
    """Answers with the sums that closed-form linear models are solved from."""
    request = Request.read(message.content)
    node = open_node(context.run_config, context.node_config, request)
    return Message(node.aggregation.submit(linear_sums(node, request)), reply_to=message)
