"""Rows that look like noise are held and put before people: nothing is taken before two looks, or none, are over."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from attribution import noise_cases as data
from attribution import noise_words, settlement
from attribution import verify as attribution_verify
from attribution.models import Epoch, Line, NoiseCase, NoiseReport, RecordEpoch, Transfer
from datanets import errors as datanet_errors
from ledger import sequencer
from marketplace import earnings, holds, noise_cases, refunds, releasing
from marketplace.models import ERASED, AuditEvent, Call, LotHold, Notification
from tests.datanets.races import race
from tests.marketplace.noise_shop import LEAST, garbage_rows, judged, noisy_version, used
from tests.marketplace.pages.world import admin, sold
from tests.marketplace.test_thefts import all_due, closed, lots, pending_nano, second_to_come
from tests.marketplace.test_verify import editing
from tests.shop import nothing_is_wrong, person, wallet_nano

WHY = "Random numbers, and labels that do not fit them."


@pytest.fixture
def judging(settings):
    settings.REVIEW_UNDO_S, settings.CHALLENGE_WINDOW_S = 0, 7 * 86400
    for name, value in LEAST.items():
        setattr(settings, name, value)


@pytest.fixture
def version(books, judging):
    return noisy_version(books)


def earned_nano(name: str) -> int:
    paid = RecordEpoch.objects.filter(record__contributor=person(name)).values_list("amount_nano", flat=True)
    return sum(paid)


def told(name: str) -> list[str]:
    found = Notification.objects.filter(user=person(name), kind__startswith="noise_").order_by("pk")
    return list(found.values_list("kind", flat=True))


def test_garbage_is_held_decided_twice_and_only_then_goes_to_nobody(books, version):
    # Given Mallory's garbage, which calls have paid
    before, others = pending_nano("mallory"), (pending_nano("alice"), pending_nano("bob"))
    assert before > 0

    # When the epoch is judged
    (case,) = judged()

    # Then a case is open, blind; what is pending of the rows is held, nothing is taken, and nobody else is accused
    report = NoiseReport.objects.get()
    assert (report.outcome, case.status, case.contributor) == ("cases", "open", person("mallory"))
    assert case.figures["z"] > 3 and case.figures["rows"] == case.records.count() == 48
    assert noise_words.sentence_of(report) == "Noise: judged in epoch 1: 1 case, which people decide."
    assert {lot.held_by for lot in lots("mallory")} == {"noise"}
    assert "look like noise" in holds.sentence(lots("mallory")[0])
    assert (pending_nano("mallory"), noise_cases.held_nano(case)) == (before, before)
    assert (pending_nano("alice"), pending_nano("bob")) == others
    assert told("mallory") == ["noise_opened"]
    assert (told("carol"), told("erin")) == ([], ["noise_to_decide"])  # Carol had approved the rows
    # It is judged once, whoever rings, and held from its first moment in the next epochs
    assert noise_cases.judge_due() == 0 == len(noise_cases.judge_epoch(Epoch.objects.get()))
    used(books, version, epochs_later=2)
    assert {lot.state for lot in lots("mallory")} == {"held"}
    assert (noise_cases.hold_new_lots(), noise_cases.hold_new_lots()) == (1, 0)
    assert judged() == [case]  # the newest epoch is judged, too, without rows of a case
    all_due(books)
    sequencer.vest()
    books.fold()
    assert wallet_nano(person("mallory")) == 0 < wallet_nano(person("bob"))
    assert nothing_is_wrong()

    # When Mallory answers, Erin says noise, Mallory appeals, and an administrator says the same
    noise_cases.state(case, by=person("mallory"), text="They are measurements.")
    for party in ("mallory", "carol", "dan"):
        with pytest.raises((datanet_errors.NotAllowed, datanet_errors.SelfReview)):
            noise_cases.decide(case, by=person(party), uphold=False, note=WHY)
    with pytest.raises(datanet_errors.Invalid):
        noise_cases.decide(case, by=person("erin"), uphold=True, note=" ")
    held = pending_nano("mallory")
    assert noise_cases.decide(case, by=person("erin"), uphold=True, note=WHY).status == "upheld"
    assert (pending_nano("mallory"), {lot.state for lot in lots("mallory")}) == (held, {"held"})
    with pytest.raises(datanet_errors.NotReady):
        noise_cases.decide(case, by=admin("ada"), uphold=True, note=WHY)
    noise_cases.appeal(case, by=person("mallory"), text="Look again.")
    with pytest.raises(datanet_errors.NotAllowed):
        noise_cases.decide(case, by=person("erin"), uphold=True, note=WHY)
    unattributed = releasing.waiting_nano(version.model_id)
    ended = noise_cases.decide(case, by=admin("ada"), uphold=True, note="I see the same.")
    books.fold()

    # Then what was pending of the rows goes to nobody, to the nano, by entries of its own, and so does what comes later
    assert (ended.status, noise_cases.returned_nano(ended), pending_nano("mallory")) == ("returned", held, 0)
    assert releasing.waiting_nano(version.model_id) == unattributed + held
    assert earned_nano("mallory") == held == sum(Transfer.objects.values_list("amount_nano", flat=True))
    assert Line.objects.filter(payee=person("mallory")).exists()  # the lines stand
    assert nothing_is_wrong()
    used(books, version, epochs_later=3, calls=1)
    made = Call.objects.order_by("-started_at").first()
    assert pending_nano("mallory") > 0 and {lot.state for lot in lots("mallory") if lot.open_nano} == {"held"}
    assert (noise_cases.return_new(), noise_cases.return_new()) == (1, 0)
    books.fold()
    assert pending_nano("mallory") == 0
    assert not LotHold.objects.filter(released_at=None).exists()
    assert nothing_is_wrong()

    # And a refund takes the part from where it is
    part = Line.objects.get(source_id=made.pk, payee=person("mallory")).amount_nano
    waiting, returned = releasing.waiting_nano(version.model_id), noise_cases.returned_nano(ended)
    refunds.give_back(made, by=person("devi"), reason="It answered another question.")
    books.fold()
    books.log()
    assert releasing.waiting_nano(version.model_id) <= waiting - part
    assert noise_cases.returned_nano(ended) == returned - part
    assert earnings.totals(person("mallory"), now=timezone.now()).lifetime_nano == 0
    assert nothing_is_wrong()

    # And everybody knows what they may
    assert told("mallory") == ["noise_opened", "noise_upheld", "noise_returned"]
    assert told("ada") == ["noise_to_decide"]
    acts = AuditEvent.objects.filter(target=f"noise:{case.pk}").order_by("pk").values_list("act", flat=True)
    assert list(acts) == ["open_noise_case", "decide_noise_case", "decide_noise_case"]
    _verify_names_what_is_wrong(case)
    for name in ("mallory", "erin", "ada"):
        noise_cases.forget_words_of(person(name))
    case.refresh_from_db()
    assert {case.statement, case.appeal, case.note, case.second_note} == {ERASED}


def _verify_names_what_is_wrong(case: NoiseCase) -> None:
    edits = {
        "of them went to nobody": "DELETE FROM attribution_transferreturn; UPDATE attribution_transfer "
        "SET amount_nano = amount_nano + 1",
        "to nobody for a noise case": "UPDATE attribution_transfer SET amount_nano = amount_nano - 1 WHERE amount_nano > 1",
        "who approved its record": f"UPDATE attribution_noisecase SET decided_by_id = {person('carol').pk}",
        "ran, and yet the lot": "UPDATE attribution_noisecase SET status = 'open', decided_by_id = NULL, decided_at = NULL, "
        "note = '', appeal = '', appealed_at = NULL, second_by_id = NULL, second_note = '', ended_at = NULL; "
        "UPDATE ledger_lot SET vested_at = clock_timestamp(), vesting_id = id, taken_nano = 0 WHERE vested_at IS NULL",
    }
    for sentence, statement in edits.items():
        with editing():
            with connection.cursor() as cursor:
                cursor.execute(statement)
            found = attribution_verify.failures()
        assert [one for one in found if sentence in one.sentence], (sentence, found)
    impossible = {
        "noise_case_is_where_it_says": {"status": "open"},
        "no_contributor_decides_their_noise_case": {"decided_by": case.contributor},
        "another_person_answers_an_appeal_on_noise": {"second_by": person("erin")},
    }
    for name, values in impossible.items():
        with pytest.raises(DatabaseError, match=name), transaction.atomic():
            NoiseCase.objects.filter(pk=case.pk).update(**values)


def test_a_case_that_is_cleared_lets_everything_go_also_what_a_plan_holds_ahead(books, version):
    (case,) = judged()
    before = pending_nano("mallory")
    with pytest.raises(DatabaseError, match="record_is_in_one_noise_case_of_a_model"), transaction.atomic():
        first = case.records.first()
        first.pk = None
        first.save(force_insert=True)

    # A decision meets a plan under way: whoever comes second sees what the first did, and no lot stays behind
    epoch = closed(books, version)
    planned, ended = race(
        books,
        lambda: settlement.plan_epoch(epoch.pk),
        second_to_come(lambda: noise_cases.decide(case, by=person("erin"), uphold=False, note="They are fine.")),
        behind="SELECT FROM ledger_outbox FOR UPDATE",
    )
    assert (planned.status, ended.status) == ("planned", "cleared")
    settlement.post_planned()
    books.fold()
    books.log()
    assert {lot.state for lot in lots("mallory")} == {"pending"}
    assert pending_nano("mallory") > before
    assert not LotHold.objects.filter(released_at=None).exists()
    assert nothing_is_wrong()
    # Cleared rows are never accused again
    noise_cases.judge_due()
    assert NoiseCase.objects.count() == 1
    assert told("mallory") == ["noise_opened", "noise_cleared"]

    all_due(books)
    assert sequencer.vest() > 0
    books.fold()
    assert wallet_nano(person("mallory")) == earned_nano("mallory")


def test_the_clock_ends_what_nobody_decides_or_appeals(books, judging, settings):
    # Given two who sent garbage
    noisy_version(books, second={"mallory": garbage_rows(48, seed=23), "mallet": garbage_rows(48, seed=24)})
    cases = {case.contributor.username: case for case in judged()}
    assert set(cases) == {"mallory", "mallet"}
    settings.NOISE_APPEAL_S = 0
    noise_cases.decide(cases["mallory"], by=person("erin"), uphold=True, note=WHY)
    NoiseCase.objects.filter(contributor=person("mallet")).update(due_at=timezone.now())
    for refused in (
        lambda: noise_cases.appeal(cases["mallory"], by=person("mallory"), text="Too late."),
        lambda: noise_cases.decide(cases["mallet"], by=person("erin"), uphold=True, note=WHY),
    ):
        with pytest.raises(datanet_errors.NotReady):
            refused()
    before = pending_nano("mallet")

    assert (noise_cases.end_overdue(), noise_cases.end_overdue()) == (2, 0)
    books.fold()

    # Then what was upheld and not appealed is final, and what nobody decided is let go
    statuses = dict(NoiseCase.objects.values_list("contributor__username", "status"))
    assert statuses == {"mallory": "returned", "mallet": "lapsed"}
    assert (pending_nano("mallory"), pending_nano("mallet")) == (0, before)
    assert {lot.state for lot in lots("mallet")} == {"pending"}
    assert (told("mallory")[-1], told("mallet")[-1]) == ("noise_returned", "noise_lapsed")
    assert not data.to_decide(person("erin")).exists()
    assert nothing_is_wrong()


def test_a_model_with_too_little_to_compare_with_is_not_judged_and_its_page_says_so(books, judging, client):
    version, _calls = sold(books)
    assert noise_cases.judge_due() == 1
    report = NoiseReport.objects.get(model_id=version.model_id)
    assert (report.outcome, report.reason) == ("not_judged", "nothing_new")
    here = f"/en/models/{version.model.path}/attribution/"
    assert (
        "Noise: not judged in epoch 1: no record came in since the first versions" in client.get(here).content.decode()
    )
    assert nothing_is_wrong()
