"""Made-up users in planted groups, with a known best AUC, for any number of users.

In each facet f a user has a group g_f and an item a genre and a style, all uniform. The group
decides two things: which genres the user sees (half of the time one of the group's own, else any),
and which styles the user likes. A style is liked by half of the groups, so that without the group
it says nothing. The label is Bernoulli with

    logit = b_u + q_i + STRENGTH * sum_f liking_f[g_f(u), style_f(i)]

where liking is +1 or -1, b_u is normal and q_i one of five qualities. So a model has to find out
the group from the history and then use it; the AUC of the true logit is what no model can beat.

``sparse`` makes them like real sparse data: histories are log-normal, most of them short and some
long; few items are met often (Zipf's law) and most seldom; an item has an id, and its quality is
not told. ``positive_percent`` moves all logits until so many labels are positive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mrff.data.errors import DataError
from mrff.data.floors import auc_of_counts
from mrff.data.recipes.recipe import Progress, Recipe
from mrff.data.schema import Feature
from mrff.data.writing import Entities, Prepared, UserChunk

CHUNK = 10_000  # users made and written at a time
STRENGTH = 1.5
USER_BIAS = 0.5  # standard deviation
QUALITIES = (-0.8, -0.4, 0.0, 0.4, 0.8)
GENRES_PER_GROUP = 2
OWN_GENRES = 0.5  # share of the events that are drawn from the group's own genres
TRUTH_FILE = "truth.parquet"  # user_id, group; no client reads it
HISTORY_SPREAD = 1.2  # of sparse data: standard deviation of the logarithm of a history's length
LONGEST = 1_000  # rows of a sparse history
ZIPF = 0.8  # of sparse data: the n-th item's share falls with n to this power
_ADDED = {"sparse": 0, "positive_percent": 50}  # options since version 1: silent at these values
_BINS = 20_000  # of the true probability, for the best AUC


@dataclass(frozen=True)
class SyntheticSettings:
    """The size of the made-up world; ``facets`` are independent groupings of the same users."""

    users: int = 1_000
    items: int = 500
    groups: int = 4
    facets: int = 1
    events_per_user: int = 40  # on average, uniform from half to one and a half; sparse: median
    seed: int = 0
    sparse: int = 0  # 1: like real sparse data
    positive_percent: int = 50  # of the labels, about

    def __post_init__(self) -> None:
        """Checks the limits."""
        limits = {
            "users": (1, 2_000_000_000),
            "items": (1, 1_000_000),
            "groups": (1, 64),
            "facets": (1, 3),
            "events_per_user": (1, 10_000),
            "seed": (0, 2**63 - 1),
            "sparse": (0, 1),
            "positive_percent": (1, 99),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                key = name.replace("_", "-")
                raise DataError(f"{key} must be between {low} and {high}, got {value}")
        cells = self.groups**self.facets * self.items
        if cells > 50_000_000:
            raise DataError(
                f"groups^facets * items must be at most 50000000, got {cells}; "
                f"use fewer groups, facets or items"
            )


class Synthetic(Recipe):
    """Options are the fields of ``SyntheticSettings``; the same ones give the same bytes."""

    name = "synthetic"
    version = 1
    summary = "made-up users in planted groups with a known best AUC, of any size"
    default_source = (
        "generated (--users --items --groups --facets --events-per-user --seed --sparse "
        "--positive-percent)"
    )
    options = asdict(SyntheticSettings())
    extra_files = (TRUTH_FILE,)

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The settings."""
        if source is not None:
            raise DataError(f"synthetic data is generated and has no source, got {source}")
        stated = asdict(SyntheticSettings(**options))
        silent = {name for name, value in _ADDED.items() if stated[name] == value}
        return {"parameters": {name: stated[name] for name in stated if name not in silent}}

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Makes the catalogue now and the users chunk by chunk while they are written."""
        world = _World(SyntheticSettings(**options))
        facts: dict[str, Any] = {}
        return Prepared(
            name=self.name,
            label_rule="made up",
            items=world.items(),
            user_features=(),
            chunks=_chunks(world, staging / TRUTH_FILE, facts, progress),
            facts=facts,
        )


class _World:
    """What all users share: the items, and what each group sees and likes."""

    def __init__(self, settings: SyntheticSettings) -> None:
        self.settings = settings
        random = np.random.default_rng([settings.seed, 0])
        groups, facets, items = settings.groups, settings.facets, settings.items
        self.num_genres = GENRES_PER_GROUP * groups
        self.num_styles = 2 * groups
        self.genres = random.integers(0, self.num_genres, (facets, items))
        self.styles = random.integers(0, self.num_styles, (facets, items))
        self.qualities = random.integers(0, len(QUALITIES), items)
        half = np.where(np.arange(groups) < groups // 2, 1.0, -1.0)
        half[groups // 2 : groups // 2 + groups % 2] = 0.0  # an odd group out is indifferent
        if groups == 1:
            half[:] = 1.0
        self.liking = np.stack(  # (facets, groups, styles)
            [np.stack([random.permutation(half) for _ in range(self.num_styles)], 1)
             for _ in range(facets)]
        )  # fmt: skip
        self.cumulative = self._seen()  # (groups^facets, items)
        self.offset = 0.0  # of every logit
        if settings.positive_percent != 50:
            self.offset = self._offset(settings.positive_percent / 100)

    def _seen(self) -> NDArray[np.float64]:
        """For every combination of groups the cumulative probability of the items."""
        groups, facets = self.settings.groups, self.settings.facets
        combined = np.arange(groups**facets)
        weights = np.ones((len(combined), self.settings.items))
        for facet in range(facets):
            group = combined // groups**facet % groups  # (combinations,)
            own = self.genres[facet] // GENRES_PER_GROUP == group[:, None]
            share = OWN_GENRES / GENRES_PER_GROUP
            weights *= (1 - OWN_GENRES) / self.num_genres + own * share
        if self.settings.sparse:  # items are in no order otherwise: the first are the popular ones
            weights *= np.arange(1, self.settings.items + 1) ** -ZIPF
        cumulative = np.cumsum(weights, axis=1)
        return np.asarray(cumulative / cumulative[:, -1:])

    def _offset(self, share: float) -> float:
        """What added to the logits of some users makes this share of their labels positive."""
        logits = self._rows(0, min(self.settings.users, CHUNK))[-1]
        low, high = -20.0, 20.0
        for _ in range(50):
            middle = (low + high) / 2
            if (1 / (1 + np.exp(-logits - middle))).mean() < share:
                low = middle
            else:
                high = middle
        return (low + high) / 2

    def items(self) -> Entities:
        """Genre and style in each facet, and the quality; of sparse data the id instead of it."""
        columns = []
        for facet in range(self.settings.facets):
            suffix = "" if self.settings.facets == 1 else f"_{facet + 1}"
            columns.append(("genre" + suffix, self.genres[facet], self.num_genres))
            columns.append(("style" + suffix, self.styles[facet], self.num_styles))
        if not self.settings.sparse:
            columns.append(("quality", self.qualities, len(QUALITIES)))
        encoded = [
            (Feature(name, "categorical", size + 1), (values + 1).astype(np.int32))
            for name, values, size in columns
        ]
        if self.settings.sparse:
            codes = np.arange(1, self.settings.items + 1, dtype=np.int32)
            encoded.insert(0, (Feature("item", "id", self.settings.items + 1), codes))
        return Entities([f"item-{number}" for number in range(self.settings.items)], encoded)

    def combined(self, group: NDArray[np.int64]) -> NDArray[np.int64]:
        """One number for the groups (facets, count) of each user."""
        weights = self.settings.groups ** np.arange(self.settings.facets)
        return np.asarray((group * weights[:, None]).sum(axis=0))

    def users(self, first: int, count: int) -> tuple[UserChunk, NDArray[np.int64], Any]:
        """Users ``first`` on: the chunk, their groups (facets, count), the true probabilities."""
        random, sizes, group, items, logits = self._rows(first, count)
        chances = 1 / (1 + np.exp(-logits - self.offset))
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        chunk = UserChunk(
            ids=[f"user-{number}" for number in range(first, first + count)],
            codes={},
            sizes=sizes,
            items=(items + 1).astype(np.int32),
            labels=(random.random(len(items)) < chances).astype(np.int8),
            times=np.arange(len(items)) - starts,
        )
        return chunk, group, chances

    def _rows(self, first: int, count: int) -> tuple[np.random.Generator, Any, Any, Any, Any]:
        """Users ``first`` on: the draws to go on with, sizes, groups, and items and logits (N,)."""
        settings = self.settings
        random = np.random.default_rng([settings.seed, 1, first])
        group = random.integers(0, settings.groups, (settings.facets, count))
        bias = random.normal(0.0, USER_BIAS, count)
        sizes = self._sizes(random, count)
        owner = np.repeat(np.arange(count), sizes)
        combined = self.combined(group)
        draws = random.random(len(owner))
        items = np.empty(len(owner), dtype=np.int64)
        for combination in np.unique(combined):
            mine = combined[owner] == combination
            items[mine] = np.searchsorted(self.cumulative[combination], draws[mine], side="right")
        np.minimum(items, settings.items - 1, out=items)
        logits = bias[owner] + np.asarray(QUALITIES)[self.qualities[items]]
        for facet in range(settings.facets):
            styles = self.styles[facet, items]
            logits += STRENGTH * self.liking[facet, group[facet, owner], styles]
        return random, sizes, group, items, logits

    def _sizes(self, random: np.random.Generator, count: int) -> NDArray[np.int64]:
        """(count,) interactions of each user."""
        mean = self.settings.events_per_user
        if self.settings.sparse:
            drawn = mean * random.lognormal(0.0, HISTORY_SPREAD, count)
            return np.clip(np.rint(drawn), 1, max(mean, LONGEST)).astype(np.int64)
        return random.integers(max(1, mean - mean // 2), mean + mean // 2 + 1, count)


def _chunks(
    world: _World, truth_path: Path, facts: dict[str, Any], progress: Progress
) -> Iterator[UserChunk]:
    settings = world.settings
    names = ["group"]
    if settings.facets > 1:
        names += [f"group_{facet + 1}" for facet in range(settings.facets)]
    schema = pa.schema([("user_id", pa.string()), *((name, pa.int32()) for name in names)])
    counts = np.zeros((2, _BINS))  # negatives and positives by true probability
    loss, rows = 0.0, 0
    with pq.ParquetWriter(truth_path, schema, compression="zstd") as truth:
        for first in range(0, settings.users, CHUNK):
            progress("making users", first, settings.users)
            chunk, group, chances = world.users(first, min(CHUNK, settings.users - first))
            groups = dict(zip(names, [world.combined(group), *group], strict=False))
            truth.write_table(pa.table({"user_id": chunk.ids, **groups}, schema=schema))
            bins = np.minimum((chances * _BINS).astype(np.int64), _BINS - 1)
            for label in (0, 1):
                counts[label] += np.bincount(bins[chunk.labels == label], minlength=_BINS)
            loss -= float(np.log(np.where(chunk.labels == 1, chances, 1 - chances)).sum())
            rows += len(chances)
            yield chunk
    progress("making users", settings.users, settings.users)
    auc = auc_of_counts(*counts)
    facts["best_auc"] = None if auc is None else round(auc, 6)
    facts["best_log_loss"] = round(loss / rows, 6)
