"""The TOML of a comparison: what it spreads out to, and every mistake in it as one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from mrff.cli.main import main
from mrff.config import ConfigError, RunConfig
from mrff.experiments.comparison.plan import ComparisonPlan, PlanPart, read_plan
from server_app.names import check_names

ROOT = Path(__file__).parents[3]
SMALL = 'methods = ["mrff", "fedadam", "user-rate"]\ndatasets = ["ml-100k", "kuaisar-r"]\n'


def plan_of(text: str, folder: Path, part: PlanPart | None = None) -> ComparisonPlan:
    path = folder / "grid.toml"
    path.write_text(text)
    return read_plan(path, presets=folder, part=part)


def test_a_grid_is_every_method_on_every_dataset_with_every_seed(tmp_path: Path) -> None:
    plan = plan_of(SMALL + "seeds = [3, 5]\n", tmp_path)
    assert (plan.name, plan.reference, plan.nodes) == ("grid", "mrff", 2)
    assert [(row.dataset, row.method, row.seed) for row in plan.rows] == [
        (dataset, method, seed)
        for dataset in ("ml-100k", "kuaisar-r")
        for method, seeds in (("mrff", (3, 5)), ("fedadam", (3, 5)), ("user-rate", (None,)))
        for seed in seeds
    ]
    assert plan.rows[1].settings["training.seed"] == 5


def test_settings_win_in_order_preset_general_dataset_method_own_and_variant(
    tmp_path: Path,
) -> None:
    (tmp_path / "kuaisar-r.toml").write_text(
        'dataset = "kuaisar-r"\ndropout = 0.1\nsampling-rate = 0.1\nnum-experts = 3\n'
        "window-length = 20\n"
    )
    text = SMALL + (
        "[settings]\nsampling-rate = 0.2\nwindow-length = 30\nlocal-steps = 2\n"
        "[dataset.kuaisar-r]\nwindow-length = 40\n"
        "[method.fedadam]\nlocal-steps = 3\nlocal-learning-rate = 0.5\n"
        "[method.fedadam.ml-100k]\nlocal-steps = 5\n"
        '[[vary]]\nmethod = "fedadam"\nlocal-steps = [4]\nhistory-feedback = [true, false]\n'
    )
    rows = {(row.dataset, row.method): row.settings for row in plan_of(text, tmp_path).rows}
    mrff, fedadam = rows["kuaisar-r", "mrff"], rows["kuaisar-r", "fedadam"]
    keys = (
        "network.dropout", "training.sampling-rate", "data.window-length",
        "network.num-experts", "training.local-steps",
    )  # fmt: skip
    assert [mrff[key] for key in keys] == [0.1, 0.2, 40, 3, 2]
    assert [fedadam[key] for key in keys] == [0.1, 0.2, 40, 1, 3]  # one expert: the method
    assert rows["ml-100k", "mrff"]["data.window-length"] == 30
    assert "network.dropout" not in rows["ml-100k", "mrff"]
    tuned = rows["ml-100k", "fedadam"]
    assert (tuned["training.local-steps"], tuned["training.local-learning-rate"]) == (5, 0.5)
    varied = rows["kuaisar-r", "fedadam local-steps=4 history-feedback=false"]
    assert (varied["training.local-steps"], varied["network.history-feedback"]) == (4, False)
    assert len(rows) == 2 * (3 + 2)


TUNED = SMALL + (
    "seeds = [0, 1]\n[settings]\ndropout = 0.3\n"
    "[dataset.ml-100k]\ndropout = 0.1\n"
    "[dataset.kuaisar-r]\ndropout = 0.2\nholdout = 5\n"
    "[method.fedadam]\nlocal-learning-rate = 0.5\n"
    "[method.mrff.ml-100k]\nholdout = 2\n"
    "[[vary]]\nlocal-steps = [2, 5]\n"
)


def test_another_preset_takes_the_place_of_the_datasets_own_settings(tmp_path: Path) -> None:
    (tmp_path / "shop.toml").write_text("[network]\nnum-layers = 3\ndropout = 0.4\n")
    (tmp_path / "shop-next.toml").write_text("[network]\nnum-layers = 1\n")
    content = 'methods = ["mrff"]\ndatasets = ["shop"]\n'
    (row,) = plan_of(content + 'preset = "next"\n', tmp_path).rows
    assert row.settings["network.num-layers"] == 1
    assert "network.dropout" not in row.settings
    with pytest.raises(
        ConfigError, match=r"preset='last' needs shop-last\.toml .* leave preset out"
    ):
        plan_of(content + 'preset = "last"\n', tmp_path)


def test_a_part_keeps_the_settings_of_the_file_and_needs_no_change_of_it(tmp_path: Path) -> None:
    part = PlanPart(["mrff", "mrff local-steps=5", "ifca"], ["kuaisar-r", "shop"], [7])
    plan = plan_of(TUNED, tmp_path, part)
    assert plan.name == "grid-part"
    assert [(row.dataset, row.method, row.seed) for row in plan.rows] == [
        (dataset, method, 7)
        for dataset in ("kuaisar-r", "shop")
        for method in ("mrff", "mrff local-steps=5", "ifca")
    ]
    whole = plan_of(TUNED, tmp_path)
    assert whole.name == "grid"
    (same,) = (
        row.settings
        for row in whole.rows
        if (row.dataset, row.method, row.seed) == ("kuaisar-r", "mrff local-steps=5", 1)
    )
    assert plan.rows[1].settings == {**same, "training.seed": 7}
    assert plan.rows[3].settings["network.dropout"] == 0.3


def test_a_parts_settings_win_but_not_over_what_a_method_is(tmp_path: Path) -> None:
    part = PlanPart(settings={"holdout": 3, "num-experts": 6, "local-steps": 4}, name="other")
    plan = plan_of(TUNED, tmp_path, part)
    assert plan.name == "other"
    rows = {(row.dataset, row.method): row.settings for row in plan.rows}
    assert {settings["data.holdout"] for settings in rows.values()} == {3}
    assert rows["ml-100k", "mrff"]["network.num-experts"] == 6
    assert rows["ml-100k", "fedadam"]["network.num-experts"] == 1
    assert rows["ml-100k", "mrff local-steps=5"]["training.local-steps"] == 5


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            PlanPart(["fedadam"]),
            "reference must be one of fedadam, got 'mrff'; name it in --methods",
        ),
        (PlanPart(["mrff", "mrf"]), "unknown method 'mrf'; did you mean mrff?"),
        (PlanPart(["mrff", "mrff"]), "methods names 'mrff' twice"),
        (PlanPart(datasets=["a", "a"]), "datasets names 'a' twice"),
        (PlanPart(seeds=[-1]), "seeds must be a list of whole numbers from 0, got [-1]"),
        (PlanPart(settings={"dropot": 1}), "--set: unknown configuration key 'dropot'"),
        (
            PlanPart(settings={"seed": 1}),
            "--set: training.seed is set by the comparison; leave it out",
        ),
        (PlanPart(name="a/b"), "name may hold letters"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_part_that_cannot_be_run_is_refused(part: PlanPart, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan_of('reference = "mrff"\n' + TUNED, tmp_path, part)


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("compare-*.toml")), ids=str)
def test_every_shipped_comparison_can_be_run(path: Path) -> None:
    plan = read_plan(path, presets=ROOT / "conf")
    content = tomllib.loads(path.read_text())
    assert plan.name == path.stem
    assert {row.dataset for row in plan.rows} == set(content["datasets"])
    for row in plan.rows:
        check_names(RunConfig.from_flat(row.settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("methods = ", "cannot read the comparison in"),
        ('datasets = ["a"]', "methods must be a list of names, got []"),
        ('methods = ["mrff"]', "datasets must be a list of names, got []"),
        ('methods = "mrff"\ndatasets = ["a"]', "methods must be a list of names, got 'mrff'"),
        ('methods = ["mrff", "mrff"]\ndatasets = ["a"]', "methods names 'mrff' twice"),
        ('methods = ["mrf"]\ndatasets = ["a"]', "unknown method 'mrf'; did you mean mrff?"),
        (SMALL + "seed = [1]", "unknown configuration key 'seed'; did you mean seeds?"),
        (SMALL + "seeds = [1, 1]", "seeds must differ, got [1, 1]"),
        (SMALL + "seeds = []", "seeds must be a list of whole numbers from 0, got []"),
        (SMALL + "seeds = [-1]", "seeds must be a list of whole numbers from 0, got [-1]"),
        (SMALL + "nodes = 0", "nodes must be a whole number of at least 1, got 0"),
        (SMALL + 'reference = "ifca"', "reference must be one of mrff, fedadam, user-rate, got"),
        (SMALL + 'name = "a/b"', "name may hold letters"),
        (SMALL + 'name = "cells"', "is not cells"),
        (SMALL + "[settings]\ndropot = 1", "settings: unknown configuration key 'dropot'"),
        (
            SMALL + "[settings]\nseed = 1",
            "settings: training.seed is set by the comparison; leave it out",
        ),
        (
            SMALL + "[settings]\ndropout = 3",
            "method mrff on ml-100k: network.dropout must be between",
        ),
        (SMALL + "[dataset.kuaisar]\n", "belongs to no dataset of this comparison; did you mean"),
        (SMALL + "[method.ifca]\n", "[method.ifca] belongs to no method of this comparison"),
        (SMALL + "[method.ifca.ml-100k]\n", "[method.ifca] belongs to no method of this"),
        (
            SMALL + "[method.mrff.ml-100]\n",
            "[method.mrff.ml-100] belongs to no dataset of this comparison; did you mean ml-100k",
        ),
        (
            SMALL + "[method.mrff.ml-100k]\nseed = 1\n",
            "method.mrff.ml-100k: training.seed is set by the",
        ),
        (
            SMALL + "[[vary]]\nlocal-steps = 3",
            "vary: training.local-steps must be a list of values, got 3",
        ),
        (SMALL + "[vary]\nlocal-steps = [3]", "vary is given as [[vary]] tables"),
        (SMALL + '[[vary]]\nmethod = "x"\n', "unknown method 'x'"),
        (SMALL + '[sources]\nml-1m = "x"', "sources: ml-1m is no dataset here"),
        (SMALL + "[statistics]\nresamples = 5", "resamples must be at least 100, got 5"),
        (SMALL + "[statistics]\nconfidence = 95", "confidence must be between 0 and 1, got 95"),
        (SMALL + "[statistics]\nmin-user = 9", "unknown configuration key 'min-user'"),
    ],
    ids=lambda value: value[-40:],
)
def test_mistakes_are_one_line_with_the_file_and_start_nothing(
    text: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    (tmp_path / "grid.toml").write_text(text)
    assert main(["compare", str(tmp_path / "grid.toml")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mrff: ")
    assert message in said
    assert "grid.toml" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "home").exists()


def test_two_comparisons_of_one_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text(SMALL)
    assert main(["compare", str(tmp_path / "a.toml"), str(tmp_path / "a.toml")]) == 2
    assert "every comparison needs a name of its own, got a, a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("ml-100", "'ml-100' is neither prepared nor one of ml-100k, ml-1m"),
        ("kuaisar-r", "kuaisar-r is not prepared, and nothing says where its files are; add kuai"),
    ],
)
def test_a_dataset_that_cannot_be_had_is_found_before_anything_runs(
    dataset: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MRFF_SHARED_DATA", raising=False)
    (tmp_path / "a.toml").write_text(f'methods = ["mrff"]\ndatasets = ["{dataset}"]\n')
    assert main(["compare", str(tmp_path / "a.toml")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_the_settings_of_a_missing_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the comparison in .*none\.toml"):
        read_plan(tmp_path / "none.toml", presets=tmp_path)
