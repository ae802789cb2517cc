"""A picture of a user's history and list, beside what everybody takes (SVG)."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from mrff.data.dataset import load_dataset, load_titles
from mrff.data.windows import train_sizes, training_users
from mrff.ops.nodes import NodesAtHand
from mrff.ops.user_model import UserModel
from mrff.ops.wish import Wish, items_that_fit

COLUMN, ROW, TOP, MOST = 310, 24, 64, 36  # pixels; characters of a title
STYLE = (
    "text{font:14px system-ui,'DejaVu Sans',sans-serif;fill:#1d2126}"
    ".head{font-weight:600}.soft{fill:#5c6570}.both{fill:#5c6570}.next{font-weight:700}"
    "rect{fill:#fff;stroke:#dfe3e8}"
    "@media(prefers-color-scheme:dark){text{fill:#e6e9ed}.soft,.both{fill:#9aa5b1}"
    "rect{fill:#1c2127;stroke:#343b44}}"
)


def popular_items(nodes: NodesAtHand, user: UserModel, wish: Wish, number: int) -> list[str]:
    """Titles of what the data at hand have most rows of in training, as the wish allows."""
    dataset = load_dataset(nodes.dataset_folder)
    everybody = training_users(dataset)
    holdout = nodes.best.config.data.holdout
    starts = dataset.offsets[everybody]
    ends = starts + train_sizes(dataset, everybody, holdout=holdout)
    items = np.concatenate([dataset.items[a:b] for a, b in zip(starts, ends, strict=True)])
    counts = np.bincount(items, minlength=dataset.schema.num_items + 1)[1:].astype(np.float64)
    allowed = items_that_fit(dataset, wish).copy()
    if wish.leaves_out_met(dataset.schema):
        allowed[user.items - 1] = False
    best = np.argsort(-np.where(allowed, counts, -1.0), kind="stable")[:number]
    titles = load_titles(nodes.dataset_folder)
    return [titles[item + 1] for item in best if allowed[item]]


def next_item(user: UserModel, titles: Sequence[str]) -> str | None:
    """What the user took next, if their data go on after this history."""
    if user.row is None:
        return None
    dataset = user.node.dataset
    place = dataset.offsets[user.row] + len(user.items)
    return titles[dataset.items[place]] if place < dataset.offsets[user.row + 1] else None


def list_picture(said: dict[str, Any], popular: Sequence[str], taken: str | None) -> str:
    """The SVG; titles are escaped, what the user took next is marked.

    Args:
        said: what `mrff.ops.recommend.answer` gave.
        popular: titles.
        taken: the title of the next item; None: not known.
    """
    ours = [line["item"] for line in said["items"]]
    columns = (
        ("The last of their history", list(reversed(said["latest"]))),
        ("MRFF recommends", ours),
        ("Most popular", list(popular)),
    )
    rows = max(len(lines) for _, lines in columns)
    width, height = 3 * COLUMN, TOP + rows * ROW + 40
    written = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(_in_words(said, columns))}">',
        f"<style>{STYLE}</style>",
        f'<rect x="1" y="1" width="{width - 2}" height="{height - 2}" rx="10"/>',
    ]
    for column, (head, lines) in enumerate(columns):
        x = 20 + column * COLUMN
        written.append(f'<text class="head" x="{x}" y="34">{escape(head)}</text>')
        for row, title in enumerate(lines):
            chosen = column > 0 and title == taken
            common = column > 0 and title in ours and title in popular
            kind = "next" if chosen else "both" if common else ""
            text = escape(_short(title)) + (" ✓" if chosen else "")
            y = TOP + row * ROW
            written.append(f'<text class="{kind}" x="{x}" y="{y}">{text}</text>')
    note = f"user {said['user']}; grey: in both lists"
    if taken is not None:
        note += f"; what they took next{' ✓' if taken in {*ours, *popular} else ''}: {taken}"
    written.append(f'<text class="soft" x="20" y="{height - 16}">{escape(note)}</text></svg>\n')
    return "\n".join(written)


def _in_words(said: dict[str, Any], columns: Sequence[tuple[str, list[str]]]) -> str:
    told = [f"{head}: {', '.join(lines)}" for head, lines in columns]
    return f"User {said['user']}. " + ". ".join(told)


def _short(title: str) -> str:
    return title if len(title) <= MOST else title[: MOST - 1] + "…"
