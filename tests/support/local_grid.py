"""Flower's Grid in one process, for tests: real messages and apps, no Ray, no network.

Message contents are serialised both ways, as Flower's engines do, so that a client never sees the
server's own objects and a test can look at every byte that travelled.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.serverapp import Grid

from tests.support.flower_internals import identify, name_message, with_content

FIRST_NODE_ID = 100
ClientFunction = Callable[[Message, Context], Message]


class LocalGrid(Grid):
    """``num_nodes`` nodes that call ``client_app`` in this process.

    Args:
        client_app: a ClientApp, or any function of a message and a context.
        run_config: what the nodes find in their context.
        shuffle_seed: hands out replies in another order than they were asked for.
        record: keeps the serialised content of every message in `requests` and `replies`.
        node_config: added to a node's partition-id and num-partitions.
    """

    def __init__(
        self,
        client_app: ClientFunction,
        num_nodes: int,
        run_config: Mapping[str, Any] | None = None,
        *,
        shuffle_seed: int | None = None,
        record: bool = False,
        node_config: Mapping[str, Any] | None = None,
    ) -> None:
        identify()
        self.requests: list[bytes] = []
        self.replies: list[bytes] = []
        self.most_outstanding = 0
        self.pushed = 0
        self._app = client_app
        self._record = record
        self._random = None if shuffle_seed is None else random.Random(shuffle_seed)
        self._waiting: dict[str, Message] = {}
        self._contexts = {
            FIRST_NODE_ID + i: Context(
                run_id=1,
                node_id=FIRST_NODE_ID + i,
                node_config={
                    "partition-id": i,
                    "num-partitions": num_nodes,
                    **(node_config or {}),
                },
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for i in range(num_nodes)
        }

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            self.pushed += 1
            message_id = f"message-{self.pushed}"
            name_message(message, message_id)
            self._waiting[message_id] = message
            ids.append(message_id)
        self.most_outstanding = max(self.most_outstanding, len(self._waiting))
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Runs the app for every message asked for; with a seed, for about half of them."""
        ids = [message_id for message_id in message_ids if message_id in self._waiting]
        if self._random and len(ids) > 1:
            ids = self._random.sample(ids, (len(ids) + 1) // 2)
        return [self._answer(self._waiting.pop(message_id)) for message_id in ids]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        ids = list(self.push_messages(messages))
        return [self._answer(self._waiting.pop(message_id)) for message_id in ids]

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Any) -> None:
        pass

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def _answer(self, message: Message) -> Message:
        request = with_content(message, self._travel(message.content, self.requests))
        context = self._contexts[message.metadata.dst_node_id]
        try:
            reply = self._app(request, context)
        except Exception as error:
            return Message(Error(code=2, reason=f"{type(error)}:<{error}>"), reply_to=request)
        if reply.has_content():
            reply.content = self._travel(reply.content, self.replies)
        return reply

    def _travel(self, content: RecordDict, log: list[bytes]) -> RecordDict:
        data = recorddict_to_proto(content).SerializeToString()
        if self._record:
            log.append(data)
        return recorddict_from_proto(ProtoRecordDict.FromString(data))
