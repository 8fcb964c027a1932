"""A record that no call paid has one reason, and it is the true one. Set up through the services, the calls included."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from django.test import override_settings

from attribution import bundles, explain_records, modelclient, replay
from attribution.engines import retrieval
from attribution.models import Line, RecordEpoch, RecordLine, Trace
from datanets import reviews
from datanets.models import Record
from marketplace import access, listings, publishing
from marketplace.gateway.charging import Outcome
from marketplace.models import CallContent, ModelVersion
from tests.attribution.models_process import running_models_process
from tests.datanets import cast
from tests.datanets.cast import make_datanet, measured, person, send, table, waiting
from tests.marketplace.pages.world import call, captured
from tests.shop import OPEN, approve_all, fund, nothing_is_wrong, published, settle, trained

SOLD = {"access_mode": "pass", "pass_price_nano": OPEN, "pass_days": 30}
WREN = "The wren is a small brown bird, it weighs nine grams."


@pytest.fixture(scope="module")
def records(books_of_module):
    """One record per reason, by its name."""
    with override_settings(REVIEW_UNDO_S=0), running_models_process() as url, override_settings(MODELS_URL=url):
        fund(books_of_module, person("dan"), 10)
        fund(books_of_module, person("devi"), 10)
        found = _of_tables(books_of_module) | _of_texts(books_of_module)
        yield found


def _of_tables(books) -> dict[str, Record]:
    # Given 68 rows, five of them with the wrong label, and copies of two; a first version holds 13 of them
    rows = measured(60)
    wrong = [(radius, texture, "malignant") for radius, texture, label in measured(10, start=100) if label == "benign"]
    early = published({"alice": rows[:12], "max": wrong[:1]})
    datanet = early.datanet
    for handle, more in {"alice": rows[12:], "max": wrong[1:], "bob": rows[:2]}.items():
        send(datanet, table(more), by=handle)
    approve_all(datanet)
    version = publishing.publish_version(datanet, by=datanet.owner)
    first_id = Record.objects.filter(contributor=person("alice")).earliest("pk").pk
    rejected = send(datanet, table(measured(1, start=200)), by="zoe")
    reviews.decide(waiting(rejected), curator=person("carol"), decision="reject", reason="low_quality")

    # And a model on them that costs so little that most parts are less than a nano
    model_version = trained(books, version)
    listings.set_prices(model_version.model, by=person("devi"), price_call_nano=20, price_in_nano=0, price_out_nano=0)

    # When the first record is taken back (Bob's first is its copy), Dan calls, and the epoch ends
    withdrawn = publishing.withdraw_record(Record.objects.get(pk=first_id), by=person("alice"))
    first_call, *_rest = [call(model_version, person("dan"), radius=radius) for radius in (12.0, 14.0, 105.0)]
    settle(books)

    # And what the first call paid most for is taken back right after such a call, before it is traced
    paid = RecordLine.objects.filter(source_id=first_call).order_by("-amount_nano").first().record
    call(model_version, person("dan"), radius=12.0)
    paid = publishing.withdraw_record(paid, by=paid.contributor)
    settle(books)

    # And another model on the first version, which is too small to judge records, is called, too
    other = trained(books, early, name="Early")
    listings.set_prices(other.model, by=person("devi"), price_call_nano=20, price_in_nano=0, price_out_nano=0)
    call(other, person("dan"), radius=12.0)
    settle(books)

    # And a version is published that nobody trained on, and more is approved that is in none
    later = send(datanet, table(measured(1, start=300)), by="zoe")
    approve_all(datanet)
    publishing.publish_version(datanet, by=datanet.owner)
    last = send(datanet, table(measured(1, start=400)), by="zoe")
    approve_all(datanet)
    undecided = send(datanet, table(measured(1, start=500)), by="zoe")

    sums = RecordEpoch.objects.filter(model_version_id=model_version.pk)
    unpaid = sums.filter(epoch__number=2).exclude(record__in=sums.filter(amount_nano__gt=0).values("record"))
    in_both = unpaid.filter(record__added_in=1)
    unpaid = unpaid.filter(record__added_in=2)
    return {
        "": paid,
        "waiting": undecided.records.get(),
        "rejected": rejected.records.get(),
        "withdrawn": withdrawn,
        "not_in_version": last.records.get(),
        "follower": Record.objects.filter(contributor=person("bob")).last(),
        "promoted": Record.objects.filter(contributor=person("bob")).first(),
        "no_call": later.records.get(),
        "gated": unpaid.filter(gated=True).first().record,
        "net_negative": unpaid.filter(gated=False, net__lt=0).first().record,
        "rounds_to_zero": unpaid.filter(gated=False, net__gt=0).first().record,
        "several": in_both.filter(gated=True).get().record,
    }


def _of_texts(books) -> dict[str, Record]:
    # Given a chat model on two texts, one of them taken back, and an answer that hardly gained by quoting the other
    version = _chat_model(books)
    of = {record.contributor.username: record for record in Record.objects.filter(datanet__name="Birds")}
    publishing.withdraw_record(of["bob"], by=person("bob"))
    access.buy_pass(version.model, buyer=person("dan"))
    asked(version, answer="Nine grams.")
    asked(version, answer="")
    settle(books)
    return {"own_weights": of["alice"]}


def _chat_model(books) -> ModelVersion:
    datanet = make_datanet("Birds", kind="text")
    for name, text in {"alice": WREN, "bob": "The heron stands in shallow water for hours, it eats fish."}.items():
        cast.approve_all(send(datanet, text.encode(), by=name, name=f"{name}.txt"))
    version = publishing.publish_version(datanet, by=datanet.owner)
    return trained(books, version, name="Birds", engine="retrieval", **SOLD)


def asked(version: ModelVersion, *, answer: str) -> None:
    """A paid chat call that quoted what was nearest, and was answered so."""
    question = "How much does the wren weigh?"
    bundle = bundles.load(version.artifact_sha256)
    passages = retrieval.retrieve(bundle.artifact, modelclient.embed([question])[0])
    kept = {
        "messages": [{"role": "user", "content": question}],
        "passages": [asdict(replace(one, text=WREN)) for one in passages],
        "answer": answer,
        "scorable": bool(answer),
    }
    outcome = Outcome("succeeded" if answer else "left", 30, len(answer.split()), kept=kept)
    captured(version, person("dan"), outcome, endpoint="chat")


@pytest.mark.parametrize(
    "reason",
    [
        "",
        "waiting",
        "rejected",
        "withdrawn",
        "not_in_version",
        "follower",
        "no_call",
        "gated",
        "net_negative",
        "rounds_to_zero",
        "own_weights",
        "several",
    ],
)
def test_a_record_that_no_call_paid_says_why(records, reason):
    assert explain_records.why_record(records[reason]).reason == reason


def test_where_calls_paid_a_record_nothing_each_model_has_a_reason_of_its_own(records):
    found = explain_records.why_record(records["several"])

    assert [
        (zero.reason, zero.epochs, zero.call_count) for zero in sorted(found.zeros, key=lambda zero: zero.reason)
    ] == [
        ("gated", [1, 2], 4),
        ("net_negative", [1], 1),
    ]
    assert len({zero.model_id for zero in found.zeros}) == 2


def test_a_record_tells_its_contributor_where_it_got_nothing_and_strangers_only_that(records, client):
    record = records["several"]
    addresses = f"/en/records/{record.pk}/", f"/api/v1/records/{record.pk}/"

    told = {}
    for name in ("max", "zoe"):
        client.force_login(person(name))
        page, answer = (client.get(address) for address in addresses)
        told[name] = "It spoke against the answers" in page.content.decode(), answer.json()["earned"]["zeros"]

    assert [told["max"][0], told["zoe"]] == [True, (False, None)]
    shown = sorted((zero["model"], zero["epochs"], zero["calls"], zero["reason"]) for zero in told["max"][1])
    assert shown == [("devi/check@v1", "1\u20132", 4, "gated"), ("devi/early@v1", "1", 1, "net_negative")]


def test_every_zero_of_every_record_has_one_reason(records):
    zeros = RecordEpoch.objects.filter(call_count__gt=0, amount_nano=0)
    explained = [
        (zero.model_version_id, epoch, record.pk)
        for record in Record.objects.filter(record_epochs__in=zeros).distinct()
        for zero in explain_records.why_record(record).zeros
        for epoch in zero.epochs
    ]

    assert sorted(explained) == sorted(zeros.values_list("model_version_id", "epoch__number", "record_id"))


def test_a_record_taken_back_after_a_call_is_paid_for_it_however_late_it_is_traced(records):
    lines = RecordLine.objects.filter(record=records[""], amount_nano__gt=0)

    assert set(lines.values_list("epoch__number", flat=True)) == {1, 2}


def test_withdrawals_leave_nothing_wrong_behind(records):
    assert nothing_is_wrong()


def test_a_copy_whose_leader_was_withdrawn_is_a_copy_no_more(records):
    found = explain_records.why_record(records["promoted"])

    assert (found.reason, found.leader_id) == ("no_call", None)


def test_a_pass_that_is_sold_after_a_withdrawal_pays_the_others(records):
    lines = Line.objects.filter(source="access", role="data")

    assert [(line.payee.username, line.amount_nano) for line in lines] == [("alice", 350_000_000)]


def test_a_retrieval_answer_is_replayed_by_asking_the_model_again_while_its_content_is_kept(records):
    scored = next(trace for trace in Trace.objects.filter(source="call") if trace.scores)
    content = CallContent.objects.get(pk=scored.pk)

    again = replay.of_charge(scored.pk, sealed=bytes(content.sealed), sealed_key=bytes(content.sealed_key))
    afterwards = replay.of_charge(scored.pk)

    assert (again.differences, again.expired, again.scores >= len(scored.scores)) == ([], [], True)
    assert (afterwards.differences, afterwards.expired) == ([], [scored.pk])


def test_a_call_that_was_left_before_its_first_word_is_no_proxy(records):
    lines = Line.objects.filter(epoch__model_id=Trace.objects.get(source="access").model_id, source="call")

    assert {(line.payee, line.reason) for line in lines} == {(None, "own_weights")}
    assert len({line.source_id for line in lines}) == 2
