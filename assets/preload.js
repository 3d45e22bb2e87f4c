// Figures need plotly's script of 4.8 MB: it is fetched beside the first ones. It runs only once the page's words stand:
// that takes as long as all else together, and a person reads meanwhile.
(function () {
  "use strict";
  const SCRIPT = "/_dash-component-suites/plotly/package_data/plotly.min.js";
  const query = new URLSearchParams(window.location.search);
  const place = window.location.pathname.replace(/\/+$/, "") || "/";
  // The other pages draw only what somebody asks for later, or nothing.
  const NEEDS = { "/experiments": "experiment", "/reports": "report" };
  const draws = place === "/" || (place in NEEDS && query.has(NEEDS[place]));

  function link(rel) {
    const element = document.createElement("link");
    element.rel = rel;
    element.as = "script";
    element.href = SCRIPT;
    document.head.appendChild(element);
  }

  if (draws) link("preload");
  else window.addEventListener("load", () => link("prefetch"));

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // The figures further down are asked for once the first one is drawn, and the browser has nothing else to do.
    drawLater: function (shown) {
      if (!shown) return window.dash_clientside.no_update;
      return new Promise(function (done) {
        function look(tries) {
          if (tries > 0 && !document.querySelector("#hot-ops .main-svg")) {
            window.setTimeout(look, 50, tries - 1);
          } else if (window.requestIdleCallback) {
            window.requestIdleCallback(() => done(shown.run), { timeout: 600 });
          } else {
            window.setTimeout(done, 100, shown.run);
          }
        }
        look(200);
      });
    },
  });
})();
