"""The description of the API: valid, complete, and the same as docs/api.md."""

from __future__ import annotations

from pathlib import Path

from django.core.management import call_command

from tests.api.operations import operations, schema, table

DOCS = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def test_the_schema_is_valid_and_without_warnings(tmp_path):
    call_command("spectacular", "--validate", "--fail-on-warn", "--file", str(tmp_path / "schema.yml"))


def test_the_schema_describes_every_address_and_method_and_nothing_else():
    described = {(method, path) for path, methods in schema()["paths"].items() for method in methods}

    assert described == {(one.method, one.address) for one in operations()}


def test_every_operation_says_how_it_refuses():
    for path, methods in schema()["paths"].items():
        for method, operation in methods.items():
            refusals = {code for code in operation["responses"] if code.startswith("4")}
            wanted = {"400", "401", "403", "404"} | ({"409", "415", "422"} if method != "get" else set())
            assert wanted <= refusals, (method, path)


def test_every_request_body_refuses_fields_it_does_not_know():
    components = schema()["components"]["schemas"]

    requests = {name: one for name, one in components.items() if name.endswith("Request")}

    assert requests
    assert [name for name, one in requests.items() if one.get("additionalProperties") is not False] == []


def test_every_amount_that_is_shown_stands_in_both_forms():
    for name, one in schema()["components"]["schemas"].items():
        if name.endswith("Request"):
            continue
        fields = set(one.get("properties", {}))
        nano = {field.removesuffix("_nano") for field in fields if field.endswith("_nano")}
        whole = {field.removesuffix("_open") for field in fields if field.endswith("_open")}
        assert nano == whole, name


def test_the_table_in_the_documentation_is_the_url_conf():
    assert table() in DOCS.read_text(encoding="utf-8"), f"docs/api.md lacks this table:\n{table()}"


def test_the_reference_page_shows_the_table(client, db):
    page = client.get("/api/docs/").content.decode()

    assert "<table>" in page
    assert all(one.address in page for one in operations())


def test_the_schema_is_served_without_a_cache(client, db, settings):
    nobody_listens = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:9/0"}
    settings.CACHES = {"default": nobody_listens}

    assert client.get("/api/schema/").status_code == 200


def test_the_schema_is_served_to_everybody(client, db):
    answer = client.get("/api/schema/", headers={"accept": "application/json"})

    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.")
