"""Copies change nobody's pay: whoever adds them, wherever they stand, in whichever Datanet; until their leader is gone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attribution import netting
from attribution.engines import linear, neighbours
from attribution.models import Line, RecordEpoch
from attribution.roster import Roster
from attribution.shares import quantise
from datanets.models import Record
from marketplace import publishing, training
from tests.datanets.cast import send, table
from tests.marketplace.pages.world import call
from tests.shop import approve_all, fund, measured, nothing_is_wrong, person, published, settle, trained

LEADERS = 14
RANDOM = np.random.default_rng(7)
ROWS = RANDOM.normal(size=(LEADERS, 3))
LABELS = ["ab"[i % 2] for i in range(LEADERS)]
QUESTIONS = RANDOM.normal(size=(5, 3))
CONTRIBUTORS = [1 + i % 4 for i in range(LEADERS)]
PRICES = [8_400_000, 1, 0, 999_999_999, 20]


def payees(engine, members: list[tuple[int, int]]) -> dict[int, int]:
    """What each contributor gets of five calls. members: (row, contributor) in the order of the records; the first of
    a row leads."""
    seen: set[int] = set()
    weights = np.array([float(row not in seen and not seen.add(row)) for row, _who in members])
    rows = [row for row, _who in members]
    model = engine.fit(ROWS[rows], [LABELS[row] for row in rows], weights, {})
    # Commitments: a leader's is of its row, a copy's of its place; both orders are mixed.
    names = [
        f"{(row if weight else 100 + place) * 7919 % 1009:04x}"
        for place, (row, weight) in enumerate(zip(rows, weights, strict=True))
    ]
    roster = Roster.of(range(len(members)), names)
    calls = []
    for number, (question, nano) in enumerate(zip(QUESTIONS, PRICES, strict=True)):
        scores = quantise(engine.attribute(model, engine.answer(model, question))[roster.fit_order])
        places = np.flatnonzero(scores)
        calls.append(netting.EpochCall(number, nano, places, scores[places]))
    people = netting.Payees(np.array([who for _row, who in members])[roster.fit_order])
    result = netting.settle(calls, netting.Sums.zero(len(roster)), np.zeros(len(roster), dtype=bool))
    paid: dict[int, int] = {}
    for asked, one in zip(calls, result.paid, strict=True):
        for who, nano in people.sums(asked.places, one.amounts).items():
            paid[who] = paid.get(who, 0) + nano
    return paid


ALONE = list(enumerate(CONTRIBUTORS))


@pytest.mark.parametrize("engine", [linear, neighbours], ids=lambda engine: engine.NAME)
@settings(max_examples=40)
@given(copies=st.lists(st.tuples(st.integers(0, LEADERS - 1), st.integers(1, 9), st.integers(0, 40)), max_size=20))
def test_copies_by_anyone_in_any_order_leave_every_payee_the_same_integers(engine, copies):
    # Given copies that stand anywhere after what they copy
    members = list(ALONE)
    for row, who, after in copies:
        first = next(place for place, (known, _who) in enumerate(members) if known == row)
        members.insert(first + 1 + after % (len(members) - first), (row, who))

    assert payees(engine, members) == payees(engine, ALONE)


def paid_of(model_version) -> dict[str, int]:
    """Of the calls to a model version: user name -> nano of its lines for data."""
    epochs = RecordEpoch.objects.filter(model_version_id=model_version.pk).values("epoch")
    lines = Line.objects.filter(epoch__in=epochs, source="call", role="data", payee__isnull=False)
    return {line.payee.username: line.amount_nano for line in lines}


def test_a_model_of_two_datanets_pays_as_if_the_copies_in_one_of_the_other_were_not_there(books, settings):
    # Given Alice's Datanet and Bob's, in which Max then copies half of what Alice sent
    settings.REVIEW_UNDO_S = 0
    for name in ("devi", "dan"):
        fund(books, person(name), 10)
    first = published({"alice": measured(12)}, name="First")
    second = published({"bob": measured(8, start=12)}, name="Second")
    send(second.datanet, table(measured(6)), by="max")
    approve_all(second.datanet)
    crowded = publishing.publish_version(second.datanet, by=second.datanet.owner)
    without, with_copies = trained(books, first, second, name="Without"), trained(books, first, crowded, name="With")

    # When both answer the same question
    for version in (without, with_copies):
        call(version, person("dan"), radius=12.0)
    settle(books)

    # Then Alice and Bob got the same, to the nano, and Max nothing
    assert paid_of(with_copies) == paid_of(without)
    assert set(paid_of(without)) <= {"alice", "bob"} and paid_of(without)["alice"] > 0
    assert nothing_is_wrong()


def test_a_copy_is_paid_in_the_version_after_its_leader_was_taken_back_and_not_before(books, settings):
    # Given rows of Alice's, and Bob's copies of all of them
    settings.REVIEW_UNDO_S = 0
    fund(books, person("devi"), 10)
    fund(books, person("dan"), 10)
    version = published({"alice": measured(12), "bob": measured(12)})
    old = trained(books, version)
    call(old, person("dan"), radius=12.0)
    settle(books)
    best = RecordEpoch.objects.filter(model_version_id=old.pk).latest("amount_nano").record
    copy = Record.objects.get(copy_of=best)

    # When the one that earned most is taken back, and the model of that version is called again
    publishing.withdraw_record(best, by=person("alice"))
    call(old, person("dan"), radius=12.0)
    settle(books)
    assert not RecordEpoch.objects.filter(record=copy).exists()

    # Then its copy is paid in the next version, where it leads
    following = publishing.publish_version(version.datanet, by=version.datanet.owner)
    run = training.request(model=old.model, by=old.model.owner, versions=[following])
    training.run(run.pk)
    new = old.model.versions.latest("number")
    books.fold()
    call(new, person("dan"), radius=12.0)
    settle(books)
    assert RecordEpoch.objects.get(record=copy).amount_nano > 0
    assert RecordEpoch.objects.get(record=copy).model_version_id == new.pk
    assert not RecordEpoch.objects.filter(model_version_id=new.pk, record=best).exists()
    assert nothing_is_wrong()
