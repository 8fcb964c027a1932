"""Entries, notes and receipts as the log makes them. The verifiers of outsiders are tested in test_verify_receipt."""

import functools
import hashlib
import hmac
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import verify_receipt
from ledger import commitments, merkle, notes, receipts, strict
from ledger.notes import LOG_KEY, WITNESS_KEY, Untrusted
from ledger.strict import Malformed

SECRET = bytes(range(32))
LOG = notes.new_signing_key("open.test/log", LOG_KEY, b"l" * 32)
WITNESSES = [notes.new_signing_key(f"w{number}.test", WITNESS_KEY, bytes([number + 1]) * 32) for number in range(3)]
WITNESS_VKEYS = [witness.verifier.encode() for witness in WITNESSES]
LOG_VKEY = LOG.verifier.encode()

PUBLIC = {
    "model_id": "0198c0de-0000-7000-8000-000000000002",
    "version_id": "0198c0de-0000-7000-8000-000000000003",
    "rule": "sha256:" + "ab" * 32,
}
PRIVATE = {
    "buyer": "0198c0de-0000-7000-8000-00000000da00",
    "request": "11" * 32,
    "response": "22" * 32,
    "tokens": {"in": 812, "out": 40},
    "paid_by": "developer",
    "price": "1000",
}
SPLIT = [
    {"payee": "platform:fees", "role": "platform", "item": "", "amount": "50"},
    {"payee": "bob", "role": "developer", "item": "", "amount": "550"},
    {"payee": "pool:1:calls:data", "role": "data-pool", "item": "", "amount": "350"},
    {"payee": "pool:1:calls:curation", "role": "curation-pool", "item": "", "amount": "50"},
]


def call_charged(**changes):
    fields = {"public": PUBLIC, "private": PRIVATE, "split": SPLIT, "secret": SECRET, **changes}
    return commitments.build_entry("call.charged", "0198c0de-0000-7000-8000-000000000001", "2026-11-22T07", **fields)


def a_receipt(entry, opened, *, position=2, size=5, cosigned_by=WITNESSES):
    """The entry's receipt in a log of `size` other leaves, cosigned."""
    leaves = [merkle.leaf_hash(b"other %d" % number) for number in range(size)]
    leaves[position] = commitments.leaf_hash(entry)
    nodes = {(level, index): digest for level, index, digest in merkle.positions(merkle.new_nodes(0, leaves, None))}

    def hash_at(level, index):
        return nodes[level, index]

    text = notes.checkpoint_text(LOG.verifier.name, size, merkle.root(size, hash_at))
    lines = [notes.cosign_checkpoint(text, witness, 1_795_331_373) for witness in cosigned_by]
    note = notes.add_cosignatures(notes.sign_checkpoint(text, LOG), lines, WITNESS_VKEYS)
    return receipts.build_receipt(entry, opened, position, merkle.inclusion_proof(position, size, hash_at), note)


def failed(steps):
    return [one.name for one in steps if not one.ok]


def check(receipt, quorum=3):
    return receipts.verify_receipt(receipt, LOG_VKEY, WITNESS_VKEYS, quorum)


def test_a_receipt_we_build_is_verified_step_by_step():
    opened = commitments.openings(PRIVATE, SPLIT, SECRET)
    steps = check(json.dumps(a_receipt(call_charged(), opened)))

    assert failed(steps) == []
    assert [one.key for one in steps] == [
        "form.ok",
        "commitments.ok",
        "split.ok",
        "inclusion.ok",
        "log_signature.ok",
        "witnesses.ok",
    ]
    assert steps[2].values == {"lines": 8, "price_nano": 1000}
    assert steps[3].values == {"index": 2, "size": 5}


def test_the_public_receipt_opens_nothing_and_is_verified_too():
    receipt = a_receipt(call_charged(), None)
    assert "openings" not in receipt
    assert [one.key for one in check(receipt)][1:3] == ["commitments.none", "split.none"]
    assert failed(check(receipt)) == []


