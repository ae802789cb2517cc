"""The site of the documents: built without a warning, every link leads somewhere, pages fit."""

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
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tests.support.chromium import dom_of

ROOT = Path(__file__).parents[2]
WIDTHS = (1280, 390)
MEASURE = """<!DOCTYPE html><body><pre id="told"></pre><script>
(async function () {
  var told = [];
  for (var width of %s) { for (var page of %s) {
    var frame = document.createElement("iframe");
    frame.style.width = width + "px";
    frame.src = page;
    await new Promise(function (done) { frame.onload = done; document.body.append(frame); });
    var root = frame.contentDocument.documentElement;
    told.push([page, width, root.clientWidth, root.scrollWidth, root.innerText.length]);
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
        capture_output=True, text=True, cwd=ROOT, timeout=600, check=False,
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


def test_no_page_scrolls_sideways(site: Path, tmp_path: Path) -> None:
    """All pages in one Chromium, in frames as wide as a laptop's window and a phone's."""
    pages = sorted(str(page.relative_to(site)) for page in site.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_")]
    (site / "measure.html").write_text(MEASURE % (json.dumps(WIDTHS), json.dumps(pages)))
    handler = partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/measure.html"
        try:
            seen = dom_of(address, tmp_path, milliseconds=600_000)
        finally:
            server.shutdown()
            (site / "measure.html").unlink()
    found = re.search(r'<pre id="told">(.+?)</pre>', seen, re.S)
    assert found, "the pages were not all measured"
    told = json.loads(html.unescape(found[1]))
    assert [(page, width) for page, width, *_ in told] == [(p, w) for w in WIDTHS for p in pages]
    assert all(letters > 100 for *_, letters in told)
    assert [one for one in told if one[3] > one[2]] == []


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
