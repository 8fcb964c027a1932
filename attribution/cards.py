"""Score cards: asked for with each training, measured in parts by whoever is free, in force once done.

    ask        a row, at the end of a training or again on wish
    advance    its first parts; more retrainings while an error is too large; the figures once all are done
    measure    one part: stored once, with what it cost
    in_force   the cards that an epoch freezes at its close: until one is done the version pays by its method
    said_of    those of them by which an epoch pays equally, for the public log

Bells may be lost and repeated: a part that is done stays done, and what it gives follows from the card's seed. So a card
whose worker was killed ends as it would have ended.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import numpy as np
from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Max, Q, Sum
from django.utils import timezone

from attribution import cardparts, modelclient, tasks
from attribution.engines.design import one_blas_thread
from attribution.models import Epoch, ScoreCard, ScoreCardPart
from ledger import services as ledger

logger = logging.getLogger(__name__)

ATTEMPTS_MAX = 3
RING_AGAIN_S = 300
RUNG_AT_ONCE = 50
PRIORITY = 9  # of Redis: the last; a check or a trace never waits for more than one part


@transaction.atomic
def ask(*, artifact_sha256: str, model_id: UUID, model_version_id: UUID, wait_s: int | None = None) -> ScoreCard:
    """Have a version measured, again if it was. While it is being measured, that card is returned.

    Args:
        wait_s: Begin no sooner; None: as the setting says.
    """
    running = ScoreCard.objects.filter(model_version_id=model_version_id, status=ScoreCard.Status.MEASURING).first()
    if running is not None:
        return running
    known = ScoreCard.objects.filter(model_version_id=model_version_id)
    number = (known.aggregate(last=Max("number"))["last"] or 0) + 1
    wait_s = settings.SCORE_CARD_WAIT_S if wait_s is None else wait_s
    card, _created = ScoreCard.objects.get_or_create(
        model_version_id=model_version_id,
        number=number,
        defaults={
            "model_id": model_id,
            "artifact_id": artifact_sha256,
            "seed": _seed(artifact_sha256, number),
            "settings": _settings(),
            "due_at": timezone.now() + timedelta(seconds=wait_s),
        },
    )
    if not wait_s:
        # Robust: the row is stored, and `ring_due` rings again where the broker was down.
        transaction.on_commit(lambda: _ring(card), robust=True)
    return card


def begin_now(model_ids: list[UUID]) -> int:
    """Let the cards of these models that wait for their time begin. Returns how many did."""
    waiting = ScoreCard.objects.filter(model_id__in=model_ids, status=ScoreCard.Status.MEASURING)
    return waiting.filter(due_at__gt=timezone.now()).update(due_at=timezone.now())


def ring_due() -> int:
    """Ring for the cards that are due, and for parts whose bell seems lost. Returns how many bells."""
    now = timezone.now()
    due = ScoreCard.objects.filter(status=ScoreCard.Status.MEASURING, due_at__lte=now).order_by("-asked_at")
    parts = ScoreCardPart.objects.filter(
        card__in=due, result=None, attempts__lt=ATTEMPTS_MAX, rung_at__lt=now - timedelta(seconds=RING_AGAIN_S)
    )
    late = list(parts.order_by("card_id", "pk").values_list("pk", flat=True)[:RUNG_AT_ONCE])
    ScoreCardPart.objects.filter(pk__in=late).update(rung_at=now)
    # Those without parts have not begun, and those without one to be measured have not ended: each moves on by itself.
    resting = [card for card in due if not card.parts.filter(result=None, attempts__lt=ATTEMPTS_MAX).exists()]
    for card in resting:
        _ring(card)
    _ring_parts(late)
    return len(resting) + len(late)


def advance(card_id: int) -> ScoreCard | None:
    """Make the parts that a card needs next, or its figures. Does nothing while parts are being measured."""
    card = ScoreCard.objects.filter(pk=card_id, status=ScoreCard.Status.MEASURING, due_at__lte=timezone.now()).first()
    if card is None:
        return None
    parts = list(card.parts.order_by("pk"))
    if any(part.result is None and part.attempts < ATTEMPTS_MAX for part in parts):
        return card
    with one_blas_thread():
        figures, wanted = _next(card, parts)
    with transaction.atomic():
        card = ScoreCard.objects.select_for_update().get(pk=card_id)
        if card.status != ScoreCard.Status.MEASURING or card.parts.count() != len(parts):
            return card  # somebody else was faster
        if wanted:
            made = ScoreCardPart.objects.bulk_create([ScoreCardPart(card=card, **one._asdict()) for one in wanted])
            transaction.on_commit(lambda: _ring_parts([part.pk for part in made]), robust=True)
            return card
        card.figures, card.below = figures, cardparts.below(figures)
        cost = card.parts.aggregate(cpu=Sum("cpu_ms"), wall=Sum("wall_ms"))
        card.cpu_ms, card.wall_ms = cost["cpu"] or 0, cost["wall"] or 0
        card.status, card.done_at = ScoreCard.Status.DONE, timezone.now()
        card.save()
    return card


def measure(part_id: int) -> None:
    """Measure one part, and let its card move on. Done twice, it is done once; while another worker is at it, nothing."""
    with ledger.only_one(f"score-card-part:{part_id}") as alone:
        part = ScoreCardPart.objects.select_related("card").filter(pk=part_id).first() if alone else None
        if part is None:
            return
        if part.result is None and part.attempts < ATTEMPTS_MAX and not _measured(part):
            return
    advance(part.card_id)


def in_force(model_id: UUID | str) -> dict[str, dict[str, Any]]:
    """Per measured version of a model: its newest card, and which figures of it lie below a floor."""
    rows = (
        ScoreCard.objects.filter(model_id=model_id, status=ScoreCard.Status.DONE)
        .order_by("model_version_id", "-number")
        .distinct("model_version_id")
        .values_list("model_version_id", "pk", "below")
    )
    return {str(version_id): {"card": pk, "below": below} for version_id, pk, below in rows}


def said_of(epoch: Epoch) -> list[dict[str, Any]]:
    """Which versions pay equally in an epoch, as the public log says it: by which measurement, and what lay below its floor."""
    below = {card["card"]: card["below"] for card in epoch.cards.values() if card["below"]}
    return [
        {"version": str(card.model_version_id), "card": card.number, "below": below[card.pk]}
        for card in ScoreCard.objects.filter(pk__in=below).order_by("model_version_id")
    ]


def newest(model_version_id: UUID) -> tuple[ScoreCard | None, ScoreCard | None, int]:
    """The card in force, the one that is being measured, and its percent: one query, with the artifact."""
    waits = Q(parts__result=None, parts__attempts__lt=ATTEMPTS_MAX)
    found = (
        ScoreCard.objects.filter(model_version_id=model_version_id)
        .select_related("artifact")
        .annotate(part_count=Count("parts"), waiting_count=Count("parts", filter=waits))
        .order_by("-number")[:2]
    )
    done, running, percent = None, None, 0
    for card in found:
        if card.status == ScoreCard.Status.MEASURING:
            running = card
            percent = 100 * (card.part_count - card.waiting_count) // card.part_count if card.part_count else 0
        elif done is None:
            done = card
    return done, running, percent


def _settings() -> dict[str, Any]:
    lds, auc = settings.SCORE_CARD_LDS_MIN, settings.SCORE_CARD_AUC_MIN
    return {
        "floors": {"lds_half": lds, "lds_context": lds, "label_noise": auc},
        "standard_error_max": cardparts.STANDARD_ERROR_MAX,
        "retrainings_min": cardparts.RETRAININGS_MIN,
        "retrainings_max": cardparts.RETRAININGS_MAX,
    }


def _seed(artifact_sha256: str, number: int) -> int:
    """Nobody chooses it; the same artifact measured for the nth time has the same one."""
    return int.from_bytes(hashlib.sha256(f"{artifact_sha256}:{number}".encode()).digest()[:6])


def _next(card: ScoreCard, parts: list[ScoreCardPart]) -> tuple[dict, list[cardparts.Wanted]]:
    if not parts:
        wanted = cardparts.first_parts(card)
        return ({}, wanted) if wanted else (cardparts.figures_of(card, {}, []), [])
    results: Mapping[str, dict[int, np.ndarray]] = defaultdict(dict)
    failed = sorted({part.name for part in parts if part.result is None})
    for part in parts:
        if part.result is not None:
            results[part.name][part.number] = np.frombuffer(bytes(part.result), dtype=np.float64)
    figures = cardparts.figures_of(card, results, failed)
    return figures, cardparts.more_parts(card, figures, Counter(part.name for part in parts))


def _measured(part: ScoreCardPart) -> bool:
    """Whether the part is over: stored, or failed for good."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        with one_blas_thread():
            found = cardparts.measure(part.card, part.name, part.number)
    except modelclient.ModelsUnavailable as problem:
        logger.info("part %s of score card %s waits: %s", part.name, part.card_id, problem)
        return False
    except (ValueError, ArithmeticError, KeyError, FileNotFoundError) as problem:
        logger.exception("part %s %s of score card %s failed", part.name, part.number, part.card_id)
        ScoreCardPart.objects.filter(pk=part.pk, result=None).update(
            attempts=F("attempts") + 1, error=str(problem)[:300]
        )
        return part.attempts + 1 >= ATTEMPTS_MAX
    ScoreCardPart.objects.filter(pk=part.pk, result=None).update(
        result=np.ascontiguousarray(found, dtype=np.float64).tobytes(),
        cpu_ms=round(1000 * (time.process_time() - cpu)),
        wall_ms=round(1000 * (time.perf_counter() - wall)),
    )
    return True


def _ring(card: ScoreCard) -> None:
    tasks.measure_score_card.apply_async([card.pk], priority=PRIORITY)


def _ring_parts(part_ids: Iterable[int]) -> None:
    for part_id in part_ids:
        tasks.measure_score_card_part.apply_async([part_id], priority=PRIORITY)
