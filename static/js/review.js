// Review by keyboard. Every key is printed on its button; without this file the buttons and links do the same.
const KEY = "review-keys";
const records = [...document.querySelectorAll("[data-record]")];
const shown = document.querySelector("[name=shown]");
let at = -1;

function stored() {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true; // storage may be blocked
  }
}

function mark(to) {
  at = to;
  for (const record of records) record.removeAttribute("aria-current");
  records[at].setAttribute("aria-current", "true");
  if (shown) shown.value = records[at].dataset.record;
  label();
}

function go(to) {
  if (!records.length) return;
  mark(Math.max(0, Math.min(records.length - 1, to)));
  records[at].focus({ preventScroll: true });
  records[at].scrollIntoView({ block: "nearest" });
}

// The buttons say what they will do: with the ticked records, or with the one in view.
function label() {
  const ticked = document.querySelectorAll("[name=record]:checked").length;
  for (const part of document.querySelectorAll("[data-ticked]")) {
    const { ticked: many, one } = part.dataset;
    part.textContent = ticked ? many.replace("{n}", ticked) : one;
  }
  for (const button of document.querySelectorAll("[data-needs-ticks]")) button.setAttribute("aria-disabled", !ticked);
}

const press = (selector) => {
  const button = document.querySelector(selector);
  if (button && button.getAttribute("aria-disabled") !== "true") button.click();
};

const acts = {
  j: () => go(at + 1),
  k: () => go(at - 1),
  n: () => press("[data-key=n]"),
  x: () => {
    const box = records[at]?.querySelector("[name=record]");
    if (box) box.click();
  },
  a: () => press("[data-key=a]"),
  p: () => press("[data-key=p]"),
  c: () => (note().value.trim() ? press("[data-key=c]") : note().focus()),
  r: () =>
    document.querySelector("[name=reason]:checked")
      ? press("[data-key=r]")
      : document.querySelector("[name=reason]")?.focus(),
  u: () => press("[data-key=u]"),
};
const note = () => document.querySelector("#note");

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || event.repeat || !stored()) return;
  const typing = "input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]";
  if (event.target.closest(typing) || document.querySelector("dialog[open]")) return;
  const act = acts[event.key.toLowerCase()];
  if (!act || event.key.length !== 1) return;
  event.preventDefault();
  act();
});

document.addEventListener("change", (event) => event.target.name === "record" && label());
document.addEventListener("focusin", (event) => {
  const record = event.target.closest("[data-record]");
  if (record && records.indexOf(record) !== at) mark(records.indexOf(record));
});

const choice = document.querySelector("#keys-on");
if (choice) {
  choice.checked = stored();
  choice.addEventListener("change", () => {
    try {
      localStorage.setItem(KEY, choice.checked ? "on" : "off");
    } catch {
      // the choice then lasts for this page only
    }
  });
}

const all = document.querySelector("#tick-all");
if (all)
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(".q [name=submission]")) box.checked = all.checked;
  });

label();
if (location.hash === "#work") go(Math.max(0, records.findIndex((record) => record.querySelector("[name=record]"))));
