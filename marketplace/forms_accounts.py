"""What sign-up asks beyond e-mail, handle and password, and what a new version of the terms asks."""

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import Consent

from . import people


class TermsForm(forms.Form):
    """Consent to the version of the terms that is in force."""

    terms = forms.BooleanField(label=_("I agree to the terms of use and have read the privacy notice"))


class SignupForm(TermsForm):
    """Consent to the terms, logged by version. allauth puts its own fields in front and calls `signup` at the end."""

    field_order = ["email", "username", "password1", "terms"]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        handle = self.fields["username"]
        handle.help_text = _("Lower-case letters, digits and hyphens. Everybody sees it, and it stands in addresses.")
        handle.widget.attrs |= {"placeholder": "", "autocapitalize": "none", "spellcheck": "false"}

    def signup(self, request, user) -> None:
        people.give_consent(user, Consent.Document.TERMS)
        people.give_consent(user, Consent.Document.PRIVACY)
        user.language = request.LANGUAGE_CODE
        user.save(update_fields=["language"])
