"""Erasing a person: a canary in everything they can write or send, and afterwards it is found nowhere.

The list of what to write is the models' own: a text field that the test neither writes to nor knows as never personal
fails it, so a new field is thought about before it can keep somebody's words.
"""

import hashlib
import io
import itertools
import json
import logging
import re
import secrets
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from django.apps import apps
from django.conf import settings as site
from django.contrib.postgres.fields import ArrayField
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models, transaction
from django.test import Client
from django.utils import timezone
from PIL import Image, PngImagePlugin

from attribution import content
from datanets import appeals, exports, reports, reviews, services, submissions
from datanets.models import BrokenRow, CheckResult, Record, SubmissionFile
from ledger import chart, receipts
from ledger import services as ledger
from marketplace import erasure, housekeeping, keys, listings, notifications, payouts, promotion, publishing, wallets
from marketplace.errors import NotReady
from marketplace.models import Call, CallContent, Dispute, ListedModel, ModelVersion
from tests.accounts.entrance import PASSWORD, enrol_app, member, reauthenticate
from tests.datanets.cast import COLUMNS, make_datanet, send, table, upload
from tests.marketplace.pages.world import admin, call, settle, small_shop
from tests.shop import OPEN, fund, measured, nothing_is_wrong, person

# What a person may write that is not erased, because others rely on it: docs/accounts.md says so, and so does the
# privacy notice. Everything else is searched for.
PUBLISHED = {
    "datanets.Datanet": "its rights statement was signed, its rules were followed by others; names stand in the log",
    "datanets.RuleChange": "what the rules of a Datanet were",
    "datanets.Version": "immutable: what was frozen and hashed",
    "marketplace.SplitRule": "adopted by administrators",
}
# Text fields no person writes to: codes, hashes, keys and sentences of the program.
NEVER_PERSONAL = {
    "accounts.Consent": "document, version and hash of a published text",
    "accounts.ApiToken": "a hash",
    "accounts.User.language": "a choice",
    "account.EmailConfirmation": "a random key",
    "attribution.Artifact": "engine, method, numbers, hashes",
    "attribution.Epoch": "ids and roots",
    "attribution.Line.reason": "a code",
    "attribution.PlannedPosting": "accounts by number",
    "attribution.Trace": "codes, hashes, and the numbers a score is recomputed from",
    "auth": "Django's own names of rights",
    "contenttypes": "Django's own names of models",
    "django_celery_beat": "the schedule",
    "ledger": "accounts by number, references by id, public entries; openings are searched by their own test",
    "mfa.Authenticator": "sealed or random; deleted with the account",
    "sessions.Session": "ended with the account",
    "usersessions.UserSession": "deleted with the account",
    "accounts.User.password": "a hash; replaced",
    "datanets.BrokenRow.code": "a code",
    "datanets.BrokenRow.column": "deleted with its row, whose values are searched for",
    "datanets.BrokenRow.name": "deleted with its row",
    "datanets.BrokenRow.params": "deleted with its row",
    "datanets.CheckResult.evidence": "deleted with its row",
    "datanets.CheckResult.params": "deleted with its row",
    "datanets.CheckResult.check_name": "a code",
    "datanets.CheckResult.check_version": "a code",
    "datanets.CheckResult.code": "a code",
    "datanets.Datanet": "published",
    "datanets.Record.content_hmac": "cleared with the content",
    "datanets.Record.identity": "a salted hash whose salt is erased",
    "datanets.Record.flags": "codes of checks",
    "datanets.Record.reject_reason": "a choice",
    "datanets.RecordBody.media_key": "random",
    "datanets.RecordBody.thumb_key": "random",
    "datanets.Submission.rights_statement_sha256": "a hash of the Datanet's text",
    "datanets.Submission.status_code": "a code",
    "datanets.Submission.status_params": "counts",
    "datanets.SubmissionFile.declared_sha256": "cleared",
    "datanets.SubmissionFile.sha256": "cleared",
    "datanets.SubmissionFile.parts": "random",
    "datanets.SubmissionFile.storage_key": "random",
    "datanets.SubmissionFile.error_code": "a code",
    "datanets.SubmissionFile.error_params": "cleared",
    "datanets.Review.evidence": "cleared",
    "datanets.TheftDispute": "a claim, its answer and decisions; erased with the account, as test_thefts.py shows",
    "datanets.DisputedRecord": "codes",
    "marketplace.ApiKey.prefix": "the random beginning of a key",
    "marketplace.ApiKey.scopes": "choices",
    "marketplace.AuditEvent": "ids, codes and amounts (marketplace.audit)",
    "marketplace.Call.endpoint": "a code",
    "marketplace.Call.error_code": "a code",
    "marketplace.Deposit.external_reference": "an administrator's: the payment at the bank, which the law keeps",
    "marketplace.DemoProgress": "the demo's own steps",
    "marketplace.Dispute.answer": "a developer's; erased with it, as test_disputes.py shows",
    "marketplace.Dispute.decision": "an administrator's, which both sides keep",
    "marketplace.FreeCall.process": "a process",
    "marketplace.Idempotency.process": "a process",
    "marketplace.LotHold": "an administrator's: why earnings were held and released",
    "marketplace.Payback": "a developer's reason; erased with it, as test_disputes.py shows",
    "marketplace.Refund.grounds": "a choice",
    "marketplace.Refund.reason": "a developer's or an administrator's; the buyer's words are erased with the dispute",
    "marketplace.UnattributedRelease": "ids and amounts",
    "marketplace.ListedModel.name": "published: stands in the public log",
    "marketplace.ListedModel.slug": "published: stands in the public log",
    "marketplace.ListedModel.upstream_url": "replaced; sealed key and name of the upstream are searched for",
    "marketplace.ModelVersion.artifact_sha256": "a hash",
    "marketplace.Notification.kind": "a code",
    "marketplace.Notification.subject": "ids",
    "marketplace.Notification.url": "addresses by id",
    "marketplace.PayoutDestination.hint": "the last characters; deleted with its row",
    "marketplace.PayoutDestination.kind": "a choice",
    "marketplace.PriceList.sha256": "a hash",
    "marketplace.TrainingRun": "codes and numbers",
    "marketplace.Withdrawal.destination_hint": "the last characters; cleared",
    "marketplace.Withdrawal.destination_kind": "a choice",
} | PUBLISHED


