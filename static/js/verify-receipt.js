/**
 * Check a receipt in the browser, as verify_receipt.py does it on the command line: with the receipt and the keys only.
 * docs/receipt.md describes the formats. Nothing is sent anywhere; Ed25519 and SHA-256 are the browser's own.
 *
 *   const { ok, steps } = await verifyReceipt(text, logVkey, witnessVkeys, quorum);
 *
 * Each step is { name, ok, key, values, detail }: `key` names the sentence to show (the page has it translated), `values`
 * fill it in, `detail` is the same in English. Steps come in the order form, commitments, split, inclusion,
 * log_signature, witnesses; if the form is wrong it is the only one.
 */

const INTEGER_MAX = 2 ** 53 - 1;
const TEXT_CHARS_MAX = 16 * 1024 * 1024;
const NESTING_MAX = 16;
const SIGNATURES_MAX = 64;
const PROOF_HASHES_MAX = 63;
const LOG_KEY = 1;
const WITNESS_KEY = 4;

const HEX32 = /^[0-9a-f]{64}$/;
const AMOUNT = /^(0|[1-9][0-9]{0,18})$/;
const NUMBER = /^(0|[1-9][0-9]{0,15})$/;
const HOUR = /^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])$/;
const KEY_NAME = /^[^\s+\x00-\x1f\x7f]+$/u;

/** The text is not what the format says, to the letter. */
class Malformed extends Error {}

/**
 * @param {string|Uint8Array|ArrayBuffer} text The receipt file. Bytes are read as strict UTF-8.
 * @param {string} logVkey The log's public key, name+id+base64.
 * @param {string[]} witnessVkeys The witnesses' public keys, all different.
 * @param {number} quorum How many of them must have cosigned.
 * @param {string[]} formerVkeys Keys that this log had before.
 * @returns {Promise<{ok: boolean, steps: object[]}>}
 * @throws {Error} The keys or the quorum make no sense: that is not the receipt's fault.
 */
export async function verifyReceipt(text, logVkey, witnessVkeys, quorum, formerVkeys = []) {
  if (!globalThis.crypto?.subtle) return { ok: false, steps: [unavailable("form", {})] };
  const log = await parseVkey(logVkey, LOG_KEY);
  const former = await Promise.all(formerVkeys.map((vkey) => parseVkey(vkey, LOG_KEY)));
  const witnesses = await Promise.all(witnessVkeys.map((vkey) => parseVkey(vkey, WITNESS_KEY)));
  // A cosignature does not bind the witness's name: one key under two names would count twice.
  if (new Set(witnesses.map((witness) => hex(witness.publicKey))).size !== witnesses.length) {
    throw new Error("witness keys must all be different");
  }
  if (!Number.isInteger(quorum) || quorum < 0 || quorum > witnesses.length) {
    throw new Error("the quorum must be within reach of the witnesses");
  }

  let receipt;
  try {
    receipt = parseReceipt(text);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    return { ok: false, steps: [step("form", false, { reason: error.message }, error.message)] };
  }
  const { entry, openings, proof, checkpoint } = receipt;
  const steps = [
    step("form", true, {}, "The file is an open-receipt/1."),
    await checkCommitments(entry, openings),
    checkSplit(entry, openings),
    await checkInclusion(entry, proof, checkpoint),
    await checkLogSignature(checkpoint, log, former),
    await checkWitnesses(checkpoint, witnesses, quorum),
  ];
  return { ok: steps.every((one) => one.ok), steps };
}

function step(name, ok, values, detail, key = `${name}.${ok ? "ok" : "failed"}`) {
  return { name, ok, key, values, detail };
}

// --- The steps ---

async function checkCommitments(entry, openings) {
  const committed = committedFields(entry);
  for (const [field, { salt, value }] of openings) {
    const prefix = utf8(`open-commit/1\n${field}\n`);
    const digest = await sha256(prefix, fromHex(salt), utf8(canonical(value)));
    if (hex(digest) !== committed.get(field)) {
      return step("commitments", false, { field }, `The opened ${field} is not what the entry commits to.`);
    }
  }
  if (openings.size === 0) {
    return step(
      "commitments",
      true,
      { count: 0 },
      "Nothing is opened: this is the public receipt.",
      "commitments.none",
    );
  }
  return step("commitments", true, { count: openings.size }, `${openings.size} opened values match the entry.`);
}

