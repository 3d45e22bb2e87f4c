// The address bar: where we are and what is selected. A new place is a visit, which the server renders; a new
// selection only rewrites the address, so that a reload or a shared link brings it back.
(function () {
  "use strict";
  const KEYS = ["run", "op", "module", "finding", "filter"];
  let current = null;
  let visits = 0;

  function go(address) {
    window.history.pushState({}, "", address);
    window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    window.scrollTo(0, 0);
  }

  function withQuery(path, query) {
    const text = query.toString();
    return text ? path + "?" + text : path;
  }

  function same(a, b) {
    return new URLSearchParams(a).toString() === new URLSearchParams(b).toString();
  }

  // Colour alone says it to the eye; this says it to a screen reader.
  function markHere(path) {
    document.querySelectorAll(".hb-nav-link").forEach(function (element) {
      const address = element.getAttribute("href") || "";
      if (address.split("?")[0] === path) element.setAttribute("aria-current", "page");
      else element.removeAttribute("aria-current");
    });
  }

  function noUpdate() {
    return window.dash_clientside.no_update;
  }

  window.hotbench = Object.assign({}, window.hotbench, { go: go });
  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // (pathname, search) -> {path, search, n}: only when it is not what the page shows already.
    visit: function (pathname, search) {
      if (pathname === undefined || pathname === null) return noUpdate();
      if (current && current.path === pathname && same(current.search, search || "")) return noUpdate();
      current = { path: pathname, search: search || "" };
      visits += 1;
      return { path: pathname, search: current.search, n: visits };
    },

    // selection -> the address bar.
    mirror: function (selection) {
      if (!selection || !current) return;
      const query = new URLSearchParams(window.location.search);
      KEYS.forEach(function (key) {
        const value = selection[key];
        if (value === null || value === undefined || value === "") query.delete(key);
        else query.set(key, value);
      });
      if (same(query.toString(), window.location.search)) return;
      const address = withQuery(window.location.pathname, query);
      current = { path: window.location.pathname, search: address.slice(window.location.pathname.length) };
      window.history.replaceState(window.history.state, "", address);
      window.dispatchEvent(new CustomEvent("_dashprivate_pushstate"));
    },

    // Links of the navigation carry the selection; the page's own one is marked.
    navigation: function (visit, selection, paths) {
      const query = new URLSearchParams();
      KEYS.forEach(function (key) {
        const value = (selection || {})[key];
        // A filter belongs to the page that made it.
        if (key !== "filter" && value !== null && value !== undefined && value !== "") query.set(key, value);
      });
      const run = new URLSearchParams();
      if (query.get("run")) run.set("run", query.get("run"));
      const here = visit ? visit.path : window.location.pathname;
      markHere(here);
      return [
        paths.map(function (item) {
          return withQuery(item.path, item.needs_run ? query : run);
        }),
        paths.map(function (item) {
          return item.path === here;
        }),
      ];
    },

    // The browser's tab.
    title: function (title) {
      document.title = title ? title + " · Hotbench" : "Hotbench";
    },

    // A run chosen in the header: stay on the page if it is about a run, else go to its Overview.
    switchRun: function (run, selection, paths) {
      if (!run || !selection || run === selection.run) return;
      const here = paths.find(function (item) {
        return item.path === window.location.pathname;
      });
      go(withQuery(here && here.needs_run ? here.path : "/", new URLSearchParams({ run: run })));
    },

    openRun: function (run) {
      if (run) go(withQuery("/", new URLSearchParams({ run: run })));
    },

    shownRun: function (selection) {
      return (selection || {}).run || null;
    },

    // The menu at narrow widths: its button opens it, a visit closes it.
    burger: function (opened, visit, navbar) {
      const byVisit = window.dash_clientside.callback_context.triggered.some(function (item) {
        return item.prop_id.indexOf("visit") === 0;
      });
      const open = byVisit ? false : opened;
      return [Object.assign({}, navbar, { collapsed: { mobile: !open } }), open];
    },
  });
})();
