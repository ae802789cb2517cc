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

# Texts whose contrast is below 4.5 to 1 (WCAG 2.2), among what ``selector`` finds in a page.
CONTRAST = """
function numbersOf(colour) {  // red, green, blue from 0 to 255, alpha
  var found = (colour.match(/[0-9.e-]+/g) || []).map(Number).filter(isFinite);
  var scale = /^color/.test(colour) ? 255 : 1;
  return found.slice(0, 3).map(function (value) { return value * scale; }).concat(
    found.length > 3 ? found[3] : 1);
}
function over(upper, lower) {  // what is seen of two colours, the lower one opaque
  return [0, 1, 2].map(function (at) {
    return upper[3] * upper[at] + (1 - upper[3]) * lower[at]; }).concat(1);
}
function brightness(colour) {  // relative luminance
  var part = colour.slice(0, 3).map(function (value) {
    value /= 255;
    return value <= 0.04045 ? value / 12.92 : Math.pow((value + 0.055) / 1.055, 2.4); });
  return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
}
function groundOf(element) {
  if (!element) { return [255, 255, 255, 1]; }
  var own = numbersOf(getComputedStyle(element).backgroundColor);
  return own[3] === 1 ? own : over(own, groundOf(element.parentElement));
}
function faintTexts(root, selector) {
  var faint = [];
  root.querySelectorAll(selector).forEach(function (element) {
    var written = [].some.call(element.childNodes, function (node) {
      return node.nodeType === 3 && node.textContent.trim(); });
    if (!written || !element.getClientRects().length) { return; }
    var style = getComputedStyle(element), isDrawn = "ownerSVGElement" in element;
    var ground = groundOf(element);
    var one = brightness(over(numbersOf(isDrawn ? style.fill : style.color), ground));
    var two = brightness(ground);
    var ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
    if (!(ratio >= 4.5)) { faint.push(element.textContent.trim().slice(0, 40) + " " + ratio); }
  });
  return faint;
}
"""

# Runs before anything else in the page, and reports to the page around it when all is drawn.
LISTEN = (
    """<script>
var problems = [];
addEventListener("error", function (e) { problems.push("error: " + e.message); });
addEventListener("unhandledrejection", function (e) { problems.push("rejected: " + e.reason); });
addEventListener("securitypolicyviolation", function (e) {
  problems.push("blocked: " + e.violatedDirective + " " + e.blockedURI); });
["error", "warn"].forEach(function (kind) {
  console[kind] = function () { problems.push(kind + ": " + [].slice.call(arguments).join(" ")); };
});
"""
    + CONTRAST
    + """
function beyondKeys() {  // scrolls, but no key can move it; or has no name
  var found = [].filter.call(document.querySelectorAll("main *"), function (element) {
    return /auto|scroll/.test(getComputedStyle(element).overflowX) && element.tabIndex < 0; });
  [].forEach.call(document.querySelectorAll("[role=img], [role=region], nav"), function (element) {
    if ((element.getAttribute("aria-label") || "").length < 8) { found.push(element); } });
  return found.map(function (element) { return element.outerHTML.slice(0, 80); });
}
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
  parent.postMessage({ faint: faintTexts(document, "main *"), keyless: beyondKeys(),
    problems: problems, charts: charts, width: innerWidth,
    scroll: Math.max(root.scrollWidth, document.body.scrollWidth),
    ground: getComputedStyle(document.body).backgroundColor,
    fetched: performance.getEntriesByType("resource").map(function (r) { return r.name; }) }, "*");
}, 1500); });
</script>"""
)
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