def test_a_contributor_is_shown_one_line_and_can_verify_it():
    opened = commitments.openings(PRIVATE, SPLIT, SECRET)
    receipt = a_receipt(call_charged(), {"split.2": opened["split.2"]})
    assert failed(check(receipt)) == []
    receipt["openings"]["price"] = opened["price"]
    assert check(receipt)[2].key == "split.partial"


def test_nothing_private_is_in_the_entry_and_equal_values_look_different():
    entry = call_charged()
    shown = json.dumps(entry)
    for value in [*PRIVATE.values(), *SPLIT]:
        assert json.dumps(value) not in shown
    other = call_charged(secret=bytes(32))
    assert not set(entry["commit"]["split"]) & set(other["commit"]["split"])
    assert len(set(entry["commit"]["split"])) == 8


def test_the_same_facts_and_secret_give_the_same_leaf():
    assert commitments.leaf_hash(call_charged()) == commitments.leaf_hash(call_charged())
    assert commitments.leaf_hash(call_charged()) != commitments.leaf_hash(call_charged(secret=bytes(32)))


@pytest.mark.parametrize(
    "changes",
    [
        {"split": [*SPLIT[:-1], {**SPLIT[-1], "amount": "51"}]},
        {"split": [*SPLIT, {"payee": "", "role": "pad", "item": "", "amount": "0"}]},
        {"split": [{**SPLIT[0], "note": "hidden"}]},
        {"split": [{**SPLIT[0], "amount": 1000}]},
        {"split": [{**SPLIT[0], "amount": "01000"}]},
        {"split": None},
        {"private": {**PRIVATE, "price": "1000.0"}},
        {"private": {**PRIVATE, "price": 1000}},
        {"private": {**PRIVATE, "name": "Dan"}},
        {"private": {name: value for name, value in PRIVATE.items() if name != "buyer"}},
        {"private": {**PRIVATE, "tokens": 12.5}},
        {"private": {**PRIVATE, "tokens": True}},
        {"private": {**PRIVATE, "tokens": 2**53}},
        {"private": {**PRIVATE, "tokens": {"né": 1}}},
        {"private": {**PRIVATE, "tokens": "\ud800"}},
        {"public": {**PUBLIC, "buyer": "dan"}},
        {"public": {"model_id": PUBLIC["model_id"]}},
        {"public": {**PUBLIC, "model": "alice/wren@v1"}},
        {"public": {**PUBLIC, "rule": None}},
        {"secret": b"short"},
    ],
)
def test_an_entry_that_is_not_its_type_is_refused(changes):
    with pytest.raises(Malformed):
        call_charged(**changes)


def test_an_unknown_type_and_a_time_finer_than_the_hour_are_refused():
    with pytest.raises(Malformed):
        commitments.build_entry("call.settled", "x", "2026-11-22T07", {}, {}, None, SECRET)
    for hour in ["2026-11-22T07:12", "2026-11-22", "2026-13-22T07", "2026-11-22T24", "2026-11-22T07\n"]:
        with pytest.raises(Malformed):
            commitments.build_entry("posting.made", "x", hour, {"kind": "deposit"}, {"posting": {}}, None, SECRET)


def test_the_hour_is_that_of_utc():
    paris = timezone(timedelta(hours=1))
    assert commitments.hour_of(datetime(2026, 11, 22, 0, 59, tzinfo=paris)) == "2026-11-21T23"
    assert commitments.hour_of(datetime(2026, 11, 22, 7, 59, 59, tzinfo=UTC)) == "2026-11-22T07"


@given(st.integers(0, 2000))
def test_splits_are_padded_so_that_their_length_says_little(count):
    length = commitments.padded_length(count)
    assert length >= max(count, 8)
    assert length in (8, 16, 32) or length % 64 == 0
    assert length == 8 or length < 2 * count + 1


plain_values = st.recursive(
    st.text(alphabet=st.characters(exclude_categories=["Cs"])) | st.integers(0, 2**53 - 1),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(max_codepoint=127)), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain_values)
