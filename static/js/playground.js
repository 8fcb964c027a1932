// Streams a chat answer straight from the gateway. Without this file the form does the same through the server.
const form = document.querySelector("form[data-playground]");
const chat = document.querySelector("#answer");
const why = document.querySelector("#why");
// The gateway's codes as sentences in the reader's language.
const refusals = JSON.parse(document.querySelector("#refusals")?.textContent ?? "{}");
let secret = "";

form?.addEventListener("submit", (event) => {
  // The quote button, and a browser that cannot stream, go through the server.
  if (event.submitter?.value === "quote" || !window.ReadableStream) return;
  event.preventDefault();
  send().catch(() => fail(form.dataset.failed));
});

form?.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.metaKey || event.ctrlKey)) {
    event.preventDefault();
    form.querySelector("[value=send]").click();
  }
});

async function send() {
  const box = form.querySelector("textarea");
  const question = box.value.trim();
  if (!question) return box.focus();
  const button = form.querySelector("[value=send]");
  button.disabled = true;
  chat.replaceChildren(part("me", question));
  const answer = part("ai", "");
  chat.append(answer);
  try {
    const { data, refused } = await ask(question);
    if (refused) return fail(refused);
    await read(data, answer);
    box.value = "";
  } finally {
    button.disabled = false;
  }
}

async function ask(question) {
  // The page of another model may have taken this one's key: then a new one is made, once.
  const had = secret !== "";
  secret ||= await key();
  const response = await toGateway(question);
  if (response.ok) return { data: response.body };
  const refused = sentence((await response.json()).error);
  if (response.status !== 401) return { refused };
  secret = "";
  return had ? ask(question) : { refused };
}

function toGateway(question) {
  return fetch(`${form.dataset.gateway}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${secret}`, "content-type": "application/json" },
    body: JSON.stringify({
      model: form.dataset.model,
      messages: [{ role: "user", content: question }],
      max_tokens: 128,
      stream: true,
      stream_options: { include_usage: true },
    }),
  });
}

async function key() {
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  const response = await fetch(form.dataset.keyUrl, { method: "POST", headers: { "x-csrftoken": token } });
  if (!response.ok) throw new Error("no key");
  return (await response.json()).key;
}

// Server-sent events: "data: {...}" lines, the last of which says what the call cost.
async function read(stream, answer) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  const text = answer.firstChild;
  let rest = "";
  let done = false;
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      if (line === "data: [DONE]") {
        done = true;
        continue;
      }
      const event = JSON.parse(line.slice(6));
      if (event.error) return fail(sentence(event.error));
      text.textContent += event.choices?.[0]?.delta?.content ?? "";
      if (event.open) foot(answer, event);
    }
  }
  // Held back until the charge is stored: without it the call failed, and failed calls cost nothing.
  if (!done) fail(form.dataset.failed);
}

function foot(answer, event) {
  const line = document.createElement("div");
  line.className = "ai-ft";
  const cost = document.createElement("span");
  cost.className = "num";
  const free = event.open.paid_by === "developer" ? ` (${form.dataset.free})` : "";
  cost.textContent = `${form.dataset.cost}: ${event.open.cost} OPEN${free}`;
  const link = document.createElement("a");
  link.href = `/r/${event.open.receipt_id}`;
  link.textContent = form.dataset.receipt;
  line.append(cost, link);
  for (const cited of event.open.citations ?? []) {
    const source = document.createElement("p");
    source.className = "small muted";
    source.textContent = `${cited.marker} ${cited.title || cited.datanet}: ${cited.excerpt}`;
    answer.append(source);
  }
  answer.append(line);
  explain(event.open.receipt_id);
}

async function explain(call) {
  const address = form.dataset.whyUrl.replace("00000000-0000-0000-0000-000000000000", call);
  const response = await fetch(`${address}?part=1`, { headers: { "x-requested-with": "fetch" } });
  if (!response.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  why.replaceChildren(...page.body.childNodes);
  window.htmx?.process(why);
}

function part(kind, words) {
  const box = document.createElement("div");
  box.className = kind;
  const text = document.createElement("p");
  text.textContent = words;
  box.append(text);
  return box;
}

function sentence(error) {
  return refusals[error?.code] ?? error?.message ?? form.dataset.failed;
}

function fail(words) {
  const box = part("callout bad", words);
  box.setAttribute("role", "alert");
  chat.append(box);
}
