"""Why a part of a charge reached no record, and why a record earned nothing: every code that is stored or answered.

The one place of their sentences; pages, exports and the API read it. A code without a sentence cannot be stored: the
constraints of Trace and Line admit no other, and a test walks them all.
"""

from __future__ import annotations

from enum import StrEnum

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from attribution.netting import Unattributed

UNATTRIBUTED: dict[Unattributed, Promise] = {
    Unattributed.OWN_WEIGHTS: _("The model answered this part from its own weights, not from records."),
    Unattributed.PROXY_CAP: _("Only an approximate score exists for this model, so half at most is paid by it."),
    Unattributed.ALL_ZERO: _("No record changed the answer."),
    Unattributed.NO_POSITIVE: _("Every record spoke against the answer."),
    Unattributed.NET_NEGATIVE: _("The records behind it count for nothing over all calls so far."),
    Unattributed.GATED: _("The records behind it do harm on held-out data."),
    Unattributed.NO_CURATOR: _("No curator approved these records."),
    Unattributed.NOT_ATTRIBUTABLE: _("This charge could not be attributed in time."),
    Unattributed.NO_METHOD_YET: _("There is no measured method for this kind of model yet."),
}


def unattributed_sentence(code: str) -> str:
    """Why this part of a charge reached nobody; empty for an empty code.

    Raises:
        ValueError: nobody wrote such a code.
    """
    return str(UNATTRIBUTED[Unattributed(code)]) if code else ""


class Unpaid(StrEnum):
    """Why calls paid a record nothing, the first that applies. Those from GATED on are of a model and its epochs."""

    REFUNDED = "refunded"  # what paid it went back
    WAITING = "waiting"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"  # before any call used it
    NOT_IN_VERSION = "not_in_version"
    FOLLOWER = "follower"
    NO_CALL = "no_call"
    GATED = "gated"
    OWN_WEIGHTS = "own_weights"
    NET_NEGATIVE = "net_negative"
    ROUNDS_TO_ZERO = "rounds_to_zero"
