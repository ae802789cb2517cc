"""The one place of the tests that touches private names of Flower."""

from __future__ import annotations

from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity


def identify() -> None:
    """Says who makes messages in this process; Flower's engines do so before an app runs."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


def name_message(message: Message, message_id: str) -> None:
    """Gives a message the id that an engine would give it."""
    message.metadata.__dict__["_message_id"] = message_id


def came_from(message: Message, node: int) -> None:
    """Makes ``node`` the source of a reply; the SuperLink is 1."""
    message.metadata.__dict__["_src_node_id"] = node


def with_content(message: Message, content: RecordDict) -> Message:
    """The same message with other content, for those that are sent once and read often."""
    copy = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
    copy.__dict__["_metadata"] = message.metadata
    return copy


def as_reply(content: RecordDict, node: int) -> Message:
    """``content`` as the reply of a node to some request."""
    identify()
    request = Message(RecordDict(), dst_node_id=node, message_type="train")
    name_message(request, f"to-{node}")
    return Message(content, reply_to=request)
