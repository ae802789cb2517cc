"""The report as a reader sees it: drawn, without errors, on desk and phone, by day and night."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chromium import look_at
from tests.support.reports import charts, report, write_comparison
from tests.support.trained import RUN

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return report(str(trained_home / "runs" / RUN), tmp_path_factory.mktemp("page") / "r.html")


@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)]
)
def test_every_chart_is_drawn_and_nothing_is_cut_or_fetched(
    page: str, tmp_path: Path, width: int, dark: bool
) -> None:
    seen = look_at(page, tmp_path / "browser", width=width, dark=dark)
    assert seen["problems"] == []
    assert seen["fetched"] == []
    assert seen["faint"] == []
    assert seen["keyless"] == []
    assert seen["width"] == width
    assert seen["scroll"] <= width  # nobody has to scroll sideways
    assert seen["charts"].keys() == charts(page).keys()
    assert len(seen["charts"]) >= 10
    for title, chart in seen["charts"].items():
        assert chart["drawn"] > 0, title
        assert 0.4 * min(width, 500) < chart["width"] <= width, title
        assert chart["right"] <= width, title
    brightness = [int(number) for number in _numbers(seen["ground"])]
    assert (max(brightness) < 60) if dark else (min(brightness) > 200)
    text = [int(number) for number in _numbers(seen["charts"]["AUC over rounds"]["text"])]
    assert (min(text) > 180) if dark else (max(text) < 90)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_comparison_is_drawn_too(tmp_path: Path, width: int) -> None:
    folder = write_comparison(tmp_path / "grid")
    seen = look_at(report(str(folder), tmp_path / "c.html"), tmp_path / "b", width=width, dark=True)
    assert seen["problems"] == []
    assert seen["fetched"] == []
    assert seen["scroll"] <= width
    assert seen["faint"] == []
    assert seen["keyless"] == []
    assert len(seen["charts"]) == 3
    assert all(chart["drawn"] > 0 for chart in seen["charts"].values())


def test_the_check_itself_sees_what_is_wrong(page: str, tmp_path: Path) -> None:
    wrong = page.replace(
        "<main>",
        '<main><div style="width:900px;overflow-x:auto;color:#bbb;background:#fff">wide</div><img src="http://127.0.0.1:9/x.png">'
        "<script>missing()</script>",
        1,
    ).replace("Plotly.react(key", "if (key !== 'chart-2') Plotly.react(key", 1)
    seen = look_at(wrong, tmp_path / "browser", width=390, dark=False)
    assert any("missing is not defined" in problem for problem in seen["problems"])
    assert any("blocked: img-src" in problem for problem in seen["problems"])
    assert seen["scroll"] > 390
    assert seen["faint"][0].startswith("wide 1.9")
    assert "overflow-x" in seen["keyless"][0]
    assert seen["charts"]["LogLoss over rounds"]["drawn"] == 0


def _numbers(colour: str) -> list[str]:
    """Of ``rgb(20, 23, 27)``."""
    return colour[colour.index("(") + 1 : colour.index(")")].split(",")[:3]
