"""One site with something of everything: data under review, models, a paid and settled call, withdrawals in every state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.core.cache import cache
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiToken, User
from attribution import noise_cases as accuse
from attribution.models import Epoch, Line
from attribution.noise_judging import Convicted
from datanets import gold, reviews, submissions
from datanets import services as datanets
from datanets.models import Record
from ledger import services as ledger
from ledger.publication import Publication
from marketplace import (
    access,
    adjustments,
    disputes,
    holds,
    keys,
    noise_cases,
    payouts,
    people,
    proposals,
    publishing,
    refunds,
    sharing,
    thefts,
    tokens,
    wallets,
    webhooks,
)
from marketplace.models import Call, PayoutRun, Role
from tests.datanets.cast import make_datanet, send, table, upload, waiting
from tests.marketplace.pages.world import call, fund, measured, person, settle, small_shop
from tests.shop import OPEN, make_model, published, trained


def client_of(user: User | None) -> APIClient:
    """A browser, signed in by session. People without a password count as just signed in."""
    client = APIClient()
    if user is not None:
        client.force_login(user)
    return client


def program_of(user: User) -> APIClient:
    """A program: signed in by token."""
    client = APIClient()
    secret = f"the token of {user.username}".replace(" ", "-")  # always the same: a new one would end the one before
    kept = {"sha256": tokens.sha256(secret), "expires_at": timezone.now() + timedelta(days=1)}
    ApiToken.objects.get_or_create(user=user, defaults=kept)
    client.credentials(HTTP_AUTHORIZATION=f"Token {secret}")
    return client


@dataclass
class World:
    """The ids that addresses are filled with."""

    ids: dict[str, object]

    def person(self, name: str) -> User:
        return User.objects.get(username=name)


def build(books) -> World:
    """Everything through the services, as the site itself would have made it."""
    cache.clear()
    version = small_shop(books)
    tumours = version.training_run.versions.get().datanet
    for name in ("zoe", "dan", "alice", "frank"):
        person(name)
    person("ada", is_staff=True)
    person("ben", is_staff=True)
    for name in ("alice", "bob"):
        people.give_consent(person(name), "contributor")

    # Data: a draft with a broken row, a submission in review, a rejection and an appeal, a report, a changed rule
    draft = submissions.start(datanet=tumours, contributor=person("alice"))
    file = upload(draft, table([("10.1", "11.1", "benign"), ("wide", "12", "benign")]))
    in_review = send(tumours, table(measured(4, start=40)), by="alice", name="more.csv")
    rejected = send(tumours, table(measured(2, start=60)), by="alice", name="odd.csv")
    first, second = waiting(rejected)
    act = reviews.decide([first, second], curator=person("carol"), decision="reject", reason="low_quality")
    datanets.add_curator(tumours, user=person("frank"), by=tumours.owner)
    datanets.add_reader(tumours, user=person("frank"), by=tumours.owner)
    appeal = reviews.appeal(first, by=person("alice"), text="It is fine.")
    reported = Record.objects.filter(contributor=person("alice"), status="approved").order_by("id")[0]
    report = publishing.report_record(reported, by=person("dan"), reason="rights", text="It is from my book.")
    publishing.change_datanet(tumours, by=tumours.owner, attribution_note="Name the clinic.")
    item = gold.add_file(
        tumours, by=tumours.owner, name="rows.csv", content=table(measured(1, start=90)), decision="approve"
    )
    on_request = published({"bob": measured(2, start=80)}, name="On request", access="on_request").datanet
    asked = datanets.request_access(on_request, user=person("dan"), purpose="Research")
    closed = make_datanet("Closed", access="closed")

    # The shop: three ways in, and a call that was paid and settled
    invited = trained(books, version.training_run.versions.get(), name="Invited", access_mode="invite").model
    passes = trained(
        books,
        version.training_run.versions.get(),
        name="Passes",
        access_mode="pass",
        pass_price_nano=OPEN,
        pass_days=30,
    ).model
    unlisted = make_model("Unlisted")
    fund(books, person("dan"), 20)
    invitation = access.invite(invited, by=invited.owner, buyer=person("dan"))
    access.buy_pass(passes, buyer=person("dan"))
    key, _secret = keys.create(owner=person("dan"), name="Dan's")
    webhook, _secret = webhooks.register(person("dan"), url="https://8.8.8.8/hook")
    delivery = webhooks.send_test(webhook, by=person("dan"))

    # A wallet that Dan shares with Carol, who may spend, and asks Frank to join
    lab = sharing.create(name="Lab", by=person("dan"))
    joined = sharing.accept(
        sharing.invite(lab, address="carol", role=Role.SPENDER, by=person("dan")), by=person("carol")
    )
    asked_to_join = sharing.invite(lab, address="frank", role=Role.VIEWER, by=person("dan"))
    fund(books, lab.account, 5)
    wallets.set_destination(lab.account, kind="bank", details="DE89 3704 0044 0532 0130 00", by=person("dan"))
    call_id = call(version, person("dan"))
    settle(books, epochs_later=1)
    line = Line.objects.filter(payee=person("alice"), source_id=call_id, role="data").get()

    # A second call, not settled, that is disputed; a third that an admin wants to give back; and earnings held by an admin
    disputed = Call.objects.get(pk=call(version, person("dan"), radius=12.0))
    asked_back = Call.objects.get(pk=call(version, person("dan"), radius=13.0))
    books.fold()
    dispute = disputes.open_dispute(disputed, by=person("dan"), reason="It answered another question.")
    refunds.approve(asked_back, by=person("ben"), reason="It said so twice.")
    (lot,) = ledger.lots_of(asked_back.pk)
    hold = holds.hold(lot.id, by=person("ben"), reason="A stolen card.")
    bobs = Record.objects.filter(contributor=person("bob"), datanet=tumours, status="approved").order_by("id")[0]
    theft = thefts.open_dispute([bobs], by=person("dan"), statement="It is mine.", evidence="My paper has it.")

    (judgement,) = noise_cases.judge_epoch(Epoch.objects.get(pk=line.epoch_id))
    looks = [{"rows": 1, "loss": 9.0, "likeness": -9.0, "siblings": 9.0}]
    figures = dict.fromkeys(("value", "expected", "deviation", "z"), 4.0) | {"rows": 1, "looks": looks}
    accused = Convicted(bobs.contributor_id, tumours.pk, [bobs.pk], figures | {"incumbents": 1000, "validation": 250})
    noise = accuse.open_case(judgement, accused)

    # Money out: one item sent, one in a draft run, one waiting
    alice = person("alice")
    fund(books, alice, 10)
    wallets.set_destination(alice, kind="bank", details="DE89 3704 0044 0532 0130 00")
    wallets.request_withdrawal(alice, amount_nano=OPEN)
    sent = payouts.create_run(by=person("ada"))
    books.fold()
    payouts.approve_run(sent, by=person("ada"))
    payouts.approve_run(sent, by=person("ben"))
    payouts.mark_sent(PayoutRun.objects.get(pk=sent.pk), by=person("ada"))
    wallets.request_withdrawal(alice, amount_nano=OPEN)
    run = payouts.create_run(by=person("ben"))
    withdrawal = wallets.request_withdrawal(alice, amount_nano=OPEN)
    shared_withdrawal = wallets.request_withdrawal(lab.account, amount_nano=OPEN, by=person("dan"))
    deposit = wallets.record_deposit(
        user=alice, amount_nano=settings.DEPOSIT_SINGLE_MAX_NANO + 1, external_reference="large", by=person("ben")
    )
    adjustment = adjustments.propose(
        payer=alice, payee=None, amount_nano=OPEN, reason="Booked twice.", by=person("ben")
    )
    rule = {"data": 4000, "curation": 500, "developer": 5000, "platform": 500, "owner": 0}
    proposal = proposals.propose(invited, by=invited.owner, parts=rule)
    books.fold()
    books.log()
    Publication(settings.LOG_DIR).step()
    return World(
        {
            "owner": "erin",
            "slug": "tumours",
            "model_owner": "devi",
            "model_slug": "check",
            "invited": "invited",
            "passes": "passes",
            "number": 1,
            "fmt": "csv",
            "account": "wallet",
            "handle": "carol",
            "reader": "frank",
            "on_request": on_request.slug,
            "closed": closed.slug,
            "unlisted": unlisted.slug,
            "invited_id": invited.pk,
            "model_id": version.model_id,
            "deposit_id": deposit.pk,
            "adjustment_id": adjustment.pk,
            "request_id": asked.pk,
            "submission_id": draft.pk,
            "file_id": file.pk,
            "row_id": file.broken_rows.get().pk,
            "in_review": in_review.pk,
            "record_in_review": waiting(in_review)[0].pk,
            "act": act,
            "appeal_id": appeal.pk,
            "report_id": report.pk,
            "gold_id": item.pk,
            "record_id": reported.pk,
            "rejected_id": second.pk,
            "rejected_submission": rejected.pk,
            "run_id": version.training_run.pk,
            "access_id": invitation.pk,
            "key_id": key.pk,
            "webhook_id": webhook.pk,
            "delivery_id": delivery.pk,
            "wallet_id": lab.pk,
            "member_id": joined.pk,
            "invitation_id": asked_to_join.pk,
            "shared_withdrawal": shared_withdrawal.pk,
            "call_id": call_id,
            "disputed": disputed.pk,
            "asked_back": asked_back.pk,
            "dispute_id": dispute.pk,
            "hold_id": hold.pk,
            "theft_id": theft.pk,
            "case_id": noise.pk,
            "receipt_id": call_id,
            "epoch_id": line.epoch_id,
            "role": "data",
            "line_id": line.pk,
            "withdrawal_id": withdrawal.pk,
            "sent_run": sent.pk,
            "draft_run": run.pk,
            "item_id": sent.withdrawals.get().pk,
            "proposal_id": proposal.pk,
            "sha256": proposal.split_rule.sha256,
            "size": ledger.head().size,
            "old": ledger.head().size,
            "new": ledger.head().size,
            "index": 0,
        }
    )
