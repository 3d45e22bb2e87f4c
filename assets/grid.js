// What grids draw inside their cells. Names are text nodes: whatever a model is called, it is shown and does nothing.
(function () {
  "use strict";
  const cells = (window.dashAgGridComponentFunctions = window.dashAgGridComponentFunctions || {});

  // A link within the page. colDef.cellRendererParams: {path, parameter}; the value is the text, data.id the target.
  cells.HotbenchLink = function (props) {
    const given = props.colDef.cellRendererParams || {};
    const query = new URLSearchParams();
    query.set(given.parameter || "run", props.data ? props.data.id : "");
    const address = (given.path || "/") + "?" + query.toString();
    return window.React.createElement(
      "a",
      {
        href: address,
        className: "hb-cell-link",
        onClick: function (event) {
          if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
          event.preventDefault();
          window.hotbench.go(address);
        },
      },
      props.value
    );
  };

  cells.HotbenchTags = function (props) {
    return window.React.createElement(
      "span",
      { className: "hb-cell-tags" },
      (props.data ? props.data.tags : []).map(function (tag) {
        return window.React.createElement("span", { key: tag, className: "hb-cell-tag" }, tag);
      })
    );
  };
})();
