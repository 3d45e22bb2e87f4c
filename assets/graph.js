// The graph: clicks, hints and the camera. Where things stand is decided on the server.
(function () {
  "use strict";
  let ready = null;
  let marked = null;
  // Whether the camera stands where `look` put it: then it follows the frame's size.
  let untouched = false;

  function noUpdate() {
    return window.dash_clientside.no_update;
  }

  function canvas() {
    const element = document.getElementById("graph-canvas");
    return element && element._cyreg ? element._cyreg.cy : null;
  }

  function wish(act, node) {
    window.dash_clientside.set_props("graph-act", { data: { act: act, node: node, at: Date.now() } });
  }

  function pick(node) {
    window.dash_clientside.set_props("graph-picked", { data: node });
  }

  function picked(data) {
    return { node: data.node, op: data.op >= 0 ? data.op : null, module: data.module || null, at: Date.now() };
  }

  function hottestNode(cy) {
    const closed = cy.nodes("[share >= 0]").not(".box");
    return closed.length ? closed.max((element) => element.data("share")).ele : null;
  }

  // A line's control points reach farther than the line: the nodes alone say where the picture is.
  function extent(cy) {
    return cy.nodes().boundingBox({ includeLabels: false });
  }

  // Where a side starts: in the middle if it fits; else its own start, or with the hottest node in the middle.
  function start(low, length, room, zoom, hot, margin) {
    if (length * zoom + 2 * margin <= room) return (room - length * zoom) / 2 - low * zoom;
    const middle = room / 2 - hot * zoom;
    return Math.min(margin - low * zoom, Math.max(room - margin - (low + length) * zoom, middle));
  }

  // The whole width if it can be read then; what does not fit is shown around the hottest node.
  function look(cy, duration) {
    const box = extent(cy);
    if (!box.w || !cy.width()) return;
    const wide = cy.width() / (box.w + 32);
    const whole = Math.min(wide, cy.height() / (box.h + 32));
    const zoom = Math.min(1.15, wide, Math.max(whole, 0.9));
    const readable = zoom >= 0.58 ? zoom : 0.75;
    const hot = hottestNode(cy);
    const at = hot ? hot.position() : { x: box.x1 + box.w / 2, y: box.y1 };
    // From the top on, where the hottest node is in sight then.
    const y = (at.y - box.y1) * readable + 60 < cy.height() ? box.y1 : at.y;
    const pan = {
      x: start(box.x1, box.w, cy.width(), readable, at.x, 12),
      y: start(box.y1, box.h, cy.height(), readable, y, 16),
    };
    move(cy, { zoom: readable, pan: pan }, duration);
    untouched = true;
  }

  function move(cy, view, duration) {
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    cy.stop();
    if (!duration || still) cy.viewport(view);
    else cy.animate(view, { duration: duration, easing: "ease-out" });
  }

  // A node into the middle, whole if it is large, without coming nearer than is pleasant.
  function show(cy, node, duration) {
    const element = cy.getElementById("n" + node);
    if (!element.length) return look(cy, duration);
    untouched = false;
    const box = element.boundingBox({ includeLabels: false });
    const fits = Math.min(cy.width() / (box.w + 80), cy.height() / (box.h + 80));
    const zoom = Math.min(Math.max(Math.min(cy.zoom(), fits), Math.min(0.45, fits < 0.45 ? 0.45 : fits)), 1.2);
    const high = box.h * zoom > cy.height();
    const x = cy.width() / 2 - ((box.x1 + box.x2) / 2) * zoom;
    const y = high ? 30 - box.y1 * zoom : cy.height() / 2 - ((box.y1 + box.y2) / 2) * zoom;
    move(cy, { zoom: zoom, pan: { x: x, y: y } }, duration);
  }

  function mark(cy, node) {
    cy.batch(function () {
      cy.elements(".marked").removeClass("marked");
      cy.elements(".near").removeClass("near");
      if (node === null) return;
      const element = cy.getElementById("n" + node);
      element.addClass("marked");
      element.connectedEdges().addClass("near");
    });
  }

  function hint(event) {
    const tip = document.getElementById("graph-tip");
    const text = event && event.target.data && event.target.data("hint");
    if (!tip) return;
    if (!text) {
      tip.hidden = true;
      return;
    }
    tip.textContent = text;
    tip.hidden = false;
    const at = event.renderedPosition || { x: 0, y: 0 };
    const frame = tip.parentElement;
    tip.style.left = Math.max(4, Math.min(at.x + 14, frame.clientWidth - tip.offsetWidth - 6)) + "px";
    tip.style.top = Math.max(4, Math.min(at.y + 14, frame.clientHeight - tip.offsetHeight - 6)) + "px";
  }

  // Each canvas once: a new visit makes a new one.
  function prepare(then, tries) {
    const cy = canvas();
    if (!cy || !cy.nodes().length || !cy.width()) {
      if (tries > 0) window.setTimeout(prepare, 40, then, tries - 1);
      return;
    }
    if (ready !== cy) {
      ready = cy;
      window.hotbench = Object.assign({}, window.hotbench, { graph: cy });
      cy.on("onetap", "node", function (event) {
        pick(picked(event.target.data()));
      });
      cy.on("dbltap", "node", function (event) {
        wish("toggle", event.target.data("node"));
      });
      cy.on("mouseover", "node, edge", hint);
      cy.on("mouseout", "node, edge", function () {
        hint(null);
      });
      cy.on("pan zoom", function () {
        hint(null);
      });
      cy.on("dragpan scrollzoom pinchzoom", function () {
        untouched = false;
      });
      cy.on("resize", function () {
        if (untouched) look(cy, 0);
      });
    }
    then(cy);
  }

  function camera(act) {
    const cy = canvas();
    if (!cy) return;
    untouched = false;
    if (act === "fit") {
      const box = extent(cy);
      const zoom = Math.min(1.2, cy.width() / (box.w + 40), cy.height() / (box.h + 40));
      const x = (cy.width() - box.w * zoom) / 2 - box.x1 * zoom;
      move(cy, { zoom: zoom, pan: { x: x, y: (cy.height() - box.h * zoom) / 2 - box.y1 * zoom } }, 180);
      return;
    }
    const factor = act === "in" ? 1.35 : 1 / 1.35;
    cy.zoom({ level: cy.zoom() * factor, renderedPosition: { x: cy.width() / 2, y: cy.height() / 2 } });
  }

  function hottest() {
    const cy = canvas();
    if (!cy || !cy.nodes().length) return;
    const found = hottestNode(cy);
    if (!found) return;
    pick(picked(found.data()));
    show(cy, found.data("node"), 200);
  }

  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("[data-graph-act]");
    if (!button) return;
    const act = button.dataset.graphAct;
    const node = button.dataset.graphNode === "" ? 0 : Number(button.dataset.graphNode);
    if (act === "fit" || act === "in" || act === "out") return camera(act);
    if (act === "hottest") return hottest();
    if (act === "pick" || act === "find") {
      const cy = canvas();
      const element = cy ? cy.getElementById("n" + node) : null;
      const data = element && element.length ? element.data() : { node: node, op: -1 };
      pick(picked(data));
      if (element && element.length) return show(cy, node, 200);
      return wish("reveal", node);
    }
    wish(act, node);
  });

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    graphPicked: function (node, selection) {
      if (!node) return noUpdate();
      return Object.assign({}, selection, { op: node.op, module: node.module });
    },

    graphMark: function (wanted) {
      marked = wanted ? wanted.node : null;
      prepare(function (cy) {
        mark(cy, marked);
      }, 100);
      return noUpdate();
    },

    // After the elements have come: the camera goes to what was opened.
    graphFocus: function (wanted) {
      if (!wanted) return noUpdate();
      window.setTimeout(function () {
        prepare(function (cy) {
          if (wanted.first) look(cy, 0);
          else show(cy, wanted.node, 200);
          mark(cy, marked);
          const frame = document.querySelector(".hb-graph");
          if (frame) frame.dataset.shown = String(wanted.at || 0);
        }, 100);
      }, 0);
      return noUpdate();
    },

    graphScheme: function (scheme, styles) {
      return styles && styles[scheme] ? styles[scheme] : noUpdate();
    },
  });
})();
