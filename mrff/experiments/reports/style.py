"""How a page looks, by day and by night, and the few lines that hand its figures to plotly."""

from __future__ import annotations

CSS = """
:root { color-scheme: light dark; --back: #fbfbfa; --card: #ffffff; --text: #1d2126;
  --soft: #5c6570; --line: #dfe3e8; --accent: #1f6fb2; --middle: #f2f3f5; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --card: #1c2127; --text: #e6e9ed;
  --soft: #9aa5b1; --line: #343b44; --accent: #6db3f2; --middle: #2a3038; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--back); color: var(--text); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.25rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; }
.lead, figcaption, .tile p { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin-top: .6rem; font-size: .9rem; }
a { color: var(--accent); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr));
  gap: .75rem; margin: 1.2rem 0 0; }
.tile, figure, .scroll { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.tile { padding: .7rem .9rem; min-width: 0; }
.tile dt { font-size: .8rem; color: var(--soft); }
.tile dd { margin: 0; font-size: 1.35rem; font-weight: 650; line-height: 1.3; white-space: nowrap;
  font-variant-numeric: tabular-nums; }
.tile p { margin: 0; font-size: .8rem; line-height: 1.35; }
.charts { display: grid; gap: .9rem; margin: .9rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: 0; padding: .8rem .8rem .6rem; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { font-size: .82rem; line-height: 1.4; }
.chart { width: 100%; overflow: hidden; }
.scroll { overflow-x: auto; margin: .9rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; }
th, td { text-align: left; padding: .4rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: break-word; }
th { color: var(--soft); font-weight: 600; }
tr:last-child td { border-bottom: 0; }
th.number { text-align: right; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.strong td { font-weight: 650; }
@media print { figure, .tile { break-inside: avoid; } }
"""

SCRIPT = """
(function () {
  "use strict";
  var figures = JSON.parse(document.getElementById("figures").textContent);
  var night = window.matchMedia("(prefers-color-scheme: dark)");
  function colours() {
    var style = getComputedStyle(document.documentElement);
    return function (name) { return style.getPropertyValue(name).trim(); };
  }
  function dressed(figure) {
    var colour = colours(), copy = JSON.parse(JSON.stringify(figure)), layout = copy.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = Object.assign({}, layout.font,
      { color: colour("--text"), family: getComputedStyle(document.body).fontFamily });
    layout.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--line"),
      font: { color: colour("--text") } };
    Object.keys(layout).forEach(function (key) {
      if (/^[xy]axis/.test(key)) {
        Object.assign(layout[key], { gridcolor: colour("--line"), linecolor: colour("--line"),
          zerolinecolor: colour("--line"), tickcolor: colour("--line") });
      }
    });
    (layout.shapes || []).forEach(function (shape) {
      shape.line = Object.assign({}, shape.line, { color: colour("--soft") });
    });
    copy.data.forEach(function (trace) {
      if (trace.type === "heatmap") {
        trace.colorscale = [[0, "#b5651d"], [0.5, colour("--middle")], [1, "#1f7fb8"]];
      }
      if (trace.meta === "soft") {
        trace.line = Object.assign({}, trace.line, { color: colour("--soft") });
      }
      if (trace.type === "sankey") { trace.textfont = { color: colour("--text") }; }
    });
    return copy;
  }
  function draw() {
    Object.keys(figures).forEach(function (key) {
      var figure = dressed(figures[key]);
      Plotly.react(key, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    });
  }
  draw();
  night.addEventListener("change", draw);
})();
"""
