"""The public explorer: heads, witnesses, entries, and nothing that says who somebody is."""

import html
import itertools
import re
import subprocess
import sys
import uuid
from datetime import timedelta

import pytest
from django.test import Client

from datanets.models import Datanet
from ledger import chart, ids, views
from ledger import services as ledger
from ledger.models import Checkpoint
from marketplace import listings
from marketplace.models import ListedModel
from tests.datanets.cast import make_datanet
from tests.shop import person


def page(address, *, status=200):
    answer = Client().get(address)
    assert answer.status_code == status, answer.content[:500]
    return answer.content.decode()


def settled(number: int, *, pool: int, paid: int) -> uuid.UUID:
    id = ids.new_id()
    ledger.record_fact(
        id=id,
        reference=f"epoch:{id}",
        entry=ledger.Entry(
            type="epoch.settled",
            public={
                "model_id": str(ListedModel.objects.get().pk),
                "epoch": number,
                "pool": str(pool),
                "paid": str(paid),
                "unattributed": str(pool - paid),
                "lines_root": "ab" * 32,
                "equally": [],
            },
        ),
    )
    return id


def frozen(datanet: Datanet) -> uuid.UUID:
    """The entry of a version of a Datanet."""
    id = ids.new_id()
    public = {"datanet_id": str(datanet.pk), "version": 1, "records": 3, "root": "ab" * 32, "licence": "CC0-1.0"}
    ledger.record_fact(id=id, reference=str(id), entry=ledger.Entry(type="version.published", public=public))
    return id


@pytest.fixture
def log(books):
    """A deposit, a version of a Datanet, a model that learned from it, and two settled epochs of it, signed."""
    books.deposit(chart.wallet(7), 1000)
    model = listings.create_model(owner=person("devi"), name="Check", purpose="Tests", engine="linear")
    ledger.record_fact(
        id=ids.new_id(),
        reference="model",
        entry=ledger.Entry(
            type="model.published",
            public={
                "model_id": str(model.pk),
                "version": 1,
                "artifact": "sha256:" + "0" * 64,
                "versions": [str(frozen(make_datanet()))],
            },
        ),
    )
    settled(1, pool=10_000_000, paid=9_000_000)
    settled(2, pool=5_000_000, paid=5_000_000)
    books.log()
    return books


def test_an_empty_log_says_so(books):
    assert "The log is empty." in page("/en/ledger/")


def test_the_explorer_shows_head_entries_and_the_totals_of_each_model(log):
    text = page("/en/ledger/")

    assert ledger.log_vkey() in text
    assert "Posting made" in text
    totals = text.split('id="totals"')[1].split("</table>")[0]
    assert "devi/check" in totals
    for nano in (15_000_000, 14_000_000, 1_000_000):
        assert f'value="{nano}"' in totals
    assert "wallet:7" not in text


def test_all_settled_epochs_and_all_models_can_be_read_page_by_page(log, monkeypatch):
    for number in (3, 4, 5):
        settled(number, pool=1000, paid=900)
    log.log()
    monkeypatch.setattr(views, "ROWS_SHOWN", 2)

    read, address = [], "/en/ledger/epochs/?q=devi/ch"
    while address:
        text = page(address)
        read += re.findall(r'<td class="n">(\d+)</td><td class="nowrap">', text)
        following = re.search(r'href="(\?[^"]*before=[^"]+)"', text)
        address = f"/en/ledger/epochs/{html.unescape(following[1])}" if following else ""
    assert read == ["5", "4", "3", "2", "1"]

    totals = page("/en/ledger/totals/")
    assert totals.count("devi/check") == 1
    [model_id] = ListedModel.objects.values_list("pk", flat=True)
    in_all = 15_000_000 + 3000
    assert f'value="{in_all}"' in totals
    assert f'value="{in_all}"' in page(f"/en/ledger/totals/?after={in_all + 1}:{model_id}")
    assert "No epoch was settled yet." in page(f"/en/ledger/totals/?after={in_all}:{model_id}")
    assert "No epoch was settled yet." in page("/en/ledger/epochs/?q=nobody")
    for broken in ("epochs/?before=x", "epochs/?before=" + "9" * 30, "totals/?after=x:y", "totals/?after=1"):
        page(f"/en/ledger/{broken}")


def test_a_search_finds_ids_numbers_and_models(log):
    posting = ledger.statement_of(chart.wallet(7))[0].posting_id

    assert Client().get(f"/en/ledger/?q={posting}").url == f"/en/ledger/entries/{ledger.leaf_of(posting)}/"
    assert Client().get("/en/ledger/?q=1").url == "/en/ledger/entries/1/"
    assert "Epochs of models that start with" in page("/en/ledger/?q=devi/ch")
    assert "Nothing is called" in page("/en/ledger/?q=nobody")


