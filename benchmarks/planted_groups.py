"""How well could planted groups be found, and how well did a run find them?

    mrff data prepare synthetic --users 2000 --facets 2
    python benchmarks/planted_groups.py --dataset ~/.mrff/data/synthetic --runs RUN ...

The oracles see all data in one place. `true groups` is told everybody's groups, `mixture` finds
them by EM from the training labels alone, the likeliest of several starts; both know that a label
is logistic in the item's features, with weights for each group and a bias for each user. Then each
run, by its best model. Agreement is the adjusted Rand index (ARI) of each planted grouping with
the layer, or the EM facet, that is most like it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from measuring import read_options
from sklearn.metrics import adjusted_rand_score, roc_auc_score
from torch import Tensor

from client_app.learners.cohort import CohortLearner
from mrff.data.dataset import Dataset, load_dataset
from mrff.data.windows import train_sizes, training_users
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import find_run, load_best

BIAS_PRIOR, GROUP_PRIOR, SHARED_PRIOR = 2.0, 0.25, 0.05  # 1 / (2 variance) of the weights
STEPS, RATE = 400, 0.05


@dataclass(frozen=True)
class Rows:
    """Some rows of everybody."""

    users: Tensor  # (N,)
    items: Tensor  # (N,)
    labels: Tensor  # (N,)


@dataclass(frozen=True)
class Mixture:
    """A label's log-odds: c + b_u + w . x_i + sum over facets of v_{f, g_f(u)} . x_i."""

    features: Tensor  # (items + 1, P) x, one-hot
    shared: Tensor  # (P,) w
    of_group: Tensor  # (facets, K, P) v
    bias: Tensor  # (U,) b
    constant: Tensor  # () c

    def by_group(self, rows: Rows, groups: Tensor) -> Tensor:
        """(N, C) logits of rows by combinations of groups (C, facets)."""
        tables = torch.einsum("ip,fkp->ifk", self.features, self.of_group)
        places = torch.arange(groups.shape[1])
        table = tables[:, places, groups].sum(-1) + (self.features @ self.shared)[:, None]
        return table[rows.items] + (self.constant + self.bias[rows.users])[:, None]

    def parameters(self) -> list[Tensor]:
        """All that is fitted."""
        return [self.shared, self.of_group, self.bias, self.constant]

    def prior(self) -> Tensor:
        """Minus the log of the prior's density."""
        sums = (p.square().sum() for p in (self.bias, self.of_group, self.shared))
        weights = (BIAS_PRIOR, GROUP_PRIOR, SHARED_PRIOR)
        return torch.stack([w * s for w, s in zip(weights, sums, strict=True)]).sum()


def main() -> None:
    """Prints a table."""
    options = read_options(
        __doc__, dataset={"required": True}, groups=4, starts=4,
        runs={"nargs": "*", "default": []},
    )  # fmt: skip
    dataset = load_dataset(options.dataset)
    truth = pd.read_parquet(options.dataset / "truth.parquet").set_index("user_id")
    truth = truth.loc[dataset.user_ids]
    names = [n for n in truth if n.startswith("group_")] or ["group"]
    planted = torch.tensor(truth[names].to_numpy()).long()  # (U, facets)
    found = [{"method": "true groups", **told(dataset, planted, options.groups)}]
    found.append({"method": "mixture", **em(dataset, planted, options)})
    found += [{"method": run, **of_run(run, truth[names])} for run in options.runs]
    print(pd.DataFrame(found).to_string(index=False))


def told(dataset: Dataset, planted: Tensor, experts: int) -> dict[str, Any]:
    """Everybody's groups are known."""
    train, test = split(dataset)
    model = new_model(dataset, planted.shape[1], experts, seed=0)
    groups = combinations(experts, planted.shape[1])
    mine = (planted[:, None] == groups).all(-1).double()  # (U, C)
    fit(model, train, groups, known=mine)
    with torch.no_grad():
        chances = (model.by_group(test, groups).sigmoid() * mine[test.users]).sum(-1)
    return {"auc": auc(test, chances)}


