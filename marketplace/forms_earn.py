"""Forms of the people who earn: filters of the payments, a withdrawal, where it goes."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.utils.translation import gettext_lazy as _

from . import comparing, periods, querysets, statements, transfers
from .errors import Invalid
from .forms_explore import OpenField, days_in_order
from .models import SUPPLY_NANO, PromotionTransfer


class LowBalanceForm(forms.Form):
    """Below which balance somebody wants to be told."""

    low = OpenField(
        label=_("Tell me when less than this is available, in OPEN"), required=False, help_text=_("Empty: never.")
    )

    def clean_low(self) -> int | None:
        low_nano = self.cleaned_data["low"]
        if low_nano is not None and not 0 < low_nano <= SUPPLY_NANO:
            raise forms.ValidationError(_("Give an amount greater than 0, or leave it empty."))
        return low_nano


class PaymentFilterForm(forms.Form):
    """The filters in the address of the earnings page and of its statement."""

    model = forms.ChoiceField(label=_("Model"), required=False)  # its choices are the payee's models
    datanet = forms.ChoiceField(required=False)  # and Datanets
    record = forms.IntegerField(label=_("Record"), required=False, min_value=1, max_value=querysets.BIGINT_MAX)
    state = forms.ChoiceField(
        label=_("State"), required=False, choices=[("", _("All states")), *statements.STATES.items()]
    )
    since = forms.DateField(label=_("From"), required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label=_("To"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, *args, models: list[tuple[str, str]], datanets: list[tuple[str, str]], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["model"] = forms.ChoiceField(
            label=_("Model"), required=False, choices=[("", _("All models")), *models]
        )
        self.fields["datanet"] = forms.ChoiceField(
            label="Datanet", required=False, choices=[("", _("All Datanets")), *datanets]
        )
        for field in self.fields.values():
            field.widget.attrs["class"] = "select sm" if isinstance(field, forms.ChoiceField) else "input sm"
        self.fields["record"].widget.attrs["placeholder"] = _("Record")

    def clean(self) -> dict:
        return days_in_order(super().clean() or {})

    @property
    def filters(self) -> statements.Filters:
        """What it says; call it after `is_valid`. A field that is not valid filters nothing."""
        found = self.cleaned_data
        return statements.Filters(
            model_id=found.get("model") or None,
            since=found.get("since"),
            until=found.get("until"),
            state=found.get("state", ""),
            datanet_id=found.get("datanet") or None,
            record_id=found.get("record"),
        )


class ChangesForm(forms.Form):
    """Which two periods of one's earnings to compare, and of which model, Datanet or record."""

    earlier = forms.CharField(
        label=_("Earlier period"),
        max_length=periods.CHARS_MAX,
        widget=forms.TextInput(attrs={"aria-describedby": "period-hint"}),
    )
    later = forms.CharField(
        label=_("Later period"),
        max_length=periods.CHARS_MAX,
        widget=forms.TextInput(attrs={"aria-describedby": "period-hint"}),
    )
    model = forms.ChoiceField(label=_("Model"), required=False)  # its choices are the payee's models
    datanet = forms.ChoiceField(label="Datanet", required=False)  # and Datanets
    record = forms.IntegerField(label=_("Record"), required=False, min_value=1, max_value=querysets.BIGINT_MAX)

    def __init__(self, *args, models: list[tuple[str, str]], datanets: list[tuple[str, str]], **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["model"].choices = [("", _("All models")), *models]  # type: ignore[attr-defined]
        self.fields["datanet"].choices = [("", _("All Datanets")), *datanets]  # type: ignore[attr-defined]

    def clean(self) -> dict:
        found = super().clean() or {}
        if self.errors:
            return found
        self.scope = comparing.Scope(
            UUID(found["model"]) if found["model"] else None,
            UUID(found["datanet"]) if found["datanet"] else None,
            found["record"],
        )
        try:
            between = [periods.period(found[name], model_id=self.scope.model_id) for name in ("earlier", "later")]
        except Invalid as refused:
            raise forms.ValidationError(str(refused)) from refused
        self.first, self.second = between
        return found


class WithdrawalForm(forms.Form):
    """How much to withdraw."""

    amount_nano = OpenField(
        label=_("Amount in OPEN"), help_text=_("It is held until a payout run takes it, or until you cancel.")
    )


class PromotionForm(forms.Form):
    """How much to set aside for free calls, or to take back. The page gives the reference: a second click is harmless."""

    direction = forms.ChoiceField(label=_("What to do"), choices=PromotionTransfer.Direction.choices)
    amount_nano = OpenField(label=_("Amount in OPEN"))
    reference = forms.CharField(max_length=transfers.REFERENCE_CHARS_MAX, widget=forms.HiddenInput)


class DestinationForm(forms.Form):
    """Where withdrawals go."""

    kind = forms.ChoiceField(
        label=_("Kind"), choices=[("bank", _("Bank account (IBAN)")), ("wallet", _("Wallet address"))]
    )
    details = forms.CharField(
        label=_("Account number or address"),
        max_length=160,
        help_text=_("It is stored encrypted; pages show its last four characters."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "input mono"}),
    )
