"""Webhooks: the endpoints of my programs, what was sent to them, and sending it again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from accounts.requests import SignedInRequest

from .. import listings, querysets, webhooks
from ..errors import Invalid
from ..eventtypes import TYPE_OF_KIND
from ..forms_webhooks import EventsForm, SecretForm, WebhookForm
from ..models import WebhookDelivery, WebhookEndpoint
from . import explore
from .account import settings_tabs

_SESSION = "new_webhook_secret"
NO_ANSWER = {
    "timeout": gettext_lazy("No answer in time"),
    "no_answer": gettext_lazy("No connection, or no answer in HTTP"),
    "address_refused": gettext_lazy("The address may not be reached from here"),
}


@login_required
def webhook_list(request: SignedInRequest) -> HttpResponse:
    """My endpoints."""
    context = {
        "endpoints": WebhookEndpoint.objects.filter(owner=request.user).order_by("-created_at"),
        "tabs": settings_tabs("webhooks"),
    }
    return render(request, "marketplace/webhooks/list.html", context)


@login_required
@reauthentication_required
def webhook_new(request: SignedInRequest) -> HttpResponse:
    """Register an endpoint."""
    form = WebhookForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            endpoint, secret = webhooks.register(request.user, **form.cleaned_data)
        except Invalid as problem:
            form.add_error(None, str(problem))
        else:
            _keep(request, endpoint, secret)
            return redirect("webhook", endpoint.pk)
    return render(request, "marketplace/webhooks/new.html", {"form": form}, status=422 if request.POST else 200)


@login_required
@never_cache
def webhook(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """One endpoint: its events, its secret where it was just made, and the log of what was sent."""
    endpoint = get_object_or_404(WebhookEndpoint, pk=webhook_id, owner=request.user)
    form = EventsForm(request.POST if request.method == "POST" else None, initial={"events": endpoint.events})
    if request.method == "POST" and form.is_valid():
        webhooks.choose_events(endpoint, by=request.user, events=form.cleaned_data["events"])
        messages.success(request, _("The events are saved."))
        return redirect("webhook", endpoint.pk)
    page = querysets.page_by(
        endpoint.deliveries.with_log(),
        "created_at",
        after=request.GET.get("after", ""),
        before=request.GET.get("before", ""),
    )
    context = {
        "endpoint": endpoint,
        "form": form,
        "secret_form": SecretForm(),
        "secret": _take(request, endpoint),
        "old_secret_signs": endpoint.old_secret_until is not None and endpoint.old_secret_until > timezone.now(),
        "rows": [_shown(delivery) for delivery in page.rows],
        "previous_url": explore.cursor_url(request, "before", page.previous),
        "next_url": explore.cursor_url(request, "after", page.next),
    }
    return render(request, "marketplace/webhooks/webhook.html", context, status=422 if form.is_bound else 200)


@login_required
def webhook_delivery(request: SignedInRequest, webhook_id: UUID, delivery_id: UUID) -> HttpResponse:
    """What was sent, and each attempt to send it."""
    found = WebhookDelivery.objects.with_log()
    delivery = get_object_or_404(found, pk=delivery_id, endpoint=webhook_id, endpoint__owner=request.user)
    body = webhooks.body_of(delivery.notice).decode()
    context = _shown(delivery) | {"endpoint": delivery.endpoint, "body": body}
    return render(request, "marketplace/webhooks/delivery.html", context)


@login_required
@require_POST
def webhook_resend(request: SignedInRequest, webhook_id: UUID, delivery_id: UUID) -> HttpResponse:
    """Send something again."""
    delivery = get_object_or_404(
        WebhookDelivery.objects.select_related("endpoint"),
        pk=delivery_id,
        endpoint=webhook_id,
        endpoint__owner=request.user,
    )
    webhooks.resend(delivery, by=request.user)
    messages.success(request, _("It is sent again in a moment, under the same id."))
    return redirect("webhook_delivery", webhook_id, delivery_id)


@login_required
@reauthentication_required
@require_POST
def webhook_secret(request: SignedInRequest, webhook_id: UUID) -> HttpResponse:
    """A new secret; the old one signs for a while."""
    endpoint = get_object_or_404(WebhookEndpoint, pk=webhook_id, owner=request.user)
    form = SecretForm(request.POST)
    # What is none of the choices is refused by the service.
    overlap_s = form.cleaned_data["overlap_s"] or 0 if form.is_valid() else -1
    _keep(request, endpoint, webhooks.replace_secret(endpoint, by=request.user, overlap_s=overlap_s))
    messages.success(request, _("The secret is replaced: give your server the new one."))
    return redirect("webhook", endpoint.pk)


@login_required
@require_POST
def webhook_act(request: SignedInRequest, webhook_id: UUID, act: str) -> HttpResponse:
    """Send a test, pause, go on, or remove."""
    endpoint = get_object_or_404(WebhookEndpoint, pk=webhook_id, owner=request.user)
    if act == "remove":
        webhooks.remove(endpoint, by=request.user)
        messages.success(request, _("The webhook is removed, and its log with it."))
        return redirect("webhooks")
    if act == "test":
        webhooks.send_test(endpoint, by=request.user)
        messages.success(request, _("A test is sent in a moment. Reload this page to see what became of it."))
    elif act == "pause":
        webhooks.pause(endpoint, by=request.user)
        messages.success(request, _("The webhook is paused. News wait for it."))
    else:
        webhooks.resume(endpoint, by=request.user)
        messages.success(request, _("The webhook goes on, with what has waited first."))
    return redirect("webhook", endpoint.pk)


def _shown(delivery: WebhookDelivery) -> dict[str, Any]:
    """What the pages show of something sent: the event, and its attempts, each with the reason if there was no answer."""
    tries = [{"attempt": one, "reason": NO_ANSWER[one.error] if one.error else ""} for one in delivery.log.all()]
    return {
        "delivery": delivery,
        "type": TYPE_OF_KIND[delivery.notice.kind],
        "tries": tries,
        "newest": tries[-1] if tries else None,
    }


def _keep(request: HttpRequest, endpoint: WebhookEndpoint, secret: str) -> None:
    """Sealed, and taken out by the next page: the secret never lies readable in the session table."""
    request.session[_SESSION] = [str(endpoint.pk), listings.seal_field(secret)]


def _take(request: HttpRequest, endpoint: WebhookEndpoint) -> str:
    of, sealed = request.session.get(_SESSION) or ("", "")
    if of != str(endpoint.pk):
        return ""
    del request.session[_SESSION]
    return listings.open_field(sealed)


_ONE = "settings/webhooks/<uuid:webhook_id>/"
_DELIVERY = f"{_ONE}deliveries/<uuid:delivery_id>/"
pages = [
    path("settings/webhooks/", webhook_list, name="webhooks"),
    path("settings/webhooks/new/", webhook_new, name="webhook_new"),
    path(_ONE, webhook, name="webhook"),
    path(f"{_ONE}secret/", webhook_secret, name="webhook_secret"),
    path(f"{_ONE}test/", webhook_act, {"act": "test"}, name="webhook_test"),
    path(f"{_ONE}pause/", webhook_act, {"act": "pause"}, name="webhook_pause"),
    path(f"{_ONE}resume/", webhook_act, {"act": "resume"}, name="webhook_resume"),
    path(f"{_ONE}remove/", webhook_act, {"act": "remove"}, name="webhook_remove"),
    path(_DELIVERY, webhook_delivery, name="webhook_delivery"),
    path(f"{_DELIVERY}resend/", webhook_resend, name="webhook_resend"),
]
plain: list = []
