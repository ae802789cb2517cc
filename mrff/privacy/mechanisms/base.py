"""What a privacy mechanism is: a client half that a node uses, a server half for what it sent.

Rounds do not ask which mechanism it is. A learner hands each bounded chunk of users to the client
half's `Accumulator`; what that one does with a chunk is the mechanism's own business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mrff.config import RunConfig
from mrff.privacy.accounting import Release
from mrff.privacy.noised_evaluation import NoisyTest
from mrff.privacy.noised_items import NoisyItems
from mrff.sums import Chunk, CohortSums, Expected, NodeView, ServerView, Tensors
from mrff_model.building import tensors_of
from mrff_model.scopes import split_bank
from mrff_model.shared import Network

Needs = Literal["sum", "each_user", "each_record"]
Shape = tuple[int, ...]
Means = dict[str, NDArray[np.float64]]


class Accumulator(Protocol):
    """Adds up what a learner trains, chunk by chunk."""

    def accumulate(self, chunk: Chunk) -> None:
        """Takes in the users of a chunk who are finite; see `ClientHalf.needs`."""

    def sums(self, network: Network) -> CohortSums:
        """Everything accumulated, by the names arrays have outside the network."""


class ClientHalf(Protocol):
    """A node's part of a mechanism in one round."""

    needs: Needs  # of a learner: a chunk's sum, or what each user or record adds to it
    moves_private: bool  # whether users' own parameters are trained and kept

    def admit(self) -> NDArray[np.bool_]:
        """(U,) which of the node's users take part; notes first what that costs them.

        Raises:
            BudgetExceededError: a user's budget does not allow the round.
            LedgerError: the ledger cannot be trusted or written.
        """

    def trained(self, names: list[str]) -> list[str]:
        """Of the names of shared parameters, those that are trained and sent.

        Raises:
            ConfigError: nothing would be left to train, or a prefix fits nothing.
        """

    def begin(self, shared: Tensors) -> Accumulator:
        """An empty sum over the parameters that are trained."""

    def release_node(self, sums: CohortSums, admitted: NDArray[np.bool_]) -> CohortSums:
        """What may leave the node, of the sums over its users who were ``admitted`` (U,)."""


@dataclass(frozen=True)
class ModelShapes:
    """Arrays of the shared model by name, layers with experts, K."""

    public: Mapping[str, Shape]
    group: Mapping[str, Shape]
    routes_shape: tuple[int, int]


@dataclass(frozen=True)
class Released:
    """What a round comes to.

    Args:
        facts: for the report: users, targets, dropped_users, train_loss, load_entropy, churn.
        privacy: clipping_norm, clipped_share, signal_to_noise, epsilon; None: no private mode.
    """

    means: Means  # update of every array that moves
    weights: NDArray[np.float64]  # (layers, K), what is behind each expert's mean
    loads: NDArray[np.float64] | None  # (layers, K) shares of users; None: nothing is known
    facts: Mapping[str, Any]
    privacy: dict[str, float | None] | None = None
    next_clipping_norm: float = 0.0  # C of the next round; 0: there is none


class ServerHalf(Protocol):
    """The server's part of a mechanism, over all rounds of a run."""

    hides_routes: bool

    def terms(self, server_round: int, clipping_norm: float) -> dict[str, float]:
        """What the request says beside the usual; notes the cost before anything is sent.

        Args:
            clipping_norm: that of the state; 0: the configuration's.

        Raises:
            BudgetExceededError: the round must not take place.
        """

    @property
    def noisy_test(self) -> NoisyTest | None:
        """The only evaluation of a private run; None: nothing is private."""

    def spend_test(self, server_round: int) -> None:
        """Notes what the test of this round's model costs before anybody is asked.

        Raises:
            BudgetExceededError: it must not take place.
        """

    def release_test(self, sums: CohortSums) -> CohortSums:
        """What metrics may read of nodes' answers to the test."""

    @property
    def noisy_items(self) -> NoisyItems | None:
        """How a private run sums item statistics; None: exactly, or it reads none."""

    def spend_items(self) -> None:
        """Notes what item statistics cost before anybody is asked.

        Raises:
            BudgetExceededError: they must not be asked for.
        """

    def release_items(self, sums: CohortSums) -> CohortSums:
        """What `noisy_items` may read of nodes' answers."""

    def expected(self, shapes: ModelShapes) -> Expected:
        """What every reply must look like."""

    def check(self, sums: CohortSums, expected: Expected) -> None:
        """Raises BadReplyError for sums that are well formed and still impossible."""

    def release(self, sums: CohortSums, server_round: int, shapes: ModelShapes) -> Released:
        """Adds the server's noise, if it is the server's, and divides."""


class Mechanism(Protocol):
    """One way to treat updates; an object in `mrff.privacy.mechanisms.MECHANISMS`."""

    name: str
    hides_routes: bool  # nodes keep what evaluations would tell of routes to themselves
    not_trusted: str  # who is kept out, for reports; empty: nothing is promised
    covers: str  # what the guarantee is about

    def conflicts(self, config: RunConfig) -> Iterator[str]:
        """Why settings cannot keep the mechanism's promise, each with the way out."""

    def release(self, config: RunConfig) -> Release | None:
        """What one round releases of a user who takes part, or may be drawn; None: everything."""

    def client(self, view: NodeView) -> ClientHalf:
        """A node's half for one round."""

    def evaluated(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """What may leave a node of the sums of an evaluation; notes what it costs.

        Raises:
            BudgetExceededError: a user's budget does not allow it.
            ConfigError: it is not an evaluation that the mechanism knows.
        """

    def items(self, config: RunConfig) -> NoisyItems | None:
        """How item statistics are summed; None: exactly, which no private mode allows."""

    def counted(self, view: NodeView, sums: CohortSums) -> CohortSums:
        """What may leave a node of the sums of `items`; notes what it costs.

        Raises:
            BudgetExceededError: a user's budget does not allow it.
            ConfigError: the node has a budget, and the server would see them without noise.
        """

    def server(self, view: ServerView) -> ServerHalf:
        """The server's half.

        Raises:
            ConfigError: delta or budget cannot be kept from the first round on.
            LedgerError: the ledger cannot be trusted.
        """


def named_outside(network: Network, arrays: Tensors) -> dict[str, NDArray[Any]]:
    """Arrays of the network by the names they have outside it, where each expert is its own."""
    bank = tensors_of(network, "group").keys()
    on_cpu = {name: value.cpu() for name, value in arrays.items()}
    named = {n: v for n, v in on_cpu.items() if n not in bank}
    named |= split_bank({n: v for n, v in on_cpu.items() if n in bank})
    return {name: value.numpy() for name, value in named.items()}
