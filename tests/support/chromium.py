"""Opens a page in headless Chromium and tells what became of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1300,1000", "--virtual-time-budget=20000",
)  # fmt: skip

# Runs before anything else in the page, and reports to the page around it when all is drawn.
LISTEN = """<script>
var problems = [];
addEventListener("error", function (e) { problems.push("error: " + e.message); });
addEventListener("unhandledrejection", function (e) { problems.push("rejected: " + e.reason); });
addEventListener("securitypolicyviolation", function (e) {
  problems.push("blocked: " + e.violatedDirective + " " + e.blockedURI); });
["error", "warn"].forEach(function (kind) {
  console[kind] = function () { problems.push(kind + ": " + [].slice.call(arguments).join(" ")); };
});
addEventListener("load", function () { setTimeout(function () {
  var root = document.documentElement, charts = {};
  document.querySelectorAll(".chart").forEach(function (chart) {
    var title = chart.parentNode.querySelector("h3").textContent;
    var svg = chart.querySelector("svg.main-svg"), box = chart.getBoundingClientRect();
    var marks = chart.querySelectorAll(
      ".scatterlayer path, .scatterlayer .point, .sankey-link, .hm image, .plot path");
    charts[title] = { drawn: marks.length, width: svg ? svg.getBoundingClientRect().width : 0,
      labels: [].map.call(chart.querySelectorAll(".ytick text"), function (label) {
        return label.textContent; }),
      right: box.right, text: svg ? getComputedStyle(svg.querySelector("text") || svg).fill : "" };
  });
  parent.postMessage({ problems: problems, charts: charts, width: innerWidth,
    scroll: Math.max(root.scrollWidth, document.body.scrollWidth),
    ground: getComputedStyle(document.body).backgroundColor,
    fetched: performance.getEntriesByType("resource").map(function (r) { return r.name; }) }, "*");
}, 1500); });
</script>"""
AROUND = """<!DOCTYPE html><body style="margin:0"><pre id="told"></pre><script>
addEventListener("message", function (e) {
  document.getElementById("told").textContent = JSON.stringify(e.data); });
</script><iframe src="watched.html" style="border:0;width:%dpx;height:900px"></iframe></body>"""


def look_at(page: str, folder: Path, *, width: int, dark: bool) -> dict[str, Any]:
    """Problems, charts, sizes and fetched addresses of a page in a frame of ``width`` pixels.

    A frame, because Chromium's window has a least width of 500. Skips where there is no Chromium.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    folder.mkdir()
    (folder / "watched.html").write_text(page.replace("<head>", "<head>" + LISTEN, 1))
    (folder / "around.html").write_text(AROUND % width)
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    done = subprocess.run(
        [
            chromium, *FLAGS, scheme, f"--user-data-dir={folder / 'profile'}", "--dump-dom",
            (folder / "around.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    told = re.search(r'<pre id="told">(.+?)</pre>', done.stdout, re.S)
    assert told, f"the page told nothing: {done.stderr[-2000:]}"
    content: dict[str, Any] = json.loads(html.unescape(told[1]))
    return content


def dom_of(address: str, folder: Path, *, milliseconds: int = 20000) -> str:
    """What a served page has become when all that it asked for has come, as HTML.

    Args:
        milliseconds: of the page's own clock, which stands still while something is fetched.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on PATH (Debian: apt-get install chromium)")
    profile = f"--user-data-dir={folder / 'profile'}"
    clock = f"--virtual-time-budget={milliseconds}"  # Chromium takes the last one
    command = [chromium, *FLAGS, clock, "--no-proxy-server", profile, "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return done.stdout
