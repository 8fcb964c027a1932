"""A small economy for the pages about money: a trained model, paid calls, settled epochs. Through the services."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import timedelta
from uuid import UUID

import orjson
import psycopg2
from django.conf import settings
from django.db import connection
from django.utils import timezone

from accounts.models import User
from attribution import bundles, features, settlement, traces
from attribution.engines import ENGINES
from ledger import services as ledger
from marketplace import keys
from marketplace.gateway import catalogue, charging
from marketplace.gateway.capture import by_table
from marketplace.models import ApiKey, ModelVersion
from tests.shop import OPEN, fund, measured, person, published, trained

__all__ = ["OPEN", "admin", "call", "captured", "failed_call", "fund", "person", "settle", "small_shop", "sold"]


def admin(name: str) -> User:
    user = person(name)
    if not user.is_staff:
        user.is_staff = True
        user.save(update_fields=["is_staff"])
    return user


def small_shop(books, *, fee_open: int = 0, **fields) -> ModelVersion:
    """Alice and Bob's rows, approved by Carol, and Devi's linear model trained on them."""
    version = published({"alice": measured(10), "bob": measured(10, start=10)}, fee_open=fee_open)
    fund(books, person("devi"), 100)
    return trained(books, version, **fields)


def call(
    version: ModelVersion,
    buyer: User,
    *,
    radius: float = 22.0,
    texture: float = 17.0,
    free: bool = False,
    is_test: bool = False,
    kept: dict | None = None,
    request: bytes = b"",
) -> UUID:
    """A paid call to a linear model, answered and captured as the gateway does it. Returns its id.

    is_test: With a test key.
    free: It is the buyer's next free call, paid by the developer's promotion wallet.
    kept: Further content that is kept under seal.
    request: The body that was sent.
    """
    bundle = bundles.load(version.artifact_sha256)
    inputs = features.transform(bundle.serving["spec"], [{"radius": radius, "texture": texture}])[0]
    answer = ENGINES["linear"].answer(bundle.artifact, inputs)
    outcome = charging.Outcome(
        "succeeded", 3, 1, response=dict(answer.outputs), context=answer.context, kept=kept or {}
    )
    return captured(version, buyer, outcome, free=free, is_test=is_test, request=request)


def captured(
    version: ModelVersion,
    buyer: User,
    outcome: charging.Outcome,
    *,
    endpoint: str = "classify",
    free: bool = False,
    is_test: bool = False,
    request: bytes = b"",
) -> UUID:
    """Charge and store a call that ended so, as the gateway does it. Returns its id."""
    # A session as the gateway's: Django's own leaves JSON columns as text.
    with _session() as session, session.cursor() as cursor:
        listed = catalogue.load(cursor).find(version.path)
    known = ApiKey.objects.filter(owner=buyer, is_test=is_test).first()
    key = known or keys.create(owner=buyer, name="test", is_test=is_test)[0]
    asked = charging.request_digest(f"/v1/{endpoint}", request).hex()
    made = charging.Call(listed, buyer.pk, str(key.pk), endpoint, False, asked, free=free, is_test=is_test)
    charge = charging.charge(
        made,
        outcome,
        content_key=settings.CONTENT_KEY,
        kept_s=60,
        vest_after_s=settings.CHALLENGE_WINDOW_S,
        site_url=settings.SITE_URL,
    )
    with connection.cursor() as cursor:
        if free:
            taken = [buyer.pk, version.model_id, listed.free_calls_per_day, made.id, "gateway:test", 60]
            cursor.execute("SELECT gateway_take_free_call(%s, %s, %s, %s, %s, %s)", taken)
        cursor.execute("SELECT count(*) FROM capture_calls(%s::jsonb)", [orjson.dumps(by_table([charge.row])).decode()])
    return made.id


def failed_call(buyer: User) -> UUID:
    """A call whose model failed, as the gateway stores it: it cost nothing. Returns its id."""
    version = ModelVersion.objects.select_related("model__owner").order_by("created_at").first()
    return captured(version, buyer, charging.Outcome("failed", error_code="upstream_error"))


def _session():
    base = os.environ["DATABASE_OWNER_URL"].rsplit("/", 1)[0]
    return closing(psycopg2.connect(f"{base}/{connection.settings_dict['NAME']}"))


def settle(books, *, epochs_later: int = 0) -> None:
    """What worker and sequencer do at the end of an epoch."""
    books.fold()
    books.log()
    for row in ledger.pending_outbox(traces.TOPIC):
        traces.trace(row.reference)
    settlement.close_due(timezone.now() + timedelta(seconds=epochs_later * settings.EPOCH_S))
    for row in ledger.pending_outbox(settlement.PLAN_TOPIC):
        settlement.plan(row.reference)
    settlement.post_planned()
    books.fold()
    books.log()


def sold(books, *, calls: int = 2) -> tuple[ModelVersion, list[UUID]]:
    """A shop with Dan's calls, settled."""
    version = small_shop(books)
    fund(books, person("dan"), 10)
    made = [call(version, person("dan"), radius=12.0 + number) for number in range(calls)]
    settle(books, epochs_later=1)
    return version, made
