"""What a Datanet's schema may say. Pure but for the words of its errors.

tabular: {"columns": [{"name", "type", "required", "min", "max", "values"}], "label": column | None, "label_type":
"category" | "number"}. text and image: {} or {"labels": [names]}.
"""

from __future__ import annotations

from django.utils.translation import gettext as _

from .errors import Invalid

TYPES = ("number", "integer", "text", "boolean", "category")
COLUMNS_MAX = 200


def checked(kind: str, schema: dict) -> dict:
    """The schema in its full form. Raises Invalid with a sentence that names what is wrong."""
    if kind == "tabular":
        return _table(schema)
    labels = schema.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise Invalid(_("Labels must be a list of names."))
    return {"labels": [label.strip()[:120] for label in labels]} if labels else {}


def _table(schema: dict) -> dict:
    columns = schema.get("columns")
    if not isinstance(columns, list) or not 1 <= len(columns) <= COLUMNS_MAX:
        raise Invalid(_("A table needs 1 to %(limit)s columns.") % {"limit": COLUMNS_MAX})
    columns = [_column(column) for column in columns]
    names = [column["name"] for column in columns]
    if len({name.casefold() for name in names}) != len(names):
        raise Invalid(_("Two columns have the same name."))
    label = schema.get("label") or None
    if label is None:
        return {"columns": columns, "label": None}
    if label not in names:
        raise Invalid(_("The label %(label)s is not one of the columns.") % {"label": label})
    type_of_label = next(column["type"] for column in columns if column["name"] == label)
    wanted = schema.get("label_type") or ("number" if type_of_label in ("number", "integer") else "category")
    if wanted not in ("category", "number") or (wanted == "number" and type_of_label not in ("number", "integer")):
        raise Invalid(_("A label is a category, or a number in a column of numbers."))
    return {"columns": columns, "label": label, "label_type": wanted}


def _column(column: object) -> dict:
    if not isinstance(column, dict) or not isinstance(column.get("name"), str) or not column["name"].strip():
        raise Invalid(_("Every column needs a name."))
    name, type_ = column["name"].strip()[:120], column.get("type", "text")
    if type_ not in TYPES:
        raise Invalid(_("%(column)s has an unknown type.") % {"column": name})
    found: dict = {"name": name, "type": type_, "required": bool(column.get("required", False))}
    for bound in ("min", "max"):
        if column.get(bound) is not None:
            if type_ not in ("number", "integer") or not isinstance(column[bound], int | float):
                raise Invalid(_("%(column)s: only numbers have bounds.") % {"column": name})
            found[bound] = column[bound]
    if "min" in found and "max" in found and found["min"] > found["max"]:
        raise Invalid(_("%(column)s: the lower bound is above the upper one.") % {"column": name})
    if column.get("values"):
        listed = column["values"]
        if type_ != "category" or not isinstance(listed, list) or not all(isinstance(value, str) for value in listed):
            raise Invalid(_("%(column)s: only categories list their values, as texts.") % {"column": name})
        found["values"] = list(listed)
    if column.get("description"):
        found["description"] = str(column["description"])[:300]
    return found
