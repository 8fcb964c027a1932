"""Forms of shared wallets."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from . import transfers
from .forms_explore import OpenField
from .models import Role


class NewWalletForm(forms.Form):
    """Another wallet to share."""

    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("Its members see it, and nobody else."))


class InviteForm(forms.Form):
    """Who is asked to join, and as what."""

    address = forms.CharField(
        label=_("Handle or e-mail address"),
        max_length=254,
        help_text=_(
            "Whoever has this handle, or has confirmed this address, sees the invitation under Shared wallets."
        ),
    )
    role = forms.ChoiceField(label=_("Role"), choices=Role.choices, initial=Role.SPENDER)


class FundForm(forms.Form):
    """How much to move from one's own wallet. The page gives the reference: a second click is harmless."""

    amount_nano = OpenField(label=_("Amount in OPEN"))
    reference = forms.CharField(max_length=transfers.REFERENCE_CHARS_MAX, widget=forms.HiddenInput)
