"""Codes of attribution as sentences in the reader's language, with the whole numbers that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from attribution.explain_records import RecordExplanation, Zero
from attribution.reasons import UNPAID, UNPAID_IN_FIGURES, Unpaid
from datanets.models import Record, Review

from .. import listings
from ..models import ModelVersion, Notification, TrainingRun
from ..templatetags import figures


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
    "content_erased": gettext_lazy("The content of %(count)s records was erased since."),
    "one_class": gettext_lazy("All records have the same label; there is nothing to tell apart."),
    "no_feature": gettext_lazy(
        "No column tells the records apart: each is empty, free text, or the same in all of them."
    ),
    "number_too_large": gettext_lazy("A column holds numbers that are too large to be computed with."),
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
    if not found.reason:
        return ""
    reason = Unpaid(found.reason)
    if reason == Unpaid.WITHDRAWN and record.withdrawn_by_id not in (None, record.contributor_id):
        return _("The owner of the Datanet or an administrator took it down before any call used it.")
    sentence = UNPAID_IN_FIGURES.get(reason, UNPAID[reason]) if in_figures else UNPAID[reason]
    rejections = dict(Review.Reason.choices)
    return str(sentence) % {
        "reason": rejections.get(record.reject_reason, record.reject_reason),
        "leader": found.leader_id,
        "calls": figures.number_text(found.call_count),
        "net": figures.number_text(found.net).replace("-", "\u2212"),
        "positive": figures.number_text(found.positive),
        "negative": figures.number_text(found.positive - found.net),
    }


class ZeroShown(NamedTuple):
    """Where calls used a record and paid it nothing, in words."""

    model: str
    epochs: str
    calls: int
    reason: str
    sentence: str


def zeros_shown(zeros: Sequence[Zero], user: listings.Visitor) -> list[ZeroShown]:
    """Group by group of `RecordExplanation.zeros`. A model that the reader may not know has no name."""
    if not zeros:
        return []
    versions = ModelVersion.objects.filter(model__in=listings.visible_to(user)).select_related("model__owner")
    names = {version.pk: version.path for version in versions.filter(pk__in={zero.model_version_id for zero in zeros})}
    return [
        ZeroShown(
            names.get(zero.model_version_id, _("a model that is not listed")),
            _ranges(zero.epochs),
            zero.call_count,
            zero.reason.value,
            str(UNPAID[zero.reason]),
        )
        for zero in zeros
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as people write them: 1\u20133, 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1][1:] = [number]
        else:
            found.append([number])
    return ", ".join("\u2013".join(map(str, ends)) for ends in found)


# --- Notifications


NOTIFICATIONS = {
    "pass_sold": gettext_lazy("%(buyer)s bought a pass for %(model)s."),
    "invited": gettext_lazy("You may call %(model)s now."),
    "wallet_invited": gettext_lazy("You are asked to join a shared wallet."),
    "wallet_joined": gettext_lazy("%(by)s has joined the shared wallet %(wallet)s."),
    "training_done": gettext_lazy("%(model)s is trained and answers."),
    "training_failed": gettext_lazy("Training %(model)s failed: %(reason)s The fee was released."),
    "deposit_posted": gettext_lazy("%(amount)s OPEN arrived in your wallet."),
    "balance_low": gettext_lazy("Your wallet is low: %(amount)s OPEN are available."),
    "balance_empty": gettext_lazy(
        "Your wallet is empty, or holds too little for your calls: %(amount)s OPEN are available."
    ),
    "key_limit_near": gettext_lazy("The key %(key)s has used %(used)s of %(most)s OPEN: %(limit)s."),
    "key_limit_reached": gettext_lazy(
        "The key %(key)s has reached %(limit)s, %(most)s OPEN. Its calls are refused until there is room again."
    ),
    "key_expiring": gettext_lazy("The key %(key)s (%(prefix)s…) ends soon. Replace it, or give it a later end."),
    "key_expired": gettext_lazy("The key %(key)s (%(prefix)s…) has ended: calls with it are refused."),
    "key_replaced": gettext_lazy("The key %(key)s (%(prefix)s…) was replaced."),
    "webhook_paused": gettext_lazy(
        "The webhook to %(address)s did not answer for three days and is paused. News wait for it."
    ),
    "webhook_test": gettext_lazy("A test of a webhook."),
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
    "noise_opened": gettext_lazy(
        "%(records)s records of yours in %(datanet)s look like noise for %(model)s. What they earned is held; you may answer."
    ),
    "noise_to_decide": gettext_lazy("A noise case in %(datanet)s waits for your decision."),
    "noise_upheld": gettext_lazy(
        "Records of yours in %(datanet)s were found to be noise for %(model)s. You may appeal; nothing is taken before."
    ),
    "noise_cleared": gettext_lazy(
        "Records of yours in %(datanet)s are not noise for %(model)s, people decided. What was held is let go."
    ),
    "noise_returned": gettext_lazy(
        "Records of yours in %(datanet)s are noise for %(model)s: %(amount)s OPEN that were pending are not paid."
    ),
    "noise_lapsed": gettext_lazy(
        "A noise case about your records in %(datanet)s was not decided in time. What was held is let go."
    ),
    "model_retires": gettext_lazy(
        "%(model)s takes no calls from %(day)s on. What is left of your pass comes back then."
    ),
    "model_retiring": gettext_lazy(
        "%(model)s takes no calls from %(day)s on. You have access to it, or a key names it."
    ),
    "version_published": gettext_lazy("%(model)s is published. You have access to the model, or a key names it."),
    "rule_proposed": gettext_lazy(
        "%(model)s may be split by another rule from %(day)s on: %(old)s; then %(new)s. For you, the last 30 days would have "
        "been %(difference)s OPEN."
    ),
    "rule_withdrawn": gettext_lazy("The split rule proposed for %(model)s was withdrawn: %(old)s stays."),
    "rule_adopted": gettext_lazy("%(model)s is split by another rule for calls from now on: %(new)s; before %(old)s."),
    "epoch_settled": gettext_lazy("An epoch of %(model)s is settled: %(amount)s OPEN became yours, pending."),
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


LIMITS = {
    "day": gettext_lazy("its limit of the day"),
    "month": gettext_lazy("its limit of the month"),
    "total": gettext_lazy("its limit in all"),
}


ROLES = {
    "data": gettext_lazy("Data contributors"),
    "curation": gettext_lazy("Curators"),
    "developer": gettext_lazy("Model developer"),
    "platform": gettext_lazy("Platform"),
    "owner": gettext_lazy("Datanet owners"),
}


def parts_text(parts: Mapping[str, int]) -> str:
    """A split rule in one line; parts of nothing are left out."""
    return ", ".join(f"{ROLES[role]} {figures.share_text(bp)}" for role, bp in parts.items() if bp)


class _Known(dict):
    """Parameters of a sentence; one that is missing becomes a dash instead of an error."""

    def __missing__(self, key: str) -> str:
        return "—"


# Of a shared wallet, which is one of several that somebody may own.
OF_A_SHARED_WALLET = {
    "balance_low": gettext_lazy("The shared wallet %(wallet)s is low: %(amount)s OPEN are available."),
    "balance_empty": gettext_lazy(
        "The shared wallet %(wallet)s is empty, or holds too little for its calls: %(amount)s OPEN are available."
    ),
}


def notification_sentence(line: Notification) -> str:
    """One line of the inbox, in the reader's language."""
    params = _Known(line.params)
    if "amount_nano" in line.params:
        params["amount"] = figures.open_text(int(line.params["amount_nano"]), 4)
    if "limit_nano" in line.params:
        params["limit"] = LIMITS[line.params["limit"]]
        params["most"] = figures.open_text(int(line.params["limit_nano"]), 4)
        params["used"] = figures.open_text(int(line.params["used_nano"]), 4)
    for name in {"old", "new"} & line.params.keys():
        params[name] = parts_text(line.params[name])
    if "difference_nano" in line.params:
        params["difference"] = figures.open_text(int(line.params["difference_nano"]), signed=True)
    if line.kind == "training_failed":
        params["reason"] = training_failure(line.params["code"], params)
    if "wallet" in line.params and line.kind in OF_A_SHARED_WALLET:
        return str(OF_A_SHARED_WALLET[line.kind]) % params
    if line.kind in NOTIFICATIONS:
        return str(NOTIFICATIONS[line.kind]) % params
    return line.kind.replace("_", " ").capitalize()
