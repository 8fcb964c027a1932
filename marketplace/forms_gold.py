"""Forms of the owner who plants records."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from datanets.gold import SHARE_PERCENT_MAX
from datanets.models import Review

REASONS = [("", "—"), *Review.Reason.choices]


class GoldFileForm(forms.Form):
    """A file whose records all have the same right decision."""

    file = forms.FileField(label=_("File"), help_text=_("As a contributor would send it: 1 to 200 records, all alike."))
    title = forms.CharField(label=_("Title of the submission"), max_length=160, required=False)
    decision = forms.ChoiceField(label=_("Right decision"), choices=Review.Decision.choices)
    reason = forms.ChoiceField(label=_("Why, if it is to be rejected"), choices=REASONS, required=False)

    def clean(self):
        told = super().clean() or {}
        rejects = told.get("decision") == Review.Decision.REJECT
        if rejects and not told.get("reason"):
            self.add_error("reason", _("A rejection needs a reason from the list."))
        return told | ({} if rejects else {"reason": ""})


class GoldRecordForm(forms.Form):
    """A decided record to plant a copy of."""

    record = forms.IntegerField(
        label=_("Number of the record"),
        min_value=1,
        max_value=2**63 - 1,
        help_text=_("A rejected one, to be rejected again; or an approved one, to be rejected as a copy."),
    )
    reason = forms.ChoiceField(label=_("Another reason than its own"), choices=REASONS, required=False)


class GoldShareForm(forms.Form):
    """How many of a hundred submissions may be planted ones."""

    percent = forms.IntegerField(
        label=_("Planted submissions of a hundred"),
        min_value=0,
        max_value=SHARE_PERCENT_MAX,
        help_text=_("0 to 10. Of what was sent for review in the last 30 days, rounded up."),
    )
