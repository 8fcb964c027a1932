/**
 * The receipt pages: verify the page's own receipt, and files that are dropped or chosen, in this browser.
 * Keys, quorum and sentences stand in #receipt-words; without JavaScript the server has said the same.
 */
import { verifyReceipt } from "./verify-receipt.js";

const words = document.getElementById("receipt-words");
const sentences = new Map([...words.querySelectorAll("[data-key]")].map((one) => [one.dataset.key, one.textContent]));
const witnesses = words.dataset.witnesses.split(" ").filter(Boolean);
const former = words.dataset.former.split(" ").filter(Boolean);

verifyOwn(document.getElementById("receipt-result"));
verifyFiles(document.getElementById("receipt-file"), document.getElementById("receipt-file-result"));

function verify(bytes) {
  return verifyReceipt(bytes, words.dataset.log, witnesses, Number(words.dataset.quorum), former);
}

/** The receipt of this page: fetched as the file is, so that what is checked is what is downloaded. */
async function verifyOwn(result) {
  if (!result) return;
  const answer = await fetch(result.dataset.src, { credentials: "same-origin" }).catch(() => null);
  if (!answer || answer.status !== 200) return;
  const { ok, steps } = await verify(await answer.arrayBuffer());
  if (steps.some((step) => step.key.endsWith(".unavailable"))) {
    result.querySelector("[data-text]").textContent = words.dataset.noCrypto;
    return;
  }
  say(result, ok);
  document.getElementById("receipt-steps").replaceChildren(list(steps));
}

function verifyFiles(form, result) {
  if (!form) return;
  const input = form.querySelector("input[type=file]");
  const area = form.querySelector("[data-drop]");
  form.addEventListener("submit", (event) => {
    if (!input.files.length) return;
    event.preventDefault();
    check(input.files[0]);
  });
  input.addEventListener("change", () => input.files.length && check(input.files[0]));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    if (event.dataTransfer.files.length) check(event.dataTransfer.files[0]);
  });

  async function check(file) {
    const bytes = await file.arrayBuffer();
    const { ok, steps } = await verify(bytes);
    const callout = document.createElement("section");
    callout.className = "callout";
    const box = document.createElement("div");
    const title = document.createElement("strong");
    title.dataset.title = "";
    const text = document.createElement("span");
    text.dataset.text = "";
    box.append(title, " ", text, ` ${file.name}`);
    callout.append(box);
    say(callout, ok);
    result.replaceChildren(callout, list(steps));
    if (ok) result.append(...opened(bytes));
  }
}

function say(callout, ok) {
  callout.classList.remove("ok", "bad");
  callout.classList.add(ok ? "ok" : "bad");
  callout.querySelector("[data-title]").textContent = ok ? words.dataset.verified : words.dataset.refused;
  callout.querySelector("[data-text]").textContent = ok ? words.dataset.verifiedText : words.dataset.refusedText;
}

/** The steps in the markup of components/receipt_steps.html. */
function list(steps) {
  const items = document.createElement("ol");
  items.className = "tl proof";
  for (const step of steps) {
    const item = document.createElement("li");
    item.className = step.ok ? "done" : "bad";
    item.dataset.step = step.name;
    item.dataset.result = step.ok ? "ok" : "bad";
    const box = document.createElement("div");
    const state = document.createElement("span");
    state.className = "small muted";
    state.textContent = step.ok ? words.dataset.valid : words.dataset.notValid;
    const text = document.createElement("p");
    text.textContent = sentence(step);
    box.append(`${sentences.get(`step.${step.name}`)} `, state, text);
    item.append(box);
    items.append(item);
  }
  return items;
}

function sentence({ key, values, detail }) {
  const shown = { ...values };
  if (shown.price_nano !== undefined) shown.price = openText(BigInt(shown.price_nano));
  return (sentences.get(key) ?? detail).replace(/\{(\w+)\}/g, (all, name) => shown[name] ?? all);
}

/** The split lines of a verified file, without their padding. */
function opened(bytes) {
  const receipt = JSON.parse(new TextDecoder().decode(bytes));
  const lines = Object.entries(receipt.openings ?? {})
    .filter(([name, one]) => name.startsWith("split.") && one.value.role !== "pad")
    .map(([, one]) => one.value);
  if (!lines.length) return [];
  const table = document.createElement("table");
  table.className = "table dense";
  for (const line of lines) {
    const row = table.insertRow();
    for (const text of [line.payee, line.role, `${openText(BigInt(line.amount))}\u00a0OPEN`]) {
      row.insertCell().textContent = text;
    }
    row.cells[0].className = "mono small";
    row.cells[2].className = "n";
  }
  return [table];
}

/** Nine decimals, in the mark of the page's language. */
function openText(nano) {
  const mark = document.documentElement.lang.startsWith("fr") ? "," : ".";
  return `${nano / 1000000000n}${mark}${String(nano % 1000000000n).padStart(9, "0")}`;
}
