"""Forms of developers and buyers: models, prices, training runs, one's own profile."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from attribution import fitting

from .forms_explore import OpenField, amount_text
from .listings import FallbackWanted
from .models import FALLBACKS_MAX, FREE_CALLS_MAX, ListedModel
from .rules import DEFAULT_PARTS

TOKENS = 1_000_000
ROLES = {
    "developer": _("You, the developer"),
    "data": _("Data contributors"),
    "curation": _("Curators"),
    "platform": _("Platform"),
    "owner": _("Datanet owners"),
}


class PerMillionField(OpenField):
    """A price per million tokens in OPEN, cleaned to whole nano-OPEN per token."""

    default_error_messages = {"step": _("A price per million tokens is a multiple of 0.001 OPEN.")}

    def clean(self, value) -> int | None:
        nano = super().clean(value)
        if nano is None:
            return None
        if nano % TOKENS:
            raise forms.ValidationError(self.error_messages["step"], code="step")
        return nano // TOKENS


class PriceForm(forms.Form):
    """A price list: per call, per million prompt tokens, per million answer tokens, and of a call without an answer."""

    price_call = OpenField(label=_("Per call, in OPEN"), required=False)
    price_in = PerMillionField(label=_("Per million prompt tokens, in OPEN"), required=False)
    price_out = PerMillionField(label=_("Per million answer tokens, in OPEN"), required=False)

    price_abstain = OpenField(
        label=_("When it abstains, in OPEN"),
        required=False,
        help_text=_(
            "Of a call whose caller requires more of the data than there is. At most the price of a call; empty: 0."
        ),
    )

    def clean(self) -> dict:
        given = super().clean() or self.cleaned_data
        if (given.get("price_abstain") or 0) > (given.get("price_call") or 0) and "price_call" not in self.errors:
            self.add_error(
                "price_abstain", _("A call at which the model abstains costs at most what every call costs.")
            )
        return given

    def prices(self) -> dict[str, int]:
        names = ("price_call", "price_in", "price_out", "price_abstain")
        return {f"{name}_nano": self.cleaned_data[name] or 0 for name in names}


class ModelSettingsForm(forms.Form):
    """What a developer says of a model at its beginning and may change later."""

    name = forms.CharField(label=_("Name"), max_length=120)
    purpose = forms.CharField(label=_("Purpose"), max_length=300, help_text=_("One sentence: what it answers."))
    access_mode = forms.ChoiceField(label=_("Who may call"), choices=ListedModel.AccessMode.choices)
    pass_price = OpenField(label=_("Price of a pass, in OPEN"), required=False)
    pass_days = forms.IntegerField(label=_("Days of a pass"), required=False, min_value=1, max_value=3650)
    free_calls_per_day = forms.IntegerField(
        label=_("Free calls per account and day"),
        required=False,
        min_value=0,
        max_value=FREE_CALLS_MAX,
        help_text=_("Your promotion wallet pays them at list price, while it lasts. Empty: none."),
    )
    card = forms.CharField(
        label=_("Card"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=_("What it is good for and what it is not, in Markdown."),
    )

    @staticmethod
    def initial_of(model: ListedModel) -> dict[str, Any]:
        """What the form shows of a model as it is."""
        names = ("name", "purpose", "access_mode", "pass_days", "free_calls_per_day", "card")
        shown = {name: getattr(model, name) for name in names}
        return shown | {"pass_price": "" if model.pass_price_nano is None else amount_text(model.pass_price_nano)}

    def clean(self) -> dict:
        super().clean()
        given = self.cleaned_data
        if given.get("access_mode") == ListedModel.AccessMode.PASS:
            if given.get("pass_price") is None and "pass_price" not in self.errors:
                self.add_error("pass_price", _("A pass needs a price; it may be 0."))
            if not given.get("pass_days") and "pass_days" not in self.errors:
                self.add_error("pass_days", _("A pass needs a number of days."))
        return given

    def settings(self) -> dict[str, Any]:
        """The fields for `create_model` and `change_model`."""
        names = ("name", "purpose", "card", "access_mode", "pass_days")
        return {name: self.cleaned_data[name] for name in names} | {
            "pass_price_nano": self.cleaned_data["pass_price"],
            "free_calls_per_day": self.cleaned_data["free_calls_per_day"] or 0,
        }


class ModelForm(ModelSettingsForm, PriceForm):
    """A new model. What an engine does not need may stay empty."""

    field_order = [
        *("name", "purpose", "engine", "upstream_url", "upstream_model", "upstream_key", "access_mode", "pass_price"),
        *("pass_days", "price_call", "price_in", "price_out", "price_abstain", "free_calls_per_day", "card"),
    ]
    engine = forms.ChoiceField(
        label=_("Kind of model"),
        choices=[
            (ListedModel.Engine.LINEAR, _("Linear: classes or numbers, with exact influence of each record")),
            (ListedModel.Engine.NEIGHBOURS, _("Neighbours: a class, from the records most alike")),
            (ListedModel.Engine.RETRIEVAL, _("Retrieval chat: answers that cite records")),
            (ListedModel.Engine.CONNECTED, _("Connected: an OpenAI-compatible model that runs elsewhere")),
        ],
    )
    upstream_url = forms.URLField(
        label=_("Address of the upstream"),
        required=False,
        assume_scheme="https",
        max_length=300,
        help_text=_("Connected models, and retrieval with a chat model of your own: ends in /v1."),
    )
    upstream_model = forms.CharField(label=_("Its model name"), required=False, max_length=120)
    upstream_key = forms.CharField(
        label=_("Its API key"),
        required=False,
        max_length=300,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_("Kept encrypted, and never shown again."),
    )

    def clean(self) -> dict:
        given = super().clean()
        if given.get("engine") == ListedModel.Engine.CONNECTED and not given.get("upstream_url"):
            self.add_error("upstream_url", _("A connected model needs the address where it answers."))
        return given


class UpstreamKeyForm(forms.Form):
    """Another key for a model's upstream."""

    upstream_key = forms.CharField(
        label=_("New API key of the upstream"),
        required=False,
        max_length=300,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_("Kept encrypted, and never shown again. Empty: the upstream is called without one."),
    )


