// Jobs as they happen: one stream of server-sent events a visible tab, handed to Dash as "job-events" and
// "jobs-changed". A hidden tab lets its connection go, since a browser has only six of them for one server.
(function () {
  "use strict";
  const ENDED = ["done", "failed", "cancelled"];
  const KEPT = 60;
  const jobs = {};
  const shown = {};
  let version = 0;
  let source = null;
  let started = false;
  let seeded = false;
  let person = "";
  let retry = 0;
  let timer = null;
  let lostTimer = null;

  function isLive(job) {
    return Boolean(job) && !ENDED.includes(job.state);
  }

  function liveJobs() {
    return Object.values(jobs).filter(isLive);
  }

  // ---- the stream

  function connect() {
    timer = null;
    if (source || document.hidden) return;
    source = new EventSource("/api/events?after=" + version);
    source.onopen = found;
    source.onmessage = function (event) {
      found();
      receive(JSON.parse(event.data));
    };
    source.onerror = function () {
      // A stream ends every minute and is opened again at once: that is no loss yet.
      if (!lostTimer) lostTimer = window.setTimeout(showLost, 4000);
      if (source && source.readyState === EventSource.CLOSED) refused();
    };
  }

  function disconnect() {
    if (source) source.close();
    source = null;
  }

  function found() {
    retry = 0;
    window.clearTimeout(lostTimer);
    lostTimer = null;
    const banner = document.getElementById("connection-lost");
    if (banner) banner.hidden = true;
  }

  // The server answered, but with no stream: too many of them, or a login that is over.
  function refused() {
    disconnect();
    window.fetch("/api/jobs", { cache: "no-store" }).then(function (answer) {
      if (answer.status === 401) window.location.reload();
    }).catch(function () {});
    retry = Math.min(retry + 1, 6);
    if (!timer) timer = window.setTimeout(connect, 1000 * Math.pow(2, retry - 1));
  }

  function showLost() {
    const banner = document.getElementById("connection-lost");
    if (banner && !document.hidden) banner.hidden = false;
  }

  function receive(message) {
    if (message.snapshot) {
      liveJobs().forEach(function (job) { if (!message.jobs[job.id]) delete jobs[job.id]; });
    }
    version = message.version;
    let changed = null;
    Object.entries(message.jobs).forEach(function (pair) {
      const before = jobs[pair[0]];
      const job = note(pair[0], pair[1]);
      if (!before || before.state !== job.state) changed = job;
      // What others asked for is in the list of jobs, and need not interrupt.
      if (isLive(before) && !isLive(job) && job.user === person) toast(job);
    });
    forget();
    window.dash_clientside.set_props("job-events", { data: { version: version, jobs: Object.assign({}, jobs) } });
    if (changed) {
      const data = { version: version, job: changed.id, state: changed.state };
      window.dash_clientside.set_props("jobs-changed", { data: data });
    }
  }

  // What the layout knew, before the first event.
  function seed(feed) {
    if (seeded || !feed) return;
    seeded = true;
    version = feed.version;
    person = feed.person;
    Object.entries(feed.jobs).forEach(function (pair) { note(pair[0], pair[1]); });
  }

  function note(id, fields) {
    // The browser's clock may be wrong: a running job's time counts from when its age was told.
    jobs[id] = Object.assign({ id: id, heard: Date.now(), version: version }, fields);
    return jobs[id];
  }

  function forget() {
    Object.values(jobs)
      .filter(function (job) { return !isLive(job); })
      .sort(function (a, b) { return a.created < b.created ? 1 : -1; })
      .slice(KEPT)
      .forEach(function (job) { delete jobs[job.id]; });
  }

  function toast(job) {
    const good = job.state === "done";
    const message = good ? job.words || "done" : job.error || job.state;
    const link = job.link && { type: "Anchor", namespace: "dash_mantine_components",
      props: { href: job.link.href, children: job.link.text, size: "sm" } };
    const text = { type: "Text", namespace: "dash_mantine_components",
      props: { children: message.length > 240 ? message.slice(0, 240) + "…" : message, size: "sm", className: "hb-break" } };
    window.dash_clientside.set_props("notify", { sendNotifications: [{
      action: "show", id: "ended-" + job.id, title: job.title,
      message: { type: "Box", namespace: "dash_mantine_components", props: { children: link ? [text, link] : [text] } },
      color: good ? "teal" : job.state === "failed" ? "red" : "orange", autoClose: good ? 8000 : 15000,
    }] });
  }

  // ---- how long a job runs, each second

  function two(number) {
    return String(number).padStart(2, "0");
  }

  function words(seconds) {
    const whole = Math.max(Math.floor(seconds), 0);
    if (whole < 60) return whole + " s";
    if (whole < 3600) return Math.floor(whole / 60) + " min " + two(whole % 60) + " s";
    return Math.floor(whole / 3600) + " h " + two(Math.floor((whole % 3600) / 60)) + " min";
  }

  function secondsOf(element) {
    const job = jobs[element.dataset.job];
    const since = element.dataset.since || (element.dataset.since = String(Date.now()));
    if (job && job.seconds !== null) {
      return job.seconds + (job.state === "running" ? (Date.now() - job.heard) / 1000 : 0);
    }
    if (element.dataset.seconds === undefined || element.dataset.seconds === "") return null;
    const running = element.dataset.state === "running";
    return Number(element.dataset.seconds) + (running ? (Date.now() - Number(since)) / 1000 : 0);
  }

  function tick() {
    if (document.hidden) return;
    document.querySelectorAll(".hb-elapsed[data-job]").forEach(function (element) {
      const seconds = secondsOf(element);
      const text = seconds === null ? "" : words(seconds);
      if (element.textContent !== text) element.textContent = text;
    });
  }

  // ---- what Dash calls

  function noUpdate() {
    return window.dash_clientside.no_update;
  }

  const COLOURS = { queued: "gray", running: "blue", done: "teal", failed: "red", cancelled: "orange" };

  window.dash_clientside = Object.assign({}, window.dash_clientside);
  window.dash_clientside.hotbench = Object.assign({}, window.dash_clientside.hotbench, {
    // The layout's live jobs and latest event -> the stream goes on from there.
    connectJobs: function (feed) {
      if (started || !feed) return;
      started = true;
      seed(feed);
      document.addEventListener("visibilitychange", function () {
        if (document.hidden) disconnect();
        else connect();
      });
      window.addEventListener("pagehide", disconnect);
      window.addEventListener("pageshow", function () { if (started) connect(); });
      window.setInterval(tick, 500);
      connect();
    },

    // -> [label of the badge, whether it is hidden, what a screen reader says of the button]
    countJobs: function (_events, feed) {
      seed(feed);
      const count = liveJobs().length;
      const name = count === 0 ? "Jobs: none running" : count === 1 ? "Jobs: 1 running" : "Jobs: " + count + " running";
      return [String(count), count === 0, name];
    },

    // -> what a job's card shows: see app/components/jobs.py for the order.
    showJob: function (_events, id) {
      const job = jobs[id.job];
      const stay = Array(11).fill(noUpdate());
      if (!job) return stay;
      const key = JSON.stringify(id);
      const now = JSON.stringify([job.state, job.words, job.fraction, job.cancel, job.error]);
      // A card that has just come onto the page may be older than what is known of its job.
      const fresh = window.dash_clientside.callback_context.triggered.length === 0;
      if (shown[key] === now && !fresh) return stay;
      shown[key] = now;
      const running = job.state === "running";
      const percent = Math.round(100 * job.fraction);
      return [
        job.state,
        COLOURS[job.state] || "gray",
        job.words,
        running ? percent + " %" : "",
        running ? percent : job.state === "queued" ? 0 : 100,
        { display: isLive(job) ? "block" : "none" },
        job.error,
        { display: job.error ? "block" : "none" },
        job.state,
        job.link ? { type: "Anchor", namespace: "dash_mantine_components",
          props: { href: job.link.href, children: job.link.text, size: "sm", fw: 600 } } : null,
        { display: isLive(job) && !job.cancel ? "inline-flex" : "none" },
      ];
    },
  });
})();
