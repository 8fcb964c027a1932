"""What every view of the API shares: who may ask, errors as JSON, pages by key, and its row in the schema."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.core.exceptions import ReauthenticationRequired
from django.core.exceptions import (
    ObjectDoesNotExist,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
    ValidationError,
)
from django.db import models
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.authentication import SessionAuthentication
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .. import people
from ..errors import MarketplaceError, NotAllowed
from .fields import Shown, Strict

BODY_BYTES_MAX = 1024 * 1024
PAGE_ROWS, PAGE_ROWS_MAX = 50, 200


class TooLarge(exceptions.APIException):
    status_code = 413
    default_code = "too_large"

    def __init__(self):
        super().__init__(_("The body is larger than %(limit)s bytes.") % {"limit": BODY_BYTES_MAX})


class JsonBody(JSONParser):
    """JSON of at most one mebibyte, not nested beyond what Python reads."""

    def parse(self, stream, media_type=None, parser_context=None):
        body = stream.read(BODY_BYTES_MAX + 1)
        if len(body) > BODY_BYTES_MAX:
            raise TooLarge
        try:
            return super().parse(io.BytesIO(body), media_type, parser_context)
        except RecursionError:
            raise exceptions.ParseError from None


class AnyAnswer(BaseContentNegotiation):
    """A file is a file, whatever the client says it accepts."""

    def select_parser(self, request, parsers):
        return parsers[0]

    def select_renderer(self, request, renderers, format_suffix=None):
        return renderers[0], renderers[0].media_type


class ApiView(APIView):
    """For whoever is signed in, by session or by token."""

    permission_classes: Sequence[type[BasePermission]] = (IsAuthenticated,)
    parser_classes: Sequence[type[BaseParser]] = (JsonBody,)

    def handle_exception(self, exc):
        """Django's refusals get the codes of the API."""
        if isinstance(exc, Http404 | ObjectDoesNotExist):
            exc = exceptions.NotFound()
        elif isinstance(exc, PermissionDenied):
            exc = exceptions.PermissionDenied()
        elif isinstance(exc, RequestDataTooBig):
            exc = TooLarge()
        elif isinstance(exc, SuspiciousOperation):
            exc = exceptions.ParseError()
        return super().handle_exception(exc)

    def finalize_response(self, request, response, *args, **kwargs):
        response = super().finalize_response(request, response, *args, **kwargs)
        response.setdefault("Cache-Control", "no-store")
        return response


class PublicView(ApiView):
    """For everybody; who is signed in may see more."""

    permission_classes = (AllowAny,)


class ReadableView(ApiView):
    """Everybody reads, only who is signed in acts."""

    def get_permissions(self):
        return [AllowAny()] if self.request.method in ("GET", "HEAD", "OPTIONS") else [IsAuthenticated()]


class _Admin(BasePermission):
    def has_permission(self, request, view) -> bool:
        if not (request.user.is_authenticated and request.user.is_staff):
            raise exceptions.NotFound
        return True


class AdminView(ApiView):
    """For admins; to everybody else it does not exist."""

    permission_classes = (_Admin,)


class SessionNeeded(MarketplaceError):
    """A token may not do this: only a person in a browser who has just signed in again."""

    code = "session_needed"
    status = 403


def require_fresh_session(request: Request) -> None:
    """What a stolen token must never do: make keys and tokens, move money out, approve.

    Raises:
        SessionNeeded: asked with a token, or the last sign-in was too long ago.
    """
    if not isinstance(request.successful_authenticator, SessionAuthentication):
        raise SessionNeeded(_("A token cannot do this. Sign in on the site and do it there."))
    try:
        _fresh(request._request)
    except ReauthenticationRequired:
        raise SessionNeeded(_("Sign in again first: your last sign-in was too long ago.")) from None


@reauthentication_required
def _fresh(request: HttpRequest) -> None:
    """Passes who has signed in a short while ago."""


def require_agreement(user) -> None:
    """Nothing is sent without the contributor agreement. Raises NotAllowed."""
    if not people.has_consented(user, "contributor"):
        raise NotAllowed(_("Agree to the contributor agreement first: POST /api/v1/consents/."))


def find(found: QuerySet, **which) -> Any:
    """The one row, or 404: a row of somebody else's does not exist."""
    try:
        return found.get(**which)
    except (found.model.DoesNotExist, ValidationError, ValueError):
        raise exceptions.NotFound from None


def body_of(request: Request, serializer: type[serializers.Serializer], **context) -> dict:
    """The checked body. Raises 400 with a sentence per field."""
    given = serializer(data=request.data, context=context)
    given.is_valid(raise_exception=True)
    return given.validated_data


