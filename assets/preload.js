// Figures need plotly's script of 4.8 MB: it is fetched beside the first ones. It runs only once the page's words and
// bars stand: that takes as long as all else together, and a person reads meanwhile.
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
    // The Overview's figure is asked for once its place is near the screen, and the browser has nothing else to do.
    whenNear: function (run) {
      const room = document.getElementById("overview-bytes");
      if (!run || !room) return window.dash_clientside.no_update;
      const idle = window.requestIdleCallback || ((act) => window.setTimeout(act, 100));
      return new Promise(function (done) {
        const near = new IntersectionObserver(
          function (seen) {
            if (!seen.some((entry) => entry.isIntersecting)) return;
            near.disconnect();
            idle(() => done(run), { timeout: 600 });
          },
          { rootMargin: "600px" }
        );
        near.observe(room);
      });
    },
  });
})();
