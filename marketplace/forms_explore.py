"""Forms of the public pages: a new Datanet, its settings, access to one, the playground."""

from __future__ import annotations

import base64
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from datanets import licences, questions
from datanets import services as datanets
from datanets.models import Datanet

from . import pricing
from .models import ListedModel
from .templatetags import figures
from .templatetags.ui import COLUMN_TYPES

IMAGE_BYTES_MAX = 1_000_000
COLUMN_ROWS = 8
_ANSWER_TO = "answer_"  # before the name of a question, as the name of a field


class OpenField(forms.CharField):
    """An amount as people write it ("1.5", in French "1,5" too), cleaned to whole nano-OPEN; None when it is empty."""

    default_error_messages = {
        "amount": _("Write an amount in digits, with at most nine places after the point, such as 0.024.")
    }

    def __init__(self, **kwargs) -> None:
        super().__init__(max_length=24, **kwargs)
        self.widget.attrs.update({"inputmode": "decimal", "class": "input num"})

    def clean(self, value) -> int | None:
        text = super().clean(value)
        if not text:
            return None
        try:
            return pricing.open_to_nano(figures.plain(text))
        except ValueError as error:
            raise forms.ValidationError(self.error_messages["amount"], code="amount") from error


def amount_text(amount_nano: int) -> str:
    """An amount as people write it in an `OpenField`: exact, without needless zeros, with the language's decimal mark."""
    whole, _point, places = pricing.nano_to_open(amount_nano).partition(".")
    places = places.rstrip("0")
    return f"{whole}{figures.decimal_mark()}{places}" if places else whole


def days_in_order(cleaned: dict) -> dict:
    """Cleaned `since` and `until`, of which either may be missing. Raises ValidationError: the first comes after the last."""
    if cleaned.get("since") and cleaned.get("until") and cleaned["since"] > cleaned["until"]:
        raise forms.ValidationError(_("The first day comes after the last one."))
    return cleaned


class DatanetRulesForm(forms.Form):
    """What an owner says of a Datanet at its beginning and may change later."""

    purpose = forms.CharField(
        label=_("Purpose"), max_length=300, help_text=_("One sentence: what the data is, and what it is good for.")
    )
    topics = forms.CharField(label=_("Topics"), required=False, help_text=_("Separated by commas."))
    attribution_note = forms.CharField(
        label=_("Attribution note"), required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    guidelines = forms.CharField(
        label=_("Guidelines"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6}),
        help_text=_("What belongs here and what does not, in Markdown. Contributors and curators read it."),
    )
    access = forms.ChoiceField(
        label=_("Who may read"),
        choices=Datanet.Access.choices,
        help_text=_("Open: everybody sees a preview. On request: you answer each request. Closed: members only."),
    )
    export_allowed = forms.BooleanField(label=_("Readers may download whole versions"), required=False, initial=True)
    approvals_needed = forms.TypedChoiceField(
        label=_("Approvals a record needs"), choices=[(n, str(n)) for n in (1, 2, 3)], coerce=int, initial=1
    )
    training_fee = OpenField(
        label=_("Training fee in OPEN"), required=False, help_text=_("Paid by each training run. Empty: no fee.")
    )

    def clean_topics(self) -> list[str]:
        return words(self.cleaned_data["topics"])


class DatanetSettingsForm(DatanetRulesForm):
    """The settings of a Datanet that is there."""

    field_order = [
        *("purpose", "topics", "guidelines", "attribution_note", "access", "preview_rows", "export_allowed"),
        *("approvals_needed", "training_fee"),
    ]
    preview_rows = forms.IntegerField(
        label=_("Rows of the preview"),
        min_value=0,
        max_value=datanets.PREVIEW_ROWS_MAX,
        help_text=_("How many approved records a reader sees on the page. You and the curators see all."),
    )

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.fields["approvals_needed"].help_text = _(
            "Counts for decisions from now on. Approved records stay approved."
        )
        self.fields["training_fee"].help_text = _("Holds for training runs asked for from now on. Empty: no fee.")
        for question, text in questions.QUESTIONS.items():
            self.fields[_ANSWER_TO + question] = forms.CharField(
                label=text,
                required=False,
                max_length=questions.ANSWER_CHARS_MAX,
                widget=forms.Textarea(attrs={"rows": 2}),
            )

    @staticmethod
    def initial_of(datanet: Datanet, *, fee_nano: int) -> dict[str, Any]:
        """What the form shows of a Datanet as it is."""
        shown = {name: getattr(datanet, name) for name in datanets.CHANGEABLE}
        shown |= {_ANSWER_TO + question: text for question, text in datanet.answers.items()}
        return shown | {"topics": ", ".join(datanet.topics), "training_fee": amount_text(fee_nano) if fee_nano else ""}

    def changes(self) -> dict[str, Any]:
        """The fields for `change_datanet`."""
        answers = {question: self.cleaned_data[_ANSWER_TO + question] for question in questions.QUESTIONS}
        return {name: self.cleaned_data[name] for name in datanets.CHANGEABLE - {"answers"}} | {"answers": answers}