def query_of(request: Request, serializer: type[serializers.Serializer]) -> dict:
    """The checked query."""
    given = serializer(data=dict(request.query_params.items()))
    given.is_valid(raise_exception=True)
    return given.validated_data


# --- Pages by key


class PageQuery(Strict):
    """`after` is taken from the last answer's `next`."""

    after = serializers.CharField(required=False, max_length=200)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=PAGE_ROWS_MAX, default=PAGE_ROWS)


def page(request: Request, found: QuerySet, shown: type[Shown], *, key: str = "created_at", told: dict | None = None):
    """One page, newest (or largest) first. key: a column of moments or whole numbers; ties go by the primary key.

    told: the checked query, when the view has parameters of its own.
    """
    told = query_of(request, PageQuery) if told is None else told
    limit = told["limit"]
    keys = ("pk",) if key == "pk" else (key, "pk")
    if told.get("after"):
        found = found.filter(_before(found.model, keys, told["after"]))
    rows = list(found.order_by(*[f"-{name}" for name in keys])[: limit + 1])
    cursor = _cursor_of(rows[limit - 1], keys) if len(rows) > limit else ""
    return page_response(request, shown(rows[:limit], many=True, context={"user": request.user}).data, cursor)


def page_response(request: Request, rows: Any, cursor: str) -> Response:
    """`next` is the whole address of the next page, or null."""
    following = None
    if cursor:
        query = request.query_params.copy()
        query["after"] = cursor
        following = request.build_absolute_uri(f"{request.path}?{query.urlencode()}")
    return Response({"results": rows, "next": following})


def bad_cursor() -> exceptions.ValidationError:
    return exceptions.ValidationError({"after": [_("Take it from the last answer's next.")]})


def _cursor_of(row: models.Model, keys: Sequence[str]) -> str:
    values = [getattr(row, name) for name in keys]
    return json.dumps([value.isoformat() if isinstance(value, datetime) else str(value) for value in values])


def _before(model: type[models.Model], keys: Sequence[str], cursor: str) -> Q:
    try:
        texts = json.loads(cursor)
        if not isinstance(texts, list) or len(texts) != len(keys) or not all(isinstance(one, str) for one in texts):
            raise ValueError(cursor)
        columns: list[Any] = [model._meta.pk if name == "pk" else model._meta.get_field(name) for name in keys]
        values = [column.to_python(text) for column, text in zip(columns, texts, strict=True)]
    except (ValueError, ValidationError, RecursionError):
        raise bad_cursor() from None
    if any(isinstance(value, datetime) and value.tzinfo is None for value in values):
        raise bad_cursor()
    if len(keys) == 1:
        return Q(pk__lt=values[0])
    return Q(**{f"{keys[0]}__lt": values[0]}) | Q(**{keys[0]: values[0], "pk__lt": values[1]})


def page_of(shown: type[Shown]) -> type[Shown]:
    """The serializer of a page of these rows."""
    if shown not in _PAGES:
        fields = {
            "results": shown(many=True),
            "next": serializers.URLField(allow_null=True, help_text="The address of the next page, or null."),
            "__doc__": f"A page of {shown.__name__}.",
        }
        _PAGES[shown] = type(f"{shown.__name__}Page", (Shown,), fields)
    return _PAGES[shown]


_PAGES: dict[type[Shown], type[Shown]] = {}


# --- The schema


class ProblemError(Shown):
    """What went wrong."""

    code = serializers.CharField(help_text="A word for programs.")
    message = serializers.CharField(help_text="A sentence for people.")


class Problem(Shown):
    """Every refusal looks like this."""

    error = ProblemError()
    fields = serializers.DictField(help_text="What is wrong, by field; empty for other refusals.")  # type: ignore[assignment]


READ_REFUSALS = (400, 401, 403, 404, 406, 503)
ACT_REFUSALS = (400, 401, 403, 404, 406, 409, 413, 415, 422, 503)


def endpoint(
    name: str,
    summary: str,
    *,
    answers: Any = None,
    status: int | Sequence[int] = 200,
    body: type[serializers.Serializer] | dict | None = None,
    query: type[serializers.Serializer] | None = None,
    reads: bool = False,
    refusals: Sequence[int] = (),
    media: str = "",
) -> Callable:
    """Describe a method for the schema and for docs/api.md: its name, one sentence, what it takes and answers.

    answers: a serializer, or None for an empty answer. media: where that is no JSON. reads: GET, which refuses fewer things.
    """
    statuses = [status] if isinstance(status, int) else list(status)
    refused = [*(READ_REFUSALS if reads else ACT_REFUSALS), *refusals]
    return extend_schema(
        operation_id=name,
        summary=summary,
        request=body,
        parameters=[query] if query else None,
        responses={(code, media) if media else code: answers for code in statuses}
        | dict.fromkeys(sorted(set(refused)), Problem),
    )
