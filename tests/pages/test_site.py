"""The site: built without a warning, links lead somewhere, pages fit, text can be read."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.support.chromium import CONTRAST, dom_of

ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 390)
THEMES = ("light", "dark")
MEASURE = """<!DOCTYPE html><body><pre id="told"></pre><script>%(contrast)s
function byTheme(page) {  // how bright its ground is, and what is hard to read on it
  page.head.append(Object.assign(page.createElement("style"),
    { textContent: "* { transition: none !important }" }));
  return %(themes)s.map(function (theme) {
    page.body.dataset.theme = theme;
    return [brightness(groundOf(page.body)), faintTexts(page, "body *")];
  });
}
(async function () {
  var told = [];
  for (var width of %(widths)s) { for (var page of %(pages)s) {
    var frame = document.createElement("iframe");
    frame.style.width = width + "px";
    frame.src = page;
    await new Promise(function (done) { frame.onload = done; document.body.append(frame); });
    var root = frame.contentDocument.documentElement;
    told.push({ page: page, width: width, inside: root.clientWidth, scrolled: root.scrollWidth,
      letters: root.innerText.length,
      themes: width === %(widths)s[0] ? byTheme(frame.contentDocument) : [] });
    frame.remove();
  } }
  document.getElementById("told").textContent = JSON.stringify(told);
})();
</script></body>"""
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sphinx", reason="the extra dev is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    done = subprocess.run(
        [*build, "-d", folder / "doctrees", ROOT / "docs", folder / "html"],
        capture_output=True, text=True, cwd=ROOT, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "html"


class _Page(HTMLParser):
    """What a page links to, and where one can link to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"} and value:
                self.links.append(value)
            if name in {"id", "name"} and value:
                self.places.add(value)


def test_every_link_of_every_page_leads_somewhere(site: Path) -> None:
    pages = {page: _Page(page.read_text()) for page in site.rglob("*.html")}
    assert len(pages) > 40
    dead = []
    for page, parsed in pages.items():
        for link in parsed.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            address, place = urldefrag(link)
            target = (page.parent / unquote(urlsplit(address).path)).resolve() if address else page
            known = pages[target].places if target in pages else set()
            if not target.exists() or (target in pages and place and unquote(place) not in known):
                dead.append(f"{page.relative_to(site)}: {link}")
    assert dead == []


@pytest.fixture(scope="module")
def looks(site: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """All pages in one Chromium, in frames as wide as a laptop's window and a phone's."""
    pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_")]
    asked = {"widths": WIDTHS, "themes": THEMES, "pages": pages}
    script = MEASURE % {"contrast": CONTRAST, **{k: json.dumps(v) for k, v in asked.items()}}
    (site / "measure.html").write_text(script)
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/measure.html"
        try:
            seen = dom_of(address, tmp_path_factory.mktemp("chromium"), milliseconds=600_000)
        finally:
            server.shutdown()
            (site / "measure.html").unlink()
    found = re.search(r'<pre id="told">(.+?)</pre>', seen, re.S)
    assert found, "the pages were not all measured"
    told: list[dict[str, Any]] = json.loads(html.unescape(found[1]))
    assert [(look["page"], look["width"]) for look in told] == [
        (p, w) for w in WIDTHS for p in pages
    ]
    assert all(look["letters"] > 100 for look in told)
    return told


def test_no_page_scrolls_sideways(looks: list[dict[str, Any]]) -> None:
    assert [look for look in looks if look["scrolled"] > look["inside"]] == []


def test_all_text_can_be_read_by_day_and_by_night(looks: list[dict[str, Any]]) -> None:
    """Contrast of at least 4.5 to 1: text, code, tables, notes, and what leads through the site."""
    faint = []
    for look in looks[: len(looks) // len(WIDTHS)]:
        (day, by_day), (night, by_night) = look["themes"]
        assert day - night > 0.8, look["page"]
        faint += [
            f"{look['page']}, {theme}: {text}"
            for theme, texts in zip(THEMES, (by_day, by_night), strict=True)
            for text in texts
        ]
    assert faint == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