class Canaries:
    """Random words, and the places they were given to."""

    def __init__(self) -> None:
        self.placed: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        word = f"kanari{secrets.token_hex(8)}"
        self.placed[word] = place
        return word

    def found_in(self, *hay: bytes) -> set[str]:
        """The places whose canary is in some of these bytes."""
        return {self.placed[word] for word in self.placed if any(word.encode() in part.lower() for part in hay)}


@pytest.fixture(autouse=True)
def decided_at_once(settings, tmp_path):
    settings.REVIEW_UNDO_S = 0
    settings.STORAGE_DIR = tmp_path / "storage"
    settings.CHALLENGE_WINDOW_S = 0


def test_a_canary_in_everything_a_person_gave_is_found_nowhere_after_their_erasure(books, caplog):
    caplog.set_level(logging.DEBUG)
    canary = Canaries()
    version, bobs = _world(books)
    alice = _alice(canary)
    _gives_data(canary, alice)
    _curates_and_asks(canary, alice)
    _trades(books, canary, alice, version)
    _signs_in(alice)
    settle(books, epochs_later=1)
    ledger.vest_due()
    _withdraws(books, canary, alice)
    books.log()
    assert _unwritten(canary) == []
    before = {name: canary.found_in(*hay) for name, hay in _everywhere(caplog).items()}
    assert set().union(*before.values()) == set(canary.placed.values()), "the search finds all that is there"
    assert before["log"] == before["public log"] == set(), "what is written there can never be erased"
    openings = _openings()

    erasure.erase_person(alice)
    assert "openings" not in ledger.receipt(alice.calls.first().pk, with_openings=True).body
    books.log()
    housekeeping.finish_erasures()

    assert {name: found for name, hay in _everywhere(caplog).items() if (found := canary.found_in(*hay))} == {}
    # Her openings are gone, her leaf is still proved; Bob's receipt opens as before; everything still adds up
    assert len(_openings()) < len(openings)
    her_call = alice.calls.order_by("started_at").first()
    for call_id, opens in ((her_call.pk, False), (bobs, True)):
        receipt = ledger.receipt(call_id, with_openings=True)
        assert receipt.status == "proved"
        assert ("openings" in receipt.body) is opens
        _verify(receipt.body)
    assert nothing_is_wrong()
    # What is too short to be searched for, or is deleted by the row
    assert not BrokenRow.objects.filter(file__submission__contributor=alice).exists()
    assert not CheckResult.objects.filter(submission__contributor=alice).exists()
    assert not alice.withdrawals.exclude(destination_hint="", destination_token="").exists()
    assert not SubmissionFile.objects.filter(submission__contributor=alice).exclude(sha256="", storage_key="").exists()