def test_a_search_for_a_datanet_shows_its_versions_and_the_models_that_learned_from_it(log):
    frozen(make_datanet("Letters"))
    log.log()

    for asked in ("erin/tum", "tumours"):
        text = page(f"/en/ledger/?q={asked}")
        entries = text.split('id="entries"')[1].split("</table>")[0]
        assert "erin/tumours" in entries
        assert "erin/letters" not in entries
        assert "Posting made" not in entries
        assert "devi/check" in text.split('id="totals"')[1].split("</table>")[0]
    assert "devi/check" not in page("/en/ledger/?q=letters").split('id="totals"')[1]


def test_the_log_says_no_name_and_its_pages_say_the_name_of_today(log):
    devi = person("devi")
    devi.username = "devi-renamed"
    devi.save()

    text = page("/en/ledger/")
    assert "devi-renamed/check" in text
    assert "Nothing is called" in page("/en/ledger/?q=devi/check")
    for row in ledger.entries(0, ledger.log_size()):
        assert "devi" not in str(row) and "erin" not in str(row)
        assert "devi/check" not in page(f"/en/ledger/entries/{row.index}/")


def test_the_name_of_a_closed_datanet_is_said_to_its_members_only(log):
    frozen(make_datanet("Secret", access="closed"))
    log.log()
    erin = Client()
    erin.force_login(person("erin"))

    assert "erin/secret" not in page("/en/ledger/")
    assert "Nothing is called" in page("/en/ledger/?q=erin/secret")
    assert "erin/secret" in erin.get("/en/ledger/").content.decode()


def test_an_entry_is_shown_as_it_is_hashed(log):
    posting = ledger.statement_of(chart.wallet(7))[0].posting_id
    text = page(f"/en/ledger/entries/{ledger.leaf_of(posting)}/")

    assert "open-entry/1" in text
    assert f"/r/{posting}" in text
    assert "wallet:7" not in text
    page("/en/ledger/entries/99/", status=404)


def test_a_checkpoint_is_shown_and_the_newest_is_a_file(log):
    head = ledger.head()

    assert head.root.hex()[:10] in page(f"/en/ledger/checkpoints/{head.size}/")
    assert Client().get("/ledger/head.txt").content.decode() == head.checkpoint
    page("/en/ledger/checkpoints/99/", status=404)


def test_a_stranger_with_the_files_sees_that_the_log_only_grew(log, tmp_path):
    sizes = [ledger.head().size]
    for number in (3, 4, 5):
        settled(number, pool=2, paid=1)
        log.log()
        sizes.append(ledger.head().size)

    for old, new in itertools.combinations_with_replacement(sizes, 2):
        for name, address in [
            ("old", f"checkpoints/{old}.txt"),
            ("new", f"checkpoints/{new}.txt"),
            ("proof", f"consistency/{old}/{new}.txt"),
        ]:
            (tmp_path / name).write_text(page(f"/ledger/{address}"))
        command = [sys.executable, "verify_receipt.py", "consistency"]
        command += [*(tmp_path / name for name in ("old", "new", "proof")), "--log", ledger.log_vkey()]
        assert subprocess.run(command, check=False).returncode == 0
        shown = re.sub("<[^>]*>", "", page(f"/en/ledger/consistency/?old={old}&new={new}"))
        assert f"consistency {old}.txt {new}.txt proof.txt --log {ledger.log_vkey()}" in shown
        told = Client().get(f"/api/v1/ledger/consistency/{old}/{new}/").json()
        assert told["proof"] == (tmp_path / "proof").read_text().split()
    assert f"?old={sizes[0]}&amp;new={sizes[3]}" in page(f"/en/ledger/checkpoints/{sizes[0]}/")


def test_there_is_no_proof_between_heads_that_were_never_signed(log):
    size = ledger.head().size
    settled(3, pool=2, paid=1)
    log.log()
    for old, new in [(size - 1, size), (size, 99), (size + 1, size), (0, size)]:
        page(f"/ledger/consistency/{old}/{new}.txt", status=404)
        assert Client().get(f"/api/v1/ledger/consistency/{old}/{new}/").status_code == 404
    page("/ledger/checkpoints/99.txt", status=404)
    for asked in (f"old={size + 1}&new={size}", "old=1e3&new=x", "old=1"):
        assert "no signed heads of these sizes" in page(f"/en/ledger/consistency/?{asked}")
    assert "no signed heads" not in page("/en/ledger/consistency/")


def test_a_log_without_enough_witnesses_for_a_minute_says_so(log, settings):
    settings.WITNESS_QUORUM = 1
    assert "Witnesses are missing." not in page("/en/ledger/")

    connection = log.connect("DATABASE_SUPERUSER_URL")
    with connection, connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE ledger_checkpoint SET signed_at = signed_at - %s", [timedelta(seconds=61)])
    connection.close()

    assert Checkpoint.objects.exists()
    assert "Witnesses are missing." in page("/en/ledger/")


def test_the_explorer_asks_as_much_for_many_entries_as_for_few(log, django_assert_max_num_queries):
    with django_assert_max_num_queries(15) as few:
        page("/en/ledger/")
    for number in range(3, 40):
        settled(number, pool=2, paid=1)
    log.log()

    with django_assert_max_num_queries(len(few)):
        text = page("/en/ledger/")
    assert 'rel="next"' in text
    assert "Entry" in page("/en/ledger/?before=20")
