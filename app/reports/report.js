"use strict";
// Draws the figures in the reader's colour scheme, and again when it changes or the page is printed.
(() => {
  const source = JSON.parse(document.getElementById("report-data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const options = { displayModeBar: false, responsive: true };

  function draw(scheme) {
    for (const [name, figure] of Object.entries(source.figures)) {
      const target = document.getElementById("figure-" + name);
      if (!target) continue;
      target.style.height = figure.layout.height + "px";
      const layout = { ...structuredClone(figure.layout), template: source.templates[scheme], dragmode: false };
      Plotly.react(target, structuredClone(figure.data), layout, options);
    }
  }

  const current = () => (dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => draw(current()));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", () => draw(current()));
  draw(current());
})();
