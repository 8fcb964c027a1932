"""What the API offers, read from its URL conf: every address with its methods, and the table of docs/api.md."""

from __future__ import annotations

import re
from dataclasses import dataclass

from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator

from marketplace.api.account import Nothing
from marketplace.api.urls import urlpatterns

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one address, as in the URL conf."""

    method: str
    route: str

    @property
    def address(self) -> str:
        return "/api/v1/" + re.sub(r"<\w+:(\w+)>", r"{\1}", self.route)


def routes() -> list[URLPattern]:
    """Every address but the one that catches the rest."""
    return [one for one in urlpatterns if one.callback.cls is not Nothing]


def operations() -> list[Operation]:
    """Every method that an address answers."""
    found = []
    for pattern in routes():
        for method in METHODS:
            if hasattr(pattern.callback.cls, method):
                found.append(Operation(method, str(pattern.pattern)))
    return found


def schema() -> dict:
    """The OpenAPI document of the whole API."""
    return SchemaGenerator().get_schema(request=None, public=True)


def table() -> str:
    """The table of docs/api.md: one row per operation."""
    described = schema()["paths"]
    rows = [
        f"| `{one.method.upper()} {one.address}` | {described[one.address][one.method]['summary']} |"
        for one in operations()
    ]
    return "\n".join(["| address | what it does |", "|---|---|", *rows])