def test_nobody_guesses_what_an_erased_entry_committed_to(books):
    version, _bobs = _world(books)
    alice = person("alice")
    fund(books, alice, 1)
    call_id = call(version, alice)
    books.log()
    opened = ledger.receipt(call_id, with_openings=True).body
    cost = next(int(one["value"]) for name, one in _opened(opened).items() if name == "price")
    # With the salt one guess is enough: the space is small, and only the salt protects it
    salted = _opened(opened)
    assert _commitment("price", salted["price"]["salt"], str(cost)) in _hashes(opened["entry"])

    books.fold()
    ledger.erase_openings([call_id])

    public = _hashes(ledger.receipt(call_id, with_openings=True).body["entry"])
    guesses = itertools.chain(
        (("price", str(amount)) for amount in range(cost - 2_000, cost + 2_000)),
        (("buyer", f"{kind}{number}") for kind in ("", "user:", "wallet:", "pending:") for number in range(1, 1_000)),
        (("tokens", {"prompt": p, "answer": a}) for p in range(20) for a in range(20)),
    )
    for field, value in guesses:
        told = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
        head = b"open-commit/1\n" + field.encode() + b"\n"
        for tried in (told, head + told, head + bytes(32) + told, head + call_id.bytes + told):
            assert hashlib.sha256(tried).hexdigest() not in public


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
    rows = [(*row, canary("cell")) for row in measured(4, start=90)]
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
    about = PngImagePlugin.PngInfo()
    about.add_text("Comment", canary("picture metadata"))
    out = io.BytesIO()
    Image.effect_noise((300, 300), 90).convert("RGB").save(out, "PNG", pnginfo=about)
    send(
        make_datanet("Pictures", kind="image"), out.getvalue(), by=alice.username, name=f"{canary('picture name')}.png"
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


def _trades(books, canary: Canaries, alice, version: ModelVersion) -> None:
    """Calls, keys, money in and out, and a model that never reached the shop."""
    fund(books, alice, 20)
    keys.create(owner=alice, name=canary("key"))
    call(
        version, alice, kept={"messages": [{"role": "user", "content": canary("question")}], "answer": canary("answer")}
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO marketplace_idempotency (owner_id, key, body_sha256, call_id, status, process, created_at)"
            " VALUES (%s, %s, %s, %s, 'done', '', now())",
            [alice.pk, canary("idempotency key"), b"\0" * 32, ledger.new_id()],
        )
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
    Dispute.objects.create(
        call=Call.objects.filter(buyer=alice).latest("pk"),
        reason=canary("dispute"),
        status=Dispute.Status.WITHDRAWN,
        answer_due_at=timezone.now(),
        ended_at=timezone.now(),
    )
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


# --- Looking


def _everywhere(caplog) -> dict[str, list[bytes]]:
    """Everything there is, with what is sealed opened as far as the site's keys open it."""
    return {
        "database": [*_tables().values(), *_unsealed()],
        "storage": [path.read_bytes() for path in Path(site.STORAGE_DIR).rglob("*") if path.is_file()]
        + [str(path).encode() for path in Path(site.STORAGE_DIR).rglob("*")],
        "redis": _redis(),
        "log": [caplog.text.encode()],
        "public log": [json.dumps(row.public).encode() for row in ledger.entries(0, ledger.log_size())],
    }


def _tables() -> dict[str, bytes]:
    """A dump of every table, as COPY writes it; bytes also as what they are, not only as hexadecimal."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        for (name,) in cursor.fetchall():
            out = io.StringIO()
            cursor.copy_expert(f'COPY "{name}" TO STDOUT', out)
            text = out.getvalue()
            hidden = [bytes.fromhex(one) for one in re.findall(r"\\\\x((?:[0-9a-f]{2})+)", text)]
            found[name] = b"\n".join([text.encode(), *hidden])
    return found


def _unsealed() -> list[bytes]:
    """What the site's own keys open. (The outbox: test_what_finished_work_needed_is_forgotten.)"""
    found = []
    for row in CallContent.objects.exclude(sealed_key=None):
        found.append(content.open_sealed(site.CONTENT_KEY, row.call_id, bytes(row.sealed), bytes(row.sealed_key)))
    text = b"\n".join(_tables().values()).decode("latin-1")
    return found + [listings.open_field(token).encode() for token in set(re.findall(r"gAAAA[\w=-]{60,}", text))]


def _redis() -> list[bytes]:
    client = cache._cache.get_client()  # Django names no other way to the connection
    return [part for key in client.scan_iter() for part in (key, client.dump(key) or b"")]


def _unwritten(canary: Canaries) -> list[str]:
    """The text fields that hold no canary and are not known as never personal, and those known that hold one."""
    found = []
    for model in apps.get_models():
        label = f"{model._meta.app_label}.{model.__name__}"
        for field in model._meta.concrete_fields:
            if not _is_text(field):
                continue
            known = {model._meta.app_label, label, f"{label}.{field.name}"} & set(NEVER_PERSONAL)
            values = [str(value).encode() for value in model._default_manager.values_list(field.name, flat=True)]
            written = canary.found_in(*values, *_unsealed_values(values))
            if bool(known) == bool(written):
                found.append(f"{label}.{field.name}: {'holds ' + str(written) if written else 'holds no canary'}")
    return found


def _unsealed_values(values: list[bytes]) -> list[bytes]:
    return [listings.open_field(value.decode()).encode() for value in values if value.startswith(b"gAAAA")]


def _is_text(field) -> bool:
    if isinstance(field, ArrayField):
        return _is_text(field.base_field)
    return isinstance(field, models.CharField | models.TextField | models.JSONField) and not field.choices


def _openings() -> set:
    with connection.cursor() as cursor:
        cursor.execute("SELECT entry_id FROM ledger_opening")
        return {row[0] for row in cursor.fetchall()}


def _verify(body: dict) -> None:
    steps = receipts.verify_receipt(json.dumps(body), ledger.log_vkey(), [], 0)
    assert all(step.ok for step in steps), steps


def _opened(body: dict) -> dict[str, dict]:
    return body["openings"]


def _commitment(field: str, salt: str, value: object) -> str:
    told = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.sha256(b"open-commit/1\n" + field.encode() + b"\n" + bytes.fromhex(salt) + told).hexdigest()


def _hashes(entry: dict) -> set[str]:
    return set(re.findall(r"[0-9a-f]{64}", json.dumps(entry)))
