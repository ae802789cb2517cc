"""Several prepared datasets as one: their users share a network, each domain keeps its own tables.

What a feature is called and holds differs from domain to domain. The first features of all share a
table of embeddings, so do the second ones, ...; each domain's values have rows of their own in it.
So the network is as wide as for the domain with most features, and one that lacks a feature has
code 0 there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mrff.data.clock import nanoseconds
from mrff.data.dataset import (
    Catalogue,
    load_catalogue,
    load_dataset,
    load_item_ids,
    load_times,
    load_titles,
)
from mrff.data.encoding import categorical, item_id_feature
from mrff.data.errors import DataError
from mrff.data.recipes.recipe import Progress, Recipe, fingerprint
from mrff.data.recipes.toml_keys import Keys
from mrff.data.schema import USERS_FILE, Feature, RowKind, Schema
from mrff.data.writing import Codes, Encoded, Entities, Prepared, UserChunk

OF_A_DOMAIN = "{domain}/{name}"  # ids of items and users, so that no two domains share one
DOMAIN = "domain"  # the feature that says where an item comes from


class Domains(Recipe):
    """``--from`` names a TOML: a name, and under ``[domains]`` the prepared folder of each.

    A folder without users (a server's public part) adds its catalogue alone, so that every party
    comes to the same codes without the others' rows.
    """

    name = "domains"
    version = 1
    summary = "prepared datasets as one, each with tables of its own: --from DOMAINS.toml"

    def dataset_name(self, source: Path | None) -> str:
        """The name in the TOML."""
        return _read(self.needed(source))[0]

    def identify(self, source: Path | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """The checksum of the TOML, and what each folder holds."""
        path = self.needed(source)
        schemas = {name: Schema.load(folder) for name, folder in _read(path)[1].items()}
        held = {name: [s.schema_hash, s.content_hash] for name, s in schemas.items()}
        return {**fingerprint([path]), "domains": held}

    def build(
        self, source: Path | None, options: Mapping[str, Any], staging: Path, progress: Progress
    ) -> Prepared:
        """Reads one folder after the other."""
        path = self.needed(source)
        name, folders = _read(path)
        domains: list[Domain] = []
        for number, (domain, folder) in enumerate(folders.items()):
            progress(f"reading {domain}", number, len(folders))
            domains.append(_domain(domain, folder, sum(map(len, domains))))
        schemas = {one.name: one.catalogue.schema for one in domains}
        kind, repeats = _kind_of(path, schemas), _repeats_of(path, schemas)
        items = Slots.of([(one.name, one.catalogue.schema.item_features) for one in domains])
        users = Slots.of([(one.name, one.catalogue.schema.user_features) for one in domains])
        return Prepared(
            name=name,
            label_rule="; ".join(f"{n}: {schema.label_rule}" for n, schema in schemas.items()),
            items=_items(domains, items),
            user_features=users.features,
            chunks=_users(path, domains, users),
            kind=kind,
            repeats=repeats,
        )


@dataclass(frozen=True)
class Domain:
    """One of them; its items come after ``first`` items of those before."""

    name: str
    folder: Path
    catalogue: Catalogue
    first: int

    def __len__(self) -> int:
        """Its items."""
        return self.catalogue.schema.num_items

    def ids(self, names: Sequence[str]) -> list[str]:
        """Of items or users, told apart from those of other domains."""
        return [OF_A_DOMAIN.format(domain=self.name, name=name) for name in names]


@dataclass(frozen=True)
class Slots:
    """Features that share a table, and where in it each domain's values begin.

    Args:
        features: one per table.
        places: by domain, for each of its features: its name, the slot, and the codes before.
    """

    features: tuple[Feature, ...]
    places: Mapping[str, Sequence[tuple[str, int, int]]]

    @classmethod
    def of(cls, sides: Sequence[tuple[str, Sequence[Feature]]]) -> Slots:
        """The k-th feature of each domain in one table; ids of items are not among them."""
        own = {name: [f for f in features if f.kind != "id"] for name, features in sides}
        places: dict[str, list[tuple[str, int, int]]] = {name: [] for name in own}
        found: list[Feature] = []
        for slot, together in enumerate(zip_longest(*own.values())):
            values: list[str] = []
            there = [(n, f) for n, f in zip(own, together, strict=True) if f is not None]
            for domain, feature in there:
                places[domain].append((feature.name, slot, len(values)))
                codes = feature.values or [f"{feature.name} {n}" for n in range(1, feature.size)]
                values += [f"{domain}: {value}" for value in codes]
            found.append(
                Feature(
                    name=_slot_name([f.name for _, f in there], [f.name for f in found]),
                    kind="multi" if any(f.kind == "multi" for _, f in there) else "categorical",
                    size=len(values) + 1,
                    width=max(feature.width for _, feature in there),
                    values=tuple(values),
                )
            )
        return cls(tuple(found), places)

    def codes_of(self, domain: str, codes: Mapping[str, Codes], rows: int) -> list[Codes]:
        """Of ``rows`` items or users of a domain, by slot; 0 in those that it lacks."""
        found = [
            np.zeros((rows, f.width) if f.kind == "multi" else rows, np.int32)
            for f in self.features
        ]
        for name, slot, before in self.places[domain]:
            own = np.where(codes[name] > 0, codes[name] + before, 0).astype(np.int32)
            if found[slot].ndim > own.ndim:
                own = own[:, None]
            if own.ndim > 1:
                found[slot][:, : own.shape[1]] = own
            else:
                found[slot][:] = own
        return found


def _read(path: Path) -> tuple[str, dict[str, Path]]:
    """The dataset's name, and the folders by domain."""
    top = Keys.of_file(path)
    name = top.text("name")
    if "/" in name or name in {".", ".."}:
        raise top.wrong("name", f"must not hold '/', got {name!r}")
    table = Keys(path, "domains", top.get("domains") or {})
    folders = {}
    for domain in table.content:
        folder = Path(table.text(domain)).expanduser()
        folders[domain] = folder if folder.is_absolute() else path.parent / folder
    if len(folders) < 2:
        raise top.wrong("domains", f"must name at least 2 prepared folders, got {len(folders)}")
    return name, folders


def _domain(name: str, folder: Path, first: int) -> Domain:
    catalogue = load_catalogue(folder)
    if catalogue.schema.source.get("recipe") == Domains.name:
        raise DataError(f"{folder} holds domains itself; name each of them in one file")
    return Domain(name, folder, catalogue, first)


def _kind_of(path: Path, schemas: Mapping[str, Schema]) -> RowKind:
    """Choices with labels are labelled rows beside those that were shown; events are not."""
    kinds = {schema.kind for schema in schemas.values()}
    if "events" in kinds and len(kinds) > 1:
        told = ", ".join(f"{name} {schema.kind}" for name, schema in schemas.items())
        raise DataError(
            f"{path}: domains have rows of different kinds ({told}); join those with labels, and "
            "those without"
        )
    return kinds.pop() if len(kinds) == 1 else "labelled"


def _repeats_of(path: Path, schemas: Mapping[str, Schema]) -> bool:
    repeats = {schema.repeats for schema in schemas.values()}
    if len(repeats) > 1:
        told = ", ".join(f"{name} {schema.repeats}" for name, schema in schemas.items())
        raise DataError(
            f"{path}: meeting an item again is a choice in some domains and in others not "
            f"({told}); prepare them alike (interactions.repeats)"
        )
    return repeats.pop()


def _items(domains: Sequence[Domain], slots: Slots) -> Entities:
    ids: list[str] = []
    titles: list[str] = []
    of_slots: list[list[Codes]] = [[] for _ in slots.features]
    for one in domains:
        ids += one.ids(load_item_ids(one.folder)[1:])
        titles += load_titles(one.folder)[1:]
        own = {name: codes[1:] for name, codes in one.catalogue.item_codes.items()}
        for parts, codes in zip(of_slots, slots.codes_of(one.name, own, len(one)), strict=True):
            parts.append(codes)
    origin = pa.array([one.name for one in domains for _ in range(len(one))], pa.string())
    encoded: list[Encoded] = [
        categorical(_free(DOMAIN, slots), origin, values=[one.name for one in domains]),
        *((f, np.concatenate(p)) for f, p in zip(slots.features, of_slots, strict=True)),
    ]
    has_ids = any(f.kind == "id" for one in domains for f in one.catalogue.schema.item_features)
    if has_ids:
        encoded.insert(0, item_id_feature(len(ids), _free("item", slots)))
    return Entities(ids, encoded, titles)


def _users(path: Path, domains: Sequence[Domain], slots: Slots) -> Iterator[UserChunk]:
    """A chunk for each domain that has users."""
    clocks = {one.name: _times(one) for one in domains if (one.folder / USERS_FILE).is_file()}
    real = {name: is_real for name, (_, is_real) in clocks.items()}
    if len(set(real.values())) > 1:
        without = ", ".join(name for name, is_real in real.items() if not is_real)
        raise DataError(
            f"{path}: times of {without} are no dates, those of other domains are; prepare them "
            "with times since 1970, or leave them out"
        )
    for one in domains:
        if one.name not in clocks:
            continue
        data = load_dataset(one.folder)
        codes = slots.codes_of(one.name, data.user_features, data.num_users)
        yield UserChunk(
            ids=one.ids(data.user_ids.tolist()),
            codes={f.name: c for f, c in zip(slots.features, codes, strict=True)},
            sizes=np.diff(data.offsets),
            items=data.items + np.int32(one.first),
            labels=data.labels,
            times=clocks[one.name][0],
        )


def _times(one: Domain) -> tuple[NDArray[np.int64], bool]:
    """In nanoseconds since 1970 where they are dates, and whether they are."""
    times = load_times(one.folder)
    real = nanoseconds(times)
    return (times, False) if real is None else (real, True)


def _slot_name(names: Sequence[str], taken: Sequence[str]) -> str:
    name = "_or_".join(dict.fromkeys(names))
    return name if name not in taken else f"{name}_{len(taken) + 1}"


def _free(name: str, slots: Slots) -> str:
    """The name, with a mark behind it where a feature of a domain has it."""
    return name if all(feature.name != name for feature in slots.features) else f"{name}_id"
