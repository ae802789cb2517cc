"""One self-contained HTML page: headings, tiles, tables, and charts that plotly draws offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from mrff.experiments.reports.style import CSS, SCRIPT

# Nothing may be fetched: what is needed is in the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)


class Page:
    """Collects the parts of a page from top to bottom; every text is escaped.

    Args:
        title: of the document, and its first heading.
        lead: one sentence below.
    """

    def __init__(self, title: str, lead: str) -> None:
        self._title, self._lead = title, lead
        self._parts: list[str] = []
        self._figures: dict[str, Any] = {}
        self._sections: list[tuple[str, str]] = []
        self._in_grid = False

    def tiles(self, tiles: Iterable[tuple[str, str, str]]) -> None:
        """Numbers to see first: (name, value, remark) each."""
        cells = "".join(
            f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}</dd>'
            f"<p>{escape(remark)}</p></div>"
            for name, value, remark in tiles
        )
        self._add(f'<dl class="tiles">{cells}</dl>')

    def section(self, title: str) -> None:
        """Begins a section, which the page's list of contents names."""
        key = f"section-{len(self._sections) + 1}"
        self._sections.append((key, title))
        self._add(f'<h2 id="{key}">{escape(title)}</h2>')

    def text(self, text: str) -> None:
        """A paragraph."""
        self._add(f"<p>{escape(text)}</p>")

    def chart(self, figure: Any, *, title: str, caption: str = "", wide: bool = False) -> None:
        """A plotly figure under its title; neighbours share a row where there is room."""
        key = f"chart-{len(self._figures) + 1}"
        self._figures[key] = json.loads(figure.to_json())
        height = int(figure.layout.height or 320)
        if not self._in_grid:
            self._parts.append('<div class="charts">')
            self._in_grid = True
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(
            f'<figure class="{"wide" if wide else ""}"><h3>{escape(title)}</h3>'
            f'<div class="chart" id="{key}" role="img" aria-label="{escape(title)}" '
            f'style="height:{height}px"></div>{note}</figure>'
        )

    def table(
        self,
        headings: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        bold: Iterable[int] = (),
        numbers: bool = True,
    ) -> None:
        """A table; ``numbers`` are aligned to the right, rows in ``bold`` stand out."""
        strong = frozenset(bold)
        rows = list(rows)
        first = rows[0] if rows and numbers else [""] * len(headings)
        head = "".join(
            f"<th{_alignment(cell)}>{escape(heading)}</th>"
            for heading, cell in zip(headings, first, strict=True)
        )
        body = "".join(
            ('<tr class="strong">' if number in strong else "<tr>")
            + "".join(_cell(cell, numbers) for cell in row)
            + "</tr>"
            for number, row in enumerate(rows)
        )
        self._add(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def html(self) -> str:
        """The whole document."""
        from plotly.offline import get_plotlyjs

        self._close_grid()
        contents = " ".join(
            f'<a href="#{key}">{escape(title)}</a>' for key, title in self._sections
        )
        # "</script>" inside a title must not end the script
        figures = json.dumps(self._figures, separators=(",", ":")).replace("<", "\\u003c")
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f'<link rel="icon" href="data:,">\n<title>{escape(self._title)}</title>\n'
            f"<style>{CSS}</style>\n</head>\n<body>\n<main>\n"
            f'<header><h1>{escape(self._title)}</h1><p class="lead">{escape(self._lead)}</p>'
            f"<nav>{contents}</nav></header>\n"
            "<noscript><p>The charts need JavaScript; the tables do not.</p></noscript>\n"
            + "\n".join(self._parts)
            + f'\n</main>\n<script id="figures" type="application/json">{figures}</script>\n'
            f"<script>{get_plotlyjs()}</script>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
        )

    def _add(self, part: str) -> None:
        self._close_grid()
        self._parts.append(part)

    def _close_grid(self) -> None:
        if self._in_grid:
            self._parts.append("</div>")
            self._in_grid = False


def _cell(text: str, numbers: bool) -> str:
    return f"<td{_alignment(text) if numbers else ''}>{escape(text)}</td>"


def _alignment(text: str) -> str:
    plain = text.replace(",", "").split(" (")[0].strip("+-−%× ")
    return ' class="number"' if plain.replace(".", "", 1).isdigit() else ""
