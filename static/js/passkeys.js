// Says what happened when a passkey was not made or not used. Not a module: it reads its words from its own element,
// and must listen before allauth's scripts report.
(() => {
  const words = document.currentScript.dataset;
  const byNumber = /^[\d.]+$|^\[/.test(location.hostname);
  // In the capturing phase, before the general toast of app.js.
  window.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const text = byNumber ? words.byNumber : words.none;
    document.dispatchEvent(new CustomEvent("toast", { detail: { text, level: "error" } }));
  }, true);
})();