def em(dataset: Dataset, planted: Tensor, options: Any) -> dict[str, Any]:
    """Groups are found by EM; the start with the likeliest training labels is shown."""
    train, test = split(dataset)
    groups = combinations(options.groups, planted.shape[1])
    best: dict[str, Any] = {"log_likelihood": -np.inf}
    for seed in range(options.starts):
        model = new_model(dataset, planted.shape[1], options.groups, seed)
        fit(model, train, groups)
        with torch.no_grad():
            logs = log_likelihoods(model, train, groups)
            weights = logs.softmax(-1)
            chances = (model.by_group(test, groups).sigmoid() * weights[test.users]).sum(-1)
        found = groups[logs.argmax(-1)].numpy()
        likelihood = round(logs.logsumexp(-1).mean().item(), 3)
        if likelihood > best["log_likelihood"]:
            best = {"auc": auc(test, chances), "log_likelihood": likelihood}
            best |= agreement(planted.numpy(), found)
    return best


def of_run(name: str, truth: pd.DataFrame) -> dict[str, Any]:
    """The test AUC of a run, and the groups that its best model gives to everybody."""
    best = load_best(find_run(name))
    labels, logits, planted, found = [], [], [], []
    for node in NodesAtHand(best).open_all():
        cohort = node.cohort(node.tested, up_to_round=best.round)
        scored = CohortLearner(node.mrff, node.config).score_as_loaded(cohort, "test")
        labels.append(scored.labels.ravel())
        logits.append(scored.logits.ravel())
        found.append(scored.routes)
        planted.append(truth.loc[node.dataset.user_ids[node.tested]].to_numpy())
    score = round(roc_auc_score(np.concatenate(labels), np.concatenate(logits)), 4)
    return {"auc": score} | agreement(np.concatenate(planted), np.concatenate(found))


def fit(model: Mixture, rows: Rows, groups: Tensor, known: Tensor | None = None) -> None:
    """Maximises the posterior density: by gradient steps, each after an E-step (generalised EM)."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    for parameter in model.parameters():
        parameter.requires_grad_()
    for _ in range(STEPS):
        logs = log_likelihoods(model, rows, groups)
        weights = logs.detach().softmax(-1) if known is None else known
        loss = model.prior() - (weights * logs).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def log_likelihoods(model: Mixture, rows: Rows, groups: Tensor) -> Tensor:
    """(U, C) of everybody's labels by combinations of groups."""
    signs = (2.0 * rows.labels - 1.0)[:, None]
    logs = F.logsigmoid(signs * model.by_group(rows, groups))
    return torch.zeros(len(model.bias), len(groups)).double().index_add(0, rows.users, logs)


def new_model(dataset: Dataset, facets: int, experts: int, seed: int) -> Mixture:
    """As it starts."""
    codes = dataset.item_features.values()
    features = torch.cat([F.one_hot(torch.from_numpy(c).long())[:, 1:] for c in codes], dim=-1)
    width, random = features.shape[1], torch.Generator().manual_seed(seed)
    return Mixture(
        features=features.double(),
        shared=torch.zeros(width).double(),
        of_group=0.1 * torch.randn(facets, experts, width, generator=random).double(),
        bias=torch.zeros(dataset.num_users).double(),
        constant=torch.zeros(()).double(),
    )


def split(dataset: Dataset, holdout: int = 5) -> tuple[Rows, Rows]:
    """Training and test rows, as in a run with this holdout."""
    users = training_users(dataset)
    sizes = np.diff(dataset.offsets)
    owner = np.repeat(np.arange(dataset.num_users), sizes)
    place = np.arange(len(owner)) - dataset.offsets[owner]
    train = place < train_sizes(dataset, users, holdout=holdout)[owner]
    test = place >= sizes[owner] - holdout

    def rows(chosen: np.ndarray) -> Rows:
        fields = (owner, dataset.items.astype(np.int64), dataset.labels.astype(np.float64))
        return Rows(*(torch.from_numpy(field[chosen]) for field in fields))

    return rows(train), rows(test & ~train)


def combinations(experts: int, facets: int) -> Tensor:
    """(K ** facets, facets)."""
    return torch.cartesian_prod(*[torch.arange(experts)] * facets).view(-1, facets)


def auc(rows: Rows, chances: Tensor) -> float:
    """Of held-out rows."""
    return round(float(roc_auc_score(rows.labels.numpy(), chances.numpy())), 4)


def agreement(planted: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """The ARI of every planted grouping (U, facets) with the column of ``found`` most like it."""
    return {
        f"ari_{number}": round(max(adjusted_rand_score(one, other) for other in found.T), 3)
        for number, one in enumerate(planted.T, start=1)
    }


if __name__ == "__main__":
    main()
