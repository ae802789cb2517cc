"""``local-dp-sgd``: the node is the trainer, and every local step is clipped and noised (Opacus).

One local copy of the shared parameters. Per step the records of all participating users are
Poisson-sampled, each record's gradient is clipped, one Gaussian noise is added to the sum, also
where nothing was sampled (Abadi et al., "Deep Learning with Differential Privacy", 2016). A record
is one window, computed as a user with that window only: a gate that read a user's other windows
would let one record change the gradients of others.

Per-record gradients are those of the cohort trainer (`torch.func`); clipping, noise and the step
are Opacus' DPOptimizer, with noise from a cryptographic stream. A record's vector is cut to its
bound first, statistics included, so that DPOptimizer's clipping finds nothing more to do.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.func import grad, vmap

from client_app.own_copies import loss_of_one
from client_app.privacy_updates import clip_factors, vector_norms
from client_app.privacy_upload import PrivateRound, Upload, trained_names
from client_app.private_rates import move, private_rate
from client_app.training import Tensors, dropout_keys, training_batch
from mrff.privacy.noise import NoiseSource
from mrff_model.building import load_shared
from mrff_model.network import Batch, MRFFNetwork

MOST_CHUNK_BYTES = 128 * 2**20  # of per-record gradients held at once


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
        """See `DPOptimizer.add_noise`."""
        parameters = self.params
        noisy = self.released([parameter.summed_grad for parameter in parameters])
        for parameter, total in zip(parameters, noisy, strict=True):
            parameter.grad = total.view_as(parameter)
            parameter.summed_grad._processed = True  # Opacus then insists on zero_grad


def train_dp_sgd(
    network: MRFFNetwork,
    task: PrivateRound,
    make_optimizer: Callable[..., NoisyOptimizer] = NoisyOptimizer,
) -> Upload:
    """Takes the node's local steps; the upload is what they did to the shared parameters."""
    load_shared(network, task.start.public, task.start.group)
    steps = _LocalSteps(network, task, make_optimizer)
    for number in range(task.training.local_steps):
        steps.take(number)
    return steps.upload()