function checkSplit(entry, openings) {
  const fields = splitCommitments(entry).map((_, number) => `split.${number}`);
  const opened = fields.filter((field) => openings.has(field)).map((field) => openings.get(field).value);
  if (!opened.every(isSplitLine)) return step("split", false, {}, "A split line is malformed.");
  const total = opened.reduce((sum, line) => sum + BigInt(line.get("amount")), 0n);
  const price = openings.get("price")?.value;
  if (price !== undefined && !isMatch(AMOUNT, price)) return step("split", false, {}, "The price is malformed.");
  if (fields.length === 0 || price === undefined) {
    return step("split", true, { lines: opened.length }, "There is no total to compare with.", "split.none");
  }
  const values = { lines: opened.length, price_nano: price };
  if (opened.length < fields.length) {
    const ok = total <= BigInt(price);
    const detail = ok ? "The opened parts stay within the price." : "The opened parts exceed the price.";
    return step("split", ok, values, detail, ok ? "split.partial" : "split.failed");
  }
  const ok = total === BigInt(price);
  return step("split", ok, values, ok ? "The parts add up to the price." : "The parts do not add up to the price.");
}

async function checkInclusion(entry, proof, checkpoint) {
  const leaf = await sha256(Uint8Array.of(0), utf8(canonical(entry)));
  const root = await climb(leaf, proof.index, checkpoint.size, proof.hashes);
  const ok = root !== null && hex(root) === hex(checkpoint.root);
  const values = { index: proof.index, size: checkpoint.size };
  return step("inclusion", ok, values, `The entry is ${ok ? "" : "not "}number ${proof.index} of ${checkpoint.size}.`);
}

async function checkLogSignature(checkpoint, log, former) {
  const values = { origin: checkpoint.origin };
  const present = [log, ...former].filter((key) => signaturesOf(checkpoint, key).length > 0);
  for (const key of present) {
    const signatures = signaturesOf(checkpoint, key);
    const ok =
      checkpoint.origin === key.name &&
      signatures.length === 1 &&
      (await isSigned(key.publicKey, utf8(checkpoint.text), signatures[0]));
    if (ok === null) return unavailable("log_signature", values);
    if (!ok) return step("log_signature", false, values, "The log's signature is wrong.");
  }
  if (present.length === 0) return step("log_signature", false, values, "The checkpoint is not signed by this log.");
  if (present[0] === log) return step("log_signature", true, values, `Signed by ${log.name}.`);
  return step("log_signature", true, values, `Signed by a former key of ${log.name}.`, "log_signature.former");
}

async function checkWitnesses(checkpoint, witnesses, quorum) {
  let count = 0;
  for (const witness of witnesses) {
    const signatures = signaturesOf(checkpoint, witness);
    if (signatures.length === 0) continue;
    const time = signatures[0].length > 8 ? new DataView(signatures[0].slice(0, 8).buffer).getBigUint64(0) : 0n;
    const message = utf8(`cosignature/v1\ntime ${time}\n${checkpoint.text}`);
    const ok = signatures.length === 1 && (await isSigned(witness.publicKey, message, signatures[0].slice(8)));
    if (ok === null) return unavailable("witnesses", { count, quorum });
    if (!ok) return step("witnesses", false, { count, quorum }, `The cosignature of ${witness.name} is wrong.`);
    count += 1;
  }
  const detail = `${count} witnesses cosigned, ${quorum} are needed.`;
  const ok = count >= quorum;
  return step(
    "witnesses",
    ok,
    { count, quorum },
    detail,
    !ok ? "witnesses.failed" : quorum ? "witnesses.ok" : "witnesses.none",
  );
}

function unavailable(name, values) {
  const detail = "This browser cannot check signatures on this page (it needs https and Ed25519); use verify_receipt.py.";
  return step(name, false, values, detail, `${name}.unavailable`);
}

// --- Receipt and entry ---

function parseReceipt(text) {
  const receipt = parseJson(decode(text));
  if (!(receipt instanceof Map) || !hasKeys(receipt, ["v", "entry", "proof"], ["openings"])) {
    throw new Malformed("a receipt has v, entry, proof and perhaps openings");
  }
  const entry = receipt.get("entry");
  const openings = receipt.get("openings") ?? new Map();
  const proofText = receipt.get("proof");
  if (receipt.get("v") !== "open-receipt/1" || typeof proofText !== "string")
    throw new Malformed("not an open-receipt/1");
  checkEntry(entry);
  if (receipt.has("openings") && (!(openings instanceof Map) || openings.size === 0)) {
    throw new Malformed("openings is an object with fields");
  }
  const opened = new Map();
  for (const [field, opening] of openings) {
    if (!(opening instanceof Map) || !hasKeys(opening, ["salt", "value"]) || !isMatch(HEX32, opening.get("salt"))) {
      throw new Malformed(`the opening of ${field} is not a salt and a value`);
    }
    opened.set(field, { salt: opening.get("salt"), value: opening.get("value") });
  }
  const proof = parseProof(proofText);
  return { entry, openings: opened, proof, checkpoint: parseCheckpoint(proof.checkpoint) };
}

