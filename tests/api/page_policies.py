"""Who may open which page and do which act there: one row per name and method. A page without a row fails the test."""

from __future__ import annotations

import base64

from django.core.files.uploadedfile import SimpleUploadedFile

from tests.api.test_authorisation import CLAIMANT, DISPUTED, ROLES, THEFT

MAY = "may"  # is answered, or refused for another reason than who asks
LOGIN = "login"  # is led to the sign-in page
AWAY = "away"  # is led elsewhere: the page has nothing for this person

POLICIES = {
    "everybody": dict.fromkeys(ROLES, MAY),
    "visitors": dict.fromkeys(ROLES, AWAY) | {"anonymous": MAY},
    "nobody": dict.fromkeys(ROLES, AWAY),
    "midway": dict.fromkeys(ROLES, AWAY) | {"anonymous": LOGIN},  # for who gave the password, but not yet a code
    "signed in": dict.fromkeys(ROLES, MAY) | {"anonymous": LOGIN},
    "owner, else unseen": {"anonymous": LOGIN, "stranger": 404, "member": 404, "owner": MAY, "admin": 404},
    "owner, else forbidden": {"anonymous": LOGIN, "stranger": 403, "member": 403, "owner": MAY, "admin": 403},
    "owner, else nothing": {"anonymous": 404, "stranger": 404, "member": 404, "owner": MAY, "admin": 404},
    "members": {"anonymous": 404, "stranger": 404, "member": MAY, "owner": MAY, "admin": MAY},
    "takedown": {"anonymous": LOGIN, "stranger": 403, "member": 403, "owner": MAY, "admin": MAY},
    "all but its contributor": {"anonymous": LOGIN, "stranger": MAY, "member": MAY, "owner": 403, "admin": MAY},
    "whole data": {"anonymous": LOGIN, "stranger": MAY, "member": MAY, "owner": MAY, "admin": MAY},
    "readers": {"anonymous": LOGIN, "stranger": 403, "member": MAY, "owner": MAY, "admin": MAY},
    "curators, else unseen": {"anonymous": LOGIN, "stranger": 404, "member": MAY, "owner": 404, "admin": 404},
    "curators, else forbidden": {"anonymous": LOGIN, "stranger": 403, "member": MAY, "owner": MAY, "admin": 403},
    "callers": {"anonymous": LOGIN, "stranger": 403, "member": MAY, "owner": MAY, "admin": 403},
    "parties and deciders": {"anonymous": LOGIN, "stranger": 404, "member": MAY, "owner": MAY, "admin": MAY},
    "one party, seen by deciders": {"anonymous": LOGIN, "stranger": 404, "member": 403, "owner": MAY, "admin": 403},
    "deciders, seen by parties": {"anonymous": LOGIN, "stranger": 404, "member": MAY, "owner": 403, "admin": MAY},
    "admins, else unseen": dict.fromkeys(ROLES, 404) | {"admin": MAY},
    "uploads": {"anonymous": 401, "stranger": 404, "member": 404, "owner": MAY, "admin": 404},
}

DATANET = ("carol", "erin")  # (member, owner)
MODEL = ("dan", "devi")
SENDER = ("carol", "alice")
REVIEW = ("carol", "alice")
BUYER = ("alice", "dan")
PAYEE = ("dan", "alice")
PLAIN = ("dan", "alice")
HOLDER = ("dan", "mina")  # she has an authenticator app, recovery codes and a passkey

_AS_MODEL = {"owner": "model_owner", "slug": "model_slug"}
_INVITED = {"owner": "model_owner", "slug": "invited"}
_PASSES = {"owner": "model_owner", "slug": "passes"}
_UNLISTED = {"owner": "model_owner", "slug": "unlisted"}
_CLOSED = {"slug": "closed"}
_ON_REQUEST = {"slug": "on_request"}
_REVIEWED = {"submission_id": "in_review"}
_THEFT = {"dispute_id": "theft_id"}
_TUS = {"HTTP_TUS_RESUMABLE": "1.0.0"}
_BYTES = {"data": b"1", "content_type": "application/offset+octet-stream", "HTTP_UPLOAD_OFFSET": "0"}


