"""The two verifiers of outsiders, one file of Python and one module of the browser, against the example receipts.

The vectors in tests/ledger/vectors were made by another program than ours; nothing here may regenerate them.
The Python file is asked about every bit in test_verify_every_bit.py; the browser's module and the server's own check are
here about a sample, and with EVERY_BIT=1 about all 82,000 of the two receipts (one to three minutes).
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import verify_receipt
from ledger import commitments, notes, receipts
from tests.ledger import test_receipts as ours

ROOT = Path(__file__).resolve().parents[2]
VECTORS = Path(__file__).parent / "vectors"
NAMES = ["example_receipt.json", "example_receipt_contributor.json"]
LOG_VKEY = (VECTORS / "log.vkey").read_text().strip()
WITNESS_VKEYS = (VECTORS / "wit.vkey").read_text().split()
SAMPLE = 1 if os.environ.get("EVERY_BIT") else 19  # odd: it meets each bit of a byte as often

LOG = verify_receipt.vkey(LOG_VKEY, 1)
WITNESSES = [verify_receipt.vkey(vkey, 4) for vkey in WITNESS_VKEYS]


def run(*arguments):
    command = [sys.executable, "-I", str(ROOT / "verify_receipt.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def is_verified(data: bytes, quorum: int) -> bool:
    """What the command line decides, without starting a process for each bit."""
    try:
        verify_receipt.check_receipt(data.decode(), LOG, WITNESSES, quorum)
    except Exception:
        return False
    return True


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def without_cosignatures(data: bytes) -> list[int]:
    """The byte positions outside the cosignature lines."""
    start, end = data.index("— witness0".encode()), data.rindex(b"\\n") + 2
    return [*range(start), *range(end, len(data))]


# --- The command line ---


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quorum", [0, 1, 2, 3])
def test_the_example_receipts_are_verified(name, quorum):
    done = run("receipt", VECTORS / name, "--log", LOG_VKEY, "--witness", *WITNESS_VKEYS, "--quorum", quorum)
    assert (done.returncode, done.stderr) == (0, "")
    assert "entry 3 of 1000" in done.stdout


def test_without_a_quorum_all_the_named_witnesses_must_have_cosigned(tmp_path):
    data = (VECTORS / NAMES[0]).read_bytes()
    receipt = json.loads(data)
    receipt["proof"] = receipt["proof"][: receipt["proof"].index("— witness2")]
    shorter = tmp_path / "receipt.json"
    shorter.write_text(json.dumps(receipt))

    assert run("receipt", shorter, "--log", LOG_VKEY, "--witness", *WITNESS_VKEYS).returncode == 1
    assert run("receipt", shorter, "--log", LOG_VKEY, "--witness", *WITNESS_VKEYS, "--quorum", "2").returncode == 0
    two = [argument for vkey in WITNESS_VKEYS[:2] for argument in ("--witness", vkey)]
    assert run("receipt", shorter, "--log", LOG_VKEY, *two).returncode == 0


def test_a_grown_log_is_verified_and_a_shrunk_or_rewritten_one_is_not(tmp_path):
    old, new, proof = VECTORS / "c600.txt", VECTORS / "c1000.txt", VECTORS / "cons.txt"
    assert run("consistency", old, new, proof, "--log", LOG_VKEY).returncode == 0
    assert run("consistency", old, new, proof, "--log", LOG_VKEY, "--witness", *WITNESS_VKEYS).returncode == 0
    assert run("consistency", new, old, proof, "--log", LOG_VKEY).returncode == 1
    assert run("consistency", old, old, proof, "--log", LOG_VKEY).returncode == 1
    assert run("consistency", old, old, "/dev/null", "--log", LOG_VKEY).returncode == 0
    lines = proof.read_text().split("\n")
    changed = tmp_path / "proof.txt"
    for number, line in enumerate(lines):
        for text in [("B" if line[0] == "A" else "A") + line[1:], "", line + "\n" + line, line.rstrip("=")]:
            changed.write_text("\n".join([*lines[:number], text, *lines[number + 1 :]]))
            assert run("consistency", old, new, changed, "--log", LOG_VKEY).returncode == 1, (number, text)


def test_wrong_usage_is_told_apart_from_a_false_receipt(tmp_path):
    good = VECTORS / NAMES[0]
    for arguments in [
        [],
        ["receipt", good],
        ["receipt", tmp_path / "missing", "--log", LOG_VKEY],
        ["receipt", good, good, "--log", LOG_VKEY],
        ["consistency", good, "--log", LOG_VKEY],
        ["receipt", good, "--log", LOG_VKEY[:-1]],
        ["receipt", good, "--log", WITNESS_VKEYS[0]],
        ["receipt", good, "--log", LOG_VKEY, "--witness", LOG_VKEY],
        ["receipt", good, "--log", LOG_VKEY, "--witness", WITNESS_VKEYS[0], "--quorum", "2"],
        ["receipt", good, "--log", LOG_VKEY, "--witness", WITNESS_VKEYS[0], WITNESS_VKEYS[0]],
        ["receipt", good, "--log", LOG_VKEY, "--quorum", "-1"],
        ["receipts", good, "--log", LOG_VKEY],
    ]:
        assert run(*arguments).returncode == 2, arguments
    assert run("receipt", VECTORS / "c600.txt", "--log", LOG_VKEY).returncode == 1
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    assert run("receipt", empty, "--log", LOG_VKEY).returncode == 1


def test_the_verifier_is_one_short_file_of_the_standard_library():
    source = (ROOT / "verify_receipt.py").read_text()
    assert len(source.splitlines()) <= 150
    imports = {line.split()[1] for line in source.splitlines() if line.startswith(("import ", "from "))}
    assert imports <= sys.stdlib_module_names


# --- Changed receipts ---


def rewritten(change):
    """The full example as text after `change` was made to its parsed form, or to its text."""
    text = (VECTORS / NAMES[0]).read_text()
    return change(text)


LAX = {
    "a duplicate key": lambda text: text.replace('"v": "open-receipt/1",', '"v": "x", "v": "open-receipt/1",', 1),
    "a duplicate opening": lambda text: text.replace('"split.0": {', '"split.0": {"salt": "", "value": ""}, "split.0": {', 1),
    "an upper-case salt": lambda text: text.replace(SALT, SALT.upper()),
    "a short salt": lambda text: text.replace(SALT, SALT[:-2]),
    "an unknown field": lambda text: text.replace('"v": "open-receipt/1",', '"v": "open-receipt/1", "note": "hi",', 1),
    "an unknown opening": lambda text: text.replace('"price": {\n   "salt"', '"tip": {\n   "salt"', 1),
    "an index with a leading zero": lambda text: text.replace("index 3", "index 03"),
    "an index with a sign": lambda text: text.replace("index 3", "index +3"),
    "a size with a leading zero": lambda text: text.replace("\\n1000\\n", "\\n01000\\n"),
    "an extra line": lambda text: text.replace("index 3", "extra YQ==\\nindex 3"),
    "an extension line": lambda text: text.replace("OI=\\n\\n", "OI=\\nextension\\n\\n"),
    "one hash too many": lambda text: text.replace("mJRo=\\n\\n", "mJRo=\\nkPnLXDOKnDECCrmFsrBn2P5nqPSP/4nbmDCcA70mJRo=\\n\\n"),
    "one hash too few": lambda text: text.replace("kPnLXDOKnDECCrmFsrBn2P5nqPSP/4nbmDCcA70mJRo=\\n\\n", "\\n"),
    "spare bits in base64": lambda text: text.replace("sUUw=", "sUUx="),
    "base64 without padding": lambda text: text.replace("sUUw=", "sUUw"),
    "a space in base64": lambda text: text.replace("H+4T", "H+4T "),
    "no newline at the end": lambda text: text.replace('PDQ==\\n"', 'PDQ=="'),
    "an empty last line": lambda text: text.replace('PDQ==\\n"', 'PDQ==\\n\\n"'),
    "a line of no signature": lambda text: text.replace('PDQ==\\n"', 'PDQ==\\nhello\\n"'),
    "a cosignature twice": lambda text: text.replace('PDQ==\\n"', 'PDQ==\\n' + COSIGNATURE + '\\n"'),
    "carriage returns": lambda text: text.replace("\\n1000", "\\r\\n1000"),
    "a form feed": lambda text: text.replace("index 3\\n", "index 3\\f"),
    "a float": lambda text: text.replace('"value": "1264"', '"value": 1264.0'),
    "a boolean": lambda text: text.replace('"value": "1264"', '"value": true'),
    "a value after the end": lambda text: text + "{}",
    "a byte order mark": lambda text: "\ufeff" + text,
    "no openings but the key": lambda text: text[: text.index('"openings": {')] + '"openings": 7, ' + text[text.index('"proof"') :],
}  # fmt: skip
SALT = "0273cf9914d72f6ebfb27abf6040376d85eff596dc0cc1bd7ea637891dd9111e"
COSIGNATURE = (VECTORS / "c1000.txt").read_text().split("\n")[5]


@pytest.mark.parametrize("name", LAX)
def test_a_receipt_that_is_not_written_the_one_way_is_refused(name):
    text = rewritten(LAX[name])
    assert text != (VECTORS / NAMES[0]).read_text()
    assert not is_verified(text.encode(), 3)
    assert not is_verified(text.encode(), 2)
    assert not all(step.ok for step in receipts.verify_receipt(text, LOG_VKEY, WITNESS_VKEYS, 3))


def test_a_line_by_an_unknown_key_is_ignored_as_the_note_format_says():
    stranger = notes.new_signing_key("stranger.test", notes.WITNESS_KEY, b"s" * 32)
    text = "open.example/log1\n1000\n7Sd653KGDFgWUpqfjjp+yYInsWHS0nM4klQspHFKIOI=\n"
    line = notes.cosign_checkpoint(text, stranger, 1).rstrip("\n")
    more = rewritten(lambda text: text.replace('PDQ==\\n"', f'PDQ==\\n{line}\\n"'))
    assert is_verified(more.encode(), 3)
    assert all(step.ok for step in receipts.verify_receipt(more, LOG_VKEY, WITNESS_VKEYS, 3))


# --- Its Ed25519 ---


def test_its_signature_check_agrees_with_the_library():
    check = verify_receipt.is_signed
    for number in range(12):
        key = Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32)
        public, message = key.public_key().public_bytes_raw(), b"m" * number
        signature = key.sign(message)
        assert check(public, message, signature)
        assert not check(public, message + b"!", signature)
        assert not check(public, message, signature[:-1])
        assert not check(public, message, signature + b"\0")
        assert not check(public, message, bytes(32) + signature[32:])
        s = int.from_bytes(signature[32:], "little") + verify_receipt.ORDER
        assert not check(public, message, signature[:32] + s.to_bytes(32, "little")), "S must be below the order"


@pytest.mark.parametrize(
    "encoded",
    [
        (verify_receipt.P + 1).to_bytes(32, "little"),
        (verify_receipt.P + 3).to_bytes(32, "little"),
        (1 | 1 << 255).to_bytes(32, "little"),
        (2).to_bytes(32, "little"),
        b"\xff" * 32,
    ],
    ids=["y is not reduced", "y is not reduced either", "the sign of zero", "not on the curve", "all ones"],
)
def test_a_key_that_is_not_a_canonical_point_is_refused(encoded):
    with pytest.raises(ValueError):
        verify_receipt.is_signed(encoded, b"", bytes(64))


# --- The browser's module ---

NODE = shutil.which("node")
SCRIPT = """
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
const { module, log, witnesses, former, cases } = JSON.parse(readFileSync(0, "utf8"));
const { verifyReceipt } = await import(pathToFileURL(module));
const results = [];
for (const { base64, flips, quorum } of cases) {
  const data = Buffer.from(base64, "base64");
  const one = await verifyReceipt(new Uint8Array(data), log, witnesses, quorum, former);
  const passed = [];
  for (const bit of flips) {
    const changed = new Uint8Array(data);
    changed[bit >> 3] ^= 1 << (bit & 7);
    if ((await verifyReceipt(changed, log, witnesses, quorum)).ok) passed.push(bit);
  }
  results.push({ ...one, passed });
}
console.log(JSON.stringify(results));
"""


def in_node(cases, tmp_path, log=LOG_VKEY, witnesses=WITNESS_VKEYS, former=()):
    # A copy named .mjs: node takes a .js file for CommonJS where no package.json says otherwise.
    module = tmp_path / "verify-receipt.mjs"
    shutil.copy(ROOT / "static/js/verify-receipt.js", module)
    script = tmp_path / "check.mjs"
    script.write_text(SCRIPT)
    given = {"module": str(module), "log": log, "witnesses": witnesses, "former": list(former), "cases": cases}
    done = subprocess.run([NODE, str(script)], input=json.dumps(given), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def case(data, quorum=3, flips=()):
    return {"base64": base64.b64encode(data).decode(), "quorum": quorum, "flips": list(flips)}


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_browser_verifies_the_examples_step_by_step_as_the_server_does(tmp_path):
    for name, result in zip(
        NAMES, in_node([case((VECTORS / name).read_bytes()) for name in NAMES], tmp_path), strict=True
    ):
        server = receipts.verify_receipt((VECTORS / name).read_bytes(), LOG_VKEY, WITNESS_VKEYS, 3)
        assert result["ok"]
        assert [(step["name"], step["key"]) for step in result["steps"]] == [(step.name, step.key) for step in server]
        assert all(step["detail"] for step in result["steps"])


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_browser_refuses_changed_bits(tmp_path):
    cases = []
    for name in NAMES:
        data = (VECTORS / name).read_bytes()
        outside = [place * 8 + bit for place in without_cosignatures(data) for bit in range(8)]
        cases += [case(data, 3, range(0, len(data) * 8, SAMPLE)), case(data, 2, outside[::SAMPLE])]
    for result in in_node(cases, tmp_path):
        assert result["ok"]
        assert result["passed"] == []


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_browser_is_as_strict_as_the_command_line(tmp_path):
    results = in_node([case(rewritten(change).encode(), 2) for change in LAX.values()], tmp_path)
    assert [name for name, result in zip(LAX, results, strict=True) if result["ok"]] == []


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_browser_verifies_what_our_log_makes(tmp_path):
    private = {**ours.PRIVATE, "request": 'é \u2028 \U0001f426 \x7f \n\t"', "tokens": [{"b": 2**53 - 1, "a": 0}, []]}
    entry, opened = ours.call_charged(private=private), commitments.openings(private, ours.SPLIT, ours.SECRET)
    cases = [
        case(json.dumps(ours.a_receipt(entry, opened, position=position, size=size)).encode())
        for size in (1, 2, 3, 7, 8, 9, 100)
        for position in {0, size // 2, size - 1}
    ]
    cases.append(case(json.dumps(ours.a_receipt(entry, None), ensure_ascii=False).encode()))
    results = in_node(cases, tmp_path, ours.LOG_VKEY, ours.WITNESS_VKEYS)
    assert [step for result in results for step in result["steps"] if not step["ok"]] == []
    wrong_log = in_node(cases[:1], tmp_path, LOG_VKEY, ours.WITNESS_VKEYS)[0]
    assert [step["name"] for step in wrong_log["steps"] if not step["ok"]] == ["log_signature"]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_server_and_browser_judge_the_keys_of_a_changed_log_alike(tmp_path):
    old, new = (notes.new_signing_key("open.test/log", notes.LOG_KEY, seed * 32) for seed in (b"o", b"n"))
    public = {"rule": "sha256:" + "ab" * 32, "parts": []}
    entry = commitments.build_entry("rule.adopted", "1", "2026-11-22T07", public, {}, None, bytes(32))
    text = notes.checkpoint_text("open.test/log", 1, commitments.leaf_hash(entry))

    def signed(*keys, wrong=None):
        lines = notes.sign_checkpoint(text, *keys).split("\n\n")[1].splitlines()
        if wrong is not None:
            lines[wrong] = lines[wrong][:-20] + ("B" if lines[wrong][-20] == "A" else "A") + lines[wrong][-19:]
        return receipts.build_receipt(entry, None, 0, [], "\n".join([text, *lines, ""]))

    expected = {
        "log_signature.ok": [signed(new), signed(new, old), signed(old, new)],
        "log_signature.former": [signed(old)],
        "log_signature.failed": [
            signed(ours.LOG),
            *(signed(new, old, wrong=line) for line in (0, 1)),
            signed(old, wrong=0),
        ],
    }
    made = [json.dumps(receipt).encode() for group in expected.values() for receipt in group]
    keys = [key for key, group in expected.items() for _receipt in group]
    told = (new.verifier.encode(), [], 0, [old.verifier.encode()])
    assert [receipts.verify_receipt(receipt, *told)[4].key for receipt in made] == keys
    results = in_node(
        [case(receipt, 0) for receipt in made], tmp_path, new.verifier.encode(), [], [old.verifier.encode()]
    )
    assert [result["steps"][4]["key"] for result in results] == keys


def test_the_server_refuses_changed_bits():
    for name in NAMES:
        data = (VECTORS / name).read_bytes()
        for bit in range(0, len(data) * 8, SAMPLE):
            steps = receipts.verify_receipt(flipped(data, bit), LOG_VKEY, WITNESS_VKEYS, 3)
            assert not all(step.ok for step in steps), bit
