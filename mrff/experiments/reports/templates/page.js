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
