"""What people type about data: corrected rows, descriptions, decisions, appeals, reports."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from .columns import columns_of
from .models import BrokenRow, Datanet, Report, Review, Submission

BOOLEAN_CHOICES = [("", "—"), ("true", "true"), ("false", "false")]


class RowForm(forms.Form):
    """The values of a broken row, as text; the sandbox reads them again. Field names are numbers: columns have any name."""

    def __init__(self, data=None, *, row: BrokenRow, datanet: Datanet):
        super().__init__(data, prefix=f"row-{row.pk}")
        self.row = row
        self._columns = columns_of(datanet.kind, datanet.schema)
        described = {column["name"]: column for column in datanet.schema.get("columns", [])}
        for number, column in enumerate(self._columns):
            self.fields[str(number)] = _field_of(column.name, column.type, described.get(column.name, {}))
            self.initial.setdefault(str(number), row.values.get(column.name, ""))

    @property
    def wrong(self) -> list[forms.BoundField]:
        """The fields to look at first: the column that is named, or all where none is."""
        return [self[name] for name in self.fields if not self.row.column or self[name].label == self.row.column]

    @property
    def others(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if self.row.column and self[name].label != self.row.column]

    def values(self) -> dict[str, str]:
        """By column; what was left empty is missing. A value that was shown as it is keeps its type."""
        values: dict = {}
        for number, column in enumerate(self._columns):
            text = self.cleaned_data.get(str(number), "")
            before = self.row.values.get(column.name)
            if text != "":
                values[column.name] = before if before is not None and str(before) == text else text
        return values


class DescribeForm(forms.ModelForm):
    """What the data is and where it comes from."""

    class Meta:
        model = Submission
        fields = ["title", "description", "source_url"]
        labels = {"title": _("Title"), "description": _("Description"), "source_url": _("Source")}
        help_texts = {
            "description": _("How the data was collected, and what a curator should know."),
            "source_url": _("The web address the data comes from, if there is one."),
        }
        widgets = {
            "title": forms.TextInput(attrs={"class": "input"}),
            "description": forms.Textarea(attrs={"class": "textarea", "rows": 4}),
            "source_url": forms.URLInput(attrs={"class": "input"}),
        }

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.fields["source_url"].assume_scheme = "https"


class AppealForm(forms.Form):
    """Why a rejected record should be looked at again."""

    text = forms.CharField(
        label=_("Why should it be looked at again?"),
        max_length=4000,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 3}),
    )


class DecisionForm(forms.Form):
    """A curator's decision on some records of one submission."""

    APPROVE_ALL, APPROVE, REJECT, CHANGES = "approve_all", "approve", "reject", "changes"

    decision = forms.ChoiceField(choices=[(each, each) for each in (APPROVE_ALL, APPROVE, REJECT, CHANGES)])
    reason = forms.ChoiceField(choices=[("", ""), *Review.Reason.choices], required=False)
    note = forms.CharField(max_length=4000, required=False)
    quote = forms.CharField(max_length=1000, required=False)
    shown = forms.IntegerField(required=False)

    def clean(self) -> dict:
        super().clean()
        told = self.cleaned_data
        decision = told.get("decision")
        if decision == self.REJECT and not told.get("reason"):
            self.add_error("reason", _("Choose a reason: the contributor is told it."))
        if decision == self.CHANGES:
            told["reason"] = told.get("reason") or Review.Reason.OTHER
            if not told.get("note"):
                self.add_error("note", _("Say what to change: the contributor is sent this note."))
        return told


class AppealAnswerForm(forms.Form):
    """A curator's answer to an appeal."""

    answer = forms.ChoiceField(choices=[("overturn", _("Approve the record")), ("uphold", _("Keep the rejection"))])
    note = forms.CharField(max_length=4000)


class ReportForm(forms.Form):
    """Why a record should not be there."""

    reason = forms.ChoiceField(
        label=_("What is wrong?"),
        choices=[("", _("Choose a reason")), *Report.Reason.choices],
        widget=forms.Select(attrs={"class": "select"}),
    )
    text = forms.CharField(
        label=_("What should the curators know?"),
        max_length=4000,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 5}),
    )


class ReportAnswerForm(forms.Form):
    """A curator's answer to a report."""

    answer = forms.ChoiceField(choices=[("dismiss", _("Keep the record")), ("withdraw", _("Withdraw the record"))])
    note = forms.CharField(max_length=4000)


class TheftForm(forms.Form):
    """Which records are mine, and how others can see that."""

    records = forms.CharField(
        label=_("Numbers of the records that are yours"),
        help_text=_("All of one contributor, in one Datanet. Separate them by spaces."),
        max_length=1000,
        widget=forms.TextInput(attrs={"class": "input", "inputmode": "numeric", "autocomplete": "off"}),
    )
    statement = forms.CharField(
        label=_("What is yours, and since when?"),
        max_length=4000,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 4}),
    )
    evidence = forms.CharField(
        label=_("How can others see that?"),
        help_text=_("Where it was published before, with addresses and dates, or what only its author knows."),
        max_length=4000,
        widget=forms.Textarea(attrs={"class": "textarea", "rows": 4}),
    )
    own_record = forms.IntegerField(
        label=_("Number of your own earlier record here, if there is one"),
        required=False,
        min_value=1,
        max_value=2**63 - 1,
        widget=forms.TextInput(attrs={"class": "input", "inputmode": "numeric", "autocomplete": "off"}),
    )

    def clean_records(self) -> list[int]:
        told = self.cleaned_data["records"].replace(",", " ").replace("#", " ").split()
        if not all(number.isascii() and number.isdigit() and 0 < int(number) < 2**63 for number in told):
            raise forms.ValidationError(_("Write record numbers only, such as: 12 14 15"))
        return list(dict.fromkeys(int(number) for number in told))


class TheftAnswerForm(forms.Form):
    """What the contributor says to a theft dispute."""

    text = forms.CharField(max_length=4000)


class TheftDecisionForm(forms.Form):
    """Whether somebody's records are somebody else's."""

    answer = forms.ChoiceField(choices=[("uphold", _("They are the claimant’s")), ("dismiss", _("They stay"))])
    note = forms.CharField(max_length=4000)


def _field_of(name: str, column_type: str, described: dict) -> forms.Field:
    if described.get("values"):
        choices = [("", "—"), *((value, value) for value in described["values"])]
        return _Choice(label=name, choices=choices, required=False, widget=forms.Select(attrs={"class": "select"}))
    if column_type == "boolean":
        return _Choice(
            label=name, choices=BOOLEAN_CHOICES, required=False, widget=forms.Select(attrs={"class": "select"})
        )
    if name == "text":
        widget: forms.Widget = forms.Textarea(attrs={"class": "textarea", "rows": 4})
    else:
        widget = forms.TextInput(attrs={"class": "input", "autocomplete": "off"})
    if column_type in ("number", "integer"):
        widget.attrs["inputmode"] = "decimal"
    return forms.CharField(label=name, required=False, strip=False, widget=widget)


class _Choice(forms.ChoiceField):
    """Accepts what is not in its list: the sandbox is the judge, and says why."""

    def valid_value(self, value: str) -> bool:
        return True
