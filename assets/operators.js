// The grid of operators: what its server-side rows need in the browser.
(function () {
  "use strict";
  let first = true;

  function noUpdate() {
    return window.dash_clientside.no_update;
  }

  function api() {
    try {
      return window.dash_ag_grid.getApi("operators-grid");
    } catch (error) {
      return null;
    }
  }

  window.dashAgGridFunctions = Object.assign({}, window.dashAgGridFunctions, {
    // A bar behind the figure, as long as the op's share; the figure says the same.
    shareBar: function (params) {
      const share = Math.min(1, Math.max(0, (params.data && params.data.raw_share) || 0));
      const end = (100 * share).toFixed(2) + "%";
      return {
        background: "linear-gradient(to right, var(--hb-share) " + end + ", transparent " + end + ")",
      };
    },
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // Another search: the rows that the grid holds are old.
    operatorsSearch: function () {
      const grid = api();
      if (grid) grid.purgeInfiniteCache();
      return noUpdate();
    },

    // The selected op's row into view, once the grid has so many rows.
    operatorsShow: function (wanted) {
      if (!wanted || wanted.place === null) return noUpdate();
      function attempt(tries) {
        const grid = api();
        if (!grid || grid.getDisplayedRowCount() <= wanted.place) {
          if (tries > 0) window.setTimeout(attempt, 80, tries - 1);
          return;
        }
        grid.ensureIndexVisible(wanted.place, first ? "middle" : null);
        first = false;
        select(grid, String(wanted.op), 60);
      }
      function select(known, id, tries) {
        const row = known.getRowNode(id);
        if (row) row.setSelected(true, true);
        else if (tries > 0) window.setTimeout(select, 80, known, id, tries - 1);
      }
      attempt(60);
      return noUpdate();
    },

    operatorsClear: function () {
      const grid = api();
      if (grid) grid.setFilterModel(null);
      return "";
    },

    opWanted: function (wanted, selection) {
      if (!wanted) return noUpdate();
      return Object.assign({}, selection, { op: wanted.op, module: null });
    },

    // The selected row is the selected op; a row of the list of names selects nothing.
    operatorsSelect: function (rows, selection) {
      const row = rows && rows.length === 1 ? rows[0] : null;
      if (!row || row.op === undefined) return noUpdate();
      const op = Number(row.id);
      if (!Number.isInteger(op) || (selection || {}).op === op) return noUpdate();
      return Object.assign({}, selection, { op: op, module: null });
    },
  });

  // A link to another op inside the details.
  document.addEventListener("click", function (event) {
    const link = event.target.closest && event.target.closest("[data-op]");
    if (!link) return;
    window.dash_clientside.set_props("op-wanted", { data: { op: Number(link.dataset.op), at: Date.now() } });
  });
})();