def test_our_canonical_json_is_that_of_rfc_8785(value):
    assert strict.canonical(value) == rfc8785.dumps(value)
    assert strict.parse_json(strict.canonical(value)) == value


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '{"a":-0}', '{"a":-1}', '{"a":01}', '{"a":1.0}', '{"a":1e3}', '{"a":NaN}', '{"a":true}', '[null]']
    + ['{"é":1}', '{"a":9007199254740992}', '"\\ud800"', '{"a":1}x', "[" * 17 + "]" * 17, "[" * 99999, "", "\ufeff{}"],
)  # fmt: skip
def test_json_that_two_readers_could_read_differently_is_refused(text):
    with pytest.raises(Malformed):
        strict.parse_json(text)


def test_openings_of_another_entry_or_value_are_refused():
    opened = commitments.openings(PRIVATE, SPLIT, SECRET)
    dearer = {**opened, "price": {**opened["price"], "value": "1001"}}
    swapped = {**opened, "split.0": opened["split.1"]}
    unknown = {**opened, "tip": opened["price"]}
    beyond = {**opened, "split.8": opened["split.7"]}
    whole_split = {"split": opened["price"]}
    for wrong in (dearer, swapped, unknown, beyond, whole_split):
        assert "commitments" in failed(check(a_receipt(call_charged(), wrong)))


def test_a_split_that_does_not_add_up_is_seen_even_if_the_log_committed_to_it():
    entry = call_charged()
    price = {**PRIVATE, "price": "999"}
    entry["commit"]["price"] = commitments.commitment("price", commitments.salt_of(SECRET, "price"), "999").hex()
    assert failed(check(a_receipt(entry, commitments.openings(price, SPLIT, SECRET)))) == ["split"]


def test_form_errors_are_named_and_end_the_check():
    good = json.dumps(a_receipt(call_charged(), commitments.openings(PRIVATE, SPLIT, SECRET)))
    for wrong in [
        good.replace('"openings"', '"opening"'),
        good.replace("open-receipt/1", "open-receipt/2"),
        good.replace("open-entry/1", "open-entry/2"),
        good.replace("index 2", "index 02"),
        good.replace("index 2", "extra YQ==\\nindex 2"),
        good.replace("\\n5\\n", "\\n05\\n"),
        good.replace("\\n\\nopen.test", "\\n\\n\\nopen.test"),
        good.replace("tlog-proof@v1", "tlog-proof@v2"),
        good[:-1] + ', "v": "open-receipt/1"}',
        "[]",
        "not json",
    ]:
        assert wrong != good
        assert [one.key for one in check(wrong)] == ["form.failed"]


def test_too_few_witnesses_or_another_log_fail_their_step_alone():
    receipt = a_receipt(call_charged(), None, cosigned_by=WITNESSES[:2])
    assert failed(check(receipt, quorum=2)) == []
    assert failed(check(receipt, quorum=3)) == ["witnesses"]
    other_log = notes.new_signing_key("open.test/log", LOG_KEY, b"o" * 32).verifier.encode()
    assert failed(receipts.verify_receipt(receipt, other_log, WITNESS_VKEYS, 2)) == ["log_signature"]


def test_one_key_under_two_names_does_not_count_twice():
    twin = notes.new_signing_key("twin.test", WITNESS_KEY, WITNESSES[0].seed).verifier.encode()
    with pytest.raises(ValueError):
        receipts.verify_receipt(a_receipt(call_charged(), None), LOG_VKEY, [WITNESS_VKEYS[0], twin], 2)
    with pytest.raises(ValueError):
        receipts.verify_receipt(a_receipt(call_charged(), None), LOG_VKEY, WITNESS_VKEYS, 4)


