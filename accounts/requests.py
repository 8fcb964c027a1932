"""Types of requests, for views to say what stands on their first line."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from .models import User


class SignedInRequest(HttpRequest):
    """A request that passed `login_required`, or a stricter guard: its user is a person. Never instantiated."""

    user: User  # type: ignore[assignment]
    htmx: HtmxDetails


# Who may look at a public page: a person, or nobody in particular.
Visitor = User | AnonymousUser | None
