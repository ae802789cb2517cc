"""Clipped and noised local steps, by Opacus' DPOptimizer with noise from a cryptographic stream.

A record's vector is cut to its bound first, statistics included, so that DPOptimizer's clipping
finds nothing more to do. One Gaussian noise is added to the sum of a step, also where nothing was
sampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from mrff.privacy.mechanisms.clipping import clip_factors, scaled_rows, vector_norms, whole_vector
from mrff.privacy.mechanisms.noised import NoisedClient
from mrff.privacy.noise import NoiseSource
from mrff.privacy.opacus_parts import DPOptimizer
from mrff.sums import CohortSums, Tensors
from mrff.sums.cohort_sums import as_numbers
from mrff_model.shared import Network


class NoisyOptimizer(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser with noise from a `NoiseSource` instead of PyTorch's generator."""

    def __init__(
        self, optimizer: torch.optim.Optimizer, source: NoiseSource, **limits: Any
    ) -> None:
        super().__init__(optimizer, **limits)
        self._source = source

    def released(self, sums: Sequence[Tensor]) -> list[Tensor]:
        """Clipped sums as they may be seen: with noise of the mechanism's deviation."""
        deviation = self.noise_multiplier * self.max_grad_norm
        return [
            (total.double().cpu() + torch.from_numpy(self._source.gaussian(total.shape, deviation)))
            .float()
            .to(total.device)
            for total in sums
        ]

    def add_noise(self) -> None:
        parameters = self.params
        noisy = self.released([parameter.summed_grad for parameter in parameters])
        for parameter, total in zip(parameters, noisy, strict=True):
            parameter.grad = total.view_as(parameter)
            parameter.summed_grad._processed = True  # Opacus then insists on zero_grad


class RecordGradients(NamedTuple):
    """What B sampled records would do."""

    shared: Tensors  # (B, ...) each
    own: Tensors  # (B, ...) each, of the parameters of the record's user
    routes: Tensor  # (B, layers)
    loss: Tensor  # (B,)
    rows: Tensor  # (B,) whose record it is, in the cohort


class NoisySteps:
    """One local copy of the shared parameters, and what moves it.

    Args:
        half: says how to clip, and has the streams.
        shared: where the steps begin.
        records, users: how many there are to sample from, and whose they are.
    """

    make_optimizer: type[NoisyOptimizer] = NoisyOptimizer

    def __init__(self, half: NoisedClient, shared: Tensors, *, records: int, users: int) -> None:
        config = half.config
        self._half, self._users, self._config = half, users, config
        self.begin = {name: value.detach().clone() for name, value in shared.items()}
        self._weights = {name: config.privacy.clipping_weight(name) for name in shared}
        self.shared = {name: nn.Parameter(value.clone()) for name, value in self.begin.items()}
        some = next(iter(self.begin.values()))
        self.statistics = nn.Parameter(some.new_zeros(half.bound.num_statistics))
        self.expected = config.privacy.record_sampling_rate * records
        self._own_sums: Tensors = {}
        rate = config.training.local_learning_rate
        self._optimizer = self.make_optimizer(
            torch.optim.SGD(
                [
                    # The optimiser sees weighted gradients: the step takes the weight out again.
                    {"params": [value], "lr": rate / self._weights[name]}
                    for name, value in self.shared.items()
                ]
                + [{"params": [self.statistics], "lr": 1.0}]
            ),
            half.source("gradients"),
            noise_multiplier=config.privacy.noise_multiplier,
            max_grad_norm=half.bound.clipping_norm,
            expected_batch_size=self.expected,
            loss_reduction="mean",
        )

    def begin_step(self, own: Tensors) -> None:
        """Before the first chunk of a step; ``own`` (U, ...) are all users' own parameters."""
        self._own_sums = {name: torch.zeros_like(rows) for name, rows in own.items()}
        self._optimizer.zero_grad()

    def accumulate(self, gradients: RecordGradients) -> np.ndarray:
        """Adds the records' clipped vectors to the step; (B,) bool, whose are finite."""
        bound, noised = self._half.bound, self._config.privacy.private_training == "noised"
        vector = {**gradients.shared, **gradients.own} if noised else gradients.shared
        norms = vector_norms(vector, 2, self._weights)
        factors = clip_factors(norms, bound.for_update, torch.isfinite(gradients.loss))
        usable = factors > 0.0
        for name, parameter in self.shared.items():
            weighted = factors * self._weights[name]
            _give(parameter, scaled_rows(gradients.shared[name], weighted, usable))
        clipped, kept = ((norms > bound.for_update).cpu().numpy(), usable.cpu().numpy())
        rows = bound.statistics(gradients.routes.cpu().numpy(), clipped) * kept[:, None]
        _give(self.statistics, torch.from_numpy(rows).to(self.statistics))
        self._step(last=False)
        for name, gradient in gradients.own.items() if noised else ():
            scaled = scaled_rows(gradient, factors, usable)
            self._own_sums[name].index_add_(0, gradients.rows.to(gradient.device), scaled)
        return kept

    def step(self) -> Tensors:
        """Adds the noise and moves; noisy sums of the users' own gradients, where they are due."""
        self._step(last=True)
        if self._config.privacy.private_training != "noised":
            return {}
        noisy = self._optimizer.released(list(self._own_sums.values()))
        return dict(zip(self._own_sums, noisy, strict=True))

    def sums(self, network: Network) -> CohortSums:
        """The weighted change of the shared parameters, times the users it stands for."""
        users, training = self._users, self._config.training
        update = {
            name: users * self._weights[name] * (value.detach() - self.begin[name]).cpu().double()
            for name, value in self.shared.items()
        }
        # SGD at rate 1 has put minus the mean over expected records into the statistics, per step.
        statistics = self.statistics.detach().cpu().double().numpy()
        sums = whole_vector(network, update, -statistics / training.local_steps * users)
        multiplier, norm = self._config.privacy.noise_multiplier, self._half.bound.clipping_norm
        noise = multiplier * norm / self.expected
        deviation = users * training.local_learning_rate * noise * training.local_steps**0.5
        return CohortSums(sums.updates, as_numbers({"noise_deviation": deviation}))

    def _step(self, *, last: bool) -> None:
        """Takes in the gradients at hand; the last call of a step adds the noise and moves."""
        if last:
            for parameter in (*self.shared.values(), self.statistics):
                _give(parameter, parameter.detach().new_zeros((0, *parameter.shape)))
        self._optimizer.signal_skip_step(not last)
        self._optimizer.step()
        self._optimizer.zero_grad()


def _give(parameter: nn.Parameter, gradients: Tensor) -> None:
    """Per-record gradients (B, ...) where Opacus looks for them."""
    parameter.grad_sample = gradients  # type: ignore[attr-defined]
