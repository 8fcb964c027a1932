"""Erasing a person: a canary in everything they can write or send, and afterwards it is found nowhere (tests/canaries.py)."""

import hashlib
import hmac
import io
import itertools
import json
import logging
import uuid
import zipfile
from dataclasses import asdict, replace

import orjson
import pytest
import rfc8785
from allauth.account.models import EmailAddress
from django.conf import settings as site
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client, override_settings
from django.utils import timezone
from PIL import ExifTags, Image, PngImagePlugin

from accounts.models import User
from attribution import bundles, content, explain_lines, modelclient, traces
from attribution.engines import retrieval
from attribution.models import Line, Trace
from datanets import appeals, exports, gold, reports, reviews, services, submissions
from datanets.kinds import KINDS
from datanets.models import BrokenRow, CheckResult, Record, RecordBody, SubmissionFile, Version
from ledger import chart, receipts
from ledger import services as ledger
from marketplace import (
    adjustments,
    erasure,
    holds,
    housekeeping,
    keys,
    listings,
    notifications,
    payouts,
    playground,
    promotion,
    publishing,
    refunds,
    wallets,
    webhooks,
)
from marketplace.errors import NotReady, describe
from marketplace.gateway import charging
from marketplace.models import Call, CallContent, Dispute, Fallback, ListedModel, ModelVersion, Refund
from tests.accounts.entrance import PASSWORD, enrol_app, member, reauthenticate
from tests.attribution.models_process import running_models_process
from tests.canaries import Canaries, Digests, everywhere, unwritten
from tests.datanets.cast import COLUMNS, SCHEMA, make_datanet, send, table, upload
from tests.datanets.hostile import zipped
from tests.gateway.conftest import running_gateway
from tests.marketplace.pages.world import admin, call, captured, settle, small_shop
from tests.shop import OPEN, approve_all, fund, measured, nothing_is_wrong, person, published, trained

TEXT = b"The wren weighs nine grams."
NUMBER = "40404.4040404"  # a canary where only numbers are taken


@pytest.fixture(autouse=True)
def decided_at_once(settings, tmp_path):
    settings.REVIEW_UNDO_S = 0
    settings.STORAGE_DIR = tmp_path / "storage"
    settings.CHALLENGE_WINDOW_S = 0


