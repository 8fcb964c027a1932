"""A record is reported, decided on, and everybody is told, by pages."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from datanets import services as datanets
from datanets.models import Report
from ledger import services as ledger
from marketplace import mydata, notifications
from marketplace.models import AuditEvent, Notification
from tests.datanets.cast import person
from tests.marketplace.pages.test_build import sign_in
from tests.marketplace.pages.test_explore import page
from tests.shop import measured, nothing_is_wrong, published

REASON = {"reason": "personal_data", "text": "It names my <b>mother</b>."}


@pytest.fixture
def record(books, settings):
    settings.REVIEW_UNDO_S = 0
    return published({"alice": measured(2)}).datanet.records.order_by("id")[0]


def report(client, record, *, by: str = "dan"):
    sign_in(client, by)
    return client.post(reverse("record_report", args=[record.pk]), REASON)


def told_by_news() -> list[str]:
    """What kinds of news of reports were new."""
    before = set(Notification.objects.values_list("pk", flat=True))
    notifications.tell_news()
    new = Notification.objects.exclude(pk__in=before).filter(kind__regex="report|record")
    return sorted(new.values_list("kind", flat=True))


def inbox_of(client, name: str) -> str:
    sign_in(client, name)
    return page(client, "/en/inbox/")


def test_a_reported_record_is_withdrawn_and_both_parties_are_told(record, books, client):
    # Given Dan, who reports a record of Alice's from its page
    sign_in(client, "dan")
    address = reverse("record_report", args=[record.pk])
    assert address in page(client, f"/en/records/{record.pk}/")
    assert address in page(client, f"/en/datanets/{record.datanet.path}/")
    assert report(client, record)["Location"] == f"/en/records/{record.pk}/"
    assert "You reported it on" in page(client, f"/en/records/{record.pk}/")

    # Then Carol sees why, and not who
    sign_in(client, "carol")
    assert re.search(r"Reported records <span class=.count.>1<", page(client, "/en/review/"))
    listed = page(client, "/en/review/reports/")
    assert "It names my &lt;b&gt;mother&lt;/b&gt;." in listed
    assert not re.search(r"\bdan\b", listed)
    assert "was reported" in inbox_of(client, "carol")

    # When she withdraws it
    one = Report.objects.get()
    answer = {"answer": "withdraw", "note": "It does."}
    assert client.post(reverse("review_report", args=[one.pk]), answer)["Location"] == "/en/review/reports/"
    assert "No report waits for you" in page(client, "/en/review/reports/")

    # Then the log, the audit and both inboxes know, each once
    record.refresh_from_db()
    assert record.status == "withdrawn"
    books.log()
    assert len(list(ledger.entries(0, 99, types=["consent.withdrawn"]))) == 1
    acts = AuditEvent.objects.filter(target=f"record:{record.pk}").order_by("pk")
    assert list(acts.values_list("act", "actor__username")) == [
        ("report_record", "dan"),
        ("withdraw_record", "carol"),
        ("decide_report", "carol"),
    ]
    assert (told_by_news(), told_by_news()) == (["record_taken_down", "report_upheld"], [])
    assert "which you reported, was withdrawn: It does." in inbox_of(client, "dan")
    told = inbox_of(client, "alice")
    assert "the curators withdrew it: It does." in told
    assert not re.search(r"\bdan\b", told)
    assert [each["text"] for each in mydata.export(person("dan"))["reports"]] == [REASON["text"]]
    assert mydata.export(person("alice"))["reports"] == []
    assert nothing_is_wrong()


def test_a_record_that_stays_is_told_with_the_reason(record, client):
    report(client, record)
    one = Report.objects.get()
    sign_in(client, "erin")
    address = reverse("review_report", args=[one.pk])

    assert client.post(address, {"answer": "dismiss"})["Location"].endswith(f"#report-{one.pk}")
    client.post(address, {"answer": "dismiss", "note": "It names nobody."})

    record.refresh_from_db()
    assert record.status == "approved"
    notifications.tell_news()
    assert "was dismissed: It names nobody." in inbox_of(client, "dan")
    assert "the curators keep it: It names nobody." in inbox_of(client, "alice")


def test_a_report_that_is_refused_says_why_and_keeps_what_was_typed(record, client, settings):
    sign_in(client, "dan")
    address = reverse("record_report", args=[record.pk])
    assert client.post(address, {"reason": "", "text": "Mine."}).status_code == 422
    assert report(client, record, by="alice").status_code == 403
    assert address not in page(client, f"/en/records/{record.pk}/")

    settings.REPORTS_PER_DAY_MAX = 0
    refused = report(client, record)

    assert refused.status_code == 429
    assert b"Come back tomorrow." in refused.content
    assert b"It names my &lt;b&gt;mother" in refused.content
    assert not Report.objects.exists()


def test_a_report_that_lapsed_is_told_to_who_filed_it_alone(record, client):
    report(client, record)
    sign_in(client, "alice")

    client.post(reverse("record_withdraw", args=[record.pk]))

    assert told_by_news() == ["report_lapsed"]
    assert "was withdrawn before a curator decided" in inbox_of(client, "dan")


def test_a_report_that_every_curator_is_a_party_to_goes_to_the_administrators(books, client, settings):
    # Given a record of Erin's in her Datanet, which nobody else curates any more
    settings.REVIEW_UNDO_S = 0
    datanet = published({"erin": measured(1)}).datanet
    record = datanet.records.get()
    datanets.remove_curator(datanet, user=person("carol"), by=datanet.owner)
    person("ada", is_staff=True)

    report(client, record)

    # Then an administrator is led to its page, and takes it down there
    line = Notification.objects.get(kind="record_reported")
    assert (line.user.username, line.url) == ("ada", f"/records/{record.pk}/")
    sign_in(client, "ada")
    assert "Take this record down" in page(client, f"/en/records/{record.pk}/")
    client.post(reverse("record_withdraw", args=[record.pk]))
    record.refresh_from_db()
    assert (record.status, Report.objects.get().status) == ("withdrawn", "lapsed")
    sign_in(client, "dan")
    assert "Take this record down" not in page(client, f"/en/records/{record.pk}/")
