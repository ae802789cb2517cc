"""Fills a template: one self-contained HTML page, whose charts plotly draws without a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

from server_app.run.progress import duration, megabytes


def render(template: str, **data: Any) -> str:
    """The whole document; every text in ``data`` is escaped.

    A template calls ``section(title)`` and ``draw(figure)``. Both return the id of the element to
    write. The page around it then lists the sections and holds the figures.
    """
    from plotly.offline import get_plotlyjs  # heavy: it reads 5 MB of JavaScript

    sections: dict[str, str] = {}
    figures: dict[str, Any] = {}

    def section(title: str) -> str:
        key = f"section-{len(sections) + 1}"
        sections[key] = title
        return key

    def draw(figure: Any) -> str:
        key = f"chart-{len(figures) + 1}"
        figures[key] = json.loads(figure.to_json())
        return key

    return _environment().get_template(template).render(
        data, section=section, draw=draw, sections=sections, figures=figures,
        plotly=get_plotlyjs(),
    )  # fmt: skip


def described(figure: Any) -> str:
    """A chart in words, for who cannot see it: where every line begins and ends."""
    told = []
    for trace in figure.data:
        if trace.type != "scatter":
            told.append({"sankey": "flows of users", "heatmap": "a map of ratios"}[trace.type])
            continue
        known = [(x, y) for x, y in zip(trace.x, trace.y, strict=True) if None not in (x, y)]
        if known:
            (start, first), (end, last) = known[0], known[-1]
            name = trace.name or "value"
            from_to = f" to {_number(last)} at {_number(end)}" if len(known) > 1 else ""
            told.append(f"{name}: {_number(first)} at {_number(start)}{from_to}")
    return "; ".join(told).replace("<br>", ", ") or "no values"


def _number(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {
        "measure": measure,
        "described": described,
        "duration": duration,
        "megabytes": megabytes,
    }
    environment.tests["numeric"] = _is_numeric
    return environment


def measure(value: float | None) -> str:
    """A measure as it is shown."""
    return "undefined" if value is None else f"{value:.4f}"


def _is_numeric(text: str) -> bool:
    """Whether a cell is a number, perhaps with a sign, a unit or a remark in brackets."""
    plain = text.replace(",", "").split(" (")[0].strip("+-−%× ")
    return plain.replace(".", "", 1).isdigit()
