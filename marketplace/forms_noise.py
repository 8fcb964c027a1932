"""Forms of noise cases: what the contributor says, and what somebody else decides."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from attribution.noise_cases import TEXT_CHARS_MAX


class NoiseTextForm(forms.Form):
    """A statement, or an appeal."""

    text = forms.CharField(max_length=TEXT_CHARS_MAX)


class NoiseDecisionForm(forms.Form):
    """Whether the rows are noise, and why."""

    answer = forms.ChoiceField(choices=[("uphold", _("They are noise")), ("clear", _("They are not noise"))])
    note = forms.CharField(max_length=TEXT_CHARS_MAX)
