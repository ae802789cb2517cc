"""Users share their operations: more of them are larger ones, not more, which a GPU depends on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from mrff.config import PrivacySettings
from tests.support.private_rounds import private_round
from tests.support.small_data import small_config, small_dataset
from tests.support.small_training import cohort_of, learner_named, model_of, network_of, train

FEW_ITEMS: dict[str, Any] = {"full_softmax_items": 1, "drawn_items": 4}


class Operations(TorchDispatchMode):
    """Counts them by name, as PyTorch's kernels are called, after `vmap`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.counts[str(func)] += 1
        return func(*args, **(kwargs or {}))


def operations_of(users: int, **changes: Any) -> Counter[str]:
    """Of a round of users with nine records each."""
    config, dataset = small_config(**changes), small_dataset((9,) * users)
    network = network_of(config, dataset)
    model, cohort = model_of(network), cohort_of(dataset, network, np.arange(users))
    learner = learner_named("cohort", network, config)
    return counted(lambda: train(learner, config, model, cohort))


def counted(work: Callable[[], Any]) -> Counter[str]:
    """The operations of ``work``."""
    with Operations() as operations:
        work()
    return operations.counts


@pytest.mark.parametrize(
    "changes",
    [
        {"dropout": 0.3},
        {"local_steps": 3, "dropout": 0.3},
        {"local_steps": 2, "local_optimizer": "adam"},
        {"local_steps": 2, "backbone": "hstu", "gate_mode": "hard"},
        {"local_steps": 2, "backbone": "linear", "item_ids": "hashed"},
        {"local_steps": 2, "objective": "both", **FEW_ITEMS},
        {"local_steps": 2, "max_windows_per_user": "all", "user_factors": True, "item_bias": True},
        {"local_steps": 2, "head": "target-attention", "num_experts": 1},
        {"private_parameters": "head", "num_experts": 1},
    ],
)
def test_twice_as_many_users_are_as_many_operations(changes: dict[str, Any]) -> None:
    assert operations_of(8, **changes) == operations_of(4, **changes)


@pytest.mark.parametrize("steps", [1, 2])
def test_users_who_are_clipped_share_them_as_well(steps: int) -> None:
    def operations(users: int) -> Counter[str]:
        dataset, privacy = small_dataset((9,) * users), PrivacySettings(mode="central-user")
        everybody = np.arange(users)
        private = private_round(dataset, everybody, privacy=privacy, local_steps=steps)
        return counted(private.train)

    assert operations(8) == operations(4)