class DatanetForm(DatanetRulesForm):
    """What a Datanet is about. A table's columns stand in `ColumnFormSet`."""

    field_order = [
        *("name", "purpose", "kind", "labels", "language", "topics", "licence", "rights_statement", "attribution_note"),
        *("guidelines", "access", "export_allowed", "approvals_needed", "training_fee", "curators"),
    ]
    name = forms.CharField(label=_("Name"), max_length=120)
    kind = forms.ChoiceField(label=_("Kind of data"), choices=Datanet.Kind.choices)
    labels = forms.CharField(
        label=_("Labels"),
        required=False,
        help_text=_("For images and texts that have a label: its possible values, separated by commas."),
    )
    language = forms.CharField(label=_("Language"), max_length=8, required=False, help_text=_("Its code: en, fr, de."))
    licence = forms.ChoiceField(label=_("Licence"))
    rights_statement = forms.CharField(
        label=_("Rights statement"),
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Every contributor signs this sentence with each submission."),
    )
    curators = forms.CharField(
        label=_("Curators"), required=False, help_text=_("Handles, separated by commas. You are one already.")
    )

    def __init__(self, *args, owner: User, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._owner = owner
        licence = self.fields["licence"]
        assert isinstance(licence, forms.ChoiceField)
        licence.choices = [(each.spdx, each.name) for each in licences.LICENCES.values()]
        if "rights_statement" not in self.data:
            self.fields["rights_statement"].initial = _(
                "I have the right to share these records under the licence of this Datanet."
            )

    def clean_labels(self) -> list[str]:
        return words(self.cleaned_data["labels"])

    def clean_curators(self) -> list[User]:
        handles = {handle.lstrip("@").lower() for handle in words(self.cleaned_data["curators"])}
        found = list(User.objects.filter(username__in=handles).exclude(pk=self._owner.pk))
        missing = sorted(handles - {user.username for user in found} - {self._owner.username})
        if missing:
            raise forms.ValidationError(
                _("Nobody has this handle: %(handles)s."), params={"handles": ", ".join(missing)}
            )
        return found


class ColumnForm(forms.Form):
    """One column of a table; a row without a name is left out."""

    name = forms.CharField(label=_("Column"), max_length=120, required=False)
    type = forms.ChoiceField(label=_("Type"), choices=list(COLUMN_TYPES.items()))
    required = forms.BooleanField(label=_("Required"), required=False)
    min = forms.FloatField(label=_("Lowest"), required=False)
    max = forms.FloatField(label=_("Highest"), required=False)
    values = forms.CharField(label=_("Allowed values"), required=False, help_text=_("For a category, with commas."))
    is_label = forms.BooleanField(label=_("Label"), required=False)


ColumnFormSet = forms.formset_factory(ColumnForm, extra=COLUMN_ROWS, max_num=200)


def schema_of(kind: str, labels: list[str], columns: list[dict]) -> dict:
    """The schema that `create_datanet` takes, from cleaned forms.

    Raises:
        forms.ValidationError: two columns are marked as the label.
    """
    if kind != Datanet.Kind.TABULAR:
        return {"labels": labels} if labels else {}
    named = [column for column in columns if column.get("name")]
    marked = [column["name"] for column in named if column["is_label"]]
    if len(marked) > 1:
        raise forms.ValidationError(_("Mark one column as the label, not several."))
    return {
        "columns": [
            {
                "name": column["name"],
                "type": column["type"],
                "required": column["required"],
                "min": column["min"],
                "max": column["max"],
                "values": words(column["values"]),
            }
            for column in named
        ],
        "label": marked[0] if marked else None,
    }


class PurposeForm(forms.Form):
    purpose = forms.CharField(
        label=_("What do you want to do with the data?"), widget=forms.Textarea(attrs={"rows": 3}), max_length=2000
    )


class AnswerForm(forms.Form):
    request = forms.UUIDField(widget=forms.HiddenInput)
    answer = forms.CharField(label=_("Answer"), required=False, max_length=1000)


class HandleForm(forms.Form):
    """A person, named by handle."""

    handle = forms.CharField(label=_("Handle"), max_length=40)

    def clean_handle(self) -> User:
        user = User.objects.filter(username=self.cleaned_data["handle"].strip().lstrip("@").lower()).first()
        if user is None:
            raise forms.ValidationError(_("Nobody has this handle."))
        return user


# --- Playground


class ChatForm(forms.Form):
    """A question for a chat model."""

    question = forms.CharField(
        label=_("Your question"), widget=forms.Textarea(attrs={"rows": 2, "class": "textarea"}), max_length=4000
    )

    def body(self) -> dict:
        messages = [{"role": "user", "content": self.cleaned_data["question"]}]
        return {"messages": messages, "max_tokens": 128}

    def said(self) -> str:
        return self.cleaned_data["question"]


class RowForm(forms.Form):
    """A field per column of the table that a model learned from, without the label."""

    def __init__(self, *args, schema: dict, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for column in schema["columns"]:
            if column["name"] != schema.get("label"):
                self.fields[column["name"]] = self._field(column)

    def body(self) -> dict:
        return {"input": {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}}

    def said(self) -> str:
        return ", ".join(f"{name}: {value}" for name, value in self.body()["input"].items())

    @staticmethod
    def _field(column: dict) -> forms.Field:
        shared = {"label": column["name"], "required": False, "help_text": column.get("description", "")}
        if column["type"] == "number":
            return forms.FloatField(**shared, widget=forms.NumberInput(attrs={"step": "any"}))
        if column["type"] == "integer":
            return forms.IntegerField(**shared)
        if column["type"] == "boolean":
            return forms.NullBooleanField(**shared)
        if column["type"] == "category" and column.get("values"):
            return forms.ChoiceField(**shared, choices=[("", "—"), *((value, value) for value in column["values"])])
        return forms.CharField(**shared, max_length=2000)


class PictureForm(forms.Form):
    """A picture for an image model."""

    image = forms.FileField(label=_("Picture"), help_text=_("PNG, JPEG or WebP, at most 1 MB."))

    def clean_image(self):
        file = self.cleaned_data["image"]
        if file.size > IMAGE_BYTES_MAX:
            raise forms.ValidationError(_("The picture is larger than 1 MB."))
        return file

    def body(self) -> dict:
        file = self.cleaned_data["image"]
        file.seek(0)
        return {"input": {"image": base64.b64encode(file.read()).decode()}}

    def said(self) -> str:
        return str(self.cleaned_data["image"].name)


class TextForm(forms.Form):
    """A text for a model that classifies texts."""

    text = forms.CharField(label=_("Text"), widget=forms.Textarea(attrs={"rows": 4}), max_length=8000)

    def body(self) -> dict:
        return {"input": self.cleaned_data["text"]}

    def said(self) -> str:
        return self.cleaned_data["text"]


def playground_form(model: ListedModel, datanet: Datanet, *, data=None, files=None, example=None) -> Any:
    """The form that asks a model: chat, a row (that starts as `example`), a picture or a text."""
    if model.engine in (ListedModel.Engine.RETRIEVAL, ListedModel.Engine.CONNECTED):
        return ChatForm(data)
    if datanet.kind == Datanet.Kind.TABULAR:
        return RowForm(data, schema=datanet.schema, initial=example)
    return PictureForm(data, files) if datanet.kind == Datanet.Kind.IMAGE else TextForm(data)


def words(text: str) -> list[str]:
    """The parts between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]
