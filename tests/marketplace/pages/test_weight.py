"""What a page makes a browser load, compressed as a server compresses it: a budget, page by page."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders

TEMPLATES = Path(__file__).resolve().parents[3] / "templates"
JS_BYTES_MAX, UPLOAD_JS_BYTES_MAX, CSS_BYTES_MAX = 25_000, 50_000, 20_000
SCRIPT = re.compile(r"""<script[^>]* src="{% static "([^"]+)" %}\"""")
STYLE = re.compile(r"""<link rel="stylesheet" href="{% static "([^"]+)" %}\"""")
IMPORT = re.compile(r"""^import .* from "\./([^"]+)";$""", re.MULTILINE)
PARTS = re.compile(r"""{% (?:extends|include) "([^"]+)\"""")
WITHOUT_HTMX = "{% block htmx %}{% endblock %}"


def pages() -> list[str]:
    """Every template that is a page: it stands on another one."""
    names = (str(file.relative_to(TEMPLATES)) for file in sorted(TEMPLATES.rglob("*.html")))
    return [name for name in names if "{% extends" in source(name)]


@cache
def source(name: str) -> str:
    file = TEMPLATES / name
    return file.read_text(encoding="utf-8") if file.exists() else ""


def scripts_of(name: str) -> set[str]:
    """What a page loads if every condition of its template holds."""
    found = set(SCRIPT.findall(source(name)))
    for part in PARTS.findall(source(name)):
        found |= scripts_of(part)
    if WITHOUT_HTMX in source(name):
        found -= {script for script in found if "htmx" in script}
    for script in list(found):
        found |= {f"js/{other}" for other in IMPORT.findall(text_of(script).decode())}
    return found


@cache
def text_of(static: str) -> bytes:
    found = finders.find(static)
    assert found, static
    return Path(found).read_bytes()


def weight(statics: set[str]) -> int:
    return sum(len(gzip.compress(text_of(static), 9)) for static in statics)


@pytest.mark.parametrize("name", pages())
def test_the_scripts_of_a_page_stay_within_its_budget(name):
    budget = UPLOAD_JS_BYTES_MAX if name == "marketplace/contribute/submission.html" else JS_BYTES_MAX

    assert weight(scripts_of(name)) <= budget


def test_the_styles_of_all_pages_stay_within_their_budget():
    """One set for every page, so that the second page loads none."""
    styles = set(STYLE.findall(source("base.html")))

    assert weight(styles) <= CSS_BYTES_MAX
    assert not any(STYLE.search(source(name)) for name in pages())


def test_the_heaviest_pages_are_weighed_with_all_they_load():
    assert {"js/receipt.js", "js/verify-receipt.js", "js/app.js"} <= scripts_of("marketplace/receipts/receipt.html")
    assert {"vendor/htmx-2.0.11.min.js", "js/playground.js"} <= scripts_of("marketplace/explore/model.html")