def test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure(books, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    [console] = [one for one in logging.getLogger().handlers if type(one) is logging.StreamHandler]
    caplog.handler.setFormatter(console.formatter)
    caplog.set_level(logging.INFO, logger="PIL")  # tells what this test writes into its own pictures
    canary, refused = Canaries(), Canaries()
    version, bobs = _world(books)
    alice = _alice(canary)
    _gives_data(canary, alice)
    _curates_and_asks(canary, alice)
    _owns(canary, alice)
    _trades(books, canary, alice, version)
    _calls_the_gateway(books, canary, refused, alice, version)
    _meets_a_namesake(alice)
    quoted = _chats(books, canary, alice)
    _signs_in(alice)
    settle(books, epochs_later=1)
    _is_held(canary, alice)
    ledger.vest_due()
    _withdraws(books, canary, alice)
    books.log()
    assert unwritten(canary) == []
    searched = everywhere(caplog, capfd)
    before = {name: canary.found_in(*hay) for name, hay in searched.items()}
    assert set().union(*before.values()) == set(canary.placed.values()), "the search finds all that is there"
    for place in ("log", "log of the database", "output", "public log", "tiles"):
        assert before[place] == set(), "what is written there can never be erased"
    assert {name: found for name, hay in searched.items() if (found := refused.found_in(*hay))} == {}
    assert NUMBER in "".join(str(one.statistics) for one in Version.objects.all())
    openings = _openings()

    erasure.erase_person(alice)
    assert "openings" not in ledger.receipt(alice.calls.first().pk, with_openings=True).body
    books.log()
    housekeeping.finish_erasures()

    searched = everywhere(caplog, capfd)
    assert {name: found for name, hay in searched.items() if (found := canary.found_in(*hay))} == {}
    # Her openings are gone, every leaf is still proved; Bob's receipt opens as before; everything still adds up
    assert len(_openings()) < len(openings)
    her_call = alice.calls.order_by("started_at").first()
    for call_id, opens in ((her_call.pk, False), (bobs, True)):
        receipt = ledger.receipt(call_id, with_openings=True)
        assert receipt.status == "proved"
        assert ("openings" in receipt.body) is opens
    assert {call_id, *openings} <= set(_verified_leaves())
    assert nothing_is_wrong()
    # The numbers she gave and asked about: in no statistics, no row and no trace
    assert housekeeping.finish_erasures() == 1
    assert not any(NUMBER.encode() in part for hay in everywhere(caplog, capfd).values() for part in hay)
    [described] = Version.objects.filter(datanet__name="Tumours").values_list("statistics", flat=True)
    assert (described["rows"], described["columns"][0]["count"]) == (10, 10)
    hers = Trace.objects.filter(charge_id__in=alice.calls.values("pk"), artifact__engine="linear")
    assert [(trace.context, trace.forgotten_at is not None) for trace in hers] == [({}, True)] * 2
    assert {explain_lines.sum_of(line) for line in Line.objects.filter(source_id=her_call.pk)} == {None}
    with pytest.raises(IntegrityError, match="forgotten_trace_has_no_context"), transaction.atomic():
        hers.update(context={"served": 0})
    # Dan's answer that quoted her is unreadable; what he was charged and whom that paid stands
    assert CallContent.objects.get(pk=quoted).sealed_key is None
    assert Trace.objects.get(pk=quoted).scores
    # What is too short to be searched for, or is deleted by the row
    assert not BrokenRow.objects.filter(file__submission__contributor=alice).exists()
    assert not CheckResult.objects.filter(submission__contributor=alice).exists()
    assert not alice.withdrawals.exclude(destination_hint="", destination_token="").exists()
    assert not SubmissionFile.objects.filter(submission__contributor=alice).exclude(sha256="", storage_key="").exists()


def test_nobody_guesses_what_the_entries_of_an_erased_person_committed_to(books, caplog, capfd):
    # Given a call, a deposit, a withdrawn record and a payout of Alice's, all in the log
    version, _bobs = _world(books)
    alice = person("alice")
    fund(books, alice, 1)
    request = b'{"input":{"radius":22.0,"texture":17.0}}'
    call_id = call(version, alice, request=request)
    settle(books, epochs_later=1)
    ledger.vest_due()
    publishing.withdraw_record(Record.objects.filter(contributor=alice).first(), by=alice)
    _withdraws(books, Canaries(), alice)
    books.log()
    response = orjson.dumps(_content_of(call_id)["response"])
    before = _opened_leaves()
    # With its salt one guess finds a value: the space is small, and only the salt protects it
    digests = Digests(itertools.chain(*everywhere(caplog, capfd).values()))
    for fields in before.values():
        salted = {_commitment(name, bytes.fromhex(one["salt"]), one["value"]) for name, one in fields.items()}
        assert digests.among(salted) == salted

    erasure.erase_person(alice)
    books.log()
    housekeeping.finish_erasures()

    # Then whoever knows all that her entries said, to the byte, recognises none of it anywhere
    hers = [id for id in before if id not in _opened_leaves()]
    told = {(id, name): one["value"] for id in hers for name, one in before[id].items()}
    lines = {f"split.{number}" for number in range(8)}
    assert {name for _id, name in told} == lines | {
        *("buyer", "paid_by", "request", "response", "tokens", "price"),
        *("payee", "amount", "destination", "contributor", "records", "posting"),
    }
    assert told[call_id, "request"] == charging.request_digest("/v1/classify", request).hex()
    assert told[call_id, "response"] == hashlib.sha256(response).hexdigest()
    digests = Digests(itertools.chain(*everywhere(caplog, capfd).values()))
    for (id, name), value in told.items():
        canonical = rfc8785.dumps(value)
        guessed = {_commitment(name, salt, value) for salt in _salts_of_a_stranger(id)}
        guessed |= {hashlib.sha256(salt + canonical).digest() for salt in _salts_of_a_stranger(id)}
        assert digests.among(guessed) == set(), name
    asked = (request, b"/v1/classify\n" + request, response)
    assert digests.among(hashlib.sha256(one).digest() for one in asked) == set()
    # Nor whoever tries what she may have paid and asked
    price = int(told[call_id, "price"])
    guesses = itertools.chain(
        (("price", str(amount)) for amount in range(price - 2_000, price + 2_000)),
        (("tokens", {"in": p, "out": a}) for p in range(20) for a in range(20)),
    )
    wrong = {_commitment(name, salt, value) for name, value in guesses for salt in _salts_of_a_stranger(call_id)}
    assert digests.among(wrong) == set()


def test_what_a_call_was_about_is_kept_as_long_as_it_may_be_given_back(books, settings):
    # Given a call with a week to dispute it, and shorter windows since
    version, _bobs = _world(books)
    dan = person("dan")
    settings.CHALLENGE_WINDOW_S = 7 * 86400
    call_id = call(version, dan)
    settings.CHALLENGE_WINDOW_S = 0
    settle(books, epochs_later=1)
    _has_nothing_left(books, dan)

    erasure.erase_person(dan)
    assert Trace.objects.get(pk=call_id).context

    # When it is given back, its scores leave the sums, for which they are computed again
    refunds.give_back(Call.objects.get(pk=call_id), by=version.model.owner, reason="Wrong.")
    housekeeping.finish_erasures()
    assert Trace.objects.get(pk=call_id).context
    call(version, person("bob"))
    settle(books, epochs_later=2)
    assert nothing_is_wrong()


def test_nobody_guesses_the_records_of_an_erased_person(books, settings, caplog, capfd):
    # Given three rows of few possible values, a text and a picture, which the site and its log have under hashes
    rows = [("1", "2", "benign"), ("3", "4", "malignant"), ("5", "6", "benign")]
    version = published({"alice": rows, "bob": measured(3)})
    alice = person("alice")
    for kind, name, sent in (
        ("text", "wren.txt", TEXT),
        ("image", "wren.png", _picture()),
    ):
        datanet = make_datanet(kind, kind=kind)
        send(datanet, sent, by="alice", name=name)
        approve_all(datanet)
        publishing.publish_version(datanet, by=datanet.owner)
    for fmt in exports.FORMATS:
        exports.write(version, fmt=fmt)
    books.log()
    bodies = RecordBody.objects.select_related("record__datanet")
    hers = list(bodies.filter(record__contributor=alice))
    assert {one.record.datanet.kind for one in hers} == set(KINDS)
    # With its salt, or the site's key, one guess finds a record
    digests = Digests(itertools.chain(*everywhere(caplog, capfd).values()))
    for one in hers:
        kind, row = one.record.datanet.kind, KINDS[one.record.datanet.kind].canonical(one.body)
        known = {_identity(bytes(one.salt), row), _equality(settings.RECORD_KEY, kind, row)}
        assert digests.among(known) == known

    erasure.erase_person(alice)
    books.log()
    housekeeping.finish_erasures()

    # Then nothing that she may have given leads to a hash in the log, in a table or in a file
    digests = Digests(itertools.chain(*everywhere(caplog, capfd).values()))
    kept = {bytes.fromhex(one) for one in (version.root, hers[0].record.identity)}
    assert digests.among(kept) == kept
    possible = itertools.product(range(10), range(10), ("benign", "malignant"))
    guesses = [
        ("tabular", {"radius": float(radius), "texture": float(texture), "diagnosis": diagnosis})
        for radius, texture, diagnosis in possible
    ]
    guesses += [(one.record.datanet.kind, one.body) for one in hers]
    wrong = set()
    for kind, body in guesses:
        row = KINDS[kind].canonical(body)
        wrong.add(_equality(settings.RECORD_KEY, kind, row))
        for salt in (b"", bytes(32), *(part for one in hers for part in _salts_of_a_stranger(one.record.datanet_id))):
            wrong |= {_identity(salt, row), hashlib.sha256(salt + row).digest()}
    assert digests.among(wrong) == set()
    # Nor do the bytes of what she sent, or of the picture's dots
    sent_digests = {hashlib.sha256(one).digest() for one in (table(rows), TEXT, _picture())}
    dots = {bytes.fromhex(one.body["pixels"]) for one in hers if "pixels" in one.body}
    assert digests.among(sent_digests | dots) == set()
    # Bob's row is still found by whoever has its salt
    his = bodies.filter(record__contributor=person("bob")).first()
    assert digests.among([_identity(bytes(his.salt), KINDS["tabular"].canonical(his.body))])


def test_an_erasure_takes_all_or_nothing(books):
    alice = person("alice")
    fund(books, alice, 1)
    submission = send(make_datanet(), table(measured(3)))

    with pytest.raises(NotReady):
        erasure.erase_person(alice)
    with pytest.raises(CommandError, match="1"):
        call_command("erase_person", "alice")

    submission.refresh_from_db()
    assert (submission.status, Record.objects.filter(body__isnull=False).count()) == ("in_review", 3)
    with pytest.raises(IntegrityError, match="erased_person_is_named_nowhere"), transaction.atomic():
        alice.erased_at = submission.sent_at
        alice.save()


def test_a_person_erases_themselves_in_their_settings(books, client):
    alice = member()
    client.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    reauthenticate(client)
    send(make_datanet(), table(measured(3)))

    answer = client.post("/en/settings/close/", {"confirmation": "alice", "erase": "on"})

    alice.refresh_from_db()
    assert (answer.status_code, answer["Location"]) == (302, "/en/")
    assert alice.erased_at and alice.username.startswith("closed-")
    assert not Record.objects.filter(body__isnull=False).exists()


# --- The story


def _world(books) -> tuple[ModelVersion, object]:
    """Bob's and Zoe's records, Devi's model, and a call of Bob's."""
    for name in ("bob", "dan"):
        fund(books, person(name), 5)
    version = small_shop(books)
    bobs = call(version, person("bob"))
    settle(books)
    return version, bobs


def _alice(canary: Canaries):
    """Alice of the cast gave ten records already; here she gets a name that can be searched for."""
    alice = person("alice")
    alice.username, alice.email = canary("handle"), f"{canary('e-mail')}@example.org"
    alice.display_name, alice.organisation = canary("name"), canary("organisation")
    alice.first_name, alice.last_name = canary("first name"), canary("last name")
    alice.set_password(PASSWORD)
    alice.save()
    EmailAddress.objects.create(user=alice, email=alice.email, verified=True, primary=True)
    return alice


def _signs_in(alice) -> None:
    client = Client()
    client.post("/accounts/login/", {"login": alice.email, "password": PASSWORD})
    enrol_app(client)
    client.get("/en/")
    client.post("/accounts/password/reset/", {"email": alice.email})


def _gives_data(canary: Canaries, alice) -> None:
    """Every kind of upload, a row that breaks, a file half sent; approved, rejected, appealed, reported, exported."""
    columns = [*COLUMNS, {"name": "remark", "type": "text", "required": False}]
    tumours = make_datanet("With remarks", schema={"columns": columns, "label": "diagnosis", "label_type": "category"})
    rows = [(*row, canary("cell")) for row in measured(3, start=90)]
    twice = canary("cell that a version quotes")
    rows += [(*measured(1, start=93)[0], twice), (NUMBER, "17", "benign", twice)]
    rows.append((*measured(1, start=95)[0], f"{canary('address in a cell')}@example.org"))
    broken = [("not-a-number", "1", "benign", canary("broken row"))]
    submission = submissions.start(datanet=tumours, contributor=alice)
    submissions.describe(
        submission,
        by=alice,
        title=canary("title"),
        description=canary("description"),
        source_url=f"https://example.org/{canary('source')}",
    )
    header = "radius,texture,diagnosis,remark"
    upload(submission, table(rows, header), name=f"{canary('file name')}.csv")
    submissions.sign_and_send(submission, by=alice)
    waiting = list(Record.objects.filter(submission=submission, status="waiting").order_by("id"))
    carol = person("carol")
    reviews.decide(waiting[1:], curator=carol, decision="approve", note=canary("note on her record"))
    reviews.decide(
        waiting[:1], curator=carol, decision="reject", reason="other", note=canary("rejection of her record")
    )
    appeal = appeals.appeal(waiting[0], by=alice, text=canary("appeal"))
    services.add_curator(tumours, user=person("frank"), by=tumours.owner)
    appeals.decide_appeal(appeal, curator=person("frank"), overturn=True, note=canary("answer to her appeal"))
    version = publishing.publish_version(tumours, by=tumours.owner)
    for fmt in exports.FORMATS:
        exports.write(version, fmt=fmt)
    reported = reports.report(waiting[1], by=person("bob"), reason="other", text=canary("report of her record"))
    publishing.decide_report(reported, by=carol, withdraw=False, note=canary("answer to a report of her record"))

    half = submissions.start(datanet=tumours, contributor=alice, title=canary("open submission"))
    upload(half, table([*rows[:1], *broken], header), name=f"{canary('broken file name')}.csv")
    upload(half, canary("half a file").encode(), name="half.csv", check=False)
    texts = make_datanet("Notes", kind="text")
    note = json.dumps({"title": canary("text title"), "text": f"A wren sang {canary('text')} in the wall."})
    send(texts, note.encode() + b"\n", by=alice.username, name="notes.jsonl")
    send(
        texts,
        zipped({f"{canary('text in an archive')}.txt": f"A heron, {canary('archived text')}, stood.".encode()}),
        by=alice.username,
        name=f"{canary('archive')}.zip",
    )
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", canary("picture metadata"))
    out = io.BytesIO()
    Image.effect_noise((300, 300), 90).convert("RGB").save(out, "PNG", pnginfo=about)
    pictures = make_datanet("Pictures", kind="image")
    send(pictures, out.getvalue(), by=alice.username, name=f"{canary('picture name')}.png")
    photo, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Artist] = canary("EXIF")
    Image.effect_noise((320, 300), 80).convert("RGB").save(photo, "JPEG", exif=exif)
    send(
        pictures,
        zipped({f"{canary('picture in an archive')}.jpg": photo.getvalue()}, method=zipfile.ZIP_STORED),
        by=alice.username,
        name="pictures.zip",
    )


