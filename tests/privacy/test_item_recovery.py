"""Which items a one-user node has met, read off what it sends: the attack, in every mode.

Rows of an embedding table move where their item was met. Without noise and masks a server reads
them; `central-user` trusts it, and its uploads say as much. Under a node's own noise, or under
masks, rows of items that were met are not larger than others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.common.serde import recorddict_from_proto
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from sklearn.metrics import roc_auc_score

from mrff.wire.aggregation.secure.messages import block_of, vectors_of
from mrff.wire.aggregation.secure.primitives import SecureError
from mrff.wire.records import arrays_in
from tests.support.federation import run_federation

NODES, ROWS, WIDTH = 15, 9, 4
ITEM_TABLE = "item_features.style_table.weight"
SECURE = {"secure_aggregation": True}
SKELLAM = {**SECURE, "mode": "distributed-user", "accountant": "rdp", "noise_multiplier": 2.0}


def sizes_of_rows(data: Path, home: Path, settings: Mapping[str, Any]) -> np.ndarray:
    """(NODES, ROWS): how far each node's upload in a round of training moves each row."""
    grid = run_federation(
        data, home, nodes=NODES, name="attacked", record=True, num_server_rounds=1,
        sampling_rate=1.0, delta=1e-3, **settings,
    )  # fmt: skip
    found = []
    for reply in grid.replies:
        content = recorddict_from_proto(ProtoRecordDict.FromString(reply))
        if "updates" in content and ITEM_TABLE in (arrays := arrays_in(content, "updates")):
            found.append(np.abs(arrays[ITEM_TABLE]).max(axis=1))
        elif "secure_aggregation" in settings:
            try:
                masked = vectors_of(block_of(content)).arrays.view(np.int32)
            except SecureError:  # of another stage
                continue
            if len(masked) > 1000:  # of training, not of the test
                # Where a row lies in the vector does not matter: all of it looks alike.
                rows = masked[: ROWS * WIDTH].astype(np.float64).reshape(ROWS, WIDTH)
                found.append(np.abs(rows).max(axis=1))
    assert len(found) == NODES
    return np.array(found)


@pytest.fixture(scope="module")
def met(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """(NODES, ROWS): whose rows were met, by what a run without privacy sends."""
    rows = sizes_of_rows(small_data, tmp_path_factory.mktemp("plain"), {}) > 0.0
    assert 0.2 < rows.mean() < 0.95, "a plain update names some styles and not others"
    return rows


@pytest.mark.parametrize(
    ("settings", "is_read"),
    [
        ({"mode": "central-user"}, True),
        (SECURE, False),
        (SKELLAM, False),
        ({"mode": "local-dp-sgd"}, False),
        ({"mode": "laplace"}, False),
    ],
    ids=["central-user", "secure sums", "distributed-user", "local-dp-sgd", "laplace"],
)
def test_items_of_a_one_user_node(
    small_data: Path, tmp_path: Path, met: np.ndarray, settings: dict[str, Any], is_read: bool
) -> None:
    """AUC of the attack over nodes: chance is 0.5, with a deviation of 0.05."""
    sizes = sizes_of_rows(small_data, tmp_path, settings)
    mixed = [n for n in range(NODES) if 0 < met[n].sum() < ROWS]
    found = np.mean([roc_auc_score(met[n], sizes[n]) for n in mixed])
    if is_read:
        assert found == 1.0
    else:
        assert 0.25 < found < 0.75
