// Light and dark: first as the system says, then as the person chose. Everything that cannot follow CSS is told here.
(function () {
  "use strict";
  const root = document.documentElement;

  function stored() {
    try {
      return window.localStorage.getItem("mantine-color-scheme-value");
    } catch (error) {
      return null; // storage may be forbidden: then the system decides
    }
  }

  function preferred() {
    const choice = stored();
    if (choice === "light" || choice === "dark") return choice;
    return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }

  function paintFigures(scheme) {
    const element = document.getElementById("figure-templates");
    if (!element || !window.Plotly) return;
    const template = JSON.parse(element.dataset.templates)[scheme];
    document.querySelectorAll(".js-plotly-plot").forEach(function (plot) {
      // Plotly keeps what it is given: each plot needs a template of its own.
      window.Plotly.relayout(plot, { template: JSON.parse(JSON.stringify(template)) });
    });
  }

  function tell(scheme) {
    document.cookie = "hotbench-scheme=" + scheme + "; path=/; max-age=31536000; samesite=lax";
    document.body.dataset.agThemeMode = scheme;
    const client = window.dash_clientside;
    if (client && client.set_props && document.getElementById("page")) {
      client.set_props("colour-scheme", { data: scheme });
    }
    paintFigures(scheme);
  }

  root.dataset.mantineColorScheme = preferred();
  tell(preferred());
  new MutationObserver(function () {
    const scheme = root.dataset.mantineColorScheme;
    if (scheme === "light" || scheme === "dark") tell(scheme);
  }).observe(root, { attributes: true, attributeFilter: ["data-mantine-color-scheme"] });

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // The store holds the scheme from the page's first moment on, not only after a change.
    scheme: function () {
      return root.dataset.mantineColorScheme || "light";
    },
  });
})();