def _curates_and_asks(canary: Canaries, alice) -> None:
    """She decides on others' records, reports one, asks to read and answers who asks."""
    datanet = make_datanet("Others")
    services.add_curator(datanet, user=alice, by=datanet.owner)
    send(datanet, table(measured(3, start=70)), by="bob")
    first, second, third = Record.objects.filter(datanet=datanet).order_by("id")
    reviews.decide([first, second], curator=alice, decision="approve", note=canary("her note"))
    reviews.decide([third], curator=alice, decision="reject", reason="other", note=canary("her rejection"))
    reports.report(first, by=alice, reason="other", text=canary("her report"))
    theirs = reports.report(second, by=person("dan"), reason="other", text="Wrong.")
    publishing.decide_report(theirs, by=alice, withdraw=False, note=canary("her answer to a report"))
    notifications.tell_news()
    asked = services.request_access(
        make_datanet("On request", access="on_request"), user=alice, purpose=canary("purpose")
    )
    services.answer_access_request(asked, by=person("erin"), grant=False, answer=canary("answer to her"))
    notifications.notify(person("erin"), "access_requested", datanet="erin/on-request", by=alice.username)


def _owns(canary: Canaries, alice) -> None:
    """A Datanet of hers, with others' records."""
    hers = services.create_datanet(
        owner=alice,
        name="Hers",
        kind="tabular",
        schema=SCHEMA,
        licence="CC-BY-4.0",
        purpose="Tests",
        rights_statement="Mine.",
    )
    services.add_curator(hers, user=person("carol"), by=alice)
    send(hers, table(measured(3, start=600)), by="bob")
    reviews.decide(Record.objects.filter(datanet=hers), curator=person("carol"), decision="approve")
    publishing.publish_version(hers, by=alice, note=canary("note of a version"))
    planted, title = f"{canary('name of a planted file')}.csv", canary("title of a planted file")
    content = table(measured(2, start=700))
    gold.plant(gold.add_file(hers, by=alice, name=planted, content=content, decision="approve", title=title))


