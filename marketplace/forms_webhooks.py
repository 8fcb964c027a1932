"""Forms of webhooks: an endpoint with its events, and a new secret for one."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from .eventtypes import TYPES
from .forms_keys import OVERLAPS
from .models.webhooks import URL_CHARS_MAX


class EventsForm(forms.Form):
    """Which news an endpoint is told."""

    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(type, type) for type in TYPES],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None: all, including those that are added later."),
    )


class WebhookForm(EventsForm):
    """A new endpoint."""

    url = forms.CharField(
        label=_("Address"),
        max_length=URL_CHARS_MAX,
        widget=forms.URLInput(attrs={"placeholder": "https://"}),
        help_text=_("Where your server takes POST requests, over https."),
    )
    field_order = ("url", "events")


class SecretForm(forms.Form):
    """When the secret before ends."""

    overlap_s = forms.TypedChoiceField(
        label=_("The old secret ends"), choices=list(OVERLAPS.items()), coerce=int, required=False, empty_value=None
    )
