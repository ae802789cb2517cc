"""What a prepared dataset consists of: features, vocabularies, label rule, source, counts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mrff.data.errors import DataError

FORMAT_VERSION = 1
SCHEMA_FILE = "schema.json"
ITEMS_FILE = "items.parquet"
USERS_FILE = "users.parquet"
INTERACTIONS_FILE = "interactions.parquet"
RESERVED = ("item_id", "title", "user_id", "user_key")  # columns that are no features

ANY_HASH = "?" * 32  # among the names of a population, a pattern: every hash of data
EVENT_RULE = "every row is an event"  # the label rule of data without labels

Kind = Literal["id", "categorical", "multi", "bucket"]
RowKind = Literal["labelled", "events", "both"]
"""What rows are: shown items with answers; events that happened, without labels; or both, choices
that carry a label (a film that a user chose to see, and their rating)."""
_PUBLIC_SOURCE = ("recipe", "recipe_version")
_STATED = ("schema_hash", "version", "ancestor")  # in schema.json, for whoever reads it
_BINDING = (  # what schema_hash is of
    "format_version", "label_rule", "item_features", "user_features", "num_items", "catalogue_hash",
)  # fmt: skip


@dataclass(frozen=True)
class Feature:
    """One column of codes; code 0 is padding or unknown in every vocabulary.

    ``size`` counts the codes with 0 included, ``width`` is the most values one row has (1 unless
    ``multi``), ``values`` names the codes 1, 2, ... where a name says something.
    """

    name: str
    kind: Kind
    size: int
    width: int = 1
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a feature that no table could hold."""
        if self.kind not in get_args(Kind):
            raise DataError(
                f"feature {self.name!r}: kind must be one of {', '.join(get_args(Kind))}, "
                f"got {self.kind!r}"
            )
        if self.size < 1 or self.width < 1:
            raise DataError(
                f"feature {self.name!r}: size and width must be at least 1, "
                f"got {self.size} and {self.width}"
            )


@dataclass(frozen=True)
class Ancestor:
    """An earlier version of a dataset: its hash, and how far its codes went.

    Sizes are those of `Schema.item_features` and of `Schema.user_features`, in their order.
    """

    schema_hash: str
    num_items: int
    item_sizes: tuple[int, ...]
    user_sizes: tuple[int, ...]


