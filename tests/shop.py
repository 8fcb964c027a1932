"""The shop's cast and builders: through the services, like everything in the tests. Carol curates, Erin owns, Devi trains."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import User
from attribution import cards, settlement, sharding, traces
from attribution import verify as attribution_verify
from attribution.models import Cut, ScoreCard
from datanets import reviews
from datanets import verify as datanets_verify
from datanets.models import Datanet, Record, Version
from ledger import chart
from ledger import services as ledger
from ledger import verify as ledger_verify
from marketplace import listings, publishing, revenue, training
from marketplace import verify as shop_verify
from marketplace.models import ListedModel, ModelVersion
from tests.books import as_role
from tests.datanets.cast import make_datanet, measured, person, send, table

OPEN = 10**9


def fund(books, user: User, amount_open: int) -> None:
    """Put OPEN into a wallet, ready to be spent."""
    books.deposit(chart.wallet(user.pk), amount_open * OPEN)


def published(rows_of: dict[str, list[tuple]], *, name: str = "Tumours", fee_open: int = 0, **fields) -> Version:
    """A Datanet whose version 1 holds these contributors' rows, approved by Carol."""
    datanet = make_datanet(name, **fields)
    if fee_open:
        training.set_fee(datanet, by=datanet.owner, training_fee_nano=fee_open * OPEN)
    for handle, rows in rows_of.items():
        send(datanet, table(rows), by=handle)
    approve_all(datanet)
    return publishing.publish_version(datanet, by=datanet.owner)


def approve_all(datanet: Datanet) -> None:
    waiting = list(Record.objects.filter(datanet=datanet, status=Record.Status.WAITING))
    if waiting:
        reviews.decide(waiting, curator=person("carol"), decision="approve")


def make_model(name: str = "Check", *, owner: str = "devi", engine: str = "linear", **fields) -> ListedModel:
    model = listings.create_model(owner=person(owner), name=name, purpose="Tests", engine=engine, **fields)
    listings.set_prices(model, by=model.owner, price_call_nano=24_000_000, price_in_nano=0, price_out_nano=0)
    return model


def trained(books, version: Version, *others: Version, settings: dict | None = None, **fields) -> ModelVersion:
    """A listed model with one trained version. The worker's part runs here."""
    model = make_model(**fields)
    books.fold()
    run = training.run(
        training.request(model=model, by=model.owner, versions=[version, *others], settings=settings or {}).pk
    )
    assert run.status == "done", (run.error_code, run.error_params)
    listings.list_model(model, by=model.owner)
    books.fold()
    return ModelVersion.objects.select_related("model__owner").get(training_run=run)


def measured_card(version: ModelVersion, *, at_most: int | None = None) -> ScoreCard:
    """What workers do with the bells of a version's newest score card, in any order; after `at_most` parts all are killed."""
    card = ScoreCard.objects.filter(model_version_id=version.pk).latest("number")
    cards.advance(card.pk)
    while at_most is None or at_most > 0:
        waiting = card.parts.filter(result=None, attempts__lt=cards.ATTEMPTS_MAX).order_by("?").first()
        if waiting is None:
            break
        cards.measure(waiting.pk)
        at_most = None if at_most is None else at_most - 1
    card.refresh_from_db()
    return card


def settle(books) -> int:
    """What workers and the sequencer do when an epoch is over: trace, close, plan, post, vest. Returns the epochs posted."""
    books.fold()
    books.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    with as_role(settings.SEQUENCER_DB_ROLE):
        settlement.close_due(timezone.now() + timedelta(seconds=settings.EPOCH_S * (Cut.objects.count() + 1)))
    _plan_what_is_closed()
    with as_role(settings.SEQUENCER_DB_ROLE):
        posted = settlement.post_planned()
    books.fold()
    books.log()
    with as_role(settings.SEQUENCER_DB_ROLE):
        ledger.vest_due()
    books.fold()
    return posted


def _plan_what_is_closed() -> None:
    """A large epoch hands out its shards first, and is planned once they are computed."""
    while True:
        for row in ledger.pending_outbox(settlement.PLAN_TOPIC):
            settlement.plan(row.reference)
        shards = ledger.pending_outbox(sharding.TOPIC)
        if not shards:
            return
        for row in shards:
            sharding.compute(row.reference)


def nothing_is_wrong() -> bool:
    """Whether every invariant holds and both sides of the revenue report agree."""
    found = [
        *ledger_verify.failures(),
        *datanets_verify.failures(),
        *attribution_verify.failures(),
        *shop_verify.failures(),
    ]
    assert found == []
    assert revenue.differences() == []
    return True


def wallet_nano(user: User) -> int:
    return ledger.balance_nano(chart.wallet(user.pk))


__all__ = [
    "OPEN",
    "approve_all",
    "fund",
    "make_model",
    "measured",
    "measured_card",
    "nothing_is_wrong",
    "person",
    "published",
    "settle",
    "trained",
    "wallet_nano",
]
