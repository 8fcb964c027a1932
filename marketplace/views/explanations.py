"""Codes of attribution as sentences in the reader's language, with the whole numbers that show it."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attribution.explain import RecordExplanation
from datanets.models import Record, Review

from ..models import Notification, TrainingRun
from ..templatetags import figures

UNATTRIBUTED = {
    "not_attributable": gettext_lazy("The call could not be traced to records."),
    "all_zero": gettext_lazy("No record supported the answer."),
    "own_weights": gettext_lazy("The model answered from its own weights, not from the records it was shown."),
    "no_method_yet": gettext_lazy("There is no tested attribution method for this kind of model yet."),
    "proxy_cap": gettext_lazy("Only a proxy could be measured, and what a proxy may pay is capped."),
    "no_leaders": gettext_lazy("Everything behind the answer follows records that are in no version."),
}


def unattributed_sentence(code: str) -> str:
    """Why a part of the money reached nobody."""
    return str(UNATTRIBUTED.get(code, code))


def training_sentence(run: TrainingRun) -> str:
    """Where a training run stands, and what became of its fee."""
    if run.status == TrainingRun.Status.WAITING:
        return _("Waits for a worker. The fee is held.")
    if run.status == TrainingRun.Status.RUNNING:
        return _("Reads the records and fits the model. The fee is held.")
    if run.status == TrainingRun.Status.DONE:
        return _("Done. The fee was charged and goes to the records' people.")
    return _("Failed: %(reason)s The fee was released, nothing was charged.") % {
        "reason": training_failure(run.error_code, run.error_params)
    }


TRAINING_FAILURES = {
    "no_records": gettext_lazy("These versions hold no record to learn from."),
    "no_text": gettext_lazy("These versions hold no text that could be quoted."),
    "not_texts": gettext_lazy("A retrieval chat model quotes texts; choose versions of text Datanets."),
    "no_label_column": gettext_lazy("No column of this table is its label, and this engine needs one."),
    "label_is_missing": gettext_lazy("Not every record has a label, and this engine needs one."),
    "label_is_a_number": gettext_lazy("A neighbours model answers with a class; this table's label is a number."),
    "one_class": gettext_lazy("All records have the same label; there is nothing to tell apart."),
    "unknown_engine": gettext_lazy("There is no engine of this name."),
    "unknown_setting": gettext_lazy("Unknown setting: %(names)s."),
    "setting_is_no_number": gettext_lazy("A setting is not a number."),
    "setting_is_not_positive": gettext_lazy("The setting %(name)s must be above zero."),
    "not_converged": gettext_lazy("The fit found no end; try a larger l2."),
    "engine_refused": gettext_lazy("The engine cannot learn from these records."),
    "worker_lost": gettext_lazy("The worker that ran it was lost; start it again."),
}


def training_failure(code: str, params: Mapping[str, str]) -> str:
    """Why a training run failed, as one sentence."""
    return str(TRAINING_FAILURES[code]) % params if code in TRAINING_FAILURES else code


def why_sentence(found: RecordExplanation, record: Record, *, in_figures: bool) -> str:
    """Why calls paid a record nothing; empty when one paid it something.

    in_figures: with counts and sums, which change with every call that used the record: not for strangers.
    """
    if not in_figures and found.reason in _WITHOUT_FIGURES:
        return str(_WITHOUT_FIGURES[found.reason])
    return _SENTENCES[found.reason](found, record) if found.reason in _SENTENCES else found.reason


def _waiting(found: RecordExplanation, record: Record) -> str:
    return _("No curator has decided yet.")


def _rejected(found: RecordExplanation, record: Record) -> str:
    reasons = dict(Review.Reason.choices)
    reason = reasons.get(record.reject_reason, record.reject_reason)
    return _("A curator rejected it: %(reason)s.") % {"reason": reason}


def _withdrawn(found: RecordExplanation, record: Record) -> str:
    if record.withdrawn_by_id in (None, record.contributor_id):
        return _("Its contributor took it back before any call used it.")
    return _("The owner of the Datanet or an administrator took it down before any call used it.")


def _not_in_version(found: RecordExplanation, record: Record) -> str:
    return _("It is approved, but no version holds it yet. The owner publishes the next one.")


def _follower(found: RecordExplanation, record: Record) -> str:
    return _("It was merged with an earlier copy, record %(leader)s, which earns for both.") % {
        "leader": found.leader_id
    }


def _no_call(found: RecordExplanation, record: Record) -> str:
    return _("No settled call used it.")


def _gated(found: RecordExplanation, record: Record) -> str:
    return _("Held-out rows show beyond doubt that it makes the model worse, so it is set aside.")


def _net_negative(found: RecordExplanation, record: Record) -> str:
    return _(
        "It spoke against the answers more than for them: its sum over %(calls)s calls is %(net)s, "
        "made of %(positive)s for and %(negative)s against."
    ) % {
        "calls": figures.number_text(found.call_count),
        "net": _signed(found.net),
        "positive": figures.number_text(found.positive),
        "negative": figures.number_text(found.positive - found.net),
    }


def _own_weights(found: RecordExplanation, record: Record) -> str:
    return _("The models that know it answered from their own weights.")


def _rounds_to_zero(found: RecordExplanation, record: Record) -> str:
    return _("Its part was smaller than a nano-OPEN: its sum over %(calls)s calls is %(net)s of %(positive)s.") % {
        "calls": figures.number_text(found.call_count),
        "net": _signed(found.net),
        "positive": figures.number_text(found.positive),
    }


def _signed(value: int) -> str:
    return figures.number_text(value).replace("-", "\u2212")


def _refunded(found: RecordExplanation, record: Record) -> str:
    return _("The calls that paid it were refunded.")


_SENTENCES = {
    "refunded": _refunded,
    "waiting": _waiting,
    "rejected": _rejected,
    "withdrawn": _withdrawn,
    "not_in_version": _not_in_version,
    "follower": _follower,
    "no_call": _no_call,
    "gated": _gated,
    "net_negative": _net_negative,
    "own_weights": _own_weights,
    "rounds_to_zero": _rounds_to_zero,
}
_WITHOUT_FIGURES = {
    "net_negative": gettext_lazy("It spoke against the answers more than for them."),
    "rounds_to_zero": gettext_lazy("Its part was smaller than a nano-OPEN."),
}


# --- Notifications


NOTIFICATIONS = {
    "pass_sold": gettext_lazy("%(buyer)s bought a pass for %(model)s."),
    "invited": gettext_lazy("You may call %(model)s now."),
    "training_done": gettext_lazy("%(model)s is trained and answers."),
    "training_failed": gettext_lazy("Training %(model)s failed: %(reason)s The fee was released."),
    "deposit_posted": gettext_lazy("%(amount)s OPEN arrived in your wallet."),
    "adjusted_in": gettext_lazy("Two admins moved %(amount)s OPEN into your wallet. Its statement says why."),
    "adjusted_out": gettext_lazy("Two admins moved %(amount)s OPEN out of your wallet. Its statement says why."),
    "withdrawal_sent": gettext_lazy("Your withdrawal of %(amount)s OPEN was sent."),
    "withdrawal_confirmed": gettext_lazy("Your withdrawal of %(amount)s OPEN arrived."),
    "withdrawal_returned": gettext_lazy("Your withdrawal of %(amount)s OPEN came back: %(reason)s"),
    "call_refunded": gettext_lazy("%(amount)s OPEN came back to you for a call to %(model)s."),
    "earnings_refunded": gettext_lazy(
        "A call to %(model)s was refunded: %(amount)s OPEN of your pending earnings went back."
    ),
    "earnings_held": gettext_lazy("%(amount)s OPEN of your pending earnings are held: %(reason)s"),
    "earnings_disputed": gettext_lazy(
        "%(amount)s OPEN of your pending earnings are held: a buyer disputes a call in them."
    ),
    "earnings_released": gettext_lazy("%(amount)s OPEN of your pending earnings are not held any more."),
    "dispute_opened": gettext_lazy("A buyer disputes a call to %(model)s. Answer in time, or it is refunded."),
    "dispute_refused": gettext_lazy("The developer of %(model)s refused your dispute. Admins decide now."),
    "dispute_to_decide": gettext_lazy("A dispute about %(model)s waits for an admin."),
    "dispute_kept": gettext_lazy("The dispute about %(model)s is decided: the charge stands."),
    "dispute_withdrawn": gettext_lazy("The dispute about %(model)s was withdrawn."),
    "theft_opened": gettext_lazy("Somebody says that records of yours in %(datanet)s are theirs. You may answer."),
    "theft_to_decide": gettext_lazy("A theft dispute in %(datanet)s waits for your decision."),
    "theft_answered": gettext_lazy("The contributor answered your theft dispute in %(datanet)s."),
    "theft_won": gettext_lazy("Your theft dispute in %(datanet)s is won: %(amount)s OPEN became yours, pending."),
    "theft_records_given": gettext_lazy(
        "A theft dispute about your records in %(datanet)s is decided: they are its author’s, and %(amount)s OPEN of your "
        "pending earnings went to them."
    ),
    "theft_lost": gettext_lazy("Your theft dispute in %(datanet)s was dismissed."),
    "theft_records_kept": gettext_lazy("A theft dispute in %(datanet)s has ended: the records stay yours."),
    "theft_lapsed": gettext_lazy("A theft dispute in %(datanet)s was not decided in time. What it held is let go."),
    "model_retires": gettext_lazy(
        "%(model)s takes no calls from %(day)s on. What is left of your pass comes back then."
    ),
    "model_retired": gettext_lazy("%(model)s is retired: its last epoch is paid and its pools are empty."),
    "pass_refunded": gettext_lazy("%(amount)s OPEN came back for the rest of your pass for %(model)s, which retired."),
    "payout_destination_set": gettext_lazy("Your payout destination is now the one that ends in %(hint)s."),
    "submission_decided": gettext_lazy("%(title)s is decided. Approved: %(approved)s; rejected: %(rejected)s."),
    "submission_needs_you": gettext_lazy("%(title)s needs you: something must be corrected or replaced."),
    "appeal_answered": gettext_lazy("Your appeal about %(title)s was answered."),
    "record_reported": gettext_lazy("A record of %(datanet)s was reported. It waits for a decision."),
    "report_dismissed": gettext_lazy("Your report of record %(record)s was dismissed: %(note)s"),
    "report_upheld": gettext_lazy("Record %(record)s, which you reported, was withdrawn: %(note)s"),
    "report_lapsed": gettext_lazy("Record %(record)s, which you reported, was withdrawn before a curator decided."),
    "record_kept": gettext_lazy("Your record %(record)s was reported; the curators keep it: %(note)s"),
    "record_taken_down": gettext_lazy("Your record %(record)s was reported, and the curators withdrew it: %(note)s"),
    "access_requested": gettext_lazy("%(by)s asks to read %(datanet)s."),
    "access_granted": gettext_lazy("You may read %(datanet)s now."),
    "access_refused": gettext_lazy("Your request to read %(datanet)s was refused."),
}


class _Known(dict):
    """Parameters of a sentence; one that is missing becomes a dash instead of an error."""

    def __missing__(self, key: str) -> str:
        return "—"


def notification_sentence(line: Notification) -> str:
    """One line of the inbox, in the reader's language."""
    params = _Known(line.params)
    if "amount_nano" in line.params:
        params["amount"] = figures.open_text(int(line.params["amount_nano"]), 4)
    if line.kind == "training_failed":
        params["reason"] = training_failure(line.params["code"], params)
    if line.kind in NOTIFICATIONS:
        return str(NOTIFICATIONS[line.kind]) % params
    return line.kind.replace("_", " ").capitalize()