def test_only_cosignatures_of_known_witnesses_for_this_head_are_added():
    text = notes.checkpoint_text("open.test/log", 7, bytes(32))
    note = notes.sign_checkpoint(text, LOG)
    stranger = notes.new_signing_key("stranger.test", WITNESS_KEY)
    other_head = notes.cosign_checkpoint(notes.checkpoint_text("open.test/log", 8, bytes(32)), WITNESSES[0], 5)
    good = notes.cosign_checkpoint(text, WITNESSES[1], 6)

    lines = [notes.cosign_checkpoint(text, stranger, 4), other_head, good, good, "junk", "\n\nopen"]
    cosigned = notes.add_cosignatures(note, lines, WITNESS_VKEYS)

    assert cosigned == note + good
    assert notes.cosigners(notes.parse_checkpoint(cosigned), WITNESS_VKEYS) == {"w1.test": 6}
    notes.check_log_signature(notes.parse_checkpoint(cosigned), LOG_VKEY)


def test_a_log_signature_of_another_origin_or_twice_is_not_trusted():
    text = notes.checkpoint_text("open.test/other", 7, bytes(32))
    with pytest.raises(Untrusted):
        notes.check_log_signature(notes.parse_checkpoint(notes.sign_checkpoint(text, LOG)), LOG_VKEY)
    note = notes.sign_checkpoint(notes.checkpoint_text("open.test/log", 7, bytes(32)), LOG)
    with pytest.raises(Untrusted):
        notes.check_log_signature(notes.parse_checkpoint(note + note.split("\n\n")[1]), LOG_VKEY)


def test_keys_survive_writing_and_reading_and_damaged_ones_are_refused():
    text = LOG.encode()
    assert notes.decode_signing_key(text) == LOG
    assert notes.decode_vkey(LOG_VKEY) == LOG.verifier
    assert "l" * 8 not in repr(LOG) and text.split("+")[-1] not in repr(LOG)
    for wrong in [LOG_VKEY[1:], LOG_VKEY[:-1], LOG_VKEY.replace("+", " "), "", LOG_VKEY + "\n"]:
        with pytest.raises(Malformed):
            notes.decode_vkey(wrong)
    with pytest.raises(Malformed):
        notes.decode_signing_key(text[:-2] + "AA")


def test_a_key_rotation_needs_both_signatures():
    new = notes.new_signing_key("open.test/log", LOG_KEY)
    public = notes.rotate_key(LOG, new)
    commitments.build_entry("key.rotated", "1", "2026-11-22T07", public, {}, None, SECRET)
    assert notes.is_rotation_signed(public)
    assert not notes.is_rotation_signed({**public, "old_signature": public["new_signature"]})
    assert not notes.is_rotation_signed({**public, "new": LOG_VKEY})


def test_the_lines_of_an_epoch_have_a_root_that_hides_them():
    lines = [{"payee": "bob", "amount": str(number)} for number in range(5)]
    assert commitments.lines_root(lines, SECRET) != commitments.lines_root(lines[::-1], SECRET)
    assert commitments.lines_root(lines, SECRET) != commitments.lines_root(lines, bytes(32))
    assert commitments.lines_root([], SECRET) == merkle.EMPTY_ROOT.hex()


# --- The same, seen by the file that outsiders run ---