function checkEntry(entry) {
  if (!(entry instanceof Map) || entry.get("v") !== "open-entry/1") throw new Malformed("not an open-entry/1");
  if (typeof entry.get("type") !== "string" || typeof entry.get("id") !== "string") {
    throw new Malformed("an entry has a type and an id");
  }
  if (!isMatch(HOUR, entry.get("hour"))) throw new Malformed("the hour reads YYYY-MM-DDTHH");
  if (!entry.has("commit")) return;
  const commit = entry.get("commit");
  if (!(commit instanceof Map) || commit.size === 0) throw new Malformed("commit is an object with fields");
  for (const [field, digest] of commit) {
    const digests = field === "split" ? digest : [digest];
    if (!Array.isArray(digests) || !digests.every((one) => isMatch(HEX32, one))) {
      throw new Malformed(`the commitment to ${field} is not 64 lower-case hex digits`);
    }
    if (field === "split" && !isPaddedLength(digests.length)) throw new Malformed("the split is not padded");
  }
}

function isPaddedLength(count) {
  return [8, 16, 32].includes(count) || (count > 0 && count % 64 === 0);
}

function splitCommitments(entry) {
  return entry.get("commit")?.get("split") ?? [];
}

function committedFields(entry) {
  const fields = new Map(splitCommitments(entry).map((digest, number) => [`split.${number}`, digest]));
  for (const [field, digest] of entry.get("commit") ?? []) if (field !== "split") fields.set(field, digest);
  return fields;
}

function isSplitLine(line) {
  return (
    line instanceof Map &&
    hasKeys(line, ["payee", "role", "item", "amount"]) &&
    [...line.values()].every((value) => typeof value === "string") &&
    isMatch(AMOUNT, line.get("amount"))
  );
}

function hasKeys(map, required, optional = []) {
  return (
    required.every((key) => map.has(key)) &&
    [...map.keys()].every((key) => required.includes(key) || optional.includes(key))
  );
}

// --- C2SP tlog-proof, tlog-checkpoint, signed-note ---

function parseProof(text) {
  const gap = text.indexOf("\n\n");
  const [header, index, ...hashes] = text.slice(0, Math.max(gap, 0)).split("\n");
  if (gap < 0 || header !== "c2sp.org/tlog-proof@v1" || !index?.startsWith("index ") || !NUMBER.test(index.slice(6))) {
    throw new Malformed("the proof does not start with its header and the index");
  }
  if (hashes.length > PROOF_HASHES_MAX) throw new Malformed("the proof has too many hashes");
  return {
    index: wholeNumber(index.slice(6)),
    hashes: hashes.map((line) => fromBase64(line, 32)),
    checkpoint: text.slice(gap + 2),
  };
}

function parseCheckpoint(note) {
  const lines = note.split("\n");
  if (lines.length < 6 || lines[3] !== "" || lines.at(-1) !== "" || lines.length > 5 + SIGNATURES_MAX) {
    throw new Malformed("a checkpoint is three lines, an empty line, and signature lines");
  }
  const [origin, size, root] = lines;
  if (!KEY_NAME.test(origin) || !NUMBER.test(size)) throw new Malformed("the checkpoint's origin or size is malformed");
  const signatures = lines.slice(4, -1).map((line) => {
    const [dash, name, material, ...rest] = line.split(" ");
    if (dash !== "\u2014" || !KEY_NAME.test(name ?? "") || material === undefined || rest.length > 0) {
      throw new Malformed("a signature line reads dash, name, base64");
    }
    const bytes = fromBase64(material);
    if (bytes.length < 5) throw new Malformed("a signature is too short");
    return { name, id: hex(bytes.slice(0, 4)), signature: bytes.slice(4) };
  });
  const text = `${origin}\n${size}\n${root}\n`;
  return { origin, size: wholeNumber(size), root: fromBase64(root, 32), text, signatures };
}

async function parseVkey(text, algorithm) {
  const [name, id, ...rest] = text.split("+");
  const material = fromBase64(rest.join("+"), 33);
  const known = (await sha256(utf8(`${name}\n`), material)).slice(0, 4);
  if (!KEY_NAME.test(name) || hex(known) !== id || material[0] !== algorithm) {
    throw new Error("not a verifier key of this kind");
  }
  return { name, id, publicKey: material.slice(1) };
}

function signaturesOf(checkpoint, key) {
  return checkpoint.signatures.filter((one) => one.name === key.name && one.id === key.id).map((one) => one.signature);
}

