from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from mrff.config import FREE_KEYS, ConfigError, RunConfig
from server_app.run import checkpoint as module
from server_app.run.checkpoint import (
    Checkpoint,
    CheckpointError,
    check_same_configuration,
    load_checkpoint,
    save_checkpoint,
)
from strategies.state import TrainingState


def state(server_round: int) -> TrainingState:
    filled = np.full(3, server_round + 0.1, np.float32)
    return TrainingState(
        public={"positions.weight": filled},
        group={"layers.0.experts.0.up_weight": filled + 1},
        round=server_round,
        loads=[0.1, 0.9 - 1e-17],
        optimizer={"positions.weight": {"first": np.array([0.1, 0.2]), "steps": np.array([3])}},
        best_round=1,
        best_value=0.7,
        best_public={"positions.weight": filled + 2},
        best_group={"layers.0.experts.0.up_weight": filled + 3},
        epoch_starts=[0, 2],
        bytes_up=12,
        seconds=1.5,
    )


def save(folder: Path, server_round: int) -> None:
    save_checkpoint(folder, Checkpoint(state(server_round), {"seed": 3}, "abc"))


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    save(tmp_path, 5)
    loaded = load_checkpoint(tmp_path)
    assert loaded.config == {"seed": 3}
    assert loaded.schema_hash == "abc"
    before = state(5)
    assert loaded.state.numbers() == before.numbers()
    arrays = loaded.state.arrays()
    assert arrays.keys() == before.arrays().keys()
    for name, array in before.arrays().items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].tobytes() == array.tobytes()


def test_the_newest_counts_and_two_are_kept(tmp_path: Path) -> None:
    for server_round in (1, 2, 3, 3, 12):
        save(tmp_path, server_round)
    assert load_checkpoint(tmp_path).state.round == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000004-round-3",
        "000005-round-12",
    ]


def test_a_run_taken_up_at_an_earlier_round_is_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 12)
    save(tmp_path, 3)
    assert load_checkpoint(tmp_path).state.round == 3


STAGES = ("mkdir", "write arrays", "write state", "rename", "remove old")


@pytest.mark.parametrize("stage", STAGES)
def test_a_crash_at_any_stage_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with monkeypatch.context() as patched:
        _crash_at(patched, stage)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 3)
    assert load_checkpoint(tmp_path).state.round == (3 if stage == "remove old" else 2)
    save(tmp_path, 4)  # and the remains do not disturb the next one
    assert load_checkpoint(tmp_path).state.round == 4
    assert not list(tmp_path.glob("unfinished-*"))


def _crash_at(patched: pytest.MonkeyPatch, stage: str) -> None:
    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def half_written(path: Path, content: bytes) -> None:
        if path.name == ("arrays.safetensors" if stage == "write arrays" else "state.json"):
            path.write_bytes(content[: len(content) // 2])
            raise KeyboardInterrupt
        path.write_bytes(content)

    if stage == "mkdir":
        patched.setattr(Path, "mkdir", crash)
    elif stage.startswith("write"):
        patched.setattr(module, "write_bytes", half_written)
    elif stage == "rename":
        patched.setattr(os, "rename", crash)
    else:
        patched.setattr(shutil, "rmtree", crash)


@pytest.mark.parametrize("name", ["arrays.safetensors", "state.json"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_one_clear_error(tmp_path: Path, name: str, share: float) -> None:
    save(tmp_path, 1)
    path = tmp_path / "000001-round-1" / name
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_found_in_arrays_and_numbers(tmp_path: Path) -> None:
    save(tmp_path, 1)
    arrays = tmp_path / "000001-round-1" / "arrays.safetensors"
    content = bytearray(arrays.read_bytes())
    content[-1] ^= 1
    arrays.write_bytes(content)
    with pytest.raises(CheckpointError, match="its checksum does not match"):
        load_checkpoint(tmp_path)

    save(tmp_path, 2)
    numbers = tmp_path / "000002-round-2" / "state.json"
    numbers.write_text(numbers.read_text().replace('"best_value": 0.7', '"best_value": 0.8'))
    with pytest.raises(CheckpointError, match=r"checksum .* move the damaged folder away"):
        load_checkpoint(tmp_path)


def test_a_missing_file_and_a_later_format_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        load_checkpoint(tmp_path / "nowhere")
    save(tmp_path, 1)
    numbers = tmp_path / "000001-round-1" / "state.json"
    body = json.loads(numbers.read_text())
    numbers.write_text(json.dumps(body | {"format_version": 99}))
    with pytest.raises(CheckpointError, match="format version 99, this program reads 2"):
        load_checkpoint(tmp_path)
    (tmp_path / "000001-round-1" / "arrays.safetensors").unlink()
    with pytest.raises(CheckpointError, match="is damaged"):
        load_checkpoint(tmp_path)


def test_another_configuration_names_the_first_key_and_both_values() -> None:
    saved = RunConfig.from_flat({"training.seed": 1, "network.num-experts": 4}).to_flat()
    current = RunConfig.from_flat({"training.seed": 2, "network.num-experts": 8}).to_flat()
    with pytest.raises(
        ConfigError, match=r"with network\.num-experts=4, this run has network\.num-experts=8"
    ):
        check_same_configuration(saved, current)


def test_keys_that_change_no_arithmetic_may_differ() -> None:
    saved = RunConfig.from_flat({"run.name": "a", "server.num-server-rounds": 5}).to_flat()
    current = RunConfig.from_flat(
        {
            "run.resume": "a",
            "server.num-server-rounds": 9,
            "server.send-window": 8,
            "data.home": "/elsewhere",
        }
    ).to_flat()
    check_same_configuration(saved, current)
    assert set(saved) >= FREE_KEYS