OUTSIDE_KEYS = verify_receipt.vkey(LOG_VKEY, 1), [verify_receipt.vkey(vkey, 4) for vkey in WITNESS_VKEYS], 2


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 100])
def test_our_receipts_convince_the_outside_verifier_wherever_they_stand(size):
    private = {**PRIVATE, "request": 'é \u2028 \U0001f426 \x7f \n\t"', "tokens": [{"b": 2**53 - 1, "a": 0}, []]}
    entry, opened = call_charged(private=private), commitments.openings(private, SPLIT, SECRET)
    for position in {0, size // 2, size - 1}:
        receipt = a_receipt(entry, opened, position=position, size=size)
        for text in (json.dumps(receipt), json.dumps(receipt, ensure_ascii=False, indent=2)):
            assert f"entry {position} of {size}" in verify_receipt.check_receipt(text, *OUTSIDE_KEYS)
            assert failed(check(text)) == []


def test_our_consistency_proofs_convince_the_outside_verifier_at_every_pair_of_sizes(monkeypatch):
    monkeypatch.setattr(verify_receipt, "is_signed", functools.cache(verify_receipt.is_signed))
    hashes = [merkle.leaf_hash(b"%d" % number) for number in range(17)]
    nodes = {(level, index): digest for level, index, digest in merkle.positions(merkle.new_nodes(0, hashes, None))}

    def hash_at(level, index):
        return nodes[level, index]

    def head(size):
        text = notes.checkpoint_text(LOG.verifier.name, size, merkle.root(size, hash_at))
        return notes.sign_checkpoint(text, LOG)

    for new_size in range(1, 18):
        for old_size in range(1, new_size + 1):
            proof = merkle.consistency_proof(old_size, new_size, hash_at)
            lines = "".join(strict.encode_hash(digest) + "\n" for digest in proof)
            log_key = OUTSIDE_KEYS[0]
            assert verify_receipt.check_consistency(head(old_size), head(new_size), lines, log_key, [], 0)
            if proof:
                wrong = "\n".join(reversed(lines.splitlines()))
                for other in ("", wrong if len(proof) > 1 else lines * 2):
                    with pytest.raises(ValueError):
                        verify_receipt.check_consistency(head(old_size), head(new_size), other, log_key, [], 0)


# --- docs/receipt.md ---

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "receipt.md").read_text(encoding="utf-8")
VECTORS = [json.loads(block) for block in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]


def test_the_page_has_a_vector_of_every_entry_type():
    assert [vector["inputs"]["type"] for vector in VECTORS] == list(commitments.ENTRY_TYPES)


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["inputs"]["type"] for vector in VECTORS])
def test_the_vectors_of_the_page_are_true(vector):
    inputs = vector["inputs"] | {"secret": bytes.fromhex(vector["inputs"]["secret"])}

    entry = commitments.build_entry(**inputs)
    assert entry == vector["entry"]
    assert commitments.leaf_hash(entry).hex() == vector["leaf_hash"]
    # Once more from the page's own words, with the standard library and an RFC 8785 library alone.
    assert hashlib.sha256(b"\x00" + rfc8785.dumps(vector["entry"])).hexdigest() == vector["leaf_hash"]
    for field, value in inputs["private"].items():
        salt = hmac.digest(inputs["secret"], field.encode(), "sha256")
        message = b"open-commit/1\n" + field.encode() + b"\n" + salt + rfc8785.dumps(value)
        assert hashlib.sha256(message).hexdigest() == entry["commit"][field]


def test_the_root_over_the_lines_on_the_page_is_true():
    vector = next(vector["inputs"] for vector in VECTORS if vector["inputs"]["type"] == "epoch.settled")
    lines = json.loads(re.search(r"Here the lines are `(\[.*?\])`", PAGE)[1])
    amounts = [(int(line["amount"]), bool(line["payee"])) for line in lines]

    assert commitments.lines_root(lines, bytes.fromhex(vector["secret"])) == vector["public"]["lines_root"]
    assert sum(amount for amount, _paid in amounts) == int(vector["public"]["pool"])
    assert sum(amount for amount, paid in amounts if paid) == int(vector["public"]["paid"])


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["inputs"]["type"] for vector in VECTORS])
def test_every_entry_type_gives_a_receipt_that_verifies(vector):
    inputs = vector["inputs"]
    opened = commitments.openings(inputs["private"], inputs["split"], bytes.fromhex(inputs["secret"]))
    assert failed(check(json.dumps(a_receipt(vector["entry"], opened)))) == []


def test_the_page_names_every_field_and_every_sentence():
    for name, fields in commitments.ENTRY_TYPES.items():
        section = PAGE.split(f"### {name}\n")[1].split("```")[0]
        assert all(f"`{field}`" in section for field in (*fields.public, *fields.private)), name
    steps = check(a_receipt(call_charged(), commitments.openings(PRIVATE, SPLIT, SECRET)))
    assert all(f"`{step.key}`" in PAGE for step in steps)


def test_the_rotation_on_the_page_is_signed_by_both_keys():
    public = next(vector["inputs"]["public"] for vector in VECTORS if vector["inputs"]["type"] == "key.rotated")
    assert notes.is_rotation_signed(public)
