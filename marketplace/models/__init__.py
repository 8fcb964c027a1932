"""The shop on top: listings, prices, training, access, keys, calls, wallets, payouts. Amounts are integer nano-OPEN.

Every row that causes a posting holds that posting's id, made once, in Python: a retry re-reads it (design of the ledger).

The modules follow the business; `from marketplace.models import Call` is the one way to all of them.
"""

from .access import Access, PassRefund
from .calls import Call, CallContent, FreeCall, Idempotency, TestCall
from .earnings import LotHold, UnattributedRelease
from .fields import ERASED, SUPPLY_NANO
from .keys import (
    CALLS_AT_ONCE,
    CALLS_AT_ONCE_MAX,
    CONTENT_DAYS_MAX,
    ORIGIN_CHARS_MAX,
    SCOPES,
    TEST_REQUESTS_PER_MINUTE_MAX,
    ApiKey,
    KeyLease,
    KeyRate,
    KeyUse,
    all_scopes,
)
from .listings import (
    FALLBACKS_MAX,
    FREE_CALLS_MAX,
    DatanetTerms,
    Fallback,
    ListedModel,
    ModelTerms,
    PriceList,
    RuleProposal,
    SplitRule,
)
from .notices import AuditEvent, DemoProgress, Notification
from .payouts import PayoutDestination, PayoutRun, Withdrawal
from .refunds import Dispute, Payback, Refund
from .sharing import Role, SharedWallet, WalletInvitation, WalletMember, WalletTransfer
from .training import ModelVersion, TrainingRun
from .wallets import Adjustment, Deposit, PromotionTransfer, TestGrant, WalletWatch
from .webhooks import WebhookAttempt, WebhookDelivery, WebhookEndpoint

__all__ = [
    "Access",
    "Adjustment",
    "ApiKey",
    "AuditEvent",
    "CALLS_AT_ONCE",
    "CALLS_AT_ONCE_MAX",
    "CONTENT_DAYS_MAX",
    "Call",
    "CallContent",
    "DatanetTerms",
    "DemoProgress",
    "Deposit",
    "Dispute",
    "ERASED",
    "FALLBACKS_MAX",
    "FREE_CALLS_MAX",
    "Fallback",
    "FreeCall",
    "Idempotency",
    "KeyLease",
    "KeyRate",
    "KeyUse",
    "ListedModel",
    "LotHold",
    "ModelTerms",
    "ModelVersion",
    "Notification",
    "ORIGIN_CHARS_MAX",
    "PassRefund",
    "Payback",
    "PayoutDestination",
    "PayoutRun",
    "PriceList",
    "PromotionTransfer",
    "Refund",
    "Role",
    "SCOPES",
    "SUPPLY_NANO",
    "SharedWallet",
    "RuleProposal",
    "SplitRule",
    "TEST_REQUESTS_PER_MINUTE_MAX",
    "TestCall",
    "TestGrant",
    "TrainingRun",
    "UnattributedRelease",
    "WalletInvitation",
    "WalletMember",
    "WalletTransfer",
    "WalletWatch",
    "WebhookAttempt",
    "WebhookDelivery",
    "WebhookEndpoint",
    "Withdrawal",
    "all_scopes",
]
