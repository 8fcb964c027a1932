"""A record is disputed, answered and given to its author, by pages and by program, and everybody reads what is theirs."""

from __future__ import annotations

import re

from django.urls import reverse

from datanets import thefts as data
from datanets.models import TheftDispute
from marketplace import mydata, thefts
from tests.api.world import program_of
from tests.datanets.cast import person
from tests.marketplace.pages.test_build import sign_in
from tests.marketplace.pages.test_explore import page
from tests.marketplace.pages.world import admin
from tests.marketplace.test_thefts import earners, version  # noqa: F401 - a fixture
from tests.shop import nothing_is_wrong

SAID = {"statement": "My <b>table</b> of 2019.", "evidence": "It is in my paper.", "own_record": ""}


def test_a_dispute_by_pages_from_the_record_to_the_money_of_its_author(version, client):  # noqa: F811
    record, other = earners()[:2]
    address = reverse("record_theft", args=[record.pk])
    sign_in(client, "frank")
    assert address in page(client, f"/en/records/{record.pk}/")
    assert f'value="{record.pk}"' in page(client, address)
    # Numbers that are none, of nobody, or a record of one's own that is not one's own, are told by the field
    for told in ({"records": "x1"}, {"records": "0"}, {"records": str(2**70)}, {"records": "999999"}):
        refused = client.post(address, SAID | told)
        assert (refused.status_code, TheftDispute.objects.count()) == (422, 0), told
    assert client.post(address, SAID | {"records": record.pk, "own_record": other.pk}).status_code == 422

    sent = client.post(address, SAID | {"records": f"{record.pk}, #{other.pk}"})

    dispute = TheftDispute.objects.get()
    here = reverse("theft", args=[dispute.pk])
    assert sent["Location"] == here
    mine = page(client, here)
    assert "My &lt;b&gt;table&lt;/b&gt; of 2019." in mine and "Take the dispute back" in mine
    assert client.post(address, SAID | {"records": record.pk}).status_code == 409

    # The contributor reads why their earnings are held, and answers once
    sign_in(client, "alice")
    for place in ("/en/wallet/pending/", "/en/earnings/"):
        held = page(client, place)
        assert "Somebody says that records" in held and reverse("thefts") in held
    assert "Held now" in page(client, here) and here in page(client, reverse("thefts"))
    assert here in page(client, f"/en/records/{record.pk}/")
    assert client.post(reverse("theft_answer", args=[dispute.pk]), {"text": "They are mine."}).status_code == 302
    assert client.post(reverse("theft_answer", args=[dispute.pk]), {"text": "Again."}).status_code == 409
    decide = reverse("theft_decide", args=[dispute.pk])
    assert client.post(decide, {"answer": "dismiss", "note": "No."}).status_code == 403

    # Nobody else reads it
    sign_in(client, "zoe")
    assert client.get(here).status_code == 404
    assert here not in page(client, f"/en/records/{record.pk}/")

    # Carol, then an administrator who does not read her reasons, agree
    sign_in(client, "carol")
    assert here in page(client, reverse("thefts"))
    assert client.post(decide, {"answer": "uphold", "note": ""})["Location"] == here
    client.post(decide, {"answer": "uphold", "note": "The paper is older."})
    assert here not in page(client, reverse("thefts"))
    assert client.post(decide, {"answer": "uphold", "note": "Twice."}).status_code == 403
    sign_in(client, admin("ada").username)
    asked = page(client, here)
    assert "They are the claimant’s" in asked and "The paper is older." not in asked
    client.post(decide, {"answer": "uphold", "note": "I see the same."})

    sign_in(client, "frank")
    dispute.refresh_from_db()
    given = page(client, here)
    assert "The paper is older." in given and "I see the same." in given
    assert re.search(rf'Given to the author</dt><dd>\s*<data[^>]*value="{thefts.moved_nano(dispute)}"', given)
    assert "is won" in page(client, "/en/inbox/")
    for name in ("frank", "alice"):
        assert [row["status"] for row in mydata.export(person(name))["theft_disputes"]] == ["won"]
    french = page(client, here.replace("/en/", "/fr/"))
    assert "litige" in french.lower() and "Given to" not in french
    assert nothing_is_wrong()


def test_a_dispute_by_program(version):  # noqa: F811
    record = earners()[0]
    frank, alice, carol = (program_of(person(name)) for name in ("frank", "alice", "carol"))
    told = {"records": [record.pk], "statement": "It is mine.", "evidence": "My paper."}
    here = "/api/v1/theft-disputes/"
    assert frank.post(here, told | {"records": []}, format="json").status_code == 400
    assert frank.post(here, told | {"records": [999999]}, format="json").status_code == 404
    assert frank.post(here, told | {"statement": " "}, format="json").status_code in (400, 422)
    assert alice.post(here, told, format="json").status_code == 403

    made = frank.post(here, told, format="json")

    assert (made.status_code, made.json()["records"], made.json()["moved_nano"]) == (201, [record.pk], "0")
    address = f"{here}{made.json()['id']}/"
    assert [row["id"] for row in alice.get(here).json()["results"]] == [made.json()["id"]]
    assert [row["id"] for row in carol.get(f"{here}to-decide/").json()["results"]] == [made.json()["id"]]
    assert alice.post(f"{address}answer/", {"text": "No."}, format="json").json()["answer"] == "No."
    dismissed = carol.post(f"{address}decision/", {"answer": "dismiss", "note": "It is public."}, format="json")
    assert (dismissed.status_code, dismissed.json()["status"]) == (200, "lost")
    assert frank.post(f"{address}withdraw/", {}, format="json").status_code == 409
    assert not data.running_records()
