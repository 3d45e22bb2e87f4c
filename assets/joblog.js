// The log of the job that the jobs page shows: what is new is fetched when the job was heard of.
(function () {
  "use strict";
  let busy = false;
  let again = false;
  let timer = 0;
  let seen = { job: "", version: -1 };

  function nothing() {
    return [window.dash_clientside.no_update, window.dash_clientside.no_update];
  }

  function line(entry) {
    const time = { type: "Span", namespace: "dash_html_components",
      props: { className: "hb-log-time", children: entry[0].slice(11, 19) } };
    return { type: "Div", namespace: "dash_html_components",
      props: { className: "hb-log-line", children: [time, entry[1]] } };
  }

  // Whoever reads further up stays there; whoever is at the end stays at the end.
  function followEnd() {
    const box = document.querySelector("#page .hb-log");
    if (!box) return;
    if (!timer && box.scrollHeight - box.scrollTop - box.clientHeight > 24) return;
    window.clearTimeout(timer);
    timer = window.setTimeout(function () {
      timer = 0;
      box.scrollTop = box.scrollHeight;
    }, 80);
  }

  async function fetchNew(log) {
    let { last, lines } = log;
    do {
      again = false;
      const address = "/api/jobs/" + encodeURIComponent(log.job) + "/log?after=" + last;
      const answer = await window.fetch(address, { cache: "no-store" });
      if (!answer.ok) break;
      const found = await answer.json();
      last = found.last;
      lines = lines.concat(found.lines);
    } while (again);
    return { job: log.job, last: last, lines: lines };
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // (events, log) -> [log, the lines to show]
    growLog: async function (events, log) {
      const job = events && log && events.jobs[log.job];
      if (!job || (seen.job === log.job && seen.version === job.version)) return nothing();
      seen = { job: log.job, version: job.version };
      if (busy) {
        again = true;
        return nothing();
      }
      busy = true;
      try {
        const grown = await fetchNew(log);
        if (grown.last === log.last) return nothing();
        followEnd();
        return [grown, grown.lines.map(line)];
      } catch (error) {
        // The connection is lost, which the banner says: the next event brings the lines.
        seen = { job: "", version: -1 };
        return nothing();
      } finally {
        busy = false;
      }
    },
  });
})();
