"""Forms of the admin desk: deposits one by one and as a file, approvals that are typed, items that come back."""

from __future__ import annotations

import csv
import io

from django import forms
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User

from . import adjustments, pricing, revenue
from .forms_explore import OpenField, days_in_order

IMPORT_BYTES_MAX = 1_000_000
IMPORT_ROWS_MAX = 1000
IMPORT_COLUMNS = ["handle", "amount", "reference"]


class DepositForm(forms.Form):
    """Money that came in from outside."""

    user = forms.CharField(label=gettext_lazy("Handle or e-mail"), max_length=254)
    amount_nano = OpenField(label=gettext_lazy("Amount in OPEN"))
    external_reference = forms.CharField(
        label=gettext_lazy("Outside reference"),
        max_length=120,
        help_text=gettext_lazy("The bank’s own number of the payment. Each can be used once."),
    )

    def clean_user(self) -> User:
        return find_user(self.cleaned_data["user"])


class AdjustmentForm(forms.Form):
    """Money to move by hand, and why."""

    payer = forms.CharField(
        label=gettext_lazy("From: handle or e-mail"),
        max_length=254,
        required=False,
        help_text=gettext_lazy("Empty: the platform’s account."),
    )
    payee = forms.CharField(
        label=gettext_lazy("To: handle or e-mail"),
        max_length=254,
        required=False,
        help_text=gettext_lazy("Empty: the platform’s account."),
    )
    amount_nano = OpenField(label=gettext_lazy("Amount in OPEN"))
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=adjustments.REASON_CHARS_MAX,
        widget=forms.Textarea(attrs={"rows": 3, "class": "input"}),
        help_text=gettext_lazy("Whose money moves reads it in their statement."),
    )

    def clean_payer(self) -> User | None:
        return find_user(self.cleaned_data["payer"]) if self.cleaned_data["payer"] else None

    def clean_payee(self) -> User | None:
        return find_user(self.cleaned_data["payee"]) if self.cleaned_data["payee"] else None


class PeriodForm(forms.Form):
    """The days of the revenue report, in its address. Empty: all time."""

    since = forms.DateField(
        label=gettext_lazy("From"), required=False, widget=forms.DateInput(attrs={"type": "date", "class": "input sm"})
    )
    until = forms.DateField(
        label=gettext_lazy("To"), required=False, widget=forms.DateInput(attrs={"type": "date", "class": "input sm"})
    )

    def clean(self) -> dict:
        return days_in_order(super().clean() or {})

    @property
    def period(self) -> revenue.Period:
        """What it says; all time if it says nothing valid."""
        said = self.cleaned_data if self.is_valid() else {}
        return revenue.days(said.get("since"), said.get("until"))


class DepositImportForm(forms.Form):
    """Many deposits in one CSV file with the columns handle, amount, reference."""

    file = forms.FileField(
        label=gettext_lazy("CSV file"),
        help_text=gettext_lazy(
            "Columns: handle, amount, reference. Up to 1,000 rows; each is booked or refused on its own."
        ),
        widget=forms.ClearableFileInput(attrs={"accept": "text/csv,.csv"}),
    )

    def clean_file(self) -> list[dict[str, str]]:
        file = self.cleaned_data["file"]
        if file.size > IMPORT_BYTES_MAX:
            raise forms.ValidationError(_("The file is larger than 1 MB. Nothing was booked."))
        try:
            text = file.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise forms.ValidationError(_("The file is not UTF-8 text. Nothing was booked.")) from error
        reader = csv.DictReader(io.StringIO(text))
        if [name.strip() for name in reader.fieldnames or ()] != IMPORT_COLUMNS:
            raise forms.ValidationError(_("The first line must read: handle,amount,reference. Nothing was booked."))
        rows = list(reader)
        if not rows or len(rows) > IMPORT_ROWS_MAX:
            raise forms.ValidationError(_("The file must have 1 to 1,000 rows. Nothing was booked."))
        return rows


class ApproveRunForm(forms.Form):
    """The run's number, typed."""

    confirmation = forms.CharField(max_length=20)

    def __init__(self, *args, word: str, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.word = word

    def clean_confirmation(self) -> str:
        typed = self.cleaned_data["confirmation"].strip()
        if typed != self.word:
            raise forms.ValidationError(_("Type %(word)s to confirm. Nothing was approved.") % {"word": self.word})
        return typed


def find_user(text: str) -> User:
    """The active person with this handle or e-mail.

    Raises:
        forms.ValidationError: there is none.
    """
    user = User.objects.filter(Q(username=text.strip()) | Q(email__iexact=text.strip()), is_active=True).first()
    if user is None:
        raise forms.ValidationError(_("Nobody has the handle or e-mail %(text)s.") % {"text": text.strip()})
    return user


def read_amount(text: str) -> int:
    """An amount of an import's row.

    Raises:
        forms.ValidationError: it is not a plain decimal number.
    """
    try:
        return pricing.open_to_nano(text or "")
    except ValueError as error:
        raise forms.ValidationError(_("%(text)s is not an amount of OPEN.") % {"text": text or "—"}) from error