def _chats(books, canary: Canaries, alice) -> uuid.UUID:
    """Her texts are quoted to Dan and to herself. Returns the id of Dan's call."""
    birds = make_datanet("Birds", kind="text")
    send(birds, f"The wren {canary('quoted text')} weighs nine grams.".encode(), by=alice.username, name="wren.txt")
    approve_all(birds)
    with running_models_process() as url, override_settings(MODELS_URL=url):
        version = trained(books, publishing.publish_version(birds, by=birds.owner), name="Birds", engine="retrieval")
        calls = [
            _asks(version, person("dan"), question="How heavy is it?", answer="Nine grams."),
            _asks(version, alice, question=canary("question in a chat"), answer=canary("answer in a chat")),
        ]
        books.fold()
        books.log()
        for row in ledger.pending_outbox(traces.TOPIC):
            traces.trace(row.reference)
    return calls[0]


def _asks(version: ModelVersion, buyer, *, question: str, answer: str) -> uuid.UUID:
    bundle = bundles.load(version.artifact_sha256)
    texts = dict(RecordBody.objects.filter(record__in=bundle.record_ids).values_list("record_id", "body__text"))
    passages = retrieval.retrieve(bundle.artifact, modelclient.embed([question])[0])
    kept = {
        "messages": [{"role": "user", "content": question}],
        "passages": [asdict(replace(one, text=texts[bundle.record_ids[one.record]])) for one in passages],
        "answer": answer,
        "scorable": True,
    }
    outcome = charging.Outcome("succeeded", 30, 5, response={"answer": answer}, kept=kept)
    return captured(version, buyer, outcome, endpoint="chat")


