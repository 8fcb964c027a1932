"""The accounts that are nobody's: the platform's, pools, what is unattributed, bounties, and what is outside. For admins.

A person's accounts are not here: their statements are theirs.
"""

from __future__ import annotations

import re

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.urls import path, re_path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from ledger import chart
from ledger import services as ledger

from .. import lognames
from .admin import address, staff_only
from .wallet import FILE_LABELS, statement_context, statement_file

ACCOUNTS_SHOWN = 50


@staff_only
@require_safe
def admin_accounts(request: HttpRequest) -> HttpResponse:
    """What each of them holds, by its code."""
    after = request.GET.get("after", "")
    found = ledger.accounts_of_nobody(after=after, limit=ACCOUNTS_SHOWN + 1)
    shown = found[:ACCOUNTS_SHOWN]
    names = lognames.of({id for code, _balance in shown if (id := _named_id(code))}, request.user)
    context = {
        "accounts": [
            {
                "code": code,
                "label": _label(code, names),
                "balance": balance,
                "url": reverse("admin_account", args=[code]),
            }
            for code, balance in shown
        ],
        "first_url": request.path if after else "",
        "next_url": address(after=shown[-1][0]) if len(found) > ACCOUNTS_SHOWN else "",
    }
    return render(request, "marketplace/admin/accounts.html", context)


@staff_only
@require_safe
def admin_account(request: HttpRequest, code: str) -> HttpResponse:
    """One account: what it holds, and every movement."""
    _must_be_nobodys(code)
    urls = {fmt: reverse("admin_account_statement", args=[code, fmt]) for fmt in FILE_LABELS}
    names = lognames.of([id for id in (_named_id(code),) if id], request.user)
    context = statement_context(request, code, urls) | {
        "code": code,
        "label": _label(code, names),
        "balance": ledger.balance(code),
        "is_world": code == chart.WORLD,
    }
    return render(request, "marketplace/admin/account.html", context)


@staff_only
@require_safe
def admin_account_statement(request: HttpRequest, code: str, fmt: str) -> HttpResponseBase:
    """Every movement of one account as a file."""
    _must_be_nobodys(code)
    return statement_file(code, name=code.replace(":", "-"), fmt=fmt)


def _must_be_nobodys(code: str) -> None:
    if not chart.is_account(code) or code.partition(":")[0] in chart.OF_PERSONS:
        raise Http404


def _named_id(code: str) -> str:
    """The id of the model, Datanet or payout run that an account is of; empty: of none."""
    found = re.match(r"\w+:([0-9a-f-]{36})", code)
    return found[1] if found else ""


def _label(code: str, names: dict[str, str]) -> str:
    """What an account is, in words."""
    if code == chart.WORLD:
        return _("Outside: what is not in the books")
    if code == chart.TEST_WORLD:
        return _("Outside: test money that was not granted")
    if code == chart.FEES:
        return _("The platform’s parts")
    id = _named_id(code)
    name = names.get(id, id[:8])
    family, *_rest = code.split(":")
    if family == "pool":
        _family, _id, source, part = code.split(":")
        return {
            ("calls", "data"): _("Pool of %(name)s: calls, contributors"),
            ("calls", "curation"): _("Pool of %(name)s: calls, curators"),
            ("access", "data"): _("Pool of %(name)s: passes, contributors"),
            ("access", "curation"): _("Pool of %(name)s: passes, curators"),
            ("training", "data"): _("Pool of %(name)s: training, contributors"),
            ("training", "curation"): _("Pool of %(name)s: training, curators"),
        }[source, part] % {"name": name}
    return {
        "unattributed": _("Unattributed, of %(name)s"),
        "bounty": _("Bounty of %(name)s"),
        "withdrawals": _("On its way out, payout run %(name)s"),
    }[family] % {"name": name}


_CODE = r"(?P<code>[a-z]+(?::[0-9a-z-]+)*)"
pages = [
    path("admin-desk/accounts/", admin_accounts, name="admin_accounts"),
    re_path(
        rf"^admin-desk/accounts/{_CODE}\.(?P<fmt>csv|parquet)$", admin_account_statement, name="admin_account_statement"
    ),
    re_path(rf"^admin-desk/accounts/{_CODE}/$", admin_account, name="admin_account"),
]