class FallbacksForm(forms.Form):
    """Who answers in place of a model's upstream, in the order of asking. Places without an address are left out."""

    def __init__(self, *args, model: ListedModel, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        stored = dict(enumerate(model.fallbacks.all(), start=1))
        for place in range(1, FALLBACKS_MAX + 1):
            known = stored.get(place)
            self.fields[f"url_{place}"] = forms.URLField(
                label=_("Address %(place)s") % {"place": place},
                required=False,
                assume_scheme="https",
                max_length=300,
                initial=known.url if known else "",
            )
            self.fields[f"model_name_{place}"] = forms.CharField(
                label=_("Name of the model there"),
                required=False,
                max_length=120,
                initial=known.model_name if known else "",
            )
            self.fields[f"key_{place}"] = forms.CharField(
                label=_("API key there"),
                required=False,
                max_length=300,
                widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
                help_text=_("A key is stored. Empty: it stays, if the address and the name do.")
                if known and known.has_key
                else _("Kept encrypted, and never shown again."),
            )

    def clean(self) -> dict:
        super().clean()
        for place in range(1, FALLBACKS_MAX + 1):
            alone = self.cleaned_data.get(f"model_name_{place}") or self.cleaned_data.get(f"key_{place}")
            if alone and not self.cleaned_data.get(f"url_{place}") and f"url_{place}" not in self.errors:
                self.add_error(f"url_{place}", _("A fallback needs the address where it answers."))
        return self.cleaned_data

    def fallbacks(self) -> list[FallbackWanted]:
        given = self.cleaned_data
        return [
            FallbackWanted(given[f"url_{place}"], given[f"model_name_{place}"], given[f"key_{place}"])
            for place in range(1, FALLBACKS_MAX + 1)
            if given[f"url_{place}"]
        ]


class RuleForm(forms.Form):
    """A split rule in percent, with at most two places. It starts as `parts` (basis points)."""

    def __init__(self, *args, parts: Mapping[str, int] = DEFAULT_PARTS, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for role, label in ROLES.items():
            self.fields[role] = forms.DecimalField(
                label=label,
                min_value=0,
                max_value=100,
                decimal_places=2,
                initial=Decimal(parts[role]) / 100,
            )

    def clean(self) -> dict:
        super().clean()
        given = self.cleaned_data
        if not self.errors and sum(given[role] for role in ROLES) != 100:
            raise forms.ValidationError(_("The parts must add up to 100 %."))
        return given

    def parts(self) -> dict[str, int]:
        return {role: int(self.cleaned_data[role] * 100) for role in DEFAULT_PARTS}


class RuleChoiceForm(forms.Form):
    """Which split rule a model has from now on."""

    KEEP, DEFAULT, OWN = "keep", "default", "own"
    rule = forms.ChoiceField(
        label=_("Split rule from now on"),
        choices=[
            (KEEP, _("As it is")),
            (DEFAULT, _("The default: developer 55 %, contributors 35 %, curators 5 %, platform 5 %")),
            (OWN, _("The percentages below")),
        ],
    )


class TrainForm(forms.Form):
    """Which frozen versions a model is bound to, and the settings of its engine."""

    SETTINGS = {
        "l2": lambda: forms.FloatField(
            label=_("Regularisation (l2)"),
            required=False,
            min_value=0,
            help_text=_(
                "Empty: chosen on held-out rows, the strongest from 1 to 100 that answers about as well as the best; 1 for "
                "fewer than 50 records."
            ),
        ),
        "k": lambda: forms.IntegerField(label=_("Neighbours asked (k)"), required=False, min_value=1, max_value=99),
        "image_side": lambda: forms.IntegerField(
            label=_("Side of the picture it sees, in pixels"), required=False, min_value=4, max_value=64
        ),
    }

    def __init__(self, *args, model: ListedModel, versions, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["versions"] = forms.ModelMultipleChoiceField(
            queryset=versions, label=_("Versions"), error_messages={"required": _("Choose one to five versions.")}
        )
        kinds = {version.datanet.kind for version in versions}
        for name in fitting.SETTINGS[model.engine]:
            if name != "image_side" or "image" in kinds:
                self.fields[name] = self.SETTINGS[name]()

    def settings(self) -> dict:
        return {
            name: value
            for name, value in self.cleaned_data.items()
            if name in self.SETTINGS and value not in (None, "")
        }


class ProfileForm(forms.ModelForm):
    """What others see of somebody, and the language of the site for them."""

    language = forms.ChoiceField(label=_("Language"), choices=settings.LANGUAGES)

    class Meta:
        model = User
        fields = ["display_name", "organisation", "language"]


class CloseForm(forms.Form):
    """Closing an account is confirmed by typing the handle."""

    confirmation = forms.CharField(label=_("Your handle"), max_length=40)
    erase = forms.BooleanField(
        label=_("Also erase what I gave and wrote"),
        help_text=_("Records leave their Datanets, and their content, your calls and your texts are deleted for ever."),
        required=False,
    )

    def __init__(self, *args, user: User, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._user = user

    def clean_confirmation(self) -> str:
        if self.cleaned_data["confirmation"].strip() != self._user.username:
            raise forms.ValidationError(_("This is not your handle. Nothing was closed."))
        return self._user.username
