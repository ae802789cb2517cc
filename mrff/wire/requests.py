"""What a server asks: train a round, or evaluate a model. Both ends import these classes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, cast

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray

from mrff.wire.records import arrays_in, packed_record
from mrff_model.scopes import has_expert, is_fixed

VERSION = 3  # of everything in this room; nodes refuse another
Arrays = dict[str, NDArray[np.float32]]
Part = Literal["valid", "test"]
ITEM_COUNTS, LINEAR_SUMS = "query.item_counts", "query.linear_sums"  # message types
ITEM_RATES, FACTOR_SUMS = "query.item_rates", "query.factor_sums"
ITEM_LIKES, SQUARES, USERS = "item_likes", "residual_squares", "users"  # what their answers hold
FIXED, MODEL = "fixed", "model"  # records of arrays that no round moves, and of all others
BESIDE = "validation."  # what a validation's numbers begin with in a train reply
PARTS: tuple[Part, ...] = ("valid", "test")


class RequestError(ValueError):
    """A request that this node cannot read; nothing was done."""


@dataclass(frozen=True)
class EarlierRun:
    """A run that a later one went on from: users' private parameters of it count there.

    Args:
        training_id: its name.
        round: whose model the later run began with.
        epoch_starts: see `RoundFacts`.
    """

    training_id: str
    round: int
    epoch_starts: tuple[int, ...] = (0,)

    @property
    def text(self) -> str:
        """As it travels, and as checkpoints hold it."""
        return json.dumps([self.training_id, self.round, *self.epoch_starts])

    @classmethod
    def of(cls, text: str) -> EarlierRun:
        """The inverse of `text`.

        Raises:
            RequestError: it is none, or its name is no name of a run.
        """
        try:
            name, number, *starts = json.loads(text)
        except (TypeError, ValueError):
            name, number, starts = "", 0, []
        numbers = [number, *starts]
        plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._-]+", name)
        if not plain or name in {".", ".."} or not all(type(n) is int for n in numbers):
            raise RequestError(f"an earlier run must be a name and its rounds, got {text!r}")
        return cls(name, number, tuple(starts) or (0,))


@dataclass(frozen=True)
class RunFacts:
    """What does not change during a run.

    Args:
        schema_hash: of the data.
        training_id: lineage of the nodes' private state.
        data_dir, state_dir: of a simulation; a deployed node has its own.
        lineage: `EarlierRun.text` of the runs it goes on from, the latest first.
        ancestors: hashes of earlier versions of the data, which nodes may have.
        items: in the server's catalogue; 0: as many as in the node's.
        fitted: JSON of the settings that the server fitted to the data, where it was left to it.
    """

    schema_hash: str = ""
    training_id: str = ""
    data_dir: str = ""
    state_dir: str = ""
    lineage: list[str] = field(default_factory=list)
    ancestors: list[str] = field(default_factory=list)
    items: int = 0
    fitted: str = ""

    def record(self) -> ConfigRecord:
        """As Flower's strategies take a phase's settings."""
        return ConfigRecord(asdict(self))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RunFacts:
        """The inverse of `record`."""
        return cls(**{f.name: record[f.name] for f in fields(cls) if f.name in record})

    @property
    def fitted_settings(self) -> dict[str, bool | int | float | str]:
        """By full name.

        Raises:
            RequestError: it is no JSON of such values.
        """
        try:
            found = json.loads(self.fitted or "{}")
        except (TypeError, ValueError):
            found = None
        if not isinstance(found, dict) or not all(
            isinstance(value, bool | int | float | str) for value in found.values()
        ):
            raise RequestError(f"fitted settings must be a table of values, got {self.fitted!r}")
        return found

    @property
    def earlier_runs(self) -> list[EarlierRun]:
        """The runs it goes on from, the latest first.

        Raises:
            RequestError: see `EarlierRun.of`.
        """
        return [EarlierRun.of(text) for text in self.lineage]


@dataclass(frozen=True)
class RoundFacts:
    """Where the run stands.

    Args:
        round: to train, or whose model is evaluated.
        epoch_starts: rounds at which the run began and was taken up again.
        checkpoint_round, best_round: what nodes have to keep private versions for.
        loads: shares of users per expert in the previous round, row-major over (layers, K); empty:
            unknown.
        terms: what the mechanism's server half says.
        part: held-out targets to score; in a train request, those to score before training, by the
            model that came. Empty: none.
        mixes: what network and linear models count when items are ranked, one mix after the other;
            empty: the network alone.
    """

    round: int
    epoch_starts: list[int] = field(default_factory=lambda: [0])
    checkpoint_round: int = 0
    best_round: int = 0
    loads: list[float] = field(default_factory=list)
    terms: Mapping[str, float] = field(default_factory=dict)
    part: Part | Literal[""] = ""
    mixes: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Request:
    """A shared model, and what to do with it."""

    run: RunFacts
    facts: RoundFacts
    public: Arrays
    group: Arrays  # one array per weight of every expert
    linear: Arrays = field(default_factory=dict)  # see `mrff.linear.LinearPart.arrays`

    def about(self, server_round: int) -> Request:
        """The same request of another round."""
        return replace(self, facts=replace(self.facts, round=server_round))

    def with_arrays(self, arrays: Arrays) -> Request:
        """The same request, with these arrays where they belong."""
        group = {n: a for n, a in arrays.items() if has_expert(n)}  # of a copy of the network
        public = {n: a for n, a in arrays.items() if n not in group}
        return replace(self, public=self.public | public, group=self.group | group)

    def content(self) -> RecordDict:
        """The records that travel."""
        about = asdict(self.facts)
        fixed = {n: a for n, a in {**self.public, **self.group}.items() if is_fixed(n)}
        terms = about.pop("terms")
        record = {"version": VERSION, **about, **{f"terms.{k}": v for k, v in terms.items()}}
        content = RecordDict(
            {
                "public": packed_record({n: a for n, a in self.public.items() if n not in fixed}),
                "group": packed_record({n: a for n, a in self.group.items() if n not in fixed}),
                "run": self.run.record(),
                "round": ConfigRecord(record),
            }
        )
        if fixed:
            content[FIXED] = packed_record(fixed)
        if self.linear:
            content["linear"] = packed_record(self.linear)
        return content

    @classmethod
    def read(cls, content: RecordDict) -> Request:
        """The inverse of `content`.

        Raises:
            RequestError: something is missing, of another version, or out of its limits.
        """
        try:
            record = dict(content.config_records["round"])
            if record.get("version") != VERSION:
                raise RequestError(
                    f"the request has version {record.get('version')!r}, this node reads "
                    f"{VERSION}: run the same version on server and nodes"
                )
            facts = _facts(record)
            run = RunFacts.of(content.config_records["run"])
            public, group = (
                arrays_in(content, name, required=True) for name in ("public", "group")
            )
            linear = arrays_in(content, "linear")
            others = arrays_in(content, FIXED) | arrays_in(content, MODEL)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(
                f"the request cannot be read ({error}); is the server of the same version?"
            ) from error
        return cls(run, facts, public, group, linear).with_arrays(others)


def _facts(record: dict[str, Any]) -> RoundFacts:
    terms = {k.removeprefix("terms."): float(v) for k, v in record.items() if k[:6] == "terms."}
    known = {f.name for f in fields(RoundFacts)} - {"terms"}
    values = {name: record[name] for name in known}
    if values["part"] not in ("", *PARTS):
        raise RequestError(f"part must be valid or test, got {values['part']!r}")
    for name in ("round", "checkpoint_round", "best_round"):
        if not isinstance(values[name], int):
            raise RequestError(f"{name} must be a whole number, got {values[name]!r}")
    for name in ("epoch_starts", "loads", "mixes"):
        if not isinstance(values[name], list):
            raise RequestError(f"{name} must be a list of numbers, got {values[name]!r}")
    return RoundFacts(**values, terms=cast("Mapping[str, float]", terms))
