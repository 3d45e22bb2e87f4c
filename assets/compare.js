// The two runs of a comparison are in the address: choosing another one is a visit.
(function () {
  "use strict";
  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    comparePair: function (before, after, swap) {
      const swapped = swap && window.dash_clientside.callback_context.triggered.some(function (item) {
        return item.prop_id.indexOf("compare-swap") === 0;
      });
      const query = new URLSearchParams(window.location.search);
      const pair = swapped ? [after, before] : [before, after];
      if (query.get("before") === pair[0] && query.get("after") === pair[1]) return;
      ["before", "after"].forEach(function (name, place) {
        if (pair[place]) query.set(name, pair[place]);
        else query.delete(name);
      });
      window.hotbench.go("/compare?" + query.toString());
    },
  });
})();
