"""The ClientApp: Flower calls it with a message, it answers for the users of its node."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.node import open_node
from client_app.rounds import evaluate_round, train_round

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Trains the round's users on this node; answers with sums of their updates."""
    node = open_node(context.run_config, context.node_config, message.content["round"])
    return Message(train_round(node, message.content), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Scores this node's users on held-out interactions; answers with sums and histograms."""
    node = open_node(context.run_config, context.node_config, message.content["round"])
    return Message(evaluate_round(node, message.content), reply_to=message)
