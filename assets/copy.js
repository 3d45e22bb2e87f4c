// Buttons that copy what they carry, and times that stay true while a page stands open.
(function () {
  "use strict";
  document.addEventListener("click", function (event) {
    const button = event.target.closest && event.target.closest("[data-copy]");
    if (!button) return;
    copy(button.dataset.copy).then(function () {
      button.classList.add("hb-copied");
      window.setTimeout(function () {
        button.classList.remove("hb-copied");
      }, 1500);
    });
  });

  function copy(text) {
    // The clipboard's own interface exists on safe origins only; a team's plain-HTTP server is none.
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.appendChild(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done ? Promise.resolve() : Promise.reject(new Error("the browser refused to copy"));
  }

  function words(seconds) {
    if (seconds < 10) return "just now";
    if (seconds < 60) return Math.floor(seconds) + " s ago";
    if (seconds < 3600) return Math.floor(seconds / 60) + " min ago";
    if (seconds < 86400) return Math.floor(seconds / 3600) + " h ago";
    return Math.floor(seconds / 86400) + " d ago";
  }

  window.setInterval(function () {
    document.querySelectorAll("time.hb-ago").forEach(function (element) {
      const seconds = (Date.now() - Date.parse(element.dateTime)) / 1000;
      if (seconds >= 0 && seconds < 30 * 86400) {
        const text = words(seconds);
        if (element.textContent !== text) element.textContent = text;
      }
    });
  }, 20000);
})();
