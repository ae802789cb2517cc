"""Private parameters on the node's disk: keyed by user, versioned by round, safe against crashes.

The folder holds immutable segments of at most 256 users' versions, each written to a temporary
file, flushed to disk and renamed. A crash leaves a segment whole or absent, so a user has the old
or the new version, never a mixture. Nothing is overwritten: a round adds segments, and segments
without a version that is still needed are removed after the new ones are safe. Every version has
a checksum of its own, so that reading a few users reads no more than theirs.

Which version counts depends on the run, not on the file's age. A run that is resumed from a
checkpoint starts a new epoch at that round; versions of later rounds of earlier epochs never
happened.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

SEGMENT_USERS = 256
_KEYS, _ROUNDS, _EPOCHS, _ROUTES = "user-keys", "rounds", "epochs", "routes"
_OWN = (_KEYS, _ROUNDS, _EPOCHS, _ROUTES)
_INDEX_CHECKSUM = "index-checksum"
_CHECKSUMS = "checksums"  # one of each version; segments of earlier releases have one of them all


class PrivateStoreError(ValueError):
    """The store cannot be read or written; training must not go on from nothing."""


@dataclass(frozen=True)
class _Index:
    """Every stored version, as columns of equal length."""

    keys: np.ndarray  # uint64
    rounds: np.ndarray
    epochs: np.ndarray
    segments: np.ndarray  # position in the list of files
    rows: np.ndarray  # within the segment
    files: list[Path]


class PrivateStore:
    """Reads and writes the private parameters of one node's users.

    Args:
        folder: of this node and this training; made when first written to.
        epoch_starts: the round each epoch of the run started after; ``(0,)``: never resumed.
    """

    def __init__(self, folder: Path, epoch_starts: Sequence[int] = (0,)) -> None:
        self.folder = folder
        self._epoch_starts = tuple(epoch_starts)

    def load(
        self, users: np.ndarray, *, up_to_round: int, initial: Mapping[str, Tensor], num_layers: int
    ) -> tuple[dict[str, Tensor], np.ndarray]:
        """Each user's newest version of a round <= ``up_to_round``; ``initial`` for those without.

        Args:
            users: (U,) uint64 user keys.
            initial: (1, ...) each, a new user's parameters.
            num_layers: width of the routes.

        Returns:
            Parameters (U, ...) and the routes of that version (U, layers), -1 where there is none.

        Raises:
            PrivateStoreError: a segment is damaged or belongs to another network.
        """
        index = self._index()
        found = _newest(index, users, self._valid(index) & (index.rounds <= up_to_round))
        parameters = {n: v.new_empty((len(users), *v.shape[1:])) for n, v in initial.items()}
        new = torch.from_numpy(np.flatnonzero(found < 0))
        for name, values in parameters.items():
            values[new] = initial[name]
        routes = np.full((len(users), num_layers), -1, dtype=np.int64)
        known = np.flatnonzero(found >= 0)
        for segment in np.unique(index.segments[found[known]]):
            of_segment = known[index.segments[found[known]] == segment]
            stored = _read(index.files[segment], index.rows[found[of_segment]])
            for name, values in parameters.items():
                if name not in stored or stored[name].shape[1:] != values.shape[1:]:
                    raise PrivateStoreError(
                        f"private store {index.files[segment]} holds no {name!r} of shape "
                        f"{tuple(values.shape[1:])}: it belongs to another configuration; "
                        "use another run-name"
                    )
                values[torch.from_numpy(of_segment)] = stored[name]
            routes[of_segment] = stored[_ROUTES].numpy()
        return parameters, routes

    def save(
        self,
        users: np.ndarray,
        parameters: Mapping[str, Tensor],
        routes: np.ndarray,
        *,
        round_number: int,
        checkpoint_round: int,
        best_round: int,
    ) -> None:
        """Adds the version of ``round_number`` for ``users``; removes versions no one can ask for.

        Still needed are each user's newest version, the one before this round (the round may be
        retried) and the newest up to ``checkpoint_round`` (the run may be resumed there) and up to
        ``best_round`` (the run leaves that model).

        Raises:
            PrivateStoreError: the folder cannot be written to; nothing stored before is lost.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            epoch = len(self._epoch_starts) - 1
            for first in range(0, len(users), SEGMENT_USERS):
                part = slice(first, first + SEGMENT_USERS)
                rounds = np.full(len(users[part]), round_number)
                tensors = {name: rows[part] for name, rows in parameters.items()}
                self._write(users[part], rounds, np.full_like(rounds, epoch), routes[part], tensors)
            _sync_folder(self.folder)
            self._tidy((round_number - 1, checkpoint_round, best_round))
        except OSError as error:
            raise PrivateStoreError(
                f"private store {self.folder} cannot be written: {error}; "
                "free space or choose another state-dir"
            ) from error

    def _write(
        self,
        users: np.ndarray,
        rounds: np.ndarray,
        epochs: np.ndarray,
        routes: np.ndarray,
        parameters: Mapping[str, Tensor],
    ) -> None:
        tensors = {
            _KEYS: torch.from_numpy(users.view(np.int64).copy()),
            _ROUNDS: torch.from_numpy(rounds.astype(np.int64)),
            _EPOCHS: torch.from_numpy(epochs.astype(np.int64)),
            _ROUTES: torch.from_numpy(routes.astype(np.int64)),
        } | {name: rows.contiguous() for name, rows in parameters.items()}
        tensors[_CHECKSUMS] = _checksums(tensors)
        columns = (tensors[name] for name in (_KEYS, _ROUNDS, _EPOCHS, _CHECKSUMS))
        content = save(tensors, metadata={_INDEX_CHECKSUM: _index_checksum(columns)})
        name = f"round-{int(rounds.max()):08d}-{uuid.uuid4().hex}.safetensors"
        temporary = self.folder / f".{name}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self.folder / name)  # kept for certain once the folder is synced

    def _tidy(self, rounds_to_keep: Sequence[int]) -> None:
        """Removes segments without a needed version; gathers what is left of sparse ones."""
        index = self._index()
        order = _by_user(index, self._valid(index))
        needed = np.zeros(len(index.keys), dtype=bool)
        for last in (np.iinfo(np.int64).max, *rounds_to_keep):
            allowed = order[index.rounds[order] <= last]
            needed[_last_of_each(index, allowed)] = True
        total = np.bincount(index.segments, minlength=len(index.files))
        alive = np.bincount(index.segments[needed], minlength=len(index.files))
        sparse = np.flatnonzero((alive > 0) & (2 * alive < np.minimum(total, SEGMENT_USERS)))
        small = np.flatnonzero((alive > 0) & (alive < SEGMENT_USERS // 4))
        gathered = np.union1d(sparse, small) if len(small) >= _MANY_SMALL else sparse
        if len(gathered) > 1:
            self._gather(index, gathered, needed)
            _sync_folder(self.folder)
            alive[gathered] = 0
        for position in np.flatnonzero(alive == 0):
            index.files[position].unlink(missing_ok=True)

    def _gather(self, index: _Index, segments: np.ndarray, needed: np.ndarray) -> None:
        columns: dict[str, list[Tensor]] = {}
        for position in segments:
            rows = index.rows[needed & (index.segments == position)]
            for name, values in _read(index.files[position], rows).items():
                columns.setdefault(name, []).append(values)
        joined = {name: torch.cat(parts) for name, parts in columns.items()}
        for first in range(0, len(joined[_KEYS]), SEGMENT_USERS):
            part = {name: values[first : first + SEGMENT_USERS] for name, values in joined.items()}
            own = [part.pop(name).numpy() for name in _OWN]
            self._write(own[0].view(np.uint64), own[1], own[2], own[3], part)

    def _index(self) -> _Index:
        files = sorted(self.folder.glob("round-*.safetensors"))
        columns = [_columns(file) for file in files]
        empty = np.zeros(0, dtype=np.int64)
        lengths = [len(keys) for keys, _, _ in columns]
        return _Index(
            keys=np.concatenate([empty.view(np.uint64), *(c[0] for c in columns)]),
            rounds=np.concatenate([empty, *(c[1] for c in columns)]),
            epochs=np.concatenate([empty, *(c[2] for c in columns)]),
            segments=np.repeat(np.arange(len(files)), lengths),
            rows=np.concatenate([empty, *(np.arange(n) for n in lengths)]),
            files=files,
        )

    def _valid(self, index: _Index) -> np.ndarray:
        """Versions on this run's line: none of a later round than where a later epoch started."""
        starts = np.array([*self._epoch_starts, np.iinfo(np.int64).max])
        last_round = np.minimum.accumulate(starts[::-1])[::-1]  # of epochs >= e
        after = last_round[np.minimum(index.epochs + 1, len(starts) - 1)]
        return (index.rounds <= after) & (index.epochs < len(self._epoch_starts))


_MANY_SMALL = 16
_WIDE = 1024  # bytes; where copying costs more than another call


def _newest(index: _Index, users: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(U,) position in the index of each user's newest allowed version, -1 where there is none."""
    if not allowed.any():
        return np.full(len(users), -1)
    newest = _last_of_each(index, _by_user(index, allowed))
    keys = index.keys[newest]
    places = np.minimum(np.searchsorted(keys, users), len(keys) - 1)
    return np.where(keys[places] == users, newest[places], -1)


def _by_user(index: _Index, allowed: np.ndarray) -> np.ndarray:
    """Positions of the allowed versions by user, each user's oldest first."""
    positions = np.flatnonzero(allowed)
    columns = (index.epochs[positions], index.rounds[positions], index.keys[positions])
    return positions[np.lexsort(columns)]


def _last_of_each(index: _Index, by_user: np.ndarray) -> np.ndarray:
    """Of positions ordered by user, each user's last."""
    keys = index.keys[by_user]
    return by_user[np.append(keys[1:] != keys[:-1], True)] if len(keys) else by_user


@lru_cache(maxsize=65536)
def _columns(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User keys, rounds and epochs of a segment; as segments never change, they are remembered."""
    try:
        with safe_open(file, framework="pt") as segment:
            names = (_KEYS, _ROUNDS, _EPOCHS, _CHECKSUMS)
            columns = [segment.get_tensor(n) for n in names if n in segment.keys()]  # noqa: SIM118
            checksum = (segment.metadata() or {}).get(_INDEX_CHECKSUM)
    except (SafetensorError, OSError) as error:
        raise _damaged(file, str(error)) from error
    if checksum is not None and checksum != _index_checksum(columns):
        raise _damaged(file, "the checksum does not match")
    keys, rounds, epochs = (column.numpy() for column in columns[:3])
    return keys.view(np.uint64), rounds, epochs


def _read(file: Path, rows: np.ndarray) -> dict[str, Tensor]:
    """Everything of the segment's versions ``rows``, checked."""
    try:
        with safe_open(file, framework="pt") as segment:  # mapped: what is not used is not read
            tensors = {name: segment.get_tensor(name) for name in segment.keys()}  # noqa: SIM118
            of_all = (segment.metadata() or {}).get("checksum")
    except (SafetensorError, OSError) as error:
        raise _damaged(file, str(error)) from error
    at = torch.from_numpy(rows)
    some = {name: values[at] for name, values in tensors.items()}
    if _CHECKSUMS in some:
        intact = torch.equal(some.pop(_CHECKSUMS), _checksums(some))
    else:
        intact = of_all == _checksum_of_all(tensors)
    if not intact:
        raise _damaged(file, "the checksum does not match")
    return some


def _damaged(file: Path, why: str) -> PrivateStoreError:
    return PrivateStoreError(
        f"private store segment {file} is damaged ({why}): restore it from a backup, or remove it "
        "to let its users start anew"
    )


def _checksums(tensors: Mapping[str, Tensor]) -> Tensor:
    """(n,) int64: the CRC-32 of each row, over the narrow columns, then over each wide one."""
    columns = (tensors[name].contiguous().numpy() for name in sorted(tensors))
    parts = [c.reshape(len(c), prod(c.shape[1:])).view(np.uint8) for c in columns]
    narrow = np.concatenate([part for part in parts if part.shape[1] < _WIDE], axis=1)
    checksums = [zlib.crc32(row.data) for row in narrow]
    for wide in (part for part in parts if part.shape[1] >= _WIDE):
        checksums = [zlib.crc32(row.data, last) for row, last in zip(wide, checksums, strict=True)]
    return torch.tensor(checksums, dtype=torch.int64)


def _index_checksum(columns: Iterable[Tensor]) -> str:
    return str(zlib.crc32(b"".join(column.numpy().tobytes() for column in columns)))


def _checksum_of_all(tensors: Mapping[str, Tensor]) -> str:
    """What segments of earlier releases have instead."""
    digest = blake2b(digest_size=16)
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].contiguous().numpy().tobytes())
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
