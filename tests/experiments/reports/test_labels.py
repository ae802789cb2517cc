"""Labels are the data's own text: none merges with another, and none is markup."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mrff.data.prepare import prepare
from mrff.experiments.reports.group_charts import likes_figure
from mrff.experiments.reports.groups import Group, Liking
from tests.support.chromium import look_at
from tests.support.federation import run_federation
from tests.support.reports import report

LONG = "genres: a long name that is cut"
NAMES = [f"{LONG} one", f"{LONG} two", "Deluxe", "Deluxe", "<b>R&B</b>"]


def test_labels_that_are_alike_are_rows_of_their_own() -> None:
    """A group likes each name twice as much as the one before it."""
    likings = [
        Liking(("genres", code), name, 0.1, 0.1, 2.0**code, 10.0 - code)
        for code, name in enumerate(NAMES)
    ]
    figure = likes_figure([Group(9, 0.5, likings[:4]), Group(9, 0.5, likings[4:])])
    assert figure is not None
    shown = figure.to_plotly_json()
    (heat,), axis = shown["data"], shown["layout"]["yaxis"]
    cut = "genres: a long name tha…"
    label_of = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
    rows = [
        (label_of[row], whole[0], np.nanmax(cells))
        for row, whole, cells in zip(heat["y"], heat["customdata"], heat["z"], strict=True)
    ]
    assert sorted(rows, key=lambda row: row[2]) == [
        (cut, f"{LONG} one", 0), (cut, f"{LONG} two", 1), ("Deluxe", "Deluxe", 2),
        ("Deluxe", "Deluxe", 3), ("&lt;b&gt;R&amp;B&lt;/b&gt;", "&lt;b&gt;R&amp;B&lt;/b&gt;", 4),
    ]  # fmt: skip


@pytest.mark.slow
def test_a_browser_shows_markup_as_it_is_written(tmp_path: Path) -> None:
    """Feature values that plotly would make bold, a link, a sign or a number of."""
    genres = ["<b>R&B</b>", "<a href='x'>y</a>", "a &lt; b", "%{x} $y^2$"]
    rows = [
        f"{u},{(u + 5 * n) % 12},{int((u + n) % 3 > 0)},{n},{genres[(u + 5 * n) % 12 % 4]}"
        for u in range(12)
        for n in range(24)
    ]
    (tmp_path / "rows.csv").write_text("u,i,y,t,genre\n" + "\n".join(rows) + "\n")
    (tmp_path / "own.toml").write_text(
        '[interactions]\nfile = "rows.csv"\nuser = "u"\nitem = "i"\nlabel = "y"\ntime = "t"\n'
        '[items.features]\ng = { kind = "categorical", column = "genre" }\n'
    )
    prepare("csv", source=tmp_path / "own.toml", out=tmp_path / "d")
    run_federation(tmp_path / "d", tmp_path, nodes=2, name="run", num_experts=2)
    page = report(str(tmp_path / "runs" / "run"), tmp_path / "page.html")
    seen = look_at(page, tmp_path / "browser", width=1200, dark=False)
    assert seen["problems"] == []
    chart = next(chart for title, chart in seen["charts"].items() if "groups like" in title)
    assert chart["drawn"] > 0
    assert set(chart["labels"]) == {f"g: {genre}" for genre in genres}
