"""What a node keeps of its secure sums: every message may start a new process.

    secure-sums.passing.sqlite   secrets, answers of the session under way; go with the next
    secure-opened.sqlite         which questions were opened for which survivors; stays

A commit is on the disk before an answer leaves. A question that is asked again gets the stored
bytes, another question in its place is refused: so no mask is ever used twice, and no node gives
both secrets of another. The first file is in no backup.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path

from mrff.io.sqlite import PASSING, opened, transaction
from mrff.wire.aggregation.secure.primitives import SecureError, names_digest
from mrff.wire.aggregation.secure.session import Bundle, Party, Session
from mrff.wire.aggregation.secure.shares import Identity, Secrets

SESSIONS, OPENED = f"secure-sums{PASSING}", "secure-opened.sqlite"
_SESSIONS = """
    CREATE TABLE secrets (session BLOB PRIMARY KEY, content TEXT NOT NULL);
    CREATE TABLE answers (session BLOB, stage TEXT, asked BLOB NOT NULL, answer BLOB NOT NULL,
                          PRIMARY KEY (session, stage));
"""
_OPENED = """
    CREATE TABLE opened (node TEXT, question BLOB, survivors BLOB NOT NULL, training TEXT NOT NULL,
                         phase TEXT NOT NULL, round INTEGER NOT NULL,
                         PRIMARY KEY (node, question));
"""
_KEYS = ("mask_key", "seal_key", "nonce", "own_mask")


class SecureState:
    """The sessions of one node in one training.

    Args:
        folder: of the node's state in this training.
        party_of: makes the party of a session from its bundles, by the run's settings.
    """

    def __init__(self, folder: Path, party_of: Callable[[Session, list[Bundle]], Party]) -> None:
        self._path, self._party_of = folder / SESSIONS, party_of

    def begin(self, session: Session) -> None:
        """Forgets every other session."""
        with opened(self._path, _SESSIONS) as database, transaction(database):
            for table in ("secrets", "answers"):
                database.execute(f"DELETE FROM {table} WHERE session != ?", (session.id,))

    def answer(self, session: Session, stage: str, asked: bytes) -> bytes | None:
        """What was answered before to the same question.

        Raises:
            SecureError: another question was answered in this stage.
        """
        with opened(self._path, _SESSIONS) as database:
            query = "SELECT asked, answer FROM answers WHERE session = ? AND stage = ?"
            row = database.execute(query, (session.id, stage)).fetchone()
        if row is None:
            return None
        if row[0] != asked:
            raise SecureError(
                f"this node has answered another question in stage {stage!r} of this sum: "
                "it answers none twice"
            )
        return bytes(row[1])

    def keep(self, held: Secrets, stage: str, asked: bytes, answer: bytes) -> bytes:
        """Makes secrets and answer durable, then returns the answer."""
        with opened(self._path, _SESSIONS) as database, transaction(database):
            database.execute(
                "INSERT OR REPLACE INTO secrets VALUES (?, ?)", (held.session.id, _packed(held))
            )
            database.execute(
                "INSERT INTO answers VALUES (?, ?, ?, ?)", (held.session.id, stage, asked, answer)
            )
        return answer

    def secrets(self, session: Session, identity: Identity) -> Secrets:
        """Of a session under way.

        Raises:
            SecureError: it is none.
        """
        with opened(self._path, _SESSIONS) as database:
            query = "SELECT content FROM secrets WHERE session = ?"
            row = database.execute(query, (session.id,)).fetchone()
        if row is None:
            raise SecureError("this node knows nothing of this sum: it is over, or never began")
        return self._unpacked(row[0], session, identity)

    def forget(self, session: Session) -> None:
        """Drops the secrets; what was answered is known to the server anyway."""
        with opened(self._path, _SESSIONS) as database, transaction(database):
            database.execute("DELETE FROM secrets WHERE session = ?", (session.id,))

    def _unpacked(self, content: str, session: Session, identity: Identity) -> Secrets:
        values = json.loads(content)
        if identity.roster is None:  # a simulation's identity is as short-lived as its session
            identity = Identity(identity.name, b64decode(values["signing_key"]))
        mask_key, seal_key, nonce, own_mask = (b64decode(values[name]) for name in _KEYS)
        held = {name: b64decode(share) for name, share in values["held"].items()}
        found = Secrets(identity, session, mask_key, seal_key, nonce, own_mask, held=held)
        found.question = b64decode(values["question"])
        if values["bundles"]:
            bundles = [Bundle.unpacked(bundle) for bundle in values["bundles"]]
            found.party = self._party_of(session, bundles)
        return found


class Opened:
    """Which questions a node has helped to open; it outlives runs.

    Args:
        folder: of all of the node's state.
        node: its name there.
    """

    def __init__(self, folder: Path, node: str) -> None:
        self._path, self._node = folder / OPENED, node

    def note(self, held: Secrets, survivors: set[str], most: int) -> None:
        """Before this node opens the sum of ``survivors``.

        Args:
            most: evaluations that may be opened in one round.

        Raises:
            SecureError: the same was opened for others: the difference would be somebody's own.
        """
        session, names = held.session, names_digest(survivors)
        row = (self._node, held.question)
        about = (self._node, session.training, session.phase, session.round)
        with opened(self._path, _OPENED) as database, transaction(database):
            query = "SELECT survivors FROM opened WHERE node = ? AND question = ?"
            found = database.execute(query, row).fetchone()
            if found and found[0] != names:
                raise SecureError(
                    "this node has opened the same question for other nodes: the difference of "
                    "the two sums would be theirs alone"
                )
            count = (
                "SELECT COUNT(*) FROM opened "
                "WHERE node = ? AND training = ? AND phase = ? AND round = ?"
            )
            if not found and database.execute(count, about).fetchone()[0] >= most:
                raise SecureError(
                    f"this node opens {most} sums of {session.phase!r} in a round: "
                    f"all were opened in round {session.round}"
                )
            database.execute(
                "INSERT OR REPLACE INTO opened VALUES (?, ?, ?, ?, ?, ?)",
                (*row, names, session.training, session.phase, session.round),
            )


def _packed(held: Secrets) -> str:
    values = {name: b64encode(getattr(held, name)).decode() for name in _KEYS}
    ephemeral = held.identity.roster is None
    return json.dumps(
        {
            **values,
            "signing_key": b64encode(held.identity.signing_key).decode() if ephemeral else "",
            "question": b64encode(held.question).decode(),
            "bundles": [b.packed() for b in held.party.bundles.values()] if held.party else [],
            "held": {name: b64encode(share).decode() for name, share in held.held.items()},
        }
    )
