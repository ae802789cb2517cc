"""The network's output for many users at once, each with private parameters of their own."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.func import functional_call, vmap

from client_app.learners.own_copies import quiet_vmap
from mrff.sums import Tensors
from mrff_model.batch import Batch, Output
from mrff_model.building import parameters_of_one, rows_suffice
from mrff_model.network import NOTHING_KNOWN, Beforehand, MRFFNetwork


class Extras(NamedTuple):
    """What is asked of the network beside its batch; see `MRFFNetwork.forward`.

    Where there is evidence, nobody has a head of their own.
    """

    dropout_key: Tensor | None = None
    rank_at: Tensor | None = None
    known: Beforehand = NOTHING_KNOWN


NO_EXTRAS = Extras()


def outputs(
    network: MRFFNetwork, private: Tensors, batch: Batch, extras: Extras = NO_EXTRAS
) -> Output:
    """The output for B users, each with their private parameters (B, ...).

    What they share is computed with once: its gradient is that of all of them.
    """
    if rows_suffice(network):
        options = {"shared_look_ups": True, **extras._asdict()}
        return functional_call(network, private, (batch,), options)
    given = {"dropout_key": extras.dropout_key, "rank_at": extras.rank_at}
    of_users = {name: value for name, value in given.items() if value is not None}

    def output_of(
        own: Tensors, record: Batch, rates: list[Tensor], options: Tensors
    ) -> tuple[Tensor, ...]:
        one = record.map(lambda field: field[None])
        output = functional_call(
            network,
            parameters_of_one(own),
            (one,),
            {
                "known": Beforehand([rate[None] for rate in rates]),
                **{name: value[None] for name, value in options.items()},
            },
        )
        return tuple(field[0] for field in output)

    with quiet_vmap():
        known = extras.known.rates
        rates = network.rates_of(batch) if known is None else known
        return Output(*vmap(output_of)(private, batch, rates, of_users))
