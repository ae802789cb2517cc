"""What a cell is named after: the settings and data that its run depends on."""

from __future__ import annotations

from pathlib import Path

from mrff.experiments.comparison.cells import cell_of
from mrff.experiments.comparison.plan import read_plan


def name_of(folder: Path, settings: str = "", *, method: str = "mrff", data: str = "some") -> str:
    path = folder / "grid.toml"
    path.write_text(f'methods = ["{method}"]\ndatasets = ["shop"]\n[settings]\n{settings}\n')
    plan = read_plan(path, presets=folder)
    return cell_of(plan.rows[0], plan, home=folder / "cells", data=(folder / "shop", data)).name


def test_settings_data_and_methods_make_another_cell_and_places_do_not(tmp_path: Path) -> None:
    plain = name_of(tmp_path)
    others = [
        name_of(tmp_path, "num-layers = 3"),
        name_of(tmp_path, "balance-rate = 0.0"),
        name_of(tmp_path, data="other"),
        name_of(tmp_path, method="fedadam"),
        name_of(tmp_path, method="user-rate"),
        name_of(tmp_path, method="user-item-rate"),
    ]
    assert len({plain, *others}) == len(others) + 1
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert name_of(elsewhere) == plain
