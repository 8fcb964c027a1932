"""What webhooks call the kinds of notifications: the same list of news, under names that programs rely on."""

from __future__ import annotations

TYPE_OF_KIND = {
    # Money of one's own
    "deposit_posted": "wallet.deposited",
    "adjusted_in": "wallet.corrected_up",
    "adjusted_out": "wallet.corrected_down",
    "wallet_invited": "wallet.invited",
    "wallet_joined": "wallet.joined",
    "balance_low": "balance.low",
    "balance_empty": "balance.empty",
    "withdrawal_sent": "payout.sent",
    "withdrawal_confirmed": "payout.confirmed",
    "withdrawal_returned": "payout.returned",
    "payout_destination_set": "payout.destination_set",
    # Keys
    "key_limit_near": "key.limit_near",
    "key_limit_reached": "key.limit_reached",
    "key_expiring": "key.expiring",
    "key_expired": "key.expired",
    "key_replaced": "key.replaced",
    # Calls
    "call_refunded": "call.refunded",
    "dispute_opened": "dispute.opened",
    "dispute_refused": "dispute.refused",
    "dispute_to_decide": "dispute.to_decide",
    "dispute_kept": "dispute.decided",
    "dispute_withdrawn": "dispute.withdrawn",
    # Models
    "invited": "model.invited",
    "pass_sold": "pass.sold",
    "pass_refunded": "pass.refunded",
    "training_done": "training.done",
    "training_failed": "training.failed",
    "version_published": "model.version_published",
    "rule_proposed": "model.rule_proposed",
    "rule_withdrawn": "model.rule_withdrawn",
    "rule_adopted": "model.rule_adopted",
    "model_retires": "pass.ending",
    "model_retiring": "model.retiring",
    "model_retired": "model.retired",
    # Earnings
    "epoch_settled": "earnings.settled",
    "earnings_refunded": "earnings.refunded",
    "earnings_held": "earnings.held",
    "earnings_disputed": "earnings.disputed",
    "earnings_released": "earnings.released",
    # Data
    "submission_decided": "submission.decided",
    "submission_needs_you": "submission.needs_author",
    "appeal_answered": "appeal.answered",
    "record_reported": "record.reported",
    "record_kept": "record.kept",
    "record_taken_down": "record.withdrawn",
    "report_dismissed": "report.dismissed",
    "report_upheld": "report.upheld",
    "report_lapsed": "report.lapsed",
    "access_requested": "access.requested",
    "access_granted": "access.granted",
    "access_refused": "access.refused",
    "theft_opened": "theft.opened",
    "theft_to_decide": "theft.to_decide",
    "theft_answered": "theft.answered",
    "theft_won": "theft.won",
    "theft_records_given": "theft.records_given",
    "theft_lost": "theft.lost",
    "theft_records_kept": "theft.records_kept",
    "theft_lapsed": "theft.lapsed",
    "noise_opened": "noise.opened",
    "noise_to_decide": "noise.to_decide",
    "noise_upheld": "noise.upheld",
    "noise_cleared": "noise.cleared",
    "noise_returned": "noise.returned",
    "noise_lapsed": "noise.lapsed",
    # Webhooks themselves
    "webhook_paused": "webhook.paused",
    "webhook_test": "webhook.test",
}
TEST = "webhook_test"
#: Those that one can choose; a test is sent by a button only.
TYPES = tuple(sorted(set(TYPE_OF_KIND.values()) - {TYPE_OF_KIND[TEST]}))
