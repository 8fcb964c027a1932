"""The one place that turns a broken rule into a status code, for pages and for /api/v1/ (the gateway has its own shape).

An app raises its own exceptions; each has a `code`, and a message that says what happened, what was kept, what to do.
"""

from __future__ import annotations

import logging

from django.db import IntegrityError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from redis.exceptions import RedisError
from rest_framework.response import Response
from rest_framework.views import exception_handler

from attribution.bundles import Damaged
from datanets.errors import DatanetError
from ledger.errors import LedgerError

logger = logging.getLogger(__name__)


class MarketplaceError(Exception):
    """A rule of the shop was broken. Subclasses say which one; `status` is how HTTP says it."""

    code = "marketplace_error"
    status = 409
    message = gettext_lazy("This is not possible now. Nothing was changed.")

    def __init__(self, message: str | None = None, **params) -> None:
        self.params = params
        super().__init__(message or str(self.message))


class NotAllowed(MarketplaceError):
    """The person may see the thing but not do this to it."""

    code = "not_allowed"
    status = 403
    message = gettext_lazy("You may not do this. Nothing was changed.")


class NotReady(MarketplaceError):
    """The thing is in a state in which this act makes no sense."""

    code = "not_ready"


class AlreadyRefunded(MarketplaceError):
    """The call was given back before: once, and whole."""

    code = "already_refunded"
    message = gettext_lazy("This call is refunded already. Nothing was changed.")


class WindowOver(MarketplaceError):
    """The challenge window of the call has ended."""

    code = "window_over"
    status = 410
    message = gettext_lazy(
        "The time in which this call can be refunded or disputed is over. Nothing was changed. "
        "Its developer can pay it back out of a wallet."
    )


class NotBookedYet(MarketplaceError):
    """The call is between two accounts at this moment."""

    code = "not_booked_yet"
    message = gettext_lazy(
        "This call is being booked or settled at this moment. Nothing was changed; try again in a minute."
    )


class Invalid(MarketplaceError):
    """A value is not acceptable."""

    code = "invalid_value"
    status = 422
    message = gettext_lazy("A value is not acceptable. Nothing was changed.")


# Any other is 409: the books are in another state than the caller believed, and trying again may help.
LEDGER_STATUS = {
    "insufficient_funds": 402,
    "unknown_account": 404,
    "payload_mismatch": 422,
    "unbalanced": 422,
    "bad_amount": 422,
}
# What the books say of themselves names accounts, in English: that is for the log. People get these.
LEDGER_SENTENCES = {
    "insufficient_funds": gettext_lazy(
        "Your wallet holds too little for this. Nothing was charged. Add OPEN to it, then try again."
    ),
    "payload_mismatch": gettext_lazy("This was asked before, with other values. Nothing was changed."),
    "bad_amount": gettext_lazy("The books cannot move this amount. Nothing was changed; give another one."),
    "lot_unavailable": gettext_lazy("This money was paid out or moved already. Nothing was changed."),
    "supply_exceeded": gettext_lazy("There is not that much OPEN in the world. Nothing was changed."),
}
LEDGER_REFUSED = gettext_lazy("The books refuse this. Nothing was changed; reload the page and try again.")


def describe(exception: Exception) -> tuple[int, str, str] | None:
    """(status, code, message) of a business error, or None for what is not one."""
    if isinstance(exception, MarketplaceError | DatanetError):
        return exception.status, exception.code, str(exception)
    if isinstance(exception, LedgerError):
        if exception.code not in LEDGER_SENTENCES:
            logger.warning("the ledger refused: %s %s", exception.code, exception)
        said = LEDGER_SENTENCES.get(exception.code, LEDGER_REFUSED)
        return LEDGER_STATUS.get(exception.code, 409), exception.code, str(said)
    if isinstance(exception, Damaged):
        return (
            503,
            exception.code,
            _("The files of this model are damaged. Nothing is computed from them until its operator restores them."),
        )
    if isinstance(exception, OperationalError | InterfaceError):
        return (
            503,
            "database_unavailable",
            _("The database does not answer. Look in a minute whether this was done before you repeat it."),
        )
    if isinstance(exception, RedisError):  # limits are counted there: without them nobody guesses passwords
        return 503, "cache_unavailable", _("A part of this site does not answer now. Try again in a minute.")
    if isinstance(exception, IntegrityError):
        # Two at once, mostly: a constraint refused what the service had checked a moment before.
        logger.error("The database refused what a service let through", exc_info=exception)
        return (
            409,
            "changed_meanwhile",
            _("Somebody was faster, or it is there already. Nothing was changed; look again."),
        )
    return None


def sentence_of(exception: MarketplaceError | DatanetError | LedgerError) -> str:
    """What a form says of a rule that was broken."""
    found = describe(exception)
    return found[2] if found else str(exception)


def page_for(request: HttpRequest, exception: Exception) -> HttpResponse | None:
    """The page of a business error; None lets Django answer (404, 500)."""
    found = describe(exception)
    if found is None:
        return None
    status, code, message = found
    if status >= 500:
        logger.error("%s %s: %s", request.method, request.path, exception, exc_info=exception)
    context = {"status": status, "code": code, "message": message}
    response = render(request, "error.html", context, status=status)
    if status == 503:
        response["Retry-After"] = "30"
    return response


def api_exception_handler(exception: Exception, context: dict) -> Response | None:
    """DRF's handler, with business errors as `{"error": {"code", "message"}}`."""
    found = describe(exception)
    if found is None:
        response = exception_handler(exception, context)
        if response is not None:
            response.data = {
                "error": {
                    "code": getattr(exception, "default_code", "invalid"),
                    "message": _first_message(response.data),
                },
                "fields": response.data if isinstance(response.data, dict) and "detail" not in response.data else {},
            }
        return response
    status, code, message = found
    headers = {"Retry-After": "30"} if status == 503 else None
    return Response({"error": {"code": code, "message": message}, "fields": {}}, status=status, headers=headers)


def _first_message(data) -> str:
    while isinstance(data, dict | list) and data:
        data = next(iter(data.values())) if isinstance(data, dict) else data[0]
    return str(data)
