"""The page of a run: its numbers are the history's, and what nobody may know is left out."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.learners.cohort import CohortLearner
from mrff.cli.main import main
from mrff.data.dataset import load_dataset
from mrff.data.floors import exact_auc, floors
from mrff.experiments.reports.groups import group_picture
from mrff.ops.nodes import NodesAtHand
from mrff.ops.trained_run import find_run, load_best
from tests.support.federation import run_federation
from tests.support.reports import charts, numbers, report
from tests.support.scoring import scored_alone
from tests.support.trained import ROUNDS, RUN


@pytest.fixture(scope="module")
def page(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(str(trained_home / "runs" / RUN), tmp_path_factory.mktemp("page") / "r.html")


def test_the_curves_are_the_history(page: str, trained_home: Path, small_data: Path) -> None:
    lines = (trained_home / "runs" / RUN / "history.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    validations = [e for e in history if e["kind"] == "validation"]
    best = json.loads((trained_home / "runs" / RUN / "summary.json").read_text())["best_round"]
    lowest = floors(load_dataset(small_data), holdout=1, part="valid")
    for title, measure in (("AUC over rounds", "auc"), ("LogLoss over rounds", "log_loss")):
        traces = charts(page)[title]["data"]
        curve = traces[0]
        np.testing.assert_allclose(numbers(curve["x"]), [e["round"] for e in validations])
        np.testing.assert_allclose(numbers(curve["y"]), [e[measure] for e in validations])
        level = next(t for t in traces if t["name"].startswith("user x item rate"))
        assert set(numbers(level["y"])) == {getattr(lowest.user_item, measure)}
        marked = next(t for t in traces if t["name"].startswith("best validation"))
        assert numbers(marked["x"]) == [best]
        tested = next(t for t in traces if t["name"].startswith("its test"))
        assert numbers(tested["y"]) == [history[-1][measure]]
    loss = charts(page)["Training loss over rounds"]["data"][0]
    assert len(numbers(loss["y"])) == ROUNDS
    layers = [t for t in charts(page) if "users per group" in t]
    assert layers == ["Layer 1: users per group", "Layer 2: users per group"]
    shares = [numbers(t["y"]) for t in charts(page)[layers[0]]["data"]]
    np.testing.assert_allclose(np.sum(shares, axis=0), 1.0)


def test_headline_floors_configuration_and_no_trouble(
    page: str, trained_home: Path, small_data: Path
) -> None:
    summary = json.loads((trained_home / "runs" / RUN / "summary.json").read_text())
    assert f"<dd>{summary['test']['auc']:.4f}</dd>" in page
    assert f"<dd>{summary['best_round']}</dd>" in page
    lowest = floors(load_dataset(small_data), holdout=1, part="test")
    assert f"{lowest.user_item.auc:.4f}" in page
    assert "<td>network.num-experts</td><td>3</td><td>auto</td>" in page
    assert re.search(r"<p>None of \d+ messages\.</p>", page)
    assert "privacy.mode is none" in page


def test_the_page_fetches_nothing(page: str) -> None:
    shell = re.sub(r"<script>.*?</script>", "", page, flags=re.S)
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", shell)
    assert "default-src 'none'" in shell
    assert 4e6 < len(page) < 6e6  # plotly itself is in it


def test_the_group_picture_is_what_a_loop_counts(trained_home: Path, small_data: Path) -> None:
    best = load_best(find_run(str(trained_home / "runs" / RUN)))
    picture = group_picture(NodesAtHand(best))
    flow, likes, values = np.zeros((3, 3)), np.zeros((2, 3)), {}
    for node in NodesAtHand(best).open_all():
        data = node.dataset
        cohort = node.cohort(node.users, up_to_round=best.round)
        routes = scored_alone(node.network, node.config, cohort).routes
        for user, (first, second) in zip(node.users, routes, strict=True):
            flow[first, second] += 1
            for row in range(data.offsets[user], data.offsets[user + 1] - 2):
                if data.labels[row]:
                    likes[0, first] += 1
                    likes[1, second] += 1
                    style = int(data.item_features["style"][data.items[row]])
                    for layer, group in enumerate((first, second)):
                        key = (layer, int(group), style)
                        values[key] = values.get(key, 0) + 1
    np.testing.assert_array_equal(picture.flows[0], flow)
    assert [g.users for g in picture.layers[0]] == flow.sum(axis=1).tolist()
    schema = load_dataset(small_data).schema
    style = next(f for f in schema.item_features if f.name == "style")
    found = 0
    expected, known, total = {}, {}, {}  # type: ignore[var-annotated]
    for layer, groups in enumerate(picture.layers):
        for number, group in enumerate(groups):
            named = {liking.name: liking for liking in group.likings}
            for code in range(1, style.size):
                count = values.get((layer, number, code), 0)
                value = style.values[code - 1] if style.values else code
                liking = named.get(f"style: {value}")
                assert (liking is not None) == (count >= 5)
                if liking is not None:
                    found += 1
                    everybody = sum(values.get((layer, k, code), 0) for k in range(3))
                    assert liking.share == pytest.approx(count / likes[layer, number])
                    expected[(layer, code)] = expected.get((layer, code), 0.0) + (
                        liking.expected * likes[layer, number]
                    )
                    known[(layer, code)] = known.get((layer, code), 0) + 1
                    total[(layer, code)] = everybody
    assert found > 3
    whole = [key for key, groups in known.items() if groups == np.count_nonzero(likes[key[0]])]
    assert len(whole) > 3
    for key in whole:  # what is expected of all groups is what there is
        assert expected[key] == pytest.approx(total[key])


def test_what_groups_bring_is_measured_against_one_expert_for_everybody(
    trained_home: Path, small_data: Path
) -> None:
    """After few rounds experts are nearly alike, and most users in one group: both are shaken."""
    best = load_best(find_run(str(trained_home / "runs" / RUN)))
    random = np.random.default_rng(0)
    shaken = {
        name: array + random.normal(0, 30, array.shape).astype(np.float32)
        if "gate" in name and array.ndim > 1
        else (array + random.normal(0, 1, array.shape).astype(np.float32) * ("experts" in name))
        for name, array in best.arrays.items()
    }
    nodes = NodesAtHand(replace(best, arrays=shaken))
    picture = group_picture(nodes, nodes)
    assert picture.effect is not None
    gain = picture.effect.gain
    assert gain.low < gain.high  # resamples differ, so the two models do
    assert gain.low <= gain.difference <= gain.high
    assert picture.agreement == (RUN, [1.0, 1.0])
    # By hand: every expert is the mean, by who goes there.
    opened, routes = list(nodes.open_all()), []
    for node in opened:
        cohort = node.cohort(node.tested, up_to_round=nodes.best.round)
        routes.append(CohortLearner(node.mrff, node.config).score_as_loaded(cohort, "test").routes)
    loads = [np.bincount(column, minlength=3) for column in np.concatenate(routes).T]
    for layer, block in enumerate(opened[0].mrff.layers):
        for values in block.experts.parameters():  # type: ignore[union-attr]
            mean = sum(float(n) * row for n, row in zip(loads[layer], values.data, strict=True))
            values.data.copy_((mean / loads[layer].sum()).expand_as(values))
    logits, labels = [], []
    for node in opened:
        cohort = node.cohort(node.tested, up_to_round=nodes.best.round)
        scored = CohortLearner(node.mrff, node.config).score_as_loaded(cohort, "test")
        logits.append(scored.logits)
        labels.append(scored.labels)
    shared = exact_auc(np.concatenate(labels).ravel(), np.concatenate(logits).ravel())
    assert gain.difference == pytest.approx(picture.effect.own - shared, abs=1e-6)


def test_without_private_state_the_part_is_left_out_with_a_sentence(
    at_home: Path, page: str, tmp_path: Path
) -> None:
    assert "Flow of users from layer to layer" in charts(page)
    assert "drawn from the private state of the nodes" in page
    arguments = ["report", RUN, "--state-dir", str(tmp_path), "--out", str(tmp_path / "r.html")]
    assert main(arguments) == 0
    bare = (tmp_path / "r.html").read_text()
    assert "need the routes of single users, which never leave the nodes" in bare
    assert "Flow of users from layer to layer" not in charts(bare)
    assert "AUC over rounds" in charts(bare)


def test_a_public_page_holds_nothing_of_private_state(at_home: Path, tmp_path: Path) -> None:
    assert main(["report", RUN, "--public", "--out", str(tmp_path / "r.html")]) == 0
    public = (tmp_path / "r.html").read_text()
    assert not [title for title in charts(public) if "like" in title or "Flow" in title]
    assert "like rate" not in public
    assert "Churn" in charts(public)


def test_without_the_dataset_the_floors_are_left_out_with_the_reason(
    at_home: Path, tmp_path: Path
) -> None:
    arguments = ["report", RUN, "--data-dir", str(tmp_path), "--out", str(tmp_path / "r.html")]
    assert main(arguments) == 0
    bare = (tmp_path / "r.html").read_text()
    assert "The floors are left out:" in bare
    assert "is not a prepared dataset" in bare


def test_the_page_lies_in_the_run_if_nothing_else_is_said(
    at_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", RUN]) == 0
    written = at_home / "runs" / RUN / "report.html"
    assert str(written) in capsys.readouterr().out
    written.unlink()


def test_a_private_run_shows_its_budget_and_what_is_not_known(
    small_data: Path, tmp_path: Path
) -> None:
    run_federation(
        small_data, tmp_path, nodes=2, name="private", mode="central-user",
        num_server_rounds=4, evaluate_every=2, epsilon_budget=100.0, delta=1e-3, accountant="rdp",
    )  # fmt: skip
    private = report(str(tmp_path / "runs" / "private"), tmp_path / "r.html")
    lines = (tmp_path / "runs" / "private" / "history.jsonl").read_text().splitlines()
    spent = [e["privacy"]["epsilon"] for e in map(json.loads, lines) if e["kind"] == "round"]
    traces = charts(private)["Privacy budget spent"]["data"]
    np.testing.assert_allclose(numbers(traces[0]["y"]), spent)
    assert traces[1]["name"] == "budget 100.0000"
    tile = re.search(r"<dt>epsilon</dt><dd>([0-9.]+)</dd>", private)
    assert tile
    assert tile[1] == f"{spent[-1]:.3f}"
    assert "Signal against noise" in charts(private)
    assert "Training loss over rounds" not in charts(private)
    assert "Churn" not in charts(private)  # nobody may count it
    assert "The training loss leaves no node in a private mode." in private


def test_an_unfinished_run_with_rejections_and_hostile_text(at_home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "half"
    folder.mkdir()
    hostile = "</script><script>alert(1)</script>"
    every: dict[str, Any] = {
        "round": 1, "users": 3, "sent": 4, "replies": 2, "loads": [[0.5, 0.5]], "load_entropy": 1.0,
        "bytes_down": 100, "bytes_up": 50, "seconds": 1.25,
    }  # fmt: skip
    lines = [
        {**every, "kind": "round", "train_loss": 0.6, "churn": None, "dropped_users": 0,
         "rejected": [{"node": 7, "reason": hostile}], "missing": [8]},
        {**every, "kind": "validation", "auc": 0.75, "log_loss": 0.5, "is_best": True,
         "sent": 0, "rejected": [], "missing": []},
    ]  # fmt: skip
    (folder / "history.jsonl").write_text(json.dumps(lines[0]) + "\n")
    page = report(str(folder), tmp_path / "r.html")
    assert hostile not in page
    assert "<td>" + hostile.replace("<", "&lt;").replace(">", "&gt;") + "</td>" in page
    assert "no reply in time" in page
    assert "2 of 4 messages." in page
    assert "missing</strong> in 1 of 1 training rounds (at most 2 of 4 nodes)." in page
    assert "No validation yet." in page
    assert "not finished" in page
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "AUC over rounds" in charts(report(str(folder), tmp_path / "r.html"))


def test_what_cannot_be_reported_is_one_clear_line(
    at_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, torn, alien, summary = (tmp_path / n for n in ("empty", "torn", "alien", "summary"))
    for folder in (empty, torn, alien):
        folder.mkdir()
    (empty / "config.json").write_text("{}")
    (torn / "history.jsonl").write_text('{"kind": "round", "rou\n{}\n')
    (alien / "history.jsonl").write_text("[1]\n")
    shutil.copytree(at_home / "runs" / RUN, summary)
    (summary / "summary.json").write_text("{")
    for run, message in (
        ("nowhere", "there is no run 'nowhere'"),
        (str(empty), "run empty has no history yet"),
        (str(torn), "history.jsonl is damaged"),
        (str(alien), "history.jsonl is damaged (a line is no entry with kind and round)"),
        (str(summary), "summary.json is damaged"),
    ):
        assert main(["report", run, "--out", str(tmp_path / "page.html")]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "page.html").exists()
    assert main(["report", RUN, "--out", "/dev/null/page.html"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("objective", ["next", "both"])
def test_a_run_that_ranks_shows_its_lists_and_what_they_are_ranked_by(
    objective: str, small_data: Path, tmp_path: Path
) -> None:
    run_federation(
        small_data, tmp_path, nodes=2, name="one", objective=objective, linear_items=15,
        ranking_candidates=9,
    )  # fmt: skip
    page = report(str(tmp_path / "runs" / "one"), tmp_path / "r.html")
    summary = json.loads((tmp_path / "runs" / "one" / "summary.json").read_text())
    assert f"<dd>{summary['test']['hr10']:.4f}</dd>" in page
    table = page[page.index(">lists by</th>") :]
    table = table[: table.index("</table>")]
    for name, told in (("popularity", "popularity"), ("network", "its network alone")):
        cells = "".join(
            f'<td class="number">{summary["test_parts"][name][key]:.4f}</td>'
            for key in ("hr10", "ndcg10", "mrr10")
        )
        assert f"<td>{told}</td>{cells}" in table
    assert table.rstrip().endswith("</tbody>")
    assert "among 9 drawn items, not all" in page
    clicks = objective == "both"
    titles = ["AUC over rounds", "LogLoss over rounds"] if clicks else []
    shown = [title for title in charts(page) if title.endswith("over rounds")]
    assert shown[: len(titles) + 2] == [*titles, "HR@10 over rounds", "NDCG@10 over rounds"]
    assert ("<dt>AUC</dt>" in page) == clicks