def _is_held(canary: Canaries, alice) -> None:
    """An admin holds a lot of her earnings and lets it go, and says why."""
    lot = ledger.pending_of(chart.pending(alice.pk))[0]
    held = holds.hold(lot.id, by=admin("erin"), reason=canary("reason to hold her earnings"))
    holds.release(held, by=admin("erin"), reason=canary("reason to release them"))


def _trades(books, canary: Canaries, alice, version: ModelVersion) -> None:
    """Calls, keys, money in and out, and a model that never reached the shop."""
    fund(books, alice, 20)
    keys.create(owner=alice, name=canary("key"), allowed_origins=[f"https://{canary('origin of a key')}.example"])
    call(
        version, alice, kept={"messages": [{"role": "user", "content": canary("question")}], "answer": canary("answer")}
    )
    endpoint, _secret = webhooks.register(alice, url=f"https://8.8.8.8/{canary('address of a webhook')}")
    sent = webhooks.send_test(endpoint, by=alice)
    sent.log.create(number=1, duration_ms=1, status_code=200, answer=canary("answer of her server"))
    promotion.fund(alice, amount_nano=OPEN, reference=canary("promotion reference"))
    books.fold()
    promotion.take_back(alice, amount_nano=OPEN, reference=canary("promotion reference back"))
    books.fold()
    model = listings.create_model(owner=alice, name="Mine", purpose=canary("model purpose"), engine="linear")
    ListedModel.objects.filter(pk=model.pk).update(
        card=canary("model card"),
        upstream_model=canary("upstream model"),
        upstream_key_token=listings.seal_field(canary("upstream key")),
    )
    Fallback.objects.create(
        model=model,
        place=1,
        url="https://8.8.8.8/v1",
        model_name=canary("name of a fallback"),
        key_token=listings.seal_field(canary("key of a fallback")),
    )
    playground.secret_of(person("bob"), {}, model)
    asked = Call.objects.filter(buyer=alice).latest("pk")
    now = timezone.now()
    Dispute.objects.create(
        call=asked,
        reason=canary("dispute"),
        status=Dispute.Status.KEPT,
        answer_due_at=now,
        answer=canary("developer's answer to her dispute"),
        answered_at=now,
        decision=canary("decision on her dispute"),
        decided_by=admin("erin"),
        ended_at=now,
    )
    Refund.objects.create(call=asked, amount_nano=asked.cost_nano, reason=canary("reason of a refund"))
    refunds.pay_back(asked, by=version.model.owner, reason=canary("reason to pay a call back"))
    adjustments.propose(payer=alice, payee=None, amount_nano=1, reason=canary("reason to adjust"), by=admin("erin"))
    run = version.training_run
    ModelVersion.objects.create(
        model=model,
        number=1,
        artifact_sha256="0" * 64,
        notes=canary("model notes"),
        training_run=type(run).objects.create(
            model=model, requested_by=alice, split_rule=run.split_rule, fee_nano=0, posting_id=ledger.new_id()
        ),
    )


