"""What comes in is exactly what it says: text is text, a number a number, and an unknown field is refused.

DRF's own fields turn `0` into "0" and "yes" into True, and serializers drop what they do not know: a typing error in the
name of a limit would create a key without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.utils.translation import gettext_lazy as _
from drf_spectacular.extensions import OpenApiSerializerExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from .. import pricing

JSON_CHARS_MAX = 100_000
_NANO = r"^(0|[1-9][0-9]{0,18})$"


class Strict(serializers.Serializer):
    """What a request may say. Fields it does not know are refused, so nothing can be set that is not listed here."""

    def to_internal_value(self, data):
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                raise serializers.ValidationError({name: [_("This field is not known.")] for name in unknown})
        return super().to_internal_value(data)


class _NothingElse(OpenApiSerializerExtension):
    """`additionalProperties: false` for requests."""

    target_class = Strict
    match_subclasses = True

    def map_serializer(self, auto_schema, direction):
        return auto_schema._map_serializer(self.target, direction, bypass_extensions=True) | {
            "additionalProperties": False
        }


class Text(serializers.CharField):
    """Text, as it was sent: numbers and booleans are no text."""

    def __init__(self, *, max_length: int, **kwargs):
        super().__init__(max_length=max_length, trim_whitespace=False, **kwargs)

    def to_internal_value(self, data):
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class Choice(serializers.ChoiceField):
    """One of these words."""

    def to_internal_value(self, data):
        if not isinstance(data, str):
            self.fail("invalid_choice", input=data)
        return super().to_internal_value(data)


class Whole(serializers.IntegerField):
    """A whole number of JSON: not "5", not 5.0, not true."""

    def __init__(self, *, min_value: int = 0, max_value: int = 2**31 - 1, **kwargs):
        super().__init__(min_value=min_value, max_value=max_value, **kwargs)

    def to_internal_value(self, data):
        if type(data) is not int:
            self.fail("invalid")
        return super().to_internal_value(data)


class Number(serializers.FloatField):
    """A number of JSON, whole or not."""

    def to_internal_value(self, data):
        if type(data) not in (int, float) or abs(data) > 1e300:
            self.fail("invalid")
        return data


class RecordId(Whole):
    """The number of a record."""

    def __init__(self, **kwargs):
        super().__init__(min_value=1, max_value=2**63 - 1, **kwargs)


class YesNo(serializers.BooleanField):
    """true or false of JSON."""

    def to_internal_value(self, data):
        if type(data) is not bool:
            self.fail("invalid", input=data)
        return data


class Id(serializers.UUIDField):
    """A uuid, as text."""

    def to_internal_value(self, data):
        if not isinstance(data, str | UUID):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class Moment(serializers.DateTimeField):
    """A moment in ISO 8601."""

    def to_internal_value(self, value):
        if not isinstance(value, str):
            self.fail("invalid", format="ISO 8601")
        try:
            return super().to_internal_value(value)
        except OverflowError:  # the year 9999 in a zone behind UTC
            self.fail("invalid", format="ISO 8601")


@extend_schema_field({"type": "string", "pattern": _NANO, "description": "nano-OPEN, whole", "example": "24000000"})
class Amount(serializers.Field):
    """nano-OPEN as text of digits: numbers of JSON lose their last digits in many languages."""

    default_error_messages = {"invalid": _('Write whole nano-OPEN as text of digits, such as "24000000".')}

    def to_internal_value(self, data):
        if not isinstance(data, str) or not re.fullmatch(_NANO, data) or int(data) >= 2**63:
            self.fail("invalid")
        return int(data)

    def to_representation(self, value):
        return str(value)


@extend_schema_field(OpenApiTypes.OBJECT)
class Values(serializers.JSONField):
    """A JSON object that a database can keep: no NUL, no broken characters, not too large."""

    default_error_messages = {
        "invalid_object": _("This must be a JSON object."),
        "unstorable": _("This holds characters that cannot be stored, or is too large."),
    }

    def to_internal_value(self, data):
        found = super().to_internal_value(data)
        if not isinstance(found, dict):
            self.fail("invalid_object")
        try:
            text = json.dumps(found, ensure_ascii=False)
            text.encode()
        except (ValueError, RecursionError):
            self.fail("unstorable")
        if "\\u0000" in text or len(text) > JSON_CHARS_MAX:
            self.fail("unstorable")
        return found


# --- What goes out


@extend_schema_field(
    {"type": "string", "pattern": r"^-?\d+$", "description": "nano-OPEN, whole", "example": "24000000"}
)
class Nano(serializers.Field):
    """An amount as whole nano-OPEN, in text."""

    def to_representation(self, value) -> str:
        return str(int(value))


@extend_schema_field(
    {"type": "string", "pattern": r"^-?\d+\.\d{9}$", "description": "OPEN, exact", "example": "0.024000000"}
)
class Open(serializers.Field):
    """The same amount in OPEN, with all nine places."""

    def to_representation(self, value) -> str:
        return pricing.nano_to_open(int(value))


def money(source: str, *, nullable: bool = False) -> tuple[Nano, Open]:
    """Both forms of an amount: `cost_nano, cost_open = money("cost_nano")`."""
    # Its own name says where the first one is; REST framework refuses to hear it twice.
    elsewhere: dict[str, Any] = {"source": source} if "." in source else {}
    nano = Nano(read_only=True, allow_null=nullable, **elsewhere)
    return nano, Open(source=source, read_only=True, allow_null=nullable)


@extend_schema_field(OpenApiTypes.OBJECT)
class Anything(serializers.Field):
    """A JSON value that is passed on as it is."""

    def to_representation(self, value):
        return value


@extend_schema_field({"description": "A JSON value of the type that its rule has."})
class AnyValue(Anything):
    """A JSON value that need not be an object."""


class Shown(serializers.Serializer):
    """What an answer says. Written only."""

    def get_fields(self):
        found = super().get_fields()
        for field in found.values():
            field.read_only = True
        return found
