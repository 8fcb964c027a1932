// Resumable uploads (tus) beside the plain form, which works without this file.
const form = document.querySelector("#upload");
const say = (key, values = {}) =>
  Object.entries(values).reduce((text, [name, value]) => text.replace(`{${name}}`, value), form.dataset[`t${key}`]);

const CHUNK_BYTES = 8 * 1024 * 1024;
const SLOW_CHUNK_BYTES = 4 * 1024 * 1024;
const HASHED_BYTES = 64 * 1024 * 1024;
const PARALLEL = 3;
const RETRY_MS = [1000, 3000, 5000, 10000, 30000];
const SAID_EVERY_PERCENT = 25;
const PRINT_BYTES = 1024 * 1024;

const uploads = [];
const list = document.querySelector("#uploading");
const summary = document.querySelector("#up-sum");
const pauseAll = summary.querySelector("[data-pause-all]");
const live = () => document.querySelector("#live");
const number = new Intl.NumberFormat(document.documentElement.lang, { maximumFractionDigits: 1 });
const slow = ["slow-2g", "2g", "3g"].includes(navigator.connection?.effectiveType);
let saidPercent = 0;
let startedAt = 0;
let startedFrom = 0;

document.querySelector("#plain-upload").hidden = true;

const size = (bytes) => {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) [bytes, unit] = [bytes / 1000, unit + 1];
  return `${number.format(bytes)}\u00a0${units[unit]}`;
};
const time = (seconds) =>
  seconds < 90 ? say("Seconds", { n: Math.ceil(seconds) }) : say("Minutes", { n: Math.ceil(seconds / 60) });
const percentOf = (item) => (item.file.size ? Math.floor((100 * item.sent) / item.file.size) : 0);

