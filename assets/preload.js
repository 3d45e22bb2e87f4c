// The Overview of a run always draws: its largest script is fetched while the first ones still run.
(function () {
  "use strict";
  if (window.location.pathname !== "/" || !window.location.search.includes("run=")) return;
  const link = document.createElement("link");
  link.rel = "preload";
  link.as = "script";
  link.href = "/_dash-component-suites/plotly/package_data/plotly.min.js";
  document.head.appendChild(link);
})();
