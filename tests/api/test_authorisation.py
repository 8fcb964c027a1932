"""Who may do what: every address and method of the API, for five kinds of people. An address without a row fails."""

from __future__ import annotations

import re
import uuid

import pytest
from django.db import transaction
from django.urls import reverse

from tests.api.operations import METHODS, operations, routes
from tests.api.world import client_of, program_of

OK = "may"
ROLES = ("anonymous", "stranger", "member", "owner", "admin")

# What each kind of person is answered. `owner` owns the thing that the address names, `member` has to do with it
# (curates the Datanet, buys from the model), and the admin has no other role.
POLICIES = {
    "everybody": dict.fromkeys(ROLES, OK),
    "signed in": dict.fromkeys(ROLES, OK) | {"anonymous": 401},
    "owner, else unseen": {"anonymous": 401, "stranger": 404, "member": 404, "owner": OK, "admin": 404},
    "owner, else forbidden": {"anonymous": 401, "stranger": 403, "member": 403, "owner": OK, "admin": 403},
    "whole data": {"anonymous": 401, "stranger": OK, "member": OK, "owner": OK, "admin": OK},
    "takedown": {"anonymous": 401, "stranger": 403, "member": 403, "owner": OK, "admin": OK},
    "all but its contributor": {"anonymous": 401, "stranger": OK, "member": OK, "owner": 403, "admin": OK},
    "author, seen by curators": {"anonymous": 401, "stranger": 404, "member": 403, "owner": OK, "admin": 404},
    "owner, seen by its author": {"anonymous": 401, "stranger": 404, "member": 403, "owner": OK, "admin": 404},
    "members, else unseen": {"anonymous": 401, "stranger": 404, "member": OK, "owner": OK, "admin": 404},
    "owner, seen by members": {"anonymous": 401, "stranger": 404, "member": 403, "owner": OK, "admin": 404},
    "curators, else unseen": {"anonymous": 401, "stranger": 404, "member": OK, "owner": 404, "admin": 404},
    "curators, else forbidden": {"anonymous": 401, "stranger": 403, "member": OK, "owner": OK, "admin": 403},
    "parties and deciders": {"anonymous": 401, "stranger": 404, "member": OK, "owner": OK, "admin": OK},
    "one party, seen by deciders": {"anonymous": 401, "stranger": 404, "member": 403, "owner": OK, "admin": 403},
    "deciders, seen by parties": {"anonymous": 401, "stranger": 404, "member": OK, "owner": 403, "admin": OK},
    "admins, else unseen": {"anonymous": 404, "stranger": 404, "member": 404, "owner": 404, "admin": OK},
}

DATANET = ("carol", "erin")  # (member, owner)
REVIEW = ("carol", "alice")  # the curator, and the contributor
MODEL = ("dan", "devi")
SENDER = ("carol", "alice")
BUYER = ("alice", "dan")
PAYEE = ("dan", "alice")
DISPUTED, CLAIMANT = ("carol", "bob"), ("carol", "dan")
ACCUSED = ("erin", "bob")  # who approved none of the rows, and their contributor
PLAIN = ("dan", "alice")
SHARER = ("carol", "dan")  # a spender, and the owner of a shared wallet
INVITED = ("alice", "frank")

_D = "datanets/<slug:owner>/<slug:slug>/"
_M = "models/<slug:owner>/<slug:slug>/"
_S = "submissions/<uuid:submission_id>/"
_R = "reviews/submissions/<uuid:submission_id>/"
_N = "noise-cases/<uuid:case_id>/"
_T = "theft-disputes/<uuid:dispute_id>/"
_W = "shared-wallets/<uuid:wallet_id>/"
_A = "admin/payout-runs/<uuid:run_id>/"
_HOOK = "webhooks/<uuid:webhook_id>/"
_AS_MODEL = {"owner": "model_owner", "slug": "model_slug"}
_REVIEWED = {"submission_id": "in_review"}
_THEFT = {"dispute_id": "theft_id"}
THEFT = {"statement": "They are mine.", "evidence": "My paper has them."}
NEW_DATANET = {"name": "Mine", "purpose": "Tests", "kind": "text", "licence": "CC0-1.0", "rights_statement": "I may."}
NEW_MODEL = {"name": "Mine", "purpose": "Tests", "engine": "linear"}
PARTS = {"data": 4000, "curation": 500, "developer": 5000, "platform": 500, "owner": 0}
PRICES = {"price_call_nano": "1", "price_in_nano": "0", "price_out_nano": "0"}
FILLED = "filled in by the test"
PASSWORD = "so that signing in again is possible"

