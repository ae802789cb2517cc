"""What the network knows of a dataset's features, and how it embeds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

SEVERAL = ("multi", "hashed")  # kinds with more than one code for an item or a user


class FeatureSpec(Protocol):
    """What the network needs to know of a feature of an item or a user."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...  # "id", "hashed": the item itself; "multi": several values
    @property
    def size(self) -> int: ...  # number of codes, 0 included


@dataclass(frozen=True)
class DatasetFeatures:
    """The features of a dataset's items and users, and its public catalogue.

    Args:
        catalogue: codes of every item, by feature: (items + 1,), or (items + 1, M) of a feature
            with several values; row 0 is padding.
    """

    items: Sequence[FeatureSpec]
    users: Sequence[FeatureSpec]
    catalogue: Mapping[str, Tensor]

    @property
    def compared(self) -> tuple[str, ...]:
        """Item features that a user can have met before: all but the item itself."""
        return tuple(feature.name for feature in self.items if feature.kind != "id")


class FeatureEmbedding(nn.Module):
    """concat_f e_f(x): the embeddings of all features of an item (or user), concatenated or summed.

    Code 0 is padding or unknown and embeds to zero. A feature with several codes (genres) is the
    mean of its values' embeddings.

    Args:
        dim: width of one feature's embedding.
        scale: standard deviation of the tables as they start.
        mix: "concat" or "sum".
    """

    def __init__(
        self, features: Sequence[FeatureSpec], dim: int, scale: float, mix: str = "concat"
    ) -> None:
        super().__init__()
        self.is_sum = mix == "sum"
        self.width = dim if self.is_sum else dim * len(features)
        self.several = frozenset(f.name for f in features if f.kind in SEVERAL)
        self.tables = {f.name: f"{f.name}_table" for f in features}  # attribute of each table
        self.sizes = {f.name: f.size for f in features}
        for feature in features:
            table = nn.Embedding(feature.size, dim, padding_idx=0)
            with torch.no_grad():
                table.weight.normal_(std=scale)[0] = 0.0
            self.add_module(self.tables[feature.name], table)

    def forward(self, codes: Mapping[str, Tensor]) -> Tensor:
        """Codes by feature, (...) or (..., M) with several values -> (..., width)."""
        parts = []
        for name, attribute in self.tables.items():
            embedded = self.get_submodule(attribute)(codes[name])
            if name in self.several:
                present = (codes[name] > 0).sum(-1, keepdim=True).clamp(min=1)
                embedded = embedded.sum(-2) / present.to(embedded.dtype)
            parts.append(embedded)
        return torch.stack(parts).sum(0) if self.is_sum else torch.cat(parts, dim=-1)


class ItemTower(FeatureEmbedding):
    """Embeds items by what the public catalogue says of them."""

    def __init__(self, features: DatasetFeatures, dim: int, scale: float, mix: str) -> None:
        super().__init__(features.items, dim, scale, mix)
        for name in self.tables:
            codes = features.catalogue[name].long()
            self.register_buffer(f"catalogue_{name}", codes, persistent=False)
        self._fixed: Tensor | None = None

    def codes(self, items: Tensor, names: Iterable[str]) -> dict[str, Tensor]:
        """Of the features ``names`` of ``items`` (...): (...) or (..., M) each."""
        return {name: codes[items] for name, codes in self.catalogue(names).items()}

    def catalogue(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Of the features ``names`` of every item, row 0 is none: (rows,) or (rows, M) each."""
        return {name: self.get_buffer(f"catalogue_{name}") for name in names}

    def embed(self, items: Tensor) -> Tensor:
        """(...) -> (..., width)."""
        if self._fixed is not None:
            return self._fixed[items]
        return self(self.codes(items, self.tables))

    def embed_all(self) -> Tensor:
        """(items, width) of items 1, 2, ..."""
        if self._fixed is not None:
            return self._fixed[1:]
        some = next(self.parameters())
        rows = len(self.get_buffer(f"catalogue_{next(iter(self.tables))}"))
        return self.embed(torch.arange(1, rows, device=some.device))

    @torch.no_grad()
    def fix(self) -> None:
        """Embeds every item once and for all: for a network that answers and learns no more."""
        nothing = torch.zeros(1, self.width, device=next(self.parameters()).device)
        self._fixed = torch.cat([nothing, self.embed_all()])

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """As `fix`, for a while."""
        self.fix()
        try:
            yield
        finally:
            self._fixed = None

    def embed_distinct(self, items: Tensor) -> Tensor:
        """The same with one look-up per distinct item.

        Several times faster to differentiate, but gradients can then not be taken apart into
        records.
        """
        distinct, places = torch.unique(items, return_inverse=True)
        return self.embed(distinct).index_select(0, places.flatten()).view(*items.shape, self.width)
