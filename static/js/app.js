// Progressive enhancement only: every page works without this file.
const root = document.documentElement;
const one = (selector, scope = document) => scope.querySelector(selector);
const all = (selector, scope = document) => [...scope.querySelectorAll(selector)];
const TOAST_MS = 6000;

function toast(text, level = "") {
  const box = document.createElement("div");
  box.className = `toast ${level}`;
  box.textContent = text;
  one("#toasts").append(box);
  fade(box);
}

function fade(box) {
  // An error, and a toast that offers Undo, stays until it is closed.
  if (!box.matches(".error") && !one("form, a", box)) setTimeout(() => box.remove(), TOAST_MS);
}

function switchTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try {
    localStorage.setItem("theme", root.dataset.theme);
  } catch {
    // Storage may be blocked: the choice then lasts for this page.
  }
}

async function copy(button) {
  const text = button.dataset.copy ?? one(`#${button.dataset.copyFrom}`).textContent;
  try {
    await navigator.clipboard.writeText(text);
    toast(document.body.dataset.copied);
  } catch {
    toast(document.body.dataset.failed, "error");
  }
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  if (at("[data-theme-toggle]")) switchTheme();
  if (at("[data-copy], [data-copy-from]")) copy(at("[data-copy], [data-copy-from]"));
  if (at("[data-dismiss]")) at(".toast").remove();
  if (at("[aria-disabled=true]")) event.preventDefault();
  const opener = at("[commandfor]");
  if (opener && !("commandForElement" in HTMLButtonElement.prototype)) {
    const dialog = document.getElementById(opener.getAttribute("commandfor"));
    if (opener.getAttribute("command") === "close") dialog.close();
    else dialog.showModal();
  }
});

// A choice that acts at once: <form data-autosubmit>. Its button stays for those without JavaScript.
document.addEventListener(
  "change",
  (event) => event.target.form?.matches("[data-autosubmit]") && event.target.form.requestSubmit(),
);

// A typed confirmation: <input data-must-equal="2026-W47"> keeps its form's button off until it matches.
function matchWord(input) {
  const off = input.value.trim() !== input.dataset.mustEqual;
  one("[type=submit]", input.form)?.setAttribute("aria-disabled", off);
}

document.addEventListener("input", (event) => event.target.matches("[data-must-equal]") && matchWord(event.target));

document.addEventListener("keydown", (event) => {
  if (
    event.metaKey ||
    event.ctrlKey ||
    event.altKey ||
    event.target.closest("input, textarea, select, [contenteditable]")
  )
    return;
  if (event.key === "/" && one("[data-slash-focus]")) {
    event.preventDefault();
    one("[data-slash-focus]").focus();
  }
  if (event.key === "?") one("dialog#keys")?.showModal();
});

// Tabs that switch parts of one page (the WAI-ARIA pattern). Tabs that are pages are links.
function wireTabs(list) {
  const tabs = all("[role=tab]", list);
  const show = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
      document.getElementById(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  };
  show(one("[aria-selected=true]", list) ?? tabs[0]);
  list.addEventListener(
    "click",
    (event) => event.target.closest("[role=tab]") && show(event.target.closest("[role=tab]")),
  );
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length];
    show(next);
    next.focus();
  });
}

function wireChart(chart) {
  const tip = one(".tip", chart);
  chart.addEventListener("pointermove", (event) => {
    const bar = event.target.closest(".hit");
    tip.classList.toggle("on", Boolean(bar));
    if (!bar) return;
    const [outer, inner] = [chart.getBoundingClientRect(), bar.getBoundingClientRect()];
    tip.textContent = bar.dataset.tip;
    tip.style.left = `${Math.min(Math.max(inner.left - outer.left + inner.width / 2, 60), outer.width - 60)}px`;
  });
  chart.addEventListener("pointerleave", () => tip.classList.remove("on"));
}

function wire(scope) {
  all("[role=tablist]", scope).forEach(wireTabs);
  all("[data-chart]", scope).forEach(wireChart);
  all(".toast", scope).forEach(fade);
  all("[data-must-equal]", scope).forEach(matchWord);
}

wire(document);
if (matchMedia("(max-width: 61.99rem)").matches) all("details.fd").forEach((filters) => (filters.open = false));

const busy = (on) => one("#busy").classList.toggle("on", on);
document.addEventListener("htmx:beforeRequest", () => busy(true));
document.addEventListener("htmx:afterRequest", () => busy(false));
document.addEventListener("htmx:load", (event) => event.target !== document.body && wire(event.target));
for (const name of ["htmx:responseError", "htmx:sendError"])
  document.addEventListener(name, () => toast(document.body.dataset.failed, "error"));

// A passkey that was refused or not found: allauth's script says so with this event.
document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  toast(document.body.dataset.failed, "error");
});

// Page scripts say something with: document.dispatchEvent(new CustomEvent("toast", { detail: { text, level } })).
// An import of this module by its plain name would run it twice beside its hashed copy.
document.addEventListener("toast", (event) => toast(event.detail.text, event.detail.level));