/** RFC 9162 section 2.1.3.2: the root that leaf, index and siblings lead to; null when they do not fit the size. */
async function climb(leaf, index, size, siblings) {
  if (index >= size) return null;
  let [position, last, computed] = [index, size - 1, leaf];
  for (const sibling of siblings) {
    if (last === 0) return null;
    while (position === last && position % 2 === 0) [position, last] = [position / 2, last / 2];
    computed = await sha256(Uint8Array.of(1), ...(position % 2 ? [sibling, computed] : [computed, sibling]));
    [position, last] = [Math.floor(position / 2), Math.floor(last / 2)];
  }
  return last === 0 ? computed : null;
}

/** True or false; null when this browser has no Ed25519 (or the page is not in a secure context). */
async function isSigned(publicKey, message, signature) {
  if (signature.length !== 64) return false;
  let key;
  try {
    key = await crypto.subtle.importKey("raw", publicKey, { name: "Ed25519" }, false, ["verify"]);
  } catch {
    return null;
  }
  return crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);
}

// --- JSON without its freedoms ---

/**
 * Objects become Maps. Refused: duplicate or non-ASCII keys, numbers other than integers from 0 to 2^53 - 1, true,
 * false, null. JSON.parse lets the last of two equal keys win, which is how two readers see two receipts.
 */
function parseJson(text) {
  let at = 0;
  const value = readValue(0);
  skipSpace();
  if (at !== text.length) throw new Malformed("the text goes on after the JSON value");
  return value;

  function readValue(depth) {
    if (depth >= NESTING_MAX) throw new Malformed("the value nests too deeply");
    skipSpace();
    if (text[at] === "{") return readObject(depth);
    if (text[at] === "[") return readList(depth);
    if (text[at] === '"') return readString();
    const digits = /[0-9]+/y;
    digits.lastIndex = at;
    const number = digits.exec(text)?.[0];
    if (number === undefined || !NUMBER.test(number))
      throw new Malformed("the text is not JSON of strings and integers");
    at += number.length;
    return wholeNumber(number);
  }

  function readObject(depth) {
    const result = new Map();
    at += 1;
    if (isNext("}")) return result;
    do {
      skipSpace();
      const key = readString();
      if (!/^[\x00-\x7f]*$/.test(key) || result.has(key)) throw new Malformed("a key stands twice, or is not ASCII");
      if (!isNext(":")) throw new Malformed("the text is not JSON");
      result.set(key, readValue(depth + 1));
    } while (isNext(","));
    if (!isNext("}")) throw new Malformed("the text is not JSON");
    return result;
  }

  function readList(depth) {
    const result = [];
    at += 1;
    if (isNext("]")) return result;
    do result.push(readValue(depth + 1));
    while (isNext(","));
    if (!isNext("]")) throw new Malformed("the text is not JSON");
    return result;
  }

  function readString() {
    const literal = /"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
    literal.lastIndex = at;
    const found = literal.exec(text)?.[0];
    if (found === undefined) throw new Malformed("the text is not JSON");
    at += found.length;
    const string = JSON.parse(found);
    if (/\p{Surrogate}/u.test(string)) throw new Malformed("a string holds half a surrogate pair");
    return string;
  }

  function isNext(character) {
    skipSpace();
    if (text[at] !== character) return false;
    at += 1;
    return true;
  }

  function skipSpace() {
    while (text[at] === " " || text[at] === "\n" || text[at] === "\r" || text[at] === "\t") at += 1;
  }
}

/** RFC 8785. JSON.stringify already writes strings and integers as it wants them; keys are ASCII. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value instanceof Map) {
    const keys = [...value.keys()].sort((a, b) => (a < b ? -1 : 1));
    return `{${keys.map((key) => `${JSON.stringify(key)}:${canonical(value.get(key))}`).join(",")}}`;
  }
  return JSON.stringify(value);
}

function decode(text) {
  let decoded = text;
  if (typeof text !== "string") {
    try {
      decoded = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);
    } catch {
      throw new Malformed("the file is not UTF-8");
    }
  }
  if (decoded.length > TEXT_CHARS_MAX) throw new Malformed("the file is too long");
  return decoded;
}

function wholeNumber(digits) {
  const value = Number(digits);
  if (value > INTEGER_MAX) throw new Malformed("an integer is from 0 to 2^53 - 1");
  return value;
}

function isMatch(pattern, value) {
  return typeof value === "string" && pattern.test(value);
}

// --- Bytes ---

async function sha256(...parts) {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

function utf8(text) {
  return new TextEncoder().encode(text);
}

function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function fromHex(text) {
  return Uint8Array.from(text.match(/../g), (pair) => Number.parseInt(pair, 16));
}

/** One text per value: the spare bits at the end must be 0, and nothing but the alphabet may stand in between. */
function fromBase64(text, size = null) {
  let binary;
  try {
    binary = atob(text);
  } catch {
    throw new Malformed("not base64");
  }
  if (btoa(binary) !== text || (size !== null && binary.length !== size)) {
    throw new Malformed("base64 that is not canonical, or of the wrong length");
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}
