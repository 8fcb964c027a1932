"""Receipts: the public entry for everybody, openings for who took part, a proof that three verifiers accept."""

import json
import subprocess
import sys
import uuid

import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from attribution.models import Line
from attribution.payloads import attributed_entry_id
from ledger import chart
from ledger import services as ledger
from marketplace.models import Call
from tests.marketplace.pages.world import call, person, sold


@pytest.fixture(scope="module")
def world(books_of_module):
    """A shop with two settled calls of Dan's and one that waits. The tests of this module only read it."""
    before = settings.REVIEW_UNDO_S
    settings.REVIEW_UNDO_S = 0
    version, calls = sold(books_of_module)
    waiting = call(version, person("dan"))
    books_of_module.fold()
    settings.REVIEW_UNDO_S = before
    return {"version": version, "calls": calls, "waiting": waiting}


def as_(name=None):
    client = Client()
    if name:
        client.force_login(person(name))
    return client


def page(client, address, *, status=200):
    answer = client.get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def test_a_stranger_sees_the_public_entry_and_the_proof_and_no_person(world):
    text = page(as_(), f"/r/{world['calls'][0]}")

    assert "Verified by this server." in text
    assert "One call to devi/check@v1 was charged" in text
    assert "alice" not in text
    assert "dan" not in text.replace("standard", "")
    receipt = json.loads(as_().get(f"/r/{world['calls'][0]}.json").content)
    assert set(receipt) == {"v", "entry", "proof"}


def test_the_buyer_sees_payees_and_records_that_add_up_to_the_price(world):
    text = page(as_("dan"), f"/r/{world['calls'][0]}")

    assert "You paid 0.024000000 OPEN for one call to devi/check@v1" in text
    paid = text.split('id="paid"')[1].split("</table>")[0]
    amounts = [int(part.split('"')[0]) for part in paid.split('value="')[1:]]
    assert sum(amounts[:-1]) == amounts[-1] == 24_000_000
    assert "alice" in paid and "bob" in paid and "carol" in paid
    assert "floor(8400000 × 1000000 / 1,000,000) = 8400000 nano" in text


def test_the_file_of_the_buyer_opens_everything_and_the_offline_verifier_accepts_it(world, tmp_path):
    client = as_("dan")
    content = client.get(f"/r/{world['calls'][0]}.json").content
    file = tmp_path / "receipt.json"
    file.write_bytes(content)
    command = [sys.executable, "verify_receipt.py", "receipt", str(file), "--log", ledger.log_vkey()]

    assert "price" in json.loads(content)["openings"]
    assert subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True).returncode == 0
    file.write_bytes(content.replace(b'"rule":"sha256:', b'"rule":"sha512:'))
    assert subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True).returncode == 1
    assert ledger.log_vkey() in page(client, f"/r/{world['calls'][0]}")


def test_a_payee_opens_their_own_line_and_no_other(world):
    second = attributed_entry_id(world["calls"][0])
    opened = json.loads(as_("alice").get(f"/r/{second}.json").content)["openings"]

    assert {one["value"]["payee"] for one in opened.values()} == {chart.pending(person("alice").pk)}
    assert "Verified by this server." in page(as_("alice"), f"/r/{second}")
    line = Line.objects.get(source_id=world["calls"][0], payee=person("alice"), role="data")
    assert f"/en/earnings/lines/{line.pk}/" in page(as_("alice"), f"/r/{world['calls'][0]}")


def test_the_second_receipt_hangs_on_the_first(world):
    charge = world["calls"][0]

    assert f"/r/{attributed_entry_id(charge)}" in page(as_("dan"), f"/r/{charge}")
    assert f"/r/{charge}" in page(as_("dan"), f"/r/{attributed_entry_id(charge)}")
    second = json.loads(as_("dan").get(f"/r/{charge}.json?part=attribution").content)
    assert second["entry"]["type"] == "call.attributed"


def test_a_receipt_whose_proof_is_not_there_yet_says_so_with_202(world):
    text = page(as_(), f"/r/{world['waiting']}", status=202)
    answer = as_().get(f"/r/{world['waiting']}.json")

    second = as_().get(f"/r/{world['waiting']}.json?part=attribution")
    assert (second.status_code, set(second.json())) == (202, {"status", "epoch_ends_at"})
    assert "The proof is on its way." in text
    assert (answer.status_code, answer.json(), answer["Retry-After"]) == (202, {"status": "waiting"}, "1")
    assert "The scores are being computed." in page(as_("dan"), f"/r/{world['waiting']}", status=202)


def test_an_unknown_receipt_is_not_found_and_a_free_call_is_its_buyers_alone(world):
    page(as_(), f"/r/{uuid.uuid4()}", status=404)
    paid = Call.objects.get(pk=world["calls"][0])
    free = Call.objects.create(
        id=uuid.uuid4(),
        buyer=paid.buyer,
        model=paid.model,
        version=paid.version,
        price_list=paid.price_list,
        split_rule=paid.split_rule,
        endpoint="classify",
        status="failed",
        started_at=paid.started_at,
    )

    assert "cost nothing" in page(as_("dan"), f"/r/{free.pk}")
    page(as_("alice"), f"/r/{free.pk}", status=404)


def test_a_file_is_verified_on_the_server_and_one_changed_byte_is_refused(world):
    content = as_("dan").get(f"/r/{world['calls'][0]}.json").content

    def check(data: bytes):
        return as_().post("/r/verify", {"receipt": SimpleUploadedFile("receipt.json", data)})

    good = check(content)
    assert good.status_code == 200
    assert "Verified by this server." in good.content.decode()
    assert 'value="24000000"' in good.content.decode()
    at = content.index(b'"proof"') + 60
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    bad = check(changed)
    assert bad.status_code == 422
    assert "Not verified." in bad.content.decode()
    assert check(b"{}").status_code == 422
    assert as_().post("/r/verify").status_code == 422


def test_the_receipt_speaks_the_language_of_the_reader(world):
    answer = as_().get(f"/r/{world['calls'][0]}", headers={"accept-language": "fr"})

    assert '<html lang="fr"' in answer.content.decode()


def test_the_verifier_is_offered_as_one_file(world):
    answer = as_().get("/r/verify_receipt.py")

    assert b"Check a receipt" in b"".join(answer.streaming_content)


def test_a_deposit_is_opened_by_its_owner_alone(world):
    row = ledger.statement_of(chart.wallet(person("dan").pk))[-1]

    assert "openings" in as_("dan").get(f"/r/{row.posting_id}.json").json()
    assert "openings" not in as_("alice").get(f"/r/{row.posting_id}.json").json()
