"""Who is in a group: how active they are, what they are more often than others, some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mrff.experiments.reports.feature_names import named_value
from mrff.experiments.reports.likings import LEAST_LIKES, Likes, Liking

EXAMPLES, TITLES = 3, 3
DRAWN_TOWARDS_NONE = 10.0  # likes: a person of three likes is no example


@dataclass(frozen=True)
class Members:
    """Of one group, in words."""

    who: str = ""
    examples: tuple[str, ...] = ()  # persons with what they like; none: nothing tells them apart


def members(likes: Likes, here: NDArray[np.bool_], named: Sequence[Liking],
            titles: Sequence[str]) -> Members:  # fmt: skip
    """Describes the users ``here`` (U,) by what ``named`` says that they like more."""
    if not here.any():
        return Members()
    traits = [f"median {np.median(likes.rows[here]):,.0f} rows", *_traits(likes, here)]
    return Members("; ".join(traits), tuple(_examples(likes, here, named, titles)))


def _traits(likes: Likes, here: NDArray[np.bool_]) -> list[str]:
    """Values of the users' features that are clearly more common here (three standard errors)."""
    found = []
    for feature in likes.dataset.schema.user_features:
        codes = likes.dataset.user_features[feature.name].reshape(len(here), -1)
        for code in range(1, feature.size):
            has = (codes == code).any(axis=1)
            expected, inside = float(has.mean()), has[here]
            error = np.sqrt(expected * (1.0 - expected) / len(inside))
            if inside.sum() < LEAST_LIKES or not inside.mean() > expected + 3.0 * error:
                continue
            told = f"{named_value(feature, code)} {inside.mean():.0%}, of all {expected:.0%}"
            found.append((inside.mean() / expected, told))
    return [told for _, told in sorted(found, reverse=True)[:2]]


def _examples(likes: Likes, here: NDArray[np.bool_], named: Sequence[Liking],
              titles: Sequence[str]) -> list[str]:  # fmt: skip
    """Those whose likes are most of what the group takes more of."""
    dataset = likes.dataset
    wanted = np.zeros(dataset.schema.num_items + 1, dtype=bool)
    for liking in named:
        name, code = liking.key
        wanted |= (dataset.item_features[name].reshape(len(wanted), -1) == code).any(axis=1)
    fits = np.concatenate([[0], np.cumsum(wanted[likes.items])])
    ours = fits[likes.offsets[1:]] - fits[likes.offsets[:-1]]
    share = np.where(here, ours / (np.diff(likes.offsets) + DRAWN_TOWARDS_NONE), 0.0)
    told = []
    for user in np.argsort(-share, kind="stable")[:EXAMPLES]:
        if share[user] > 0:
            of_user = likes.items[likes.offsets[user] : likes.offsets[user + 1]]
            last = dict.fromkeys(reversed(of_user[wanted[of_user]].tolist()))
            liked = " · ".join(titles[item] for item in list(last)[:TITLES])
            told.append(f"{dataset.user_ids[user]} ({liked})")
    return told