def _calls_the_gateway(books, canary: Canaries, refused: Canaries, alice, version: ModelVersion) -> None:
    """One call that is answered, and some that are refused: of these nothing is kept, wherever a word stands."""
    _key, secret = keys.create(owner=alice, name=canary("key of a program"))
    row = {"radius": 22.0, "texture": 17.0}
    with running_gateway(books, STORAGE_DIR=str(site.STORAGE_DIR)) as gateway:
        answer = gateway.classify(secret, model=version.path, input=row, idempotency_key=canary("idempotency key"))
        assert answer.status_code == 200, answer.text
        told = {"user-agent": refused("program"), "x-request-id": refused("header")}
        for body in (
            {"model": version.path, "input": {**row, "radius": refused("value")}},
            {"model": version.path, "input": {**row, refused("column"): 1}},
            {"model": f"devi/{refused('model')}", "input": row},
            {"model": version.path, "input": row, refused("field"): 1},
        ):
            answer = gateway.post("/v1/classify", body, key=secret, **told)
            assert answer.status_code in (400, 404, 422), answer.text
        assert gateway.get(f"/v1/{refused('address')}?q={refused('query')}", key=secret).status_code == 404


def _meets_a_namesake(alice) -> None:
    """Somebody takes her handle at the same moment: PostgreSQL refuses it, and a page says so."""
    with pytest.raises(IntegrityError) as refused, transaction.atomic():
        User.objects.create_user(username=alice.username, email="namesake@example.org")
    assert describe(refused.value)[0] == 409


