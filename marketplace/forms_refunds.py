"""Forms about refunds, disputes, held earnings and the end of a model: a call, a reason, a time."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from . import refunds


class ReasonForm(forms.Form):
    """Why, in a sentence or two."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=refunds.REASON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 3, "class": "input"}),
    )


class FindCallForm(forms.Form):
    """A call by its id, which is that of its receipt."""

    call = forms.UUIDField(label=_("Receipt id of the call"))


class HoldForm(ReasonForm):
    """A lot to hold, until a day or until it is released."""

    lot = forms.UUIDField(widget=forms.HiddenInput)
    until = forms.DateTimeField(
        label=_("Until"),
        required=False,
        help_text=_("UTC. Empty: until an admin releases it."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "class": "input"}),
    )


class RetireForm(forms.Form):
    """From when on a model takes no calls."""

    on = forms.DateTimeField(
        label=_("From"),
        required=False,
        help_text=_("UTC. Empty: from now on."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local", "class": "input"}),
    )
