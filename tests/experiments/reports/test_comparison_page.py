"""The page of a comparison, from the files that ``mrff compare`` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mrff.cli.main import main
from tests.support.reports import RESULTS, charts, numbers, report, write_comparison


def test_the_forest_has_every_difference_with_its_interval(tmp_path: Path) -> None:
    page = report(str(write_comparison(tmp_path / "grid")), tmp_path / "c.html")
    drawn = charts(page)
    assert list(drawn) == [
        "films: AUC against mrff", "shop: AUC against mrff", "films: LogLoss against mrff",
    ]  # fmt: skip
    significant, other = drawn["films: AUC against mrff"]["data"]
    assert (significant["name"], significant["y"]) == ("significant", ["fedadam"])
    assert (other["name"], other["y"]) == ("not significant", ["one-group"])
    assert numbers(significant["x"]) == [-0.025]
    np.testing.assert_allclose(numbers(significant["error_x"]["array"]), [0.015])
    np.testing.assert_allclose(numbers(significant["error_x"]["arrayminus"]), [0.015])
    (untested,) = drawn["shop: AUC against mrff"]["data"]
    assert untested["name"] == "not significant"
    assert untested["error_x"]["array"] == [None]
    order = drawn["films: AUC against mrff"]["layout"]["yaxis"]["categoryarray"]
    assert order == ["fedadam", "one-group"]  # bottom to top


def test_tables_notes_and_what_did_not_finish(tmp_path: Path) -> None:
    page = report(str(write_comparison(tmp_path / "grid")), tmp_path / "c.html")
    text = page.replace("\u00a0", " ")
    assert "0.7600 ± 0.0141" in text  # mrff on films: two seeds
    assert "-0.0250 [-0.0400, -0.0100]" in text
    assert "AUC difference [90%]" in text
    assert "no test" in text
    assert "fedadam: too few users for a test: 30" in text
    assert "<td>1</td><td>crashed</td><td>no memory</td>" in text
    assert "<dd>7</dd><p>finished, of 8</p>" in text


def test_what_only_ranks_is_shown_by_its_ranking_measures(tmp_path: Path) -> None:
    folder = write_comparison(tmp_path / "grid")
    with (folder / "results.csv").open("a") as results:
        results.write("plays,mrff,0,,,,0.30,0.18,9,9.0,1,1,finished,,mrff,runs/i\n")
        results.write("plays,rules,,,,,0.27,0.16,,9.0,,,finished,,floor,\n")
    with (folder / "comparisons.csv").open("a") as found:
        found.write("plays,rules,mrff,hr10,-0.03,-0.04,-0.02,0.001,0.004,943,1,\n")
    page = report(str(folder), tmp_path / "c.html").replace("\u00a0", " ")
    assert "plays: HR@10 against mrff" in charts(page)
    table = page[page.rindex(">plays<") :]
    assert "HR@10 difference [90%]" in table
    assert "-0.0300 [-0.0400, -0.0200]" in table
    assert "AUC" not in table[: table.index("</table>")]
    assert table.index("<td>mrff</td>") < table.index("<td>rules</td>")  # by NDCG@10


def test_a_comparison_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MRFF_HOME", str(tmp_path))
    folder = write_comparison(tmp_path / "comparisons" / "grid")
    assert main(["report", "grid"]) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    assert (folder / "report.html").exists()


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "one file only": (lambda f: (f / "comparisons.csv").unlink(), "comparisons.csv is missing"),
    "no rows": (
        lambda f: (f / "results.csv").write_text(RESULTS.splitlines()[0] + "\n"),
        "results.csv has no rows: nothing was compared yet",
    ),
    "empty": (lambda f: (f / "results.csv").write_text(""), "results.csv is damaged"),
    "another table": (
        lambda f: (f / "results.csv").write_text("dataset,seed\na,1\n"),
        "results.csv has no column 'method'",
    ),
    "words for numbers": (
        lambda f: (f / "results.csv").write_text(RESULTS.replace("0.75,", "good,")),
        "column 'auc': 'good' is no number",
    ),
    "torn settings": (
        lambda f: (f / "comparison.json").write_text("{"),
        "comparison.json is damaged",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_broken_comparison_is_one_clear_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    folder = write_comparison(tmp_path / "grid")
    damage(folder)
    assert main(["report", str(folder), "--out", str(tmp_path / "c.html")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "c.html").exists()
