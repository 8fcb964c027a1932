"""What sign-up asks beyond e-mail, handle and password."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Consent

from . import people


class SignupForm(forms.Form):
    """Consent to the terms, logged by version. allauth calls `signup` once the account exists."""

    terms = forms.BooleanField(label=_("I agree to the terms of use and have read the privacy notice"))

    def signup(self, request, user) -> None:
        people.give_consent(user, Consent.Document.TERMS)
        people.give_consent(user, Consent.Document.PRIVACY)
        user.language = request.LANGUAGE_CODE
        user.save(update_fields=["language"])
