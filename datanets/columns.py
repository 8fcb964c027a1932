"""The columns of a Datanet, as its exports and statistics see them. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """type: number | integer | boolean | category | text, as in a table's schema."""

    name: str
    type: str


_TEXT = (Column("title", "text"), Column("text", "text"), Column("label", "category"), Column("source_url", "text"))
_IMAGE = (Column("name", "text"), Column("width", "integer"), Column("height", "integer"), Column("label", "category"))


def columns_of(kind: str, schema: dict) -> tuple[Column, ...]:
    """The columns whose values stand in a record's body under the same names."""
    if kind == "tabular":
        return tuple(Column(column["name"], column["type"]) for column in schema["columns"])
    return _TEXT if kind == "text" else _IMAGE


def label_of(kind: str, schema: dict) -> str | None:
    """The name of the column that holds the label, or None."""
    return schema.get("label") if kind == "tabular" else "label"