class _LocalSteps:
    def __init__(
        self, network: MRFFNetwork, task: PrivateRound, make_optimizer: Callable[..., Any]
    ) -> None:
        training, privacy, cohort = task.training, task.privacy, task.cohort
        self.task, self.network = task, network
        parameters = dict(network.named_parameters())
        names = trained_names(network, privacy)
        self.begin = {name: parameters[name].detach().clone() for name in names}
        self.weights = {name: privacy.clipping_weight(name) for name in names}
        self.shared = {name: nn.Parameter(value.clone()) for name, value in self.begin.items()}
        some = next(iter(self.begin.values()))
        self.statistics = nn.Parameter(some.new_zeros(task.bound.num_statistics))
        self.own = {name: rows.to(some).clone() for name, rows in cohort.private.items()}
        self.records, self.user_of = _records(task, some.device)
        self.loads = None if task.start.loads is None else task.start.loads.to(some)
        self.routes = np.full((len(cohort.users), len(network.layers)), -1, dtype=np.int64)
        self.moved = np.zeros(len(cohort.users), dtype=bool)
        self.coins = task.source("records")
        self.gradients_of = vmap(
            grad(loss_of_one(network, training, self.loads), argnums=(0, 1), has_aux=True),
            in_dims=(None, 0, 0, 0, 0),
        )
        self.expected = privacy.record_sampling_rate * len(self.user_of)
        self.optimizer = make_optimizer(
            torch.optim.SGD(
                [
                    # The optimiser sees weighted gradients: the step takes the weight out again.
                    {"params": [value], "lr": training.local_learning_rate / self.weights[name]}
                    for name, value in self.shared.items()
                ]
                + [{"params": [self.statistics], "lr": 1.0}]
            ),
            task.source("gradients"),
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=task.bound.clipping_norm,
            expected_batch_size=self.expected,
            loss_reduction="mean",
        )

    def take(self, number: int) -> None:
        """One step on freshly sampled records."""
        task = self.task
        sampled = self.coins.coins(len(self.user_of), task.privacy.record_sampling_rate)
        user_keys = task.cohort.dataset.user_keys[task.cohort.users]
        keys = dropout_keys(task.training.seed, task.start.round_number, user_keys, number)
        own_sums = {name: torch.zeros_like(rows) for name, rows in self.own.items()}
        self.optimizer.zero_grad()
        for part in self._chunks(np.flatnonzero(sampled)):
            self._add(part, keys, own_sums)
        self._step(last=True)
        if task.privacy.own_parameters == "noised":
            self._move_own(own_sums)

    def upload(self) -> Upload:
        """The weighted change of the shared parameters, times the users it stands for."""
        task, users = self.task, len(self.task.cohort.users)
        steps, training = task.training.local_steps, task.training
        update = {
            name: users * self.weights[name] * (value.detach() - self.begin[name]).cpu().double()
            for name, value in self.shared.items()
        }
        # SGD at rate 1 has put minus the mean over expected records into the statistics, per step.
        measured = -self.statistics.detach().cpu().double().numpy() / steps * users
        noise = task.privacy.noise_multiplier * task.bound.clipping_norm / self.expected
        return Upload(
            shared=update,
            statistics=measured,
            private={name: rows.cpu() for name, rows in self.own.items()},
            routes=self.routes,
            kept=self.moved,
            noise_deviation=users * training.local_learning_rate * noise * steps**0.5,
        )

    def _add(self, part: np.ndarray, keys: Tensor, own_sums: Tensors) -> None:
        """Adds the clipped vectors of the records ``part`` to the step."""
        task, bound = self.task, self.task.bound
        users = self.user_of[part]
        rows = torch.from_numpy(users)
        batch = self.records.map(lambda field: field[torch.from_numpy(part).to(field.device)])
        own = {name: values[rows] for name, values in self.own.items()}
        shared = {name: value.detach() for name, value in self.shared.items()}
        key = keys[rows].to(next(iter(shared.values())).device)
        with torch.no_grad(), warnings.catch_warnings():
            # A few small operations are computed record by record.
            warnings.filterwarnings("ignore", "There is a performance drop")
            (for_shared, for_own), (routes, _, loss) = self.gradients_of(
                shared, own, batch, key, self.network.rates_of(batch)
            )
        noised = task.privacy.own_parameters == "noised"
        vector = {**for_shared, **for_own} if noised else for_shared
        norms = vector_norms(vector, 2, self.weights)
        factors = clip_factors(norms, bound.for_update, torch.isfinite(loss))
        usable = factors > 0.0
        for name, parameter in self.shared.items():
            _give(parameter, _scaled(for_shared[name], factors * self.weights[name], usable))
        chosen, clipped = routes.cpu().numpy(), (norms > bound.for_update).cpu().numpy()
        statistics = bound.statistics(chosen, clipped) * usable.cpu().numpy()[:, None]
        _give(self.statistics, torch.from_numpy(statistics).to(self.statistics))
        self._step(last=False)

        finite = usable.cpu().numpy()
        self.routes[users[finite]] = chosen[finite]
        if noised:
            for name, gradient in for_own.items():
                kept = _scaled(gradient, factors, usable)
                own_sums[name].index_add_(0, rows.to(gradient.device), kept)
        elif task.privacy.own_parameters == "free":
            self._move_freely(users, for_own, finite, batch.mask.sum((1, 2)))

    def _step(self, *, last: bool) -> None:
        """Takes in the gradients at hand; the last call of a step adds the noise and moves."""
        if last:
            for parameter in (*self.shared.values(), self.statistics):
                _give(parameter, parameter.detach().new_zeros((0, *parameter.shape)))
        self.optimizer.signal_skip_step(not last)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _move_freely(
        self, users: np.ndarray, gradients: Tensors, finite: np.ndarray, targets: Tensor
    ) -> None:
        """Rule 2, second case: the record is the whole user, whose own row only he ever reads."""
        training, at = self.task.training, torch.from_numpy(users[finite])
        targets = targets[torch.from_numpy(finite)]
        for name, rows in self.own.items():
            gradient = gradients[name][torch.from_numpy(finite)]
            gradient = gradient + training.private_weight_decay * rows[at]
            moved = move(rows[at], gradient, private_rate(name, training, targets))
            rows[at] = torch.where(torch.isfinite(moved), moved, rows[at])
        self.moved[users[finite]] = True

    def _move_own(self, sums: Tensors) -> None:
        """Rule 2, first case: inside the same clipped and noised step."""
        training = self.task.training
        per_user = self.expected / len(self.task.cohort.users)
        noisy = self.optimizer.released(list(sums.values()))
        for (name, rows), total in zip(self.own.items(), noisy, strict=True):
            step = total / per_user + training.private_weight_decay * rows
            self.own[name] = rows - training.private_learning_rate * step
        self.moved[:] = True

    def _chunks(self, records: np.ndarray) -> list[np.ndarray]:
        numbers = sum(value.numel() for value in (*self.shared.values(), self.statistics))
        numbers += sum(rows[0].numel() for rows in self.own.values())
        most = max(1, min(MOST_CHUNK_BYTES // (12 * numbers), 512))
        return [records[first : first + most] for first in range(0, len(records), most)]


def _records(task: PrivateRound, device: torch.device) -> tuple[Batch, np.ndarray]:
    """Every window of the cohort as a record of its own, (R, 1, L), and whose it is (R,)."""
    cohort = task.cohort
    batch = training_batch(cohort.dataset, cohort.users, task.data)
    users, windows = torch.nonzero(batch.real.any(-1), as_tuple=True)
    codes = {name: values[users].to(device) for name, values in batch.user_codes.items()}
    fields = (field[users, windows][:, None].to(device) for field in batch[:-1])
    return Batch._make([*fields, codes]), users.numpy()


def _give(parameter: nn.Parameter, gradients: Tensor) -> None:
    """Per-record gradients (B, ...) where Opacus looks for them."""
    parameter.grad_sample = gradients  # type: ignore[attr-defined]


def _scaled(gradient: Tensor, factors: Tensor, usable: Tensor) -> Tensor:
    """(B, ...) times (B,); rows that are not usable are zero, whatever they hold."""
    shape = (-1, *[1] * (gradient.dim() - 1))
    zeroed = torch.where(usable.view(shape), gradient, torch.zeros_like(gradient))
    return zeroed * factors.view(shape).to(gradient)
