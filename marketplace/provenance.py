"""Which words of a connected model's answer stand in which record, side by side: for the buyer of the call alone.

The words are read out of the call's sealed content each time, so they are gone with it; its trace holds only numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import orjson
from django.conf import settings

from attribution import content, spans
from attribution.models import Trace

from .models import Call, CallContent


class Provenance(NamedTuple):
    """What an answer repeats.

    Args:
        answer: All of it, in pieces; empty once its content has expired.
        spans: Per record, heaviest first.
        words: How many words of the answer stand in some record.
    """

    answer: list[spans.Piece]
    spans: Mapping[int, list[spans.Shown]]
    words: int


def of_call(call: Call, written: Mapping[int, str]) -> Provenance | None:
    """The provenance of an answer; None where its model is not a connected one, or nothing is traced yet.

    The caller has made sure that the reader is the buyer.

    Args:
        written: What the records that this person may see say, by id.
    """
    trace = Trace.objects.filter(charge_id=call.pk).first()
    if trace is None or "spans" not in trace.context:
        return None
    found = spans.repeated(trace)
    words = len({word for one in found for word in range(one.start, one.start + one.length)})
    text = _answer_of(call)
    if text is None:
        return Provenance([], {}, words)
    shown: dict[int, list[spans.Shown]] = {}
    for one in sorted(found, key=lambda one: -one.weight):
        shown.setdefault(one.record_id, []).append(spans.shown(text, one, written.get(one.record_id, "")))
    return Provenance(spans.marked(text, found), shown, words)


def _answer_of(call: Call) -> str | None:
    """What the model answered; None once its content is erased."""
    row = CallContent.objects.filter(pk=call.pk, sealed_key__isnull=False).first()
    if row is None or row.sealed_key is None:
        return None
    opened = content.open_sealed(settings.CONTENT_KEY, call.pk, bytes(row.sealed), bytes(row.sealed_key))
    return str(orjson.loads(opened)["answer"])