# (method, route) -> (policy, who is member and owner, the body, ids in place of those of the same name)
ACCESS = {
    ("get", "me/"): ("signed in", PLAIN, None, {}),
    ("post", "token/"): ("signed in", PLAIN, {}, {}),
    ("delete", "token/"): ("signed in", PLAIN, None, {}),
    ("get", "consents/"): ("signed in", PLAIN, None, {}),
    ("post", "consents/"): ("signed in", PLAIN, {"document": "terms", "version": "2026-11"}, {}),
    # Data
    ("get", "datanets/"): ("everybody", DATANET, None, {}),
    ("post", "datanets/"): ("signed in", DATANET, NEW_DATANET, {}),
    ("get", _D): ("everybody", DATANET, None, {}),
    ("patch", _D): ("owner, else forbidden", DATANET, {"purpose": "Other", "preview_rows": 5}, {}),
    ("post", f"{_D}fee/"): ("owner, else forbidden", DATANET, {"training_fee_nano": "5"}, {}),
    ("get", f"{_D}rules/"): ("everybody", DATANET, None, {}),
    ("get", f"{_D}records/"): ("everybody", DATANET, None, {}),
    ("get", f"{_D}versions/"): ("everybody", DATANET, None, {}),
    ("post", f"{_D}versions/"): ("owner, else forbidden", DATANET, {}, {}),
    ("get", f"{_D}versions/<int:number>/"): ("everybody", DATANET, None, {}),
    ("get", f"{_D}versions/<int:number>/export/<slug:fmt>/"): ("whole data", DATANET, None, {}),
    ("get", f"{_D}access-requests/"): ("signed in", DATANET, None, {}),
    ("post", f"{_D}access-requests/"): ("signed in", DATANET, {"purpose": "Research"}, {}),
    ("post", f"{_D}access-requests/<uuid:request_id>/answer/"): (
        "owner, seen by its author",
        ("dan", "erin"),
        {"grant": True},
        {"slug": "on_request"},
    ),
    ("get", f"{_D}curators/"): ("owner, else forbidden", DATANET, None, {}),
    ("post", f"{_D}curators/"): ("owner, else forbidden", DATANET, {"handle": "zoe"}, {}),
    ("delete", f"{_D}curators/<slug:handle>/"): ("owner, else forbidden", DATANET, None, {}),
    ("get", f"{_D}gold/"): ("owner, else unseen", DATANET, None, {}),
    ("post", f"{_D}gold/"): ("owner, else unseen", DATANET, lambda ids: {"record": ids["rejected_id"]}, {}),
    ("get", f"{_D}gold/share/"): ("owner, else unseen", DATANET, None, {}),
    ("put", f"{_D}gold/share/"): ("owner, else unseen", DATANET, {"percent": 5}, {}),
    ("get", f"{_D}gold/<uuid:gold_id>/"): ("owner, else unseen", DATANET, None, {}),
    ("delete", f"{_D}gold/<uuid:gold_id>/"): ("owner, else unseen", DATANET, None, {}),
    ("get", f"{_D}accuracies/"): ("owner, else unseen", DATANET, None, {}),
    ("get", f"{_D}readers/"): ("owner, else forbidden", DATANET, None, {}),
    ("post", f"{_D}readers/"): ("owner, else forbidden", DATANET, {"handle": "zoe"}, {}),
    ("delete", f"{_D}readers/<slug:handle>/"): ("owner, else forbidden", DATANET, None, {"handle": "reader"}),
    ("get", "records/<int:record_id>/"): ("everybody", DATANET, None, {}),
    ("post", "records/<int:record_id>/withdraw/"): ("takedown", SENDER, {}, {}),
    ("post", "records/<int:record_id>/appeal/"): (
        "author, seen by curators",
        SENDER,
        {"text": "Look again."},
        {"record_id": "rejected_id"},
    ),
    ("post", "records/<int:record_id>/report/"): (
        "all but its contributor",
        SENDER,
        {"reason": "wrong", "text": "It is not."},
        {},
    ),
    ("get", "submissions/"): ("signed in", SENDER, None, {}),
    ("post", "submissions/"): ("signed in", SENDER, {"datanet": "erin/tumours"}, {}),
    ("get", _S): ("owner, else unseen", SENDER, None, {}),
    ("patch", _S): ("owner, else unseen", SENDER, {"title": "Rows"}, {}),
    ("post", f"{_S}files/"): ("owner, else unseen", SENDER, "a file", {}),
    ("delete", f"{_S}files/<uuid:file_id>/"): ("owner, else unseen", SENDER, None, {}),
    ("delete", f"{_S}files/<uuid:file_id>/rows/"): ("owner, else unseen", SENDER, None, {}),
    ("get", f"{_S}rows/"): ("owner, else unseen", SENDER, None, {}),
    ("post", f"{_S}rows/<int:row_id>/"): ("owner, else unseen", SENDER, {"values": {"radius": "1"}}, {}),
    ("delete", f"{_S}rows/<int:row_id>/"): ("owner, else unseen", SENDER, None, {}),
    ("get", f"{_S}records/"): ("owner, else unseen", SENDER, None, {}),
    ("post", f"{_S}send/"): ("owner, else unseen", SENDER, {"sign_rights": True}, {}),
    ("post", f"{_S}withdraw/"): ("owner, else unseen", SENDER, {}, {}),
    ("get", "reviews/accuracy/"): ("curators, else forbidden", DATANET, None, {}),
    ("get", "reviews/queue/"): ("curators, else forbidden", DATANET, None, {}),
    ("get", _R): ("curators, else unseen", REVIEW, None, _REVIEWED),
    ("get", f"{_R}records/"): ("curators, else unseen", REVIEW, None, _REVIEWED),
    ("post", f"{_R}claim/"): ("curators, else unseen", REVIEW, {}, _REVIEWED),
    ("delete", f"{_R}claim/"): ("curators, else unseen", REVIEW, None, _REVIEWED),
    ("post", f"{_R}decisions/"): (
        "curators, else unseen",
        REVIEW,
        {"records": FILLED, "decision": "approve"},
        _REVIEWED,
    ),
    ("delete", "reviews/decisions/<uuid:act>/"): ("curators, else unseen", REVIEW, None, {}),
    ("post", "reviews/approve-clean/"): ("curators, else forbidden", DATANET, {"submissions": FILLED}, {}),
    ("get", "reviews/appeals/"): ("curators, else forbidden", DATANET, None, {}),
    ("post", "reviews/appeals/<uuid:appeal_id>/"): (
        "curators, else unseen",
        ("frank", "alice"),
        {"answer": "uphold", "note": "It is odd."},
        {},
    ),
    ("get", "reviews/reports/"): ("curators, else forbidden", DATANET, None, {}),
    ("post", "reviews/reports/<uuid:report_id>/"): (
        "curators, else unseen",
        REVIEW,
        {"answer": "dismiss", "note": "It is fine."},
        {},
    ),
    ("get", "theft-disputes/"): ("signed in", PLAIN, None, {}),
    ("post", "theft-disputes/"): (
        "all but its contributor",
        SENDER,
        lambda ids: {"records": [ids["record_id"]]} | THEFT,
        {},
    ),
    ("get", "theft-disputes/to-decide/"): ("signed in", PLAIN, None, {}),
    ("get", _T): ("parties and deciders", DISPUTED, None, _THEFT),
    ("post", f"{_T}answer/"): ("one party, seen by deciders", DISPUTED, {"text": "They are mine."}, _THEFT),
    ("post", f"{_T}decision/"): (
        "deciders, seen by parties",
        DISPUTED,
        {"answer": "uphold", "note": "The paper is older."},
        _THEFT,
    ),
    ("post", f"{_T}withdraw/"): ("one party, seen by deciders", CLAIMANT, {}, _THEFT),
    ("get", "noise-cases/"): ("signed in", PLAIN, None, {}),
    ("get", "noise-cases/to-decide/"): ("signed in", PLAIN, None, {}),
    ("get", _N): ("parties and deciders", ACCUSED, None, {}),
    ("post", f"{_N}statement/"): ("one party, seen by deciders", ACCUSED, {"text": "They are mine."}, {}),
    ("post", f"{_N}decision/"): (
        "deciders, seen by parties",
        ACCUSED,
        {"answer": "clear", "note": "They are measurements."},
        {},
    ),
    ("post", f"{_N}appeal/"): ("one party, seen by deciders", ACCUSED, {"text": "Look again."}, {}),
    # The shop
    ("get", "models/"): ("everybody", MODEL, None, {}),
    ("post", "models/"): ("signed in", MODEL, NEW_MODEL, {}),
    ("get", _M): ("everybody", MODEL, None, _AS_MODEL),
    ("patch", _M): ("owner, else forbidden", MODEL, {"purpose": "Other"}, _AS_MODEL),
    ("get", f"{_M}rules/"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", "rules/<slug:sha256>/"): ("everybody", MODEL, None, {}),
    ("get", f"{_M}what-if/"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", f"{_M}rule-proposals/"): ("everybody", MODEL, None, _AS_MODEL),
    ("post", f"{_M}rule-proposals/"): ("owner, else forbidden", MODEL, PARTS, _AS_MODEL),
    ("delete", f"{_M}rule-proposals/<uuid:proposal_id>/"): (
        "owner, else forbidden",
        MODEL,
        None,
        {"owner": "model_owner", "slug": "invited"},
    ),
    ("get", f"{_M}prices/"): ("everybody", MODEL, None, _AS_MODEL),
    ("post", f"{_M}prices/"): ("owner, else forbidden", MODEL, PRICES, _AS_MODEL),
    ("put", f"{_M}upstream-key/"): ("owner, else forbidden", MODEL, {"key": ""}, _AS_MODEL),
    ("get", f"{_M}fallbacks/"): ("owner, else forbidden", MODEL, None, _AS_MODEL),
    ("put", f"{_M}fallbacks/"): ("owner, else forbidden", MODEL, {"fallbacks": []}, _AS_MODEL),
    ("put", f"{_M}listing/"): ("owner, else forbidden", MODEL, {}, _AS_MODEL),
    ("delete", f"{_M}listing/"): ("owner, else forbidden", MODEL, None, _AS_MODEL),
    ("put", f"{_M}retirement/"): ("owner, else forbidden", MODEL, {}, _AS_MODEL),
    ("delete", f"{_M}retirement/"): ("owner, else forbidden", MODEL, None, _AS_MODEL),
    ("get", f"{_M}versions/"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", f"{_M}versions/<int:number>/score-card/"): ("everybody", MODEL, None, _AS_MODEL),
    ("post", f"{_M}versions/<int:number>/score-card/"): ("takedown", MODEL, {}, _AS_MODEL),
    ("get", f"{_M}attribution/"): ("everybody", MODEL, None, _AS_MODEL),
    ("get", f"{_M}training-runs/"): ("owner, else forbidden", MODEL, None, _AS_MODEL),
    ("post", f"{_M}training-runs/"): (
        "owner, else forbidden",
        MODEL,
        {"versions": ["erin/tumours@v1"]},
        _AS_MODEL,
    ),
    ("get", "training-runs/<uuid:run_id>/"): ("owner, else unseen", MODEL, None, {}),
    ("post", f"{_M}passes/"): ("signed in", MODEL, {}, {"owner": "model_owner", "slug": "passes"}),
    ("get", f"{_M}invitations/"): ("owner, else forbidden", MODEL, None, {"owner": "model_owner", "slug": "invited"}),
    ("post", f"{_M}invitations/"): (
        "owner, else forbidden",
        MODEL,
        {"handle": "bob"},
        {"owner": "model_owner", "slug": "invited"},
    ),
    ("delete", f"{_M}invitations/<uuid:access_id>/"): (
        "owner, else forbidden",
        MODEL,
        None,
        {"owner": "model_owner", "slug": "invited"},
    ),
    ("get", "accesses/"): ("signed in", MODEL, None, {}),
    ("get", "shared-wallets/"): ("signed in", SHARER, None, {}),
    ("post", "shared-wallets/"): ("signed in", SHARER, {"name": "Mine"}, {}),
    ("get", "shared-wallets/invitations/"): ("signed in", INVITED, None, {}),
    ("post", "shared-wallets/invitations/<uuid:invitation_id>/"): ("owner, else unseen", INVITED, {}, {}),
    ("delete", "shared-wallets/invitations/<uuid:invitation_id>/"): ("owner, else unseen", INVITED, None, {}),
    ("get", _W): ("members, else unseen", SHARER, None, {}),
    ("delete", _W): ("owner, else unseen", SHARER, None, {}),
    ("get", f"{_W}statement/"): ("owner, else unseen", SHARER, None, {}),
    ("get", f"{_W}calls/"): ("members, else unseen", SHARER, None, {}),
    ("post", f"{_W}fund/"): ("members, else unseen", SHARER, {"amount_nano": "5", "reference": "in"}, {}),
    ("put", f"{_W}destination/"): ("owner, else unseen", SHARER, {"kind": "bank", "details": "DE8937040044"}, {}),
    ("get", f"{_W}low-balance/"): ("owner, else unseen", SHARER, None, {}),
    ("put", f"{_W}low-balance/"): ("owner, else unseen", SHARER, {"low_nano": "5"}, {}),
    ("get", f"{_W}withdrawals/"): ("owner, else unseen", SHARER, None, {}),
    ("post", f"{_W}withdrawals/"): ("owner, else unseen", SHARER, {"amount_nano": "5"}, {}),
    ("delete", f"{_W}withdrawals/<uuid:withdrawal_id>/"): (
        *("owner, else unseen", SHARER, None),
        {"withdrawal_id": "shared_withdrawal"},
    ),
    ("get", f"{_W}members/"): ("members, else unseen", SHARER, None, {}),
    ("put", f"{_W}members/<slug:handle>/"): ("owner, seen by members", SHARER, {"role": "viewer"}, {}),
    ("delete", f"{_W}members/<slug:handle>/"): ("members, else unseen", SHARER, None, {}),
    ("get", f"{_W}invitations/"): ("owner, else unseen", SHARER, None, {}),
    ("post", f"{_W}invitations/"): ("owner, else unseen", SHARER, {"address": "zoe", "role": "viewer"}, {}),
    ("delete", f"{_W}invitations/<uuid:invitation_id>/"): ("owner, else unseen", SHARER, None, {}),
    ("get", "test-money/"): ("signed in", BUYER, None, {}),
    ("post", "test-money/"): ("signed in", BUYER, {}, {}),
    ("get", "test-calls/"): ("signed in", BUYER, None, {}),
    ("get", "keys/"): ("signed in", BUYER, None, {}),
    ("post", "keys/"): ("signed in", BUYER, {"name": "Mine"}, {}),
    ("patch", "keys/<uuid:key_id>/"): ("owner, else unseen", BUYER, {"name": "Other"}, {}),
    ("delete", "keys/<uuid:key_id>/"): ("owner, else unseen", BUYER, None, {}),
    ("post", "keys/<uuid:key_id>/replace/"): ("owner, else unseen", BUYER, {}, {}),
    ("get", "webhooks/"): ("signed in", BUYER, None, {}),
    ("post", "webhooks/"): ("signed in", BUYER, {"url": "https://8.8.8.8/hook"}, {}),
    ("get", _HOOK): ("owner, else unseen", BUYER, None, {}),
    ("patch", _HOOK): ("owner, else unseen", BUYER, {"paused": True}, {}),
    ("delete", _HOOK): ("owner, else unseen", BUYER, None, {}),
    ("post", f"{_HOOK}secret/"): ("owner, else unseen", BUYER, {}, {}),
    ("post", f"{_HOOK}test/"): ("owner, else unseen", BUYER, {}, {}),
    ("get", f"{_HOOK}deliveries/"): ("owner, else unseen", BUYER, None, {}),
    ("post", f"{_HOOK}deliveries/<uuid:delivery_id>/resend/"): ("owner, else unseen", BUYER, {}, {}),
    ("get", "calls/"): ("signed in", BUYER, None, {}),
    ("get", "calls/<uuid:call_id>/"): ("owner, else unseen", BUYER, None, {}),
    ("put", "calls/<uuid:call_id>/sample/"): ("owner, else unseen", BUYER, {}, {}),
    ("delete", "calls/<uuid:call_id>/sample/"): ("owner, else unseen", BUYER, None, {}),
    ("get", "calls/<uuid:call_id>/attribution/"): ("owner, else unseen", BUYER, None, {}),
    ("post", "calls/<uuid:call_id>/refund/"): ("owner, else unseen", MODEL, {"reason": "Sorry"}, {}),
    ("post", "calls/<uuid:call_id>/dispute/"): ("owner, else unseen", BUYER, {"reason": "Why?"}, {}),
    ("get", "refunds/"): ("signed in", BUYER, None, {}),
    ("get", "disputes/"): ("signed in", BUYER, None, {}),
    ("get", "disputes/<uuid:dispute_id>/"): ("owner, else unseen", BUYER, None, {}),
    ("delete", "disputes/<uuid:dispute_id>/"): ("owner, seen by its author", ("devi", "dan"), None, {}),
    ("post", "disputes/<uuid:dispute_id>/answer/"): (
        "owner, seen by its author",
        MODEL,
        {"accept": False, "reason": "No"},
        {},
    ),
    ("get", "receipts/<uuid:receipt_id>/"): ("everybody", BUYER, None, {}),
    ("post", "receipts/verify/"): ("everybody", BUYER, {}, {}),
    # Money
    ("get", "earnings/"): ("signed in", PAYEE, None, {}),
    ("get", "earnings/payments/"): ("signed in", PAYEE, None, {}),
    ("get", "earnings/payments/<uuid:epoch_id>/<slug:role>/lines/"): ("owner, else unseen", PAYEE, None, {}),
    ("get", "earnings/lines/<int:line_id>/"): ("owner, else unseen", PAYEE, None, {}),
    ("get", "earnings/changes/"): ("signed in", PAYEE, None, {}),
    ("get", "earnings/lots/"): ("signed in", PAYEE, None, {}),
    ("get", "earnings/statement/"): ("signed in", PAYEE, None, {}),
    ("get", "wallet/"): ("signed in", PAYEE, None, {}),
    ("get", "wallet/statement/"): ("signed in", PAYEE, None, {}),
    ("get", "wallet/pending/statement/"): ("signed in", PAYEE, None, {}),
    ("get", "wallet/promotion/"): ("signed in", PAYEE, None, {}),
    ("get", "wallet/promotion/statement/"): ("signed in", PAYEE, None, {}),
    ("post", "wallet/promotion/fund/"): ("signed in", PAYEE, {"amount_nano": "5", "reference": "in"}, {}),
    ("post", "wallet/promotion/take-back/"): ("signed in", PAYEE, {"amount_nano": "5", "reference": "out"}, {}),
    ("put", "wallet/destination/"): ("signed in", PAYEE, {"kind": "bank", "details": "DE8937040044"}, {}),
    ("get", "wallet/low-balance/"): ("signed in", PAYEE, None, {}),
    ("put", "wallet/low-balance/"): ("signed in", PAYEE, {"low_nano": "1000"}, {}),
    ("post", "wallet/test-deposit/"): ("signed in", PAYEE, {}, {}),
    ("get", "withdrawals/"): ("signed in", PAYEE, None, {}),
    ("post", "withdrawals/"): ("signed in", PAYEE, {"amount_nano": "5"}, {}),
    ("get", "withdrawals/<uuid:withdrawal_id>/"): ("owner, else unseen", PAYEE, None, {}),
    ("delete", "withdrawals/<uuid:withdrawal_id>/"): ("owner, else unseen", PAYEE, None, {}),
    ("get", "admin/revenue/"): ("admins, else unseen", PAYEE, None, {}),
    ("get", "admin/refunds/"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin/calls/<uuid:call_id>/refund/"): ("admins, else unseen", PAYEE, {"reason": "Sorry"}, {}),
    ("get", "admin/disputes/"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin/disputes/<uuid:dispute_id>/keep/"): ("admins, else unseen", PAYEE, {"reason": "It stands"}, {}),
    ("get", "admin/lots/"): ("admins, else unseen", PAYEE, None, {}),
    ("get", "admin/lot-holds/"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin/lot-holds/"): ("admins, else unseen", PAYEE, {"lot": str(uuid.UUID(int=1)), "reason": "x"}, {}),
    ("post", "admin/lot-holds/<uuid:hold_id>/release/"): ("admins, else unseen", PAYEE, {"reason": "Over"}, {}),
    ("get", "admin/payout-runs/"): ("admins, else unseen", PAYEE, None, {}),
    ("post", "admin/payout-runs/"): ("admins, else unseen", PAYEE, {}, {}),
    ("get", _A): ("admins, else unseen", PAYEE, None, {"run_id": "draft_run"}),
    ("get", f"{_A}items/"): ("admins, else unseen", PAYEE, None, {"run_id": "draft_run"}),
    ("post", f"{_A}recompute/"): ("admins, else unseen", PAYEE, {}, {"run_id": "draft_run"}),
    ("get", f"{_A}export/"): ("admins, else unseen", PAYEE, None, {"run_id": "sent_run"}),
    ("post", f"{_A}approve/"): ("admins, else unseen", PAYEE, {}, {"run_id": "draft_run"}),
    ("post", f"{_A}send/"): ("admins, else unseen", PAYEE, {}, {"run_id": "draft_run"}),
    ("post", f"{_A}items/<uuid:item_id>/confirm/"): ("admins, else unseen", PAYEE, {}, {"run_id": "sent_run"}),
    ("post", f"{_A}items/<uuid:item_id>/return/"): (
        "admins, else unseen",
        PAYEE,
        {"reason": "Closed account"},
        {"run_id": "sent_run"},
    ),
    # The log
    ("get", "ledger/"): ("everybody", PLAIN, None, {}),
    ("get", "ledger/checkpoints/"): ("everybody", PLAIN, None, {}),
    ("get", "ledger/checkpoints/<int:size>/"): ("everybody", PLAIN, None, {}),
    ("get", "ledger/consistency/<int:old>/<int:new>/"): ("everybody", PLAIN, None, {}),
    ("get", "ledger/entries/"): ("everybody", PLAIN, None, {}),
    ("get", "ledger/entries/<int:index>/"): ("everybody", PLAIN, None, {}),
}
# Acts that only somebody in a browser who has just signed in may do.
FRESH = {
    ("put", "wallet/destination/"),
    ("post", "wallet/promotion/fund/"),
    ("post", "wallet/promotion/take-back/"),
    ("get", f"{_A}export/"),
    ("put", f"{_M}retirement/"),
    ("post", "calls/<uuid:call_id>/refund/"),
    ("post", "disputes/<uuid:dispute_id>/answer/"),
    ("post", "admin/calls/<uuid:call_id>/refund/"),
    ("post", "admin/disputes/<uuid:dispute_id>/keep/"),
    ("post", "admin/lot-holds/"),
    ("post", "admin/lot-holds/<uuid:hold_id>/release/"),
    ("post", "token/"),
    ("post", "keys/"),
    ("patch", "keys/<uuid:key_id>/"),
    ("post", "keys/<uuid:key_id>/replace/"),
    ("post", "webhooks/"),
    ("post", f"{_HOOK}secret/"),
    ("post", "withdrawals/"),
    ("delete", _W),
    ("post", f"{_W}fund/"),
    ("put", f"{_W}destination/"),
    ("post", f"{_W}withdrawals/"),
    ("post", "admin/payout-runs/"),
    ("post", f"{_A}approve/"),
    ("post", f"{_A}send/"),
    ("post", f"{_A}items/<uuid:item_id>/confirm/"),
    ("post", f"{_A}items/<uuid:item_id>/return/"),
}
# Who may do these needs something else as well, which the world's people have or not: a refusal with a reason.
ALSO_403 = {
    ("post", "submissions/"),  # the contributor agreement
}


def test_every_address_and_method_has_a_policy():
    assert {(one.method, one.route) for one in operations()} == set(ACCESS)


def test_every_policy_speaks_of_every_kind_of_person():
    assert all(set(policy) == set(ROLES) for policy in POLICIES.values())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("operation", ACCESS, ids=lambda one: f"{one[0]} {one[1]}")
def test_each_kind_of_person_may_do_what_the_policy_says(world, operation, role):
    policy, (member, owner), body, ids = ACCESS[operation]
    people = {"anonymous": None, "stranger": "zoe", "member": member, "owner": owner, "admin": "ada"}
    name = people[role]
    client = client_of(world.person(name) if name else None)

    status = _ask(client, world, operation, body, ids)

    expected = POLICIES[policy][role]
    if expected == OK:
        assert status < 500
        assert status not in ((401, 404) if operation in ALSO_403 else (401, 403, 404))
    else:
        assert status == expected


@pytest.mark.parametrize("operation", sorted(FRESH), ids=lambda one: f"{one[0]} {one[1]}")
def test_a_token_cannot_do_what_needs_a_fresh_session(world, operation):
    _policy, (_member, owner), body, ids = ACCESS[operation]
    user = world.person("ada" if "admin/" in operation[1] else owner)

    with transaction.atomic():
        assert _ask(program_of(user), world, operation, body, ids) == 403
        transaction.set_rollback(True)


@pytest.mark.parametrize("operation", sorted(FRESH), ids=lambda one: f"{one[0]} {one[1]}")
def test_a_session_that_is_not_fresh_cannot_either(world, operation):
    _policy, (_member, owner), body, ids = ACCESS[operation]
    user = world.person("ada" if "admin/" in operation[1] else owner)
    with transaction.atomic():
        user.set_password(PASSWORD)
        user.save()
        client = client_of(user)

        # Until the password is given again
        assert _ask(client, world, operation, body, ids) == 403
        assert client.post(reverse("account_reauthenticate"), {"password": PASSWORD}).status_code == 302
        assert _ask(client, world, operation, body, ids) != 403
        transaction.set_rollback(True)


def test_a_method_that_an_address_does_not_have_is_refused(world):
    known = {(one.method, one.route) for one in operations()}
    for pattern in routes():
        for method in METHODS:
            if (method, str(pattern.pattern)) not in known:
                for name in (None, "zoe", "ada"):
                    client = client_of(world.person(name) if name else None)
                    status = _ask(client, world, (method, str(pattern.pattern)), {}, {})
                    assert status in (401, 404, 405), (method, pattern.pattern, name, status)


@pytest.mark.parametrize("address", ["/api/v1/nothing/here", "/api/v1/records/1%0A2/appeal/"])
def test_an_address_that_does_not_exist_is_404_as_json(world, address):
    for method in METHODS:
        answer = getattr(client_of(None), method)(address)

        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_every_id_that_nobody_has_is_404(world):
    for operation, (policy, (member, owner), body, ids) in ACCESS.items():
        names = re.findall(r"<(?:uuid|int):(\w+)>", operation[1])
        if not names or body == "a file":
            continue

        # Given somebody who may do this
        allowed = POLICIES[policy]
        name = owner if allowed["owner"] == OK else member if allowed["member"] == OK else "ada"

        # When the last id of the address is nobody's, or larger than any number we keep
        nobody = {names[-1]: 2**70 if "<int:" + names[-1] in operation[1] else uuid.uuid4()}
        status = _ask(client_of(world.person(name)), world, operation, body, ids, instead=nobody)

        # Then it does not exist
        assert status == 404, (operation, status)


def _ask(client, world, operation, body, ids, *, instead=None) -> int:
    method, route = operation
    values = {**world.ids, **{name: world.ids[other] for name, other in ids.items()}, **(instead or {})}
    address = "/api/v1/" + re.sub(r"<\w+:(\w+)>", lambda found: str(values[found[1]]), route)
    if callable(body):
        body = body(world.ids)
    if isinstance(body, dict):
        body = {name: _filled(name, world) if value is FILLED else value for name, value in body.items()}
    with transaction.atomic():
        if body == "a file":
            from django.core.files.uploadedfile import SimpleUploadedFile

            file = SimpleUploadedFile("rows.csv", b"radius,texture,diagnosis\n1,2,benign\n")
            answer = client.post(address, {"file": file}, format="multipart")
        else:
            answer = getattr(client, method)(address, body, format="json")
        transaction.set_rollback(True)
    return answer.status_code


def _filled(name: str, world) -> list:
    return [world.ids["record_in_review"]] if name == "records" else [str(world.ids["in_review"])]