def _has_nothing_left(books, user) -> None:
    """Everything in the wallet left the site."""
    books.fold()
    wallet = chart.wallet(user.pk)
    ledger.post(
        id=ledger.new_id(),
        kind=ledger.Kind.WITHDRAWAL_CONFIRMED,
        reference="all there is",
        moves=[ledger.Move(wallet, chart.WORLD, ledger.balance_nano(wallet))],
    )
    books.fold()


def _withdraws(books, canary: Canaries, alice) -> None:
    """All she has: one withdrawal is returned, so that a reason is written, and the next one arrives."""
    wallets.set_destination(alice, kind="bank", details=canary("account number"))
    for arrives in (False, True):
        books.fold()
        withdrawal = wallets.request_withdrawal(alice, amount_nano=ledger.balance_nano(chart.wallet(alice.pk)))
        run = payouts.create_run(by=admin("erin"))
        books.fold()
        for name in ("erin", "frank"):
            run = payouts.approve_run(run, by=admin(name))
        run = payouts.mark_sent(run, by=admin("erin"))
        withdrawal.refresh_from_db()
        if arrives:
            payouts.confirm_item(withdrawal, by=admin("erin"))
        else:
            payouts.return_item(withdrawal, by=admin("erin"), reason=canary("reason of a return"))
    books.fold()


def _picture() -> bytes:
    out = io.BytesIO()
    dots = [(3 * x % 256, 5 * y % 256, x * y % 256) for y in range(200) for x in range(200)]
    picture = Image.new("RGB", (200, 200))
    picture.putdata(dots)
    picture.save(out, "PNG")
    return out.getvalue()


def _openings() -> set:
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry_id FROM ledger_opening")
        return {row[0] for row in cursor.fetchall()}


def _verified_leaves() -> list[uuid.UUID]:
    """The entries of the log; the public receipt of each is verified, and what is still opened of it."""
    ids = [row.id for row in ledger.entries(0, ledger.log_size())]
    for id in ids:
        receipt = ledger.receipt(id, with_openings=True)
        public = {name: value for name, value in receipt.body.items() if name != "openings"}
        for body in (public, receipt.body):
            steps = receipts.verify_receipt(json.dumps(body), ledger.log_vkey(), [], 0)
            assert all(step.ok for step in steps), steps
    return ids


def _opened_leaves() -> dict[uuid.UUID, dict[str, dict]]:
    """What can be opened of each entry of the log."""
    ids = [row.id for row in ledger.entries(0, ledger.log_size())]
    bodies = {id: ledger.receipt(id, with_openings=True).body for id in ids}
    return {id: body["openings"] for id, body in bodies.items() if "openings" in body}


def _content_of(call_id: uuid.UUID) -> dict:
    row = CallContent.objects.get(pk=call_id)
    return orjson.loads(content.open_sealed(site.CONTENT_KEY, call_id, bytes(row.sealed), bytes(row.sealed_key)))


def _commitment(field: str, salt: bytes, value: object) -> bytes:
    return hashlib.sha256(b"open-commit/1\n" + field.encode() + b"\n" + salt + rfc8785.dumps(value)).digest()


def _salts_of_a_stranger(id: uuid.UUID) -> tuple[bytes, ...]:
    """What somebody without the secret could try."""
    return (b"", bytes(32), id.bytes, str(id).encode())


def _identity(salt: bytes, row: bytes) -> bytes:
    return hashlib.sha256(b"open-record/1" + salt + row).digest()


def _equality(key: str, kind: str, row: bytes) -> bytes:
    return hmac.digest(bytes.fromhex(key), f"{kind}\0".encode() + row, "sha256")
