"""Forms of API keys: a new one with its limits, and one in place of another."""

from __future__ import annotations

from datetime import datetime, time, timedelta

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User

from .forms_explore import OpenField, amount_text
from .keys import ORIGINS_MAX
from .models import CALLS_AT_ONCE, CALLS_AT_ONCE_MAX, CONTENT_DAYS_MAX, ORIGIN_CHARS_MAX, SCOPES, ApiKey, ListedModel


class KeyForm(forms.Form):
    """A new API key and what it may do."""

    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("What uses it, so that you know which to revoke.")
    )
    may = forms.ChoiceField(
        label=_("It may"),
        required=False,
        choices=[
            ("", _("Call models, and read your calls and credits")),
            ("call", _("Call models only")),
            ("read", _("Read your calls and credits only")),
        ],
    )
    money = forms.ChoiceField(
        label=_("It spends"),
        required=False,
        choices=[("", _("OPEN from your wallet")), ("test", _("Test money: free, and no model is asked"))],
        help_text=_("This cannot be changed later."),
    )
    wallet = forms.ChoiceField(label=_("Wallet"), required=False)  # its choices are those a person may spend from
    spend_cap_day = OpenField(
        label=_("Spend limit of a day, in OPEN"), required=False, help_text=_("It begins anew at midnight UTC.")
    )
    spend_cap_month = OpenField(
        label=_("Spend limit of a month, in OPEN"),
        required=False,
        help_text=_("It begins anew on the first of the month, UTC."),
    )
    spend_cap = OpenField(label=_("Spend limit, in OPEN"), required=False, help_text=_("In all. Empty: your wallet."))
    requests_per_minute = forms.IntegerField(
        label=_("Requests per minute"), required=False, min_value=1, max_value=2**31 - 1
    )
    tokens_per_minute = forms.IntegerField(
        label=_("Tokens per minute"), required=False, min_value=1, max_value=2**31 - 1
    )
    calls_at_once = forms.IntegerField(
        label=_("Calls at once"), required=False, min_value=1, max_value=CALLS_AT_ONCE_MAX, initial=CALLS_AT_ONCE
    )
    content_days = forms.IntegerField(
        label=_("Days that questions and answers are kept"),
        required=False,
        min_value=0,
        max_value=CONTENT_DAYS_MAX,
        initial=CONTENT_DAYS_MAX,
        help_text=_(
            "Sealed, for disputes, replays and lost connections. 0: only until they are attributed. Empty: 30."
        ),
    )
    expires_on = forms.DateField(
        label=_("Last day"), required=False, widget=forms.DateInput(attrs={"type": "date"}), help_text=_("In UTC.")
    )
    models = forms.ModelMultipleChoiceField(
        label=_("Only these models"), queryset=ListedModel.objects.none(), required=False, help_text=_("None: all.")
    )
    allowed_origins = forms.CharField(
        label=_("Pages that may use it in a browser"),
        required=False,
        max_length=ORIGIN_CHARS_MAX * ORIGINS_MAX,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text=_(
            "One origin per line, such as https://app.example.org. Whoever opens such a page can read the key."
        ),
    )

    def __init__(self, *args, models, wallets, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._accounts = {str(member.wallet_id): member.wallet.account for member in wallets}
        named = [(str(member.wallet_id), member.wallet.name) for member in wallets]
        if named:
            self.fields["wallet"] = forms.ChoiceField(
                label=_("Wallet"), required=False, choices=[("", _("Your own wallet")), *named]
            )
        else:
            del self.fields["wallet"]
        chosen = self.fields["models"]
        assert isinstance(chosen, forms.ModelMultipleChoiceField)
        chosen.queryset = models
        chosen.label_from_instance = lambda model: model.path  # type: ignore[method-assign,assignment]

    @staticmethod
    def initial_of(key: ApiKey) -> dict:
        """What the form shows of a key as it is."""
        caps = {"spend_cap": key.spend_cap_nano, "spend_cap_day": key.spend_cap_day_nano}
        caps["spend_cap_month"] = key.spend_cap_month_nano
        return {
            "name": key.name,
            "may": "" if len(key.scopes) > 1 else key.scopes[0],
            **{name: amount_text(nano) for name, nano in caps.items() if nano is not None},
            "requests_per_minute": key.requests_per_minute,
            "tokens_per_minute": key.tokens_per_minute,
            "calls_at_once": key.calls_at_once,
            "content_days": key.content_days,
            "expires_on": key.expires_at and (key.expires_at - timedelta(microseconds=1)).date(),
            "models": key.allowed_models.all(),
            "allowed_origins": "\n".join(key.allowed_origins),
        }

    def account(self) -> User | None:
        """The account of the shared wallet that was chosen; None: the person's own."""
        return self._accounts.get(self.cleaned_data.get("wallet", ""))

    def limits(self) -> dict:
        given = self.cleaned_data
        day = given["expires_on"]
        return {
            "name": given["name"],
            "spend_cap_nano": given["spend_cap"],
            "spend_cap_day_nano": given["spend_cap_day"],
            "spend_cap_month_nano": given["spend_cap_month"],
            "requests_per_minute": given["requests_per_minute"],
            "tokens_per_minute": given["tokens_per_minute"],
            "calls_at_once": given["calls_at_once"] or CALLS_AT_ONCE,
            "content_days": CONTENT_DAYS_MAX if given["content_days"] is None else given["content_days"],
            "expires_at": datetime.combine(day + timedelta(days=1), time.min, timezone.get_current_timezone())
            if day
            else None,
            "scopes": [given["may"]] if given["may"] else SCOPES,
            "models": given["models"],
            "allowed_origins": given["allowed_origins"].split(),
            **({"is_test": given["money"] == "test"} if "money" in given else {}),
        }


OVERLAPS = {
    0: _("At once"),
    3600: _("In one hour"),
    86_400: _("In 24 hours"),
    604_800: _("In 7 days"),
}


class KeyChangeForm(KeyForm):
    """Other limits for a key. What it spends, and from which wallet, stays."""

    def __init__(self, *args, models, **kwargs) -> None:
        super().__init__(*args, models=models, wallets=(), **kwargs)
        del self.fields["money"]


class KeyReplaceForm(forms.Form):
    """When a replaced key ends."""

    overlap_s = forms.TypedChoiceField(choices=list(OVERLAPS.items()), coerce=int, required=False, empty_value=None)
