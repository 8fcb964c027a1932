"""Do a call's attribution again and compare it with what is stored. The receipt stays authoritative.

Linear and neighbours answers are recomputed from the trace's context and the artifact; a chat answer from its content: of
a retrieval model by asking the model again, of a connected one by looking for its words again.
"""

from __future__ import annotations

from collections import defaultdict
from uuid import UUID

from attribution import explain, traces
from attribution.models import Line, RecordLine, Trace

SCORE_UNITS_MAX = 1  # another CPU may round the last unit of a quantised score the other way


def differences(charge_id: UUID, *, sealed: bytes | None = None, sealed_key: bytes | None = None) -> list[str]:
    """Recompute scores and lines of a settled call. Returns each difference as a sentence; [] if all agree.

    Args:
        sealed, sealed_key: Its content, for an answer whose scores are stored; None: they stand as they are.

    Raises:
        Trace.DoesNotExist: nobody attributed the call yet.
    """
    trace = Trace.objects.get(charge_id=charge_id)
    found = []
    if trace.artifact_id and trace.scores and sealed is not None and sealed_key is not None:
        again = traces.of_content(trace.charge_id, trace.artifact_id, sealed, sealed_key)["scores"]
        found += [
            f"record {name}: score {trace.scores.get(name, 0)} is stored, {again.get(name, 0)} is computed"
            for name in sorted({*trace.scores, *again})
            if abs(trace.scores.get(name, 0) - again.get(name, 0)) > SCORE_UNITS_MAX
        ]
    why = explain.why_call(charge_id)
    assert why is not None  # there is a trace
    paid: dict[int, int] = defaultdict(int)
    shares = {share.record_id: share for share in why.records}
    payees = explain.payees_of(why)
    for share in why.records:
        paid[payees[share.record_id]] += share.amount_nano
    for kept in RecordLine.objects.filter(source_id=charge_id).order_by("record_id"):
        one = shares.get(kept.record_id)
        if one is None or abs(one.score - kept.score) > SCORE_UNITS_MAX:
            computed = one.score if one else 0
            found.append(f"record {kept.record_id}: score {kept.score} is stored, {computed} is computed")
        elif one.amount_nano != kept.amount_nano:
            found.append(f"record {kept.record_id}: {kept.amount_nano} nano are stored, {one.amount_nano} computed")
    stored = {line.payee_id: line.amount_nano for line in why.lines if line.role == Line.Role.DATA and line.payee_id}
    found += [
        f"payee {payee_id}: {stored.get(payee_id, 0)} nano are stored, {paid.get(payee_id, 0)} computed"
        for payee_id in sorted({*stored, *paid})
        if stored.get(payee_id, 0) != paid.get(payee_id, 0)
    ]
    return found
