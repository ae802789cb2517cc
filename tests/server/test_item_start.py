"""Rows of items that begin as the public catalogue describes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mrff.config import ConfigError, RunConfig
from mrff.data.dataset import Catalogue, load_catalogue
from mrff.data.prepare import prepare
from mrff.data.schema import Feature
from server_app.item_start import ITEM_STARTS
from server_app.model import initial_state
from tests.support.federation import run_federation, shared_arrays

TABLE = "item_features.item_table.weight"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Items have an id, a genre and a style."""
    folder = tmp_path_factory.mktemp("described") / "d"
    options = {"users": 15, "items": 20, "sparse": 1, "events_per_user": 24}
    prepare("synthetic", out=folder, options=options)
    return folder


def catalogue_of(folder: Path, **codes: list[Any]) -> Catalogue:
    """Items 1, 2, ... with these codes; lists of lists are features with several values."""
    arrays = {name: np.array([np.zeros_like(v[0]), *v], np.int32) for name, v in codes.items()}
    some = load_catalogue(folder)
    items = len(next(iter(arrays.values()))) - 1
    features = [Feature("item", "id", items + 1)]
    for name, array in arrays.items():
        kind = "multi" if array.ndim > 1 else "categorical"
        values = [str(n) for n in range(1, array.max() + 1)]
        features.append(Feature(name, kind, len(values) + 1, values=values))
    ids = {"item": np.arange(items + 1, dtype=np.int32)}
    schema = replace(some.schema, item_features=features)
    return replace(some, schema=schema, item_codes={**ids, **arrays})


def test_they_are_principal_components_of_the_shares_of_values(data: Path) -> None:
    """By a dense singular value decomposition; signs are free."""
    rng = np.random.default_rng(5)
    kind, tags = rng.integers(1, 5, 40), rng.integers(0, 4, (40, 2))
    catalogue = catalogue_of(data, kind=kind.tolist(), tags=tags.tolist())
    found = ITEM_STARTS["catalogue"](np.full((41, 3), 9.0, np.float32), catalogue, 0.5)
    told = np.zeros((40, 9))
    for item in range(40):
        told[item, kind[item]] = 1.0
        given = [tag for tag in tags[item] if tag]
        for tag in given:
            told[item, 5 + tag] += 1.0 / len(given)
    told -= told.mean(axis=0)
    left, sizes, _ = np.linalg.svd(told, full_matrices=False)
    expected = (left * sizes)[:, :3]
    expected *= 0.5 / expected.std(axis=0)
    np.testing.assert_allclose(np.abs(found[1:]), np.abs(expected), atol=1e-4)
    assert (found[0] == 9.0).all()  # padding is none of its business


def test_alike_items_begin_alike_and_what_is_not_told_stays_drawn(data: Path) -> None:
    """One feature of two values tells one column."""
    catalogue = catalogue_of(data, kind=[1, 2, 1, 2, 2, 1])
    drawn = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    found = ITEM_STARTS["catalogue"](drawn, catalogue, 0.1)
    assert len(set(found[[1, 3, 6], 0].round(6))) == len(set(found[[2, 4, 5], 0].round(6))) == 1
    assert found[1, 0] * found[2, 0] < 0
    np.testing.assert_array_equal(found[:, 1:], drawn[:, 1:])
    np.testing.assert_array_equal(ITEM_STARTS["random"](drawn, catalogue, 0.1), drawn)


@pytest.mark.parametrize("settings", [{}, {"network.clusters": 2}], ids=str)
def test_a_model_begins_with_them_and_all_else_as_before(
    data: Path, settings: dict[str, Any]
) -> None:
    catalogue = load_catalogue(data)
    models = []
    for start in ("random", "catalogue"):
        values = {"training.item-start": start, "network.num-experts": 1, **settings}
        state = initial_state(RunConfig.from_flat(values).for_data("labelled"), catalogue)
        models.append({**state.public, **state.group})
    drawn, told = models
    tables = [name for name in drawn if name.endswith(TABLE)]
    assert len(tables) == settings.get("network.clusters", 1)
    for name in drawn:
        assert np.array_equal(drawn[name], told[name]) == (name not in tables), name
        if name in tables:
            assert not told[name][0].any()


def test_a_private_run_begins_with_them(data: Path, tmp_path: Path) -> None:
    """Noise of a tenth of the step hides no start: alike items are alike after a round."""
    about = {"sampling_rate": 1.0, "num_server_rounds": 1, "server_learning_rate": 1e-6}
    private = {"mode": "central-user", "noise_multiplier": 2.0, "delta": 1e-3}
    run_federation(data, tmp_path, nodes=2, name="told", item_start="catalogue", **about, **private)
    config = RunConfig.from_flat({"training.item-start": "catalogue", "network.feature-dim": 4})
    began = initial_state(config.for_data("labelled"), load_catalogue(data)).public[TABLE]
    np.testing.assert_allclose(shared_arrays(tmp_path, "told")[TABLE], began, atol=1e-4)


def test_what_cannot_be_is_said_in_one_line(data: Path) -> None:
    start = {"training.item-start": "catalogue"}
    for others, why in (
        ({"network.item-ids": "hashed"}, "no item has a row of its own"),
        ({"network.item-ids": "features"}, "no item has a row of its own"),
        ({"network.private-parameters": "all"}, "items' rows begin on nodes"),
    ):
        with pytest.raises(ConfigError, match=why):
            RunConfig.from_flat({**start, **others})
    config = RunConfig.from_flat(start).for_data("labelled")
    bare = catalogue_of(data, kind=[1, 2])
    nothing = replace(bare.schema, item_features=bare.schema.item_features[:1])
    bare = replace(bare, schema=nothing, item_codes={"item": bare.item_codes["item"]})
    with pytest.raises(ConfigError, match="have an id and nothing else"):
        initial_state(config, bare)
    fedmf = {"training.algorithm": "fedmf", "training.objective": "next"}
    config = RunConfig.from_flat({**start, **fedmf}).for_data("labelled")
    with pytest.raises(ConfigError, match=r"fedmf .* has no rows of items to begin with"):
        initial_state(config, load_catalogue(data))
