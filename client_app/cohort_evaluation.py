"""Scores a whole cohort as a few batched computations."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, vmap

from client_app.cohort_chunks import ChunkLimits, chunks_of, compute
from client_app.evaluation import Part, Scores
from client_app.training import Cohort, Tensors, as_batch
from mrff.config import DataSettings
from mrff.data.windows import evaluation_records
from mrff_model.building import parameters_of_one, rows_suffice, tensors_of
from mrff_model.network import Batch, MRFFNetwork, Output

# Without gradients a chunk of so many positions needs some tens of MB, whatever the setting.
LIMITS = ChunkLimits(positions=8192, memory=2**30, memory_per_position=0, memory_per_user=1)
MOST_COPIES_BYTES = 128 * 2**20  # of users' own copies of the network at once


@torch.no_grad()
def score_cohort(network: MRFFNetwork, cohort: Cohort, *, data: DataSettings, part: Part) -> Scores:
    """Many users at once; see `client_app.evaluation.Scorer`."""
    device = next(network.parameters()).device
    own = tensors_of(network, "private")
    limits = LIMITS
    if not rows_suffice(network):  # a copy of all of it, and something to compute with, per user
        per_user = 8 * sum(value.numel() for value in own.values())
        limits = replace(LIMITS, memory=MOST_COPIES_BYTES, memory_per_user=per_user)
    num_users = len(cohort.users)
    logits = np.zeros((num_users, data.holdout))
    labels = np.zeros((num_users, data.holdout), dtype=np.float32)
    routes = np.zeros((num_users, len(network.layers)), dtype=np.int64)

    def score(rows: np.ndarray) -> None:
        users = cohort.users[rows]
        records = evaluation_records(
            cohort.dataset, users, length=data.window_length, holdout=data.holdout, part=part
        )
        batch = as_batch(records, cohort.dataset, users).map(lambda field: field.to(device))
        private = {n: cohort.private[n][torch.from_numpy(rows)].to(device) for n in own}
        output = outputs(network, private, batch)
        logits[rows] = output.logits[batch.mask].view(len(rows), -1).double().cpu().numpy()
        labels[rows] = batch.labels[batch.mask].view(len(rows), -1).cpu().numpy()
        routes[rows] = output.routes.cpu().numpy()

    lengths = np.diff(cohort.dataset.offsets)[cohort.users]
    lengths = np.minimum(lengths - (data.holdout if part == "valid" else 0), data.window_length)
    sizes = np.stack([np.ones_like(lengths), lengths], axis=1)
    for _ in compute(chunks_of(sizes, limits), score):
        pass
    return Scores(logits, labels, routes)


def outputs(network: MRFFNetwork, private: Tensors, batch: Batch) -> Output:
    """The network's output for B users, each with his private parameters (B, ...)."""
    if rows_suffice(network):
        return functional_call(network, private, (batch,), {"shared_look_ups": True})

    def output_of(own: Tensors, record: Batch, rates: list[Tensor]) -> tuple[Tensor, ...]:
        one, known = record.map(lambda field: field[None]), [rate[None] for rate in rates]
        output = functional_call(network, parameters_of_one(own), (one,), {"rates": known})
        return tuple(field[0] for field in output)

    with warnings.catch_warnings():  # a few small operations are computed user by user
        warnings.filterwarnings("ignore", "There is a performance drop")
        return Output(*vmap(output_of)(private, batch, network.rates_of(batch)))
