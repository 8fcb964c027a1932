"""Curators are paid by how often they were right when it was known what is right."""

from __future__ import annotations

import pytest
from django.test import override_settings
from django.utils import timezone

from attribution import explain_lines, replay, verify
from attribution.models import CuratorAccuracy, Epoch, Line
from datanets import checking, gold, measuring, reviews, services
from datanets.models import Record
from tests.datanets.cast import measured, person, send, table, waiting
from tests.marketplace.pages.world import call
from tests.shop import fund, nothing_is_wrong, published, settle, trained


@pytest.fixture(scope="module")
def shop(books_of_module):
    """A model on Alice's records, which Carol approved; and a Datanet whose owner plants. Everything is final at once."""
    with override_settings(REVIEW_UNDO_S=0):
        for buyer in ("dan", "devi"):
            fund(books_of_module, person(buyer), 10)
        version = published({"alice": measured(12)})
        yield books_of_module, version.datanet, trained(books_of_module, version)


def planted(datanet, number: int, *, decision: str = "approve", reason: str = ""):
    """A planted submission of one record, checked and in the queue."""
    item = gold.add_file(
        datanet,
        by=datanet.owner,
        name="rows.csv",
        content=table(measured(1, start=500 + number)),
        decision=decision,
        reason=reason,
    )
    submission = gold.plant(item)
    checking.check_file(submission.files.get().pk)
    submission.refresh_from_db()
    return submission


def decide(submission, decision: str, *, by: str = "carol") -> None:
    reason = "low_quality" if decision == "reject" else ""
    reviews.decide(waiting(submission), curator=person(by), decision=decision, reason=reason)


def curation_line(charge_id) -> Line:
    return Line.objects.get(source_id=charge_id, role="curation", payee=person("carol"))


def test_carol_who_decides_planted_records_wrongly_gets_less_in_the_next_epoch_and_sees_why(shop):
    books, datanet, version = shop
    first = call(version, person("dan"))
    settle(books)
    assert curation_line(first).amount_nano == 1_200_000

    # When Carol approves ten planted submissions that should be rejected, and all of it is final
    for number in range(10):
        decide(planted(datanet, number, decision="reject", reason="wrong_label"), "approve")
    assert gold.reveal_final() == 10
    second = call(version, person("dan"))
    settle(books)

    # Then she has two thirds of what she had, nobody has the rest, and the call adds up
    line = curation_line(second)
    assert line.amount_nano == 799_999
    lost = Line.objects.get(source_id=second, role="curation", payee=None)
    assert (lost.reason, lost.amount_nano) == ("curator_accuracy", 400_001)

    # And the explanation has the integers
    found = explain_lines.sum_of(line)
    [desk] = found.desks
    assert (desk.datanet, desk.accuracy_millionths) == (datanet, 666_666)
    assert desk.measured.counts == (0, 10, 0, 0)
    assert desk.weight == desk.approved_nano * 666_666
    [part] = found.mine
    assert (part.weight, part.amount_nano) == (desk.weight, 799_999)
    assert part.floor_nano == found.divided_nano * part.weight // found.weights_total
    assert (found.full_nano, found.lost_nano) == (1_200_000, 400_001)

    # And what was paid before stays; and retiring the items moves nothing that is settled: every replay agrees
    assert curation_line(first).amount_nano == 1_200_000
    for item in datanet.gold_items.all():
        gold.retire(item, by=datanet.owner)
    for epoch in Epoch.objects.all():
        assert replay.of_epoch(epoch).differences == []
    assert replay.of_charge(second).differences == []
    assert nothing_is_wrong()

    # And who rewrites an accuracy is found: by the formula, by the hash, and by the lines
    epoch = Epoch.objects.get(pk=line.epoch_id)
    CuratorAccuracy.objects.filter(epoch=epoch).update(gold_wrong=0, gold_right=10)
    assert any("its counts give 1000000" in failure.sentence for failure in verify.failures())
    CuratorAccuracy.objects.filter(epoch=epoch).update(accuracy_millionths=1_000_000)
    assert ["do not hash" in failure.sentence for failure in verify.failures()] == [True]
    assert any("line" in sentence for sentence in replay.of_epoch(epoch).differences)
    CuratorAccuracy.objects.filter(epoch=epoch).update(gold_wrong=10, gold_right=0, accuracy_millionths=666_666)


def test_an_overturned_rejection_counts_against_who_rejected_and_not_for_who_answered(shop):
    _books, datanet, _version = shop
    services.add_curator(datanet, user=person("frank"), by=datanet.owner)
    sent = send(datanet, table(measured(2, start=300)), by="bob")
    decide(sent, "reject")
    for record, overturn in zip(Record.objects.filter(submission=sent), (True, False), strict=True):
        appeal = reviews.appeal(record, by=person("bob"), text="Look again.")
        reviews.decide_appeal(appeal, curator=person("frank"), overturn=overturn, note="So.")

    found = measuring.counts({datanet.pk}, at=timezone.now())
    assert found.keys() == {(person("carol").pk, datanet.pk)}
    assert found[person("carol").pk, datanet.pk][2:] == (1, 1)
    before = measuring.counts({datanet.pk}, at=sent.sent_at)
    assert all(counts[2:] == (0, 0) for counts in before.values())