@dataclass(frozen=True)
class Schema:
    """The description in ``schema.json``; ``counts`` and ``source`` inform, the rest is binding."""

    name: str
    label_rule: str
    item_features: tuple[Feature, ...]
    user_features: tuple[Feature, ...]
    num_items: int
    catalogue_hash: str
    counts: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    content_hash: str = ""
    format_version: int = FORMAT_VERSION
    kind: RowKind = "labelled"
    repeats: bool = False  # meeting an item again is a choice like any other
    # Who the people are, whatever the data's hash; empty: from before there was such a name. What
    # ledgers called them before. Two folders of the same data are equal all the same.
    population: str = field(default="", compare=False)
    earlier: tuple[str, ...] = field(default=(), compare=False)
    ancestors: tuple[Ancestor, ...] = field(default=(), compare=False)  # the oldest first

    def __post_init__(self) -> None:
        """Refuses rows of an unknown kind."""
        if self.kind not in get_args(RowKind):
            raise DataError(
                f"{self.name}: kind must be one of {', '.join(get_args(RowKind))}, "
                f"got {self.kind!r}; prepare the dataset anew"
            )

    @property
    def known_as(self) -> tuple[str, ...]:
        """What ledgers may call its people; new entries go under the first name.

        A shard and the server's part add `ANY_HASH`, for notes from before there were populations:
        their hash was another one with every interaction and every other sharding.
        """
        if not self.population:
            return (self.content_hash or self.schema_hash,)
        own = (self.content_hash,) if self.content_hash else ()
        is_part = "shard" in self.source or not own
        return (self.population, *own, *self.earlier, *([ANY_HASH] if is_part else []))

    @property
    def version(self) -> int:
        """How often the catalogue has grown, and 1."""
        return len(self.ancestors) + 1

    @property
    def ancestor(self) -> str:
        """The hash of the version before this one; empty for the first."""
        return self.ancestors[-1].schema_hash if self.ancestors else ""

    def ancestor_of(self, schema_hash: str) -> Ancestor | None:
        """The earlier version with this hash, if there was one."""
        found = (one for one in self.ancestors if one.schema_hash == schema_hash)
        return next(found, None)

    @property
    def as_ancestor(self) -> Ancestor:
        """What later versions say of this one."""
        items, users = (
            tuple(feature.size for feature in features)
            for features in (self.item_features, self.user_features)
        )
        return Ancestor(self.schema_hash, self.num_items, items, users)

    @property
    def public(self) -> Schema:
        """What anybody may read: no count of rows, no hash of people's data or of its files.

        Such a hash would confirm whoever guesses all the data, or knows all but one user's.
        """
        source = {key: self.source[key] for key in _PUBLIC_SOURCE if key in self.source}
        counts = {"items": self.num_items}
        return replace(self, counts=counts, source=source, content_hash="", earlier=())

    @property
    def one_class(self) -> str:
        """Which label no row has, ``negative`` or ``positive``; empty: both occur, or unknown.

        The public part of a dataset counts no rows, and a shard counts those of one node.
        """
        rows, positive = self.counts.get("interactions", 0), self.counts.get("positive", 0)
        if not rows or "shard" in self.source or 0 < positive < rows:
            return ""
        return "negative" if positive else "positive"

    @property
    def schema_hash(self) -> str:
        """Hash of everything the network's meaning depends on; equal for all shards of a dataset.

        Users and interactions are not in it, so that a node can hold any of them. The kind is,
        but for labelled data: folders from before there were kinds hold that, and keep their hash.
        """
        binding = {key: value for key, value in asdict(self).items() if key in _BINDING}
        if self.kind != "labelled":
            binding |= {"kind": self.kind, "repeats": self.repeats}
        text = json.dumps(binding, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def save(self, folder: Path) -> None:
        """Writes ``schema.json`` into an existing folder."""
        stated = {name: getattr(self, name) for name in _STATED}
        text = json.dumps({**asdict(self), **stated}, indent=2)
        (folder / SCHEMA_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Schema:
        """Reads ``schema.json``.

        Raises:
            DataError: the file is missing, damaged, or of another format version.
        """
        path = Path(folder) / SCHEMA_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{folder} is not a prepared dataset: it has no {SCHEMA_FILE}; "
                f"make one with: mrff data prepare NAME --out {folder}"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); prepare the dataset anew") from None
        version = content.get("format_version") if isinstance(content, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"{path} has format version {version}, this program reads {FORMAT_VERSION}; "
                f"prepare the dataset anew"
            )
        try:
            stated_hash = {name: content.pop(name, None) for name in _STATED}["schema_hash"]
            for key in ("item_features", "user_features"):
                content[key] = tuple(
                    Feature(**{**feature, "values": tuple(feature.get("values", ()))})
                    for feature in content[key]
                )
            content["earlier"] = tuple(content.get("earlier", ()))
            content["ancestors"] = tuple(map(_ancestor, content.get("ancestors", ())))
            schema = cls(**content)
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}); prepare the dataset anew") from None
        if stated_hash != schema.schema_hash:
            raise DataError(
                f"{path} was changed by hand: schema_hash is {stated_hash}, its content gives "
                f"{schema.schema_hash}; prepare the dataset anew"
            )
        return schema


def _ancestor(content: dict[str, Any]) -> Ancestor:
    sizes = {key: tuple(content[key]) for key in ("item_sizes", "user_sizes")}
    return Ancestor(**{**content, **sizes})
