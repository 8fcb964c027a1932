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
    Unattributed.NO_HELP: _("No record helped on held-out rows when the version was made."),
    Unattributed.WITHDRAWN: _("Every record behind it had been taken back."),
    Unattributed.NO_CURATOR: _("No curator approved these records."),
    Unattributed.CURATOR_ACCURACY: _("The measured accuracy of the curators who approved these records took it."),
    Unattributed.NOT_ATTRIBUTABLE: _("This charge could not be attributed in time."),
    Unattributed.OWN_WORDS: _("The model said this in its own words: no six of them in a row stand in a record."),
    Unattributed.ABSTAINED: _("The model gave no answer: what its caller required was not met, so no record was used."),
    Unattributed.NO_METHOD_YET: _("There is no measured method for this kind of model yet."),
}


def unattributed_sentence(code: str) -> str:
    """Why this part of a charge reached nobody; empty for an empty code.

    Raises:
        ValueError: nobody wrote such a code.
    """
    return str(UNATTRIBUTED[Unattributed(code)]) if code else ""


class Unpaid(StrEnum):
    """Why calls paid a record nothing, the first that applies. From GATED to ROUNDS_TO_ZERO: in some epochs of a model."""

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
    AGAINST = "against"  # it supported none of the answers of these epochs
    ROUNDS_TO_ZERO = "rounds_to_zero"
    SEVERAL = "several"  # models that used it have different reasons; each of them has one


UNPAID: dict[Unpaid, Promise] = {
    Unpaid.REFUNDED: _("The calls that paid it were refunded."),
    Unpaid.WAITING: _("No curator has decided yet."),
    Unpaid.REJECTED: _("A curator rejected it: %(reason)s."),
    Unpaid.WITHDRAWN: _("Its contributor took it back before any call used it."),
    Unpaid.NOT_IN_VERSION: _("It is approved, but no version holds it yet. The owner publishes the next one."),
    Unpaid.FOLLOWER: _("It was merged with an earlier copy, record %(leader)s, which earns for both."),
    Unpaid.NO_CALL: _("No settled call used it."),
    Unpaid.GATED: _("Held-out rows show beyond doubt that it makes the model worse, so it is set aside."),
    Unpaid.OWN_WEIGHTS: _("The models that know it answered from their own weights."),
    Unpaid.NET_NEGATIVE: _("It spoke against the answers more than for them."),
    Unpaid.AGAINST: _("It supported none of the answers that it had a part in."),
    Unpaid.ROUNDS_TO_ZERO: _("Its part was smaller than a nano-OPEN."),
    Unpaid.SEVERAL: _("The models that used it paid it nothing for different reasons."),
}
# Counts and sums change with every call that used the record: these are not for strangers.
UNPAID_IN_FIGURES: dict[Unpaid, Promise] = {
    Unpaid.NET_NEGATIVE: _(
        "It spoke against the answers more than for them: its sum over %(calls)s calls is %(net)s, "
        "made of %(positive)s for and %(negative)s against."
    ),
    Unpaid.ROUNDS_TO_ZERO: _(
        "Its part was smaller than a nano-OPEN: its sum over %(calls)s calls is %(net)s of %(positive)s."
    ),
}
