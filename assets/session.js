/* What the server refuses is said in words; a login that is over leads to the form. */
(function () {
  const plainFetch = window.fetch;

  function isOurs(address) {
    return new URL(address, window.location.href).origin === window.location.origin;
  }

  function logIn() {
    const here = window.location.pathname + window.location.search;
    window.location.assign("/login?next=" + encodeURIComponent(here));
  }

  function tell(words) {
    const notice = { action: "show", title: "That did not work", message: words, color: "red", autoClose: 12000 };
    window.dash_clientside.set_props("notify", { sendNotifications: [notice] });
  }

  window.fetch = async function (resource, options) {
    const answer = await plainFetch.call(window, resource, options);
    const address = resource instanceof Request ? resource.url : String(resource);
    if (answer.status >= 400 && isOurs(address)) {
      const isCallback = new URL(address, window.location.href).pathname === "/_dash-update-component";
      if (answer.status === 401) {
        logIn();
      } else if (isCallback) {
        // A copy: Dash reads the answer itself.
        answer.clone().json().then((said) => tell(said.error)).catch(() => tell("The server could not answer."));
      }
    }
    return answer;
  };
})();
