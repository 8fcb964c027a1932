"""Records that somebody says are theirs: what can be disputed, and who may decide."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from datanets import records, thefts, verify
from datanets.errors import Invalid, NotAllowed, NotReady, SelfReview, TooMany
from datanets.models import Record, TheftDispute
from tests.datanets.cast import approve_all, make_datanet, measured, person, send, table

pytestmark = pytest.mark.django_db

SAID = {"statement": "These are mine.", "evidence": "My paper has them."}


def approved(count: int = 2, *, by: str = "alice", start: int = 0, datanet=None) -> list[Record]:
    submission = send(datanet or make_datanet(), table(measured(count, start=start)), by=by)
    approve_all(submission)
    return list(Record.objects.filter(submission=submission).order_by("id"))


def opened(found: list[Record], *, by: str = "dan", **told) -> TheftDispute:
    return thefts.open_dispute(found, by=person(by), **SAID | told)


def staff(name: str):
    user = person(name)
    user.is_staff = True
    user.save(update_fields=["is_staff"])
    return user


def test_what_can_be_disputed(settings):
    settings.THEFT_DISPUTES_RUNNING_MAX = 2
    pool = make_datanet()
    first, second = approved(datanet=pool)
    (bobs,) = approved(1, by="bob", start=30, datanet=pool)
    for told in ({"statement": " "}, {"evidence": ""}, {"statement": "x" * 4001}, {"own_record": bobs}):
        with pytest.raises(Invalid):
            opened([first], **told)
    for found in ([], [first, bobs]):
        with pytest.raises(Invalid):
            opened(found)
    with pytest.raises(NotAllowed):
        opened([first], by="alice")
    with pytest.raises(Invalid):  # one's own, and younger than what is disputed
        opened([first], by="bob", own_record=bobs)
    waiting = Record.objects.filter(submission=send(pool, table(measured(1, start=50)))).get()
    with pytest.raises(NotReady):
        opened([waiting])

    # A withdrawn one can: who took it may have withdrawn it, and its money is still pending
    records.withdraw(second, by=person("alice"))
    dispute = opened([first, second])
    assert set(thefts.running_records()) == {first.pk, second.pk}
    with pytest.raises(NotReady):
        opened([second], by="frank")
    assert opened([bobs], by="alice", own_record=first).own_record == first
    opened(approved(1, start=60, datanet=pool))
    with pytest.raises(TooMany):
        opened(approved(1, start=70, datanet=pool))
    with pytest.raises(NotAllowed):
        thefts.answer(dispute, by=person("bob"), text="I saw it.")
    with pytest.raises(NotAllowed):
        thefts.withdraw(dispute, by=person("alice"))
    assert verify.failures() == []


def test_who_decides_is_no_party_and_the_second_is_another_one():
    dispute = opened(approved())
    ada, bea = staff("ada"), staff("bea")
    colleague = person("carol")
    for name in ("alice", "dan"):
        with pytest.raises(SelfReview):
            thefts.decide(dispute, by=person(name), uphold=True, note="Mine.")
    colleague.organisation = " Clinic "
    colleague.save()
    dispute.claimant.organisation = "clinic"
    dispute.claimant.save()
    with pytest.raises(SelfReview):
        thefts.decide(dispute, by=colleague, uphold=True, note="A friend.")
    assert not thefts.to_decide(colleague).exists()
    with pytest.raises(NotAllowed):
        thefts.decide(dispute, by=person("frank"), uphold=False, note="I am nobody here.")
    with pytest.raises(Invalid):
        thefts.decide(dispute, by=ada, uphold=True, note=" ")
    assert list(thefts.to_decide(ada)) == [dispute]

    assert thefts.decide(dispute, by=ada, uphold=True, note="The paper is older.").status == "upheld"

    assert (list(thefts.to_decide(ada)), list(thefts.to_decide(bea))) == ([], [dispute])
    for uphold in (True, False):
        with pytest.raises(NotAllowed):
            thefts.decide(dispute, by=ada, uphold=uphold, note="Again.")
    thefts.decide(dispute, by=bea, uphold=True, note="I see the same.")
    assert set(thefts.authors().values()) == {person("dan").pk}
    with pytest.raises(NotReady):
        thefts.decide(dispute, by=person("erin"), uphold=False, note="Late.")
    assert verify.failures() == []


@pytest.mark.parametrize(
    "decided",
    [
        {"status": "upheld", "first_by": "dan", "first_note": "Mine."},
        {"status": "lost", "decided_by": "alice", "note": "Mine."},
        {"status": "won", "first_by": "carol", "first_note": "So.", "decided_by": "carol", "note": "So."},
        {"status": "won", "decided_by": "carol", "note": "Alone."},
    ],
    ids=["by the claimant", "by the contributor", "twice by one", "by one alone"],
)
def test_the_database_refuses_a_decision_of_a_party_or_of_one_alone(decided):
    dispute = opened(approved())
    values = {name: person(value) if name.endswith("_by") else value for name, value in decided.items()}
    ends = {"ended_at": dispute.opened_at} if decided["status"] != "upheld" else {}

    with pytest.raises(IntegrityError), transaction.atomic():
        TheftDispute.objects.filter(pk=dispute.pk).update(**values, **ends)


def test_the_database_refuses_a_second_running_dispute_of_a_record():
    dispute = opened(approved())
    other = opened(approved(1, start=40, datanet=dispute.datanet), by="frank")

    with pytest.raises(IntegrityError), transaction.atomic():
        other.records.create(record=dispute.records.first().record)