def _file(name: str = "rows.csv", content: bytes = b"radius,texture,diagnosis\n1,2,benign\n") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content)


def _announced(submission_id) -> dict[str, str]:
    told = {"submission": str(submission_id), "filename": "rows.csv"}
    pairs = [f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in told.items()]
    return {"HTTP_UPLOAD_LENGTH": "9", "HTTP_UPLOAD_METADATA": ",".join(pairs)}


# (method, name[, which object]) -> (policy, (member, owner), the form, ids in place of those of the same name).
# A form may be a function of the world's ids. What speaks tus carries headers instead.
ACCESS: dict[tuple[str, ...], tuple] = {
    # The site
    ("get", "home"): ("everybody", PLAIN, None, {}),
    ("get", "healthz"): ("everybody", PLAIN, None, {}),
    ("get", "set_language"): ("everybody", PLAIN, None, {}),
    ("post", "set_language"): ("everybody", PLAIN, {"language": "fr"}, {}),
    ("get", "search"): ("everybody", PLAIN, None, {}),
    ("get", "status"): ("everybody", PLAIN, None, {}),
    ("get", "docs_index"): ("everybody", PLAIN, None, {}),
    ("get", "docs"): ("everybody", PLAIN, None, {}),
    ("get", "terms"): ("everybody", PLAIN, None, {}),
    ("get", "privacy"): ("everybody", PLAIN, None, {}),
    ("get", "contributor_agreement"): ("everybody", PLAIN, None, {}),
    ("get", "people"): ("everybody", PLAIN, None, {}),
    ("get", "api_schema"): ("everybody", PLAIN, None, {}),
    ("get", "api_docs"): ("everybody", PLAIN, None, {}),
    ("get", "dev_mail"): ("everybody", PLAIN, None, {}),
    ("get", "dev_styleguide"): ("everybody", PLAIN, None, {}),
    # Datanets
    ("get", "datanets"): ("everybody", DATANET, None, {}),
    ("get", "datanet_new"): ("signed in", DATANET, None, {}),
    ("post", "datanet_new"): ("signed in", DATANET, {"name": "Mine"}, {}),
    ("get", "datanet"): ("everybody", DATANET, None, {}),
    ("get", "datanet", "closed"): ("members", DATANET, None, _CLOSED),
    ("get", "datanet_tab"): ("everybody", DATANET, None, {}),
    ("get", "datanet_tab", "closed"): ("members", DATANET, None, _CLOSED),
    ("get", "datanet_settings"): ("owner, else unseen", DATANET, None, {}),
    ("post", "datanet_settings"): ("owner, else unseen", DATANET, {"purpose": "Other"}, {}),
    ("post", "datanet_publish"): ("owner, else forbidden", DATANET, {}, {}),
    ("post", "datanet_access_request"): ("signed in", DATANET, {"purpose": "Research"}, _ON_REQUEST),
    ("post", "datanet_access_answer"): (
        "owner, else forbidden",
        ("dan", "erin"),
        lambda ids: {"request": ids["request_id"], "act": "grant"},
        _ON_REQUEST,
    ),
    ("post", "datanet_curators"): ("owner, else forbidden", DATANET, {"handle": "zoe"}, {}),
    ("post", "datanet_readers"): ("owner, else forbidden", DATANET, {"handle": "zoe"}, {}),
    ("get", "datanet_export"): ("whole data", DATANET, None, {}),
    ("get", "datanet_export", "on request"): ("readers", DATANET, None, _ON_REQUEST),
    ("get", "datanet_template"): ("everybody", DATANET, None, {}),
    ("get", "datanet_template", "closed"): ("members", DATANET, None, _CLOSED),
    ("get", "record"): ("everybody", SENDER, None, {}),
    ("get", "record", "rejected"): (
        {"anonymous": 404, "stranger": 404, "member": MAY, "owner": MAY, "admin": 404},
        SENDER,
        None,
        {"record_id": "rejected_id"},
    ),
    ("post", "record_withdraw"): ("takedown", SENDER, {}, {}),
    ("post", "record_appeal"): (
        "owner, else unseen",
        SENDER,
        {"text": "Look again."},
        {"record_id": "rejected_id"},
    ),
    ("get", "record_report"): ("signed in", SENDER, None, {}),
    ("post", "record_report"): ("all but its contributor", SENDER, {"reason": "wrong", "text": "It is not."}, {}),
    ("get", "record_report", "rejected"): (
        {"anonymous": LOGIN, "stranger": 404, "member": MAY, "owner": MAY, "admin": 404},
        SENDER,
        None,
        {"record_id": "rejected_id"},
    ),
    ("get", "record_theft"): ("signed in", SENDER, None, {}),
    ("post", "record_theft"): (
        "all but its contributor",
        SENDER,
        lambda ids: {"records": ids["record_id"]} | THEFT,
        {},
    ),
    ("get", "thefts"): ("signed in", PLAIN, None, {}),
    ("get", "theft"): ("parties and deciders", DISPUTED, None, _THEFT),
    ("post", "theft_answer"): ("one party, seen by deciders", DISPUTED, {"text": "They are mine."}, _THEFT),
    ("post", "theft_decide"): (
        "deciders, seen by parties",
        DISPUTED,
        {"answer": "uphold", "note": "The paper is older."},
        _THEFT,
    ),
    ("post", "theft_withdraw"): ("one party, seen by deciders", CLAIMANT, {}, _THEFT),
    # Submissions
    ("get", "contribute"): ("signed in", SENDER, None, {}),
    ("get", "contribute_new"): ("signed in", SENDER, None, {}),
    ("post", "contribute_new"): ("signed in", SENDER, {"datanet": "erin/tumours"}, {}),
    ("get", "submission"): ("owner, else unseen", SENDER, None, {}),
    ("post", "submission_describe"): ("owner, else unseen", SENDER, {"title": "Rows"}, {}),
    ("get", "submission_live"): ("owner, else unseen", SENDER, None, {}),
    ("post", "submission_upload"): ("owner, else unseen", SENDER, lambda ids: {"files": _file()}, {}),
    ("post", "submission_file"): ("owner, else unseen", SENDER, {}, {}),
    ("post", "submission_rows_drop"): ("owner, else unseen", SENDER, {}, {}),
    ("post", "submission_row"): ("owner, else unseen", SENDER, {"act": "drop"}, {}),
    ("post", "submission_withdraw"): ("owner, else unseen", SENDER, {}, {}),
    ("post", "submission_revise"): ("owner, else unseen", SENDER, {}, _REVIEWED),
    ("post", "tus_create"): ("uploads", SENDER, lambda ids: _TUS | _announced(ids["submission_id"]), {}),
    ("head", "tus_file"): ("uploads", SENDER, _TUS, {}),
    ("patch", "tus_file"): ("uploads", SENDER, _TUS | _BYTES, {}),
    ("delete", "tus_file"): ("uploads", SENDER, _TUS, {}),
    ("get", "media"): ("everybody", PLAIN, None, {}),
    ("get", "media", "forged"): (dict.fromkeys(ROLES, 404), PLAIN, None, {"token": "forged"}),
    # Reviews
    ("get", "review"): ("curators, else forbidden", DATANET, None, {}),
    ("post", "review_bulk"): ("curators, else forbidden", DATANET, lambda ids: {"submission": ids["in_review"]}, {}),
    ("get", "review_appeals"): ("curators, else forbidden", DATANET, None, {}),
    ("post", "review_appeal"): (
        "curators, else unseen",
        ("frank", "alice"),
        {"answer": "uphold", "note": "It is odd."},
        {},
    ),
    ("get", "review_reports"): ("curators, else forbidden", DATANET, None, {}),
    ("post", "review_report"): ("curators, else unseen", REVIEW, {"answer": "dismiss", "note": "It is fine."}, {}),
    ("post", "review_act_undo"): ("curators, else unseen", REVIEW, {}, {}),
    ("get", "review_guidelines"): ("everybody", DATANET, None, {}),
    ("get", "review_guidelines", "closed"): ("members", DATANET, None, _CLOSED),
    ("get", "review_submission"): ("curators, else unseen", REVIEW, None, _REVIEWED),
    ("post", "review_submission"): (
        "curators, else unseen",
        REVIEW,
        lambda ids: {"decision": "approve", "record": ids["record_in_review"]},
        _REVIEWED,
    ),
    ("post", "review_claim"): ("curators, else unseen", REVIEW, {}, _REVIEWED),
    # Models
    ("get", "models"): ("everybody", MODEL, None, {}),
    ("get", "model"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", "model", "unlisted"): ("owner, else nothing", MODEL, None, _UNLISTED),
    ("get", "model_tab"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", "model_tab", "unlisted"): ("owner, else nothing", MODEL, None, _UNLISTED),
    ("post", "model_try"): ("signed in", MODEL, {"act": "quote"}, _AS_MODEL),
    ("post", "model_try", "invited"): ("callers", MODEL, {"act": "quote"}, _INVITED),
    ("post", "model_try", "unlisted"): (
        {"anonymous": LOGIN, "stranger": 404, "member": 404, "owner": 403, "admin": 404},  # no version answers yet
        MODEL,
        {"act": "quote"},
        _UNLISTED,
    ),
    ("post", "model_pass"): ("signed in", MODEL, {}, _PASSES),
    ("post", "model_pass", "unlisted"): ("owner, else unseen", MODEL, {}, _UNLISTED),
    ("post", "playground_key"): ("signed in", MODEL, {}, _AS_MODEL),
    ("post", "playground_key", "invited"): ("callers", MODEL, {}, _INVITED),
    ("get", "call_why"): ("owner, else unseen", BUYER, None, {}),
    ("get", "build_models"): ("signed in", MODEL, None, {}),
    ("get", "build_model_new"): ("signed in", MODEL, None, {}),
    ("post", "build_model_new"): ("signed in", MODEL, {"name": "Mine"}, {}),
    ("get", "build_model"): ("owner, else unseen", MODEL, None, {}),
    ("get", "build_settings"): ("owner, else unseen", MODEL, None, {}),
    ("post", "build_settings"): ("owner, else unseen", MODEL, {"name": "Other"}, {}),
    ("get", "build_fallbacks"): ("owner, else unseen", MODEL, None, {}),
    ("post", "build_fallbacks"): ("owner, else unseen", MODEL, {}, {}),
    ("post", "build_prices"): ("owner, else unseen", MODEL, {"price_call": "0.5"}, {}),
    ("post", "build_retire"): ("owner, else unseen", MODEL, {}, {}),
    ("post", "build_listing"): ("owner, else unseen", MODEL, {"act": "unlist"}, {}),
    ("post", "build_invite"): ("owner, else unseen", MODEL, {"handle": "bob"}, {"model_id": "invited_id"}),
    ("get", "build_runs"): ("owner, else unseen", MODEL, None, {}),
    ("get", "build_train"): ("owner, else unseen", MODEL, None, {}),
    ("post", "build_train"): ("owner, else unseen", MODEL, {}, {}),
    ("get", "build_keys"): ("signed in", BUYER, None, {}),
    ("get", "build_key_new"): ("signed in", BUYER, None, {}),
    ("post", "build_key_new"): ("signed in", BUYER, {"name": "Mine"}, {}),
    ("post", "build_key_replace"): ("owner, else unseen", BUYER, {}, {}),
    ("post", "build_key_revoke"): ("owner, else unseen", BUYER, {}, {}),
    ("get", "build_usage"): ("signed in", BUYER, None, {}),
    ("get", "build_usage_export"): ("signed in", BUYER, None, {}),
    ("post", "build_usage_show"): ("owner, else unseen", BUYER, {}, {}),
    ("get", "refunds"): ("signed in", BUYER, None, {}),
    ("get", "call_dispute"): ("owner, else unseen", BUYER, None, {}),
    ("post", "call_dispute"): ("owner, else unseen", BUYER, {"reason": "Why?"}, {}),
    ("get", "call_refund"): ("owner, else unseen", MODEL, None, {}),
    ("post", "call_refund"): ("owner, else unseen", MODEL, {"reason": "Sorry"}, {}),
    ("post", "dispute_act"): ("owner, else unseen", BUYER, {}, {"act": "withdraw"}),
    ("post", "dispute_act", "accept"): ("owner, else unseen", ("alice", "devi"), {}, {"act": "accept"}),
    # One's own account
    ("get", "settings"): ("everybody", PLAIN, None, {}),
    ("get", "settings_profile"): ("signed in", PLAIN, None, {}),
    ("post", "settings_profile"): ("signed in", PLAIN, {"display_name": "Me", "language": "en"}, {}),
    ("get", "settings_terms"): ("signed in", PLAIN, None, {}),
    ("post", "settings_terms"): ("signed in", PLAIN, {}, {}),
    ("get", "settings_token"): ("signed in", PLAIN, None, {}),
    ("get", "settings_token_new"): ("signed in", PLAIN, None, {}),
    ("post", "settings_token_new"): ("signed in", PLAIN, {}, {}),
    ("post", "settings_token_revoke"): ("signed in", PLAIN, {}, {}),
    ("get", "settings_data"): ("signed in", PLAIN, None, {}),
    ("get", "settings_data_export"): ("signed in", PLAIN, None, {}),
    ("post", "settings_close"): ("signed in", PLAIN, {"confirmation": "nobody"}, {}),
    ("get", "settings_payout"): ("signed in", PLAIN, None, {}),
    ("post", "settings_payout"): ("signed in", PLAIN, {"kind": "bank", "details": "DE1"}, {}),
    ("get", "inbox"): ("signed in", PLAIN, None, {}),
    ("post", "inbox"): ("signed in", PLAIN, {}, {}),
    # Money
    ("get", "earnings"): ("signed in", PAYEE, None, {}),
    ("get", "earnings_statement"): ("signed in", PAYEE, None, {}),
    ("get", "earnings_payment"): ("owner, else unseen", PAYEE, None, {}),
    ("get", "earnings_why"): ("owner, else unseen", PAYEE, None, {}),
    ("get", "wallet"): ("signed in", PAYEE, None, {}),
    ("post", "wallet_test_deposit"): ("signed in", PAYEE, {}, {}),
    ("get", "wallet_withdraw"): ("signed in", PAYEE, None, {}),
    ("post", "wallet_withdraw"): ("signed in", PAYEE, {"amount_nano": "0.1"}, {}),
    ("get", "wallet_promotion"): ("signed in", PAYEE, None, {}),
    ("post", "wallet_promotion"): (
        *("signed in", PAYEE),
        {"direction": "fund", "amount_nano": "0.1", "reference": "page"},
        {},
    ),
    ("get", "wallet_pending"): ("signed in", PAYEE, None, {}),
    ("get", "wallet_statement"): ("signed in", PAYEE, None, {}),
    ("post", "wallet_cancel"): ("owner, else unseen", PAYEE, {}, {"id": "withdrawal_id"}),
    # The log
    ("get", "receipt"): ("everybody", BUYER, None, {"id": "call_id"}),
    ("get", "receipt_json"): ("everybody", BUYER, None, {"id": "call_id"}),
    ("get", "receipt_verify"): ("everybody", PLAIN, None, {}),
    ("post", "receipt_verify"): ("everybody", PLAIN, {}, {}),
    ("get", "receipt_verifier"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_explorer"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_epochs"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_totals"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_checkpoint"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_checkpoint_file"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_consistency"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_consistency_file"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_entry"): ("everybody", PLAIN, None, {}),
    ("get", "ledger_head_file"): ("everybody", PLAIN, None, {}),
    ("get", "log_file"): ("everybody", PLAIN, None, {"name": "checkpoint"}),
    # The admin desk
    ("get", "admin_revenue"): ("admins, else unseen", PLAIN, None, {}),
    ("get", "admin_accounts"): ("admins, else unseen", PLAIN, None, {}),
    ("get", "admin_account"): ("admins, else unseen", PLAIN, None, {"code": "platform:fees"}),
    ("get", "admin_account_statement"): ("admins, else unseen", PLAIN, None, {"code": "platform:fees", "fmt": "csv"}),
    ("get", "admin_exceptions"): ("admins, else unseen", PLAIN, None, {}),
    ("post", "admin_exceptions"): ("admins, else unseen", PLAIN, {}, {}),
    ("get", "admin_audit"): ("admins, else unseen", PLAIN, None, {}),
    ("get", "admin_payouts"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin_payout_create"): ("admins, else unseen", PAYEE, {}, {}),
    ("get", "admin_payout"): ("admins, else unseen", PAYEE, None, {"id": "draft_run"}),
    ("get", "admin_payout_export"): ("admins, else unseen", PAYEE, None, {"id": "sent_run"}),
    ("post", "admin_payout_act"): ("admins, else unseen", PAYEE, {}, {"id": "draft_run", "act": "recompute"}),
    ("post", "admin_payout_act", "approve"): ("admins, else unseen", PAYEE, {}, {"id": "draft_run", "act": "approve"}),
    ("post", "admin_payout_act", "send"): ("admins, else unseen", PAYEE, {}, {"id": "draft_run", "act": "send"}),
    ("post", "admin_payout_item"): (
        "admins, else unseen",
        PAYEE,
        {},
        {"id": "sent_run", "item": "item_id", "act": "confirm"},
    ),
    ("post", "admin_payout_item", "return"): (
        "admins, else unseen",
        PAYEE,
        {"reason": "Closed account"},
        {"id": "sent_run", "item": "item_id", "act": "return"},
    ),
    ("get", "admin_deposits"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin_deposits"): ("admins, else unseen", PAYEE, {}, {}),
    ("post", "admin_deposit_import"): ("admins, else unseen", PAYEE, {}, {}),
    ("post", "admin_deposit_approve"): ("admins, else unseen", PAYEE, {}, {"id": "deposit_id"}),
    ("get", "admin_refunds"): ("admins, else unseen", PAYEE, None, {}),
    ("get", "admin_call_refund"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin_call_refund"): ("admins, else unseen", PAYEE, {"reason": "Sorry"}, {}),
    ("post", "admin_dispute_keep"): ("admins, else unseen", PAYEE, {"reason": "It stands"}, {}),
    ("post", "admin_lot_hold"): ("admins, else unseen", PAYEE, {}, {}),
    ("post", "admin_lot_release"): ("admins, else unseen", PAYEE, {"reason": "Over"}, {}),
    # Signing in and out
    ("get", "account_login"): ("visitors", PLAIN, None, {}),
    ("post", "account_login"): ("visitors", PLAIN, {"login": "nobody@example.org", "password": "x"}, {}),
    ("get", "account_logout"): (dict.fromkeys(ROLES, MAY) | {"anonymous": AWAY}, PLAIN, None, {}),
    ("post", "account_logout"): ("nobody", PLAIN, {}, {}),
    ("get", "account_inactive"): ("everybody", PLAIN, None, {}),
    ("get", "account_signup"): ("visitors", PLAIN, None, {}),
    ("post", "account_signup"): ("visitors", PLAIN, {}, {}),
    ("get", "account_reauthenticate"): ("signed in", PLAIN, None, {}),
    ("post", "account_reauthenticate"): ("signed in", PLAIN, {"password": "x"}, {}),
    ("get", "account_email"): ("signed in", PLAIN, None, {}),
    ("post", "account_email"): ("signed in", PLAIN, {"action_add": "", "email": "new@example.org"}, {}),
    ("get", "account_email_verification_sent"): ("everybody", PLAIN, None, {}),
    ("get", "account_confirm_email"): ("everybody", PLAIN, None, {}),
    ("post", "account_confirm_email"): (dict.fromkeys(ROLES, 404), PLAIN, {}, {}),
    ("get", "account_change_password"): ("signed in", PLAIN, None, {}),
    ("post", "account_change_password"): ("signed in", PLAIN, {}, {}),
    ("get", "account_set_password"): ("signed in", PLAIN, None, {}),
    ("post", "account_set_password"): ("signed in", PLAIN, {}, {}),
    ("get", "account_reset_password"): ("everybody", PLAIN, None, {}),
    ("post", "account_reset_password"): ("everybody", PLAIN, {}, {}),
    ("get", "account_reset_password_done"): ("everybody", PLAIN, None, {}),
    ("get", "account_reset_password_from_key"): ("everybody", PLAIN, None, {}),
    ("post", "account_reset_password_from_key"): ("everybody", PLAIN, {}, {}),
    ("get", "account_reset_password_from_key_done"): ("everybody", PLAIN, None, {}),
    ("get", "account_confirm_login_code"): ("midway", PLAIN, None, {}),
    ("post", "account_confirm_login_code"): ("midway", PLAIN, {}, {}),
    # The second factor
    ("get", "mfa_index"): ("signed in", PLAIN, None, {}),
    ("get", "mfa_authenticate"): ("midway", PLAIN, None, {}),
    ("post", "mfa_authenticate"): ("midway", PLAIN, {}, {}),
    ("get", "mfa_reauthenticate"): ("signed in", PLAIN, None, {}),
    ("post", "mfa_reauthenticate"): ("signed in", PLAIN, {}, {}),
    ("get", "mfa_activate_totp"): ("signed in", PLAIN, None, {}),
    ("post", "mfa_activate_totp"): ("signed in", PLAIN, {}, {}),
    ("get", "mfa_deactivate_totp"): ("owner, else unseen", HOLDER, None, {}),
    ("post", "mfa_deactivate_totp"): ("owner, else unseen", HOLDER, {}, {}),
    ("get", "mfa_view_recovery_codes"): ("owner, else unseen", HOLDER, None, {}),
    ("get", "mfa_generate_recovery_codes"): ("signed in", HOLDER, None, {}),
    ("post", "mfa_generate_recovery_codes"): ("signed in", HOLDER, {}, {}),
    ("get", "mfa_download_recovery_codes"): ("owner, else unseen", HOLDER, None, {}),
    ("get", "mfa_list_webauthn"): ("signed in", PLAIN, None, {}),
    ("get", "mfa_add_webauthn"): ("signed in", PLAIN, None, {}),
    ("post", "mfa_add_webauthn"): ("signed in", PLAIN, {}, {}),
    ("get", "mfa_reauthenticate_webauthn"): ("signed in", PLAIN, None, {}),
    ("post", "mfa_reauthenticate_webauthn"): ("signed in", PLAIN, {}, {}),
    ("get", "mfa_remove_webauthn"): ("owner, else unseen", HOLDER, None, {}),
    ("post", "mfa_remove_webauthn"): ("owner, else unseen", HOLDER, {}, {}),
    ("get", "mfa_edit_webauthn"): ("owner, else unseen", HOLDER, None, {}),
    ("post", "mfa_edit_webauthn"): ("owner, else unseen", HOLDER, {}, {}),
    ("get", "mfa_login_webauthn"): ("midway", PLAIN, None, {}),
    ("post", "mfa_login_webauthn"): ("midway", PLAIN, {}, {}),
    ("get", "usersessions_list"): ("signed in", PLAIN, None, {}),
    ("post", "usersessions_list"): ("signed in", PLAIN, {}, {}),
}