// The same file chosen again goes on where it stopped, in this submission only.
async function fingerprint(file) {
  let print = "";
  if (globalThis.crypto?.subtle) {
    const digest = await crypto.subtle.digest("SHA-256", await file.slice(0, PRINT_BYTES).arrayBuffer());
    print = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  const { owner, submission } = form.dataset;
  return ["openledger", owner, submission, file.name, file.size, file.lastModified, print].join("-");
}

function show(item) {
  const { row, state } = item;
  row.dataset.state = state;
  row.querySelector(".hint").textContent = say("Of", { done: size(item.sent), total: size(item.file.size) });
  row.querySelector("progress").value = percentOf(item);
  row.querySelector("progress").className = { failed: "bad", uploading: "" }[state] ?? "idle";
  const badge = row.querySelector("[data-badge]");
  badge.textContent = say({ uploading: "Uploading", paused: "Stopped", failed: "Failed" }[state] ?? "Queued");
  badge.className = `badge ${{ uploading: "info", failed: "bad" }[state] ?? "warn"}`;
  const percent = percentOf(item);
  const words = {
    waiting: () => say("Waiting"),
    paused: () => say("Paused", { percent }),
    lost: () => say("Lost", { percent }),
    failed: () => item.error,
    uploading: () => say("Left", { percent, time: time(left(item)) }),
  };
  row.querySelector("[data-text]").textContent = words[state]();
  row.classList.toggle("needs", state === "failed");
  if (state === "failed") row.querySelector("[data-text]").setAttribute("role", "alert");
  const button = row.querySelector("[data-pause]");
  const stopped = state === "paused" || state === "failed";
  button.setAttribute("aria-label", say(stopped ? "Resume" : "Pause", { name: item.file.name }));
  button.querySelector("use").setAttribute("href", iconOf(button, stopped ? "play" : "pause"));
}

const iconOf = (button, name) => button.querySelector("use").getAttribute("href").replace(/#.*/, `#${name}`);
const moving = () => uploads.filter((item) => item.state === "uploading");

function speed() {
  const sent = uploads.reduce((sum, item) => sum + item.sent, 0) - startedFrom;
  const seconds = (performance.now() - startedAt) / 1000;
  return seconds > 0.5 && sent > 0 ? sent / seconds : 0;
}

function left(item) {
  const now = speed() / Math.max(1, moving().length);
  return now ? (item.file.size - item.sent) / now : 0;
}

function summarise() {
  summary.hidden = uploads.length === 0;
  const total = uploads.reduce((sum, item) => sum + item.file.size, 0);
  const sent = uploads.reduce((sum, item) => sum + item.sent, 0);
  const percent = total ? Math.floor((100 * sent) / total) : 0;
  summary.querySelector("[data-sum]").textContent = say("Of", { done: size(sent), total: size(total) });
  summary.querySelector("progress").value = percent;
  const now = speed();
  summary.querySelector("[data-speed]").textContent =
    moving().length && now ? say("Speed", { speed: size(now), time: time((total - sent) / now) }) : "";
  const running = uploads.some((item) => ["uploading", "waiting", "lost"].includes(item.state));
  pauseAll.querySelector("span").textContent = say(running ? "Pauseall" : "Resumeall");
  pauseAll.querySelector("use").setAttribute("href", iconOf(pauseAll, running ? "pause" : "play"));
  if (percent >= saidPercent + SAID_EVERY_PERCENT) {
    saidPercent = percent - (percent % SAID_EVERY_PERCENT);
    document.querySelector("#up-said").textContent = say("Said", { percent: saidPercent });
  }
}

function set(item, state, error = "") {
  Object.assign(item, { state, error });
  show(item);
  summarise();
}

function next() {
  if (!moving().length) [startedAt, startedFrom] = [performance.now(), uploads.reduce((s, item) => s + item.sent, 0)];
  const waiting = uploads.filter((item) => item.state === "waiting");
  for (const item of waiting.slice(0, Math.max(0, PARALLEL - moving().length))) {
    set(item, "uploading");
    const turn = (item.turn = {}); // paused and resumed meanwhile: the later turn starts it
    announce(item).then(() => item.state === "uploading" && item.turn === turn && item.upload.start());
  }
}

// Says at the first byte what the last one must complete. Larger files would not fit into memory, and a file that is gone
// on with has been announced.
async function announce(item) {
  const { options, url } = item.upload;
  if (url || item.file.size > HASHED_BYTES || options.metadata.sha256 || !globalThis.crypto?.subtle) return;
  try {
    const digest = await crypto.subtle.digest("SHA-256", await item.file.arrayBuffer());
    options.metadata.sha256 = Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
  } catch {
    // It cannot be read as a whole; the upload itself will say so.
  }
}

function pause(item) {
  item.upload.abort();
  set(item, "paused");
  next();
}

function resume(item) {
  set(item, "waiting");
  next();
}

// The server's own list shows unfinished files too; what moves here is shown once.
function hideTwins() {
  for (const item of uploads) {
    const id = item.upload.url?.split("/").pop();
    const twin = id && document.getElementById(`file-${id}`);
    if (twin) twin.hidden = true;
  }
}

function done(item) {
  uploads.splice(uploads.indexOf(item), 1);
  item.row.remove();
  if (!uploads.length) document.querySelector("#up-said").textContent = say("Done");
  summarise();
  next();
  htmx.trigger(live(), "refresh");
}

function failed(item, error) {
  const answer = error.originalResponse;
  if (!answer || !answer.getStatus()) return set(item, "lost");
  set(item, "failed", answer.getBody() && answer.getStatus() < 500 ? answer.getBody() : say("Refused"));
  return next();
}

async function add(file) {
  const row = document.querySelector("#up-row").content.firstElementChild.cloneNode(true);
  row.querySelector("b").textContent = file.name;
  row.querySelector("progress").setAttribute("aria-label", file.name);
  list.append(row);
  const item = { file, row, sent: 0, state: "waiting", error: "" };
  item.upload = new tus.Upload(file, {
    endpoint: form.dataset.endpoint,
    chunkSize: slow ? SLOW_CHUNK_BYTES : CHUNK_BYTES,
    retryDelays: RETRY_MS,
    fingerprint,
    removeFingerprintOnSuccess: true,
    metadata: { submission: form.dataset.submission, filename: file.name },
    headers: { "X-CSRFToken": form.querySelector("[name=csrfmiddlewaretoken]").value },
    onProgress(sent) {
      item.sent = sent;
      if (item.state === "uploading") show(item);
      summarise();
      hideTwins();
    },
    onShouldRetry: (error, attempt, options) => {
      const status = error.originalResponse?.getStatus() ?? 0;
      return navigator.onLine && (status === 0 || status === 409 || status === 460 || status >= 500);
    },
    onSuccess: () => done(item),
    onError: (error) => failed(item, error),
  });
  row.querySelector("[data-pause]").addEventListener("click", () =>
    ["paused", "failed"].includes(item.state) ? resume(item) : pause(item),
  );
  if (file.size > Number(form.dataset.limit)) {
    set(item, "failed", say("Large"));
    return;
  }
  const [earlier] = await item.upload.findPreviousUploads();
  if (earlier) item.upload.resumeFromPreviousUpload(earlier);
  uploads.push(item);
  set(item, "waiting");
  next();
}

function take(files) {
  for (const file of files) add(file);
}

const input = form.querySelector("#files");
input.addEventListener("change", () => {
  take([...input.files]);
  input.value = "";
});
form.addEventListener("submit", (event) => event.preventDefault());

const drop = document.querySelector("#drop");
for (const kind of ["dragenter", "dragover"])
  drop.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  take([...event.dataTransfer.files]);
});

pauseAll.addEventListener("click", () => {
  const running = uploads.filter((item) => ["uploading", "waiting", "lost"].includes(item.state));
  if (running.length) running.forEach(pause);
  else uploads.filter((item) => item.state === "paused").forEach(resume);
});

addEventListener("online", () => uploads.filter((item) => item.state === "lost").forEach(resume));
addEventListener("beforeunload", (event) => moving().length && event.preventDefault());

// Polling: not in a hidden tab; and a form somebody types in is not replaced under their hands.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.detail.elt === live()) event.preventDefault();
});
const typedIn = (scope) =>
  [...scope.querySelectorAll("input, textarea")].some((field) => field.value !== field.defaultValue);
document.addEventListener("htmx:oobBeforeSwap", (event) => {
  if (event.detail.target.id !== "rows" || !typedIn(event.detail.target)) return;
  event.detail.shouldSwap = false;
  document.dispatchEvent(new CustomEvent("toast", { detail: { text: say("Rows") } }));
});
document.addEventListener("htmx:load", hideTwins);
// After a corrected row the keyboard goes on with the next one.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target?.id?.startsWith("row-") && event.detail.successful)
    document.querySelector("#rows .fixes li:not(.done) .fix-fields :is(input, select, textarea)")?.focus();
});
