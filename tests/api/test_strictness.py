"""What the API refuses to understand: unknown fields, wrong types, characters and sizes that no database keeps."""

from __future__ import annotations

import json

import pytest
from django.db import transaction
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate

from accounts.models import Consent
from datanets.models import Datanet
from marketplace.api.base import BODY_BYTES_MAX, ApiView
from marketplace.models import ApiKey
from tests.api.world import client_of, program_of
from tests.datanets.cast import make_datanet, person

DATANET = {"name": "Mine", "purpose": "Tests", "kind": "text", "licence": "CC0-1.0", "rights_statement": "I may."}


@pytest.fixture
def alice(db) -> APIClient:
    return client_of(person("alice"))


def test_a_field_that_is_not_listed_is_refused_and_nothing_is_made(alice):
    for name, value in {"owner": "bob", "id": "x", "created_at": "2020-01-01", "is_staff": True}.items():
        answer = alice.post("/api/v1/datanets/", DATANET | {name: value}, format="json")

        assert answer.status_code == 400
        assert name in answer.json()["fields"]
    assert not Datanet.objects.exists()


def test_a_misspelt_limit_of_a_key_makes_no_key_without_one(alice):
    answer = alice.post("/api/v1/keys/", {"name": "Mine", "spend_cap": "5"}, format="json")

    assert (answer.status_code, ApiKey.objects.count()) == (400, 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 0),
        ("name", True),
        ("name", None),
        ("name", ["Mine"]),
        ("name", "with\0nul"),
        ("name", "\ud800"),
        ("name", "x" * 121),
        ("approvals_needed", "2"),
        ("approvals_needed", 2.0),
        ("approvals_needed", True),
        ("export_allowed", "yes"),
        ("export_allowed", 1),
        ("kind", 0),
        ("topics", "medicine"),
        ("schema", {"columns": 5}),
        ("schema", {"columns": [{"name": "a", "type": "number", "min": 10**400}]}),
        ("schema", {"columns": [{"name": "a", "type": "number", "is_label": True}]}),
        ("training_fee_nano", 5),
        ("training_fee_nano", "-5"),
        ("training_fee_nano", "05"),
        ("training_fee_nano", "5.0"),
        ("training_fee_nano", "9999999999999999999"),
        ("training_fee_nano", "٥"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_field(alice, field, value):
    answer = alice.post("/api/v1/datanets/", json.dumps(DATANET | {field: value}), content_type="application/json")

    assert answer.status_code == 400
    assert field in answer.json()["fields"]
    assert not Datanet.objects.exists()


@pytest.mark.parametrize("body", ["", "[]", "5", '"text"', "{", "nul", "{}{}", "[" * 100_000, '{"name": NaN}'])
def test_a_body_that_is_no_json_object_is_refused(alice, body):
    answer = alice.post("/api/v1/datanets/", body, content_type="application/json")

    assert answer.status_code == 400
    assert answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(alice):
    body = json.dumps(DATANET | {"guidelines": "x" * BODY_BYTES_MAX})

    answer = alice.post("/api/v1/datanets/", body, content_type="application/json")

    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_a_body_of_another_kind_is_refused(alice):
    answer = alice.post("/api/v1/datanets/", "name=Mine", content_type="application/x-www-form-urlencoded")

    assert answer.status_code == 415


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "after=x", "after=[]", "after=%5B1%2C2%5D", "page=2", "after=%00"]
)
def test_a_query_that_makes_no_sense_is_refused(alice, query):
    for address in ("datanets", "submissions", "wallet/statement", "ledger/entries"):
        answer = alice.get(f"/api/v1/{address}/?{query}")

        assert answer.status_code == 400, (address, answer.content)


def test_a_business_rule_is_refused_in_the_same_shape(alice):
    answer = alice.post("/api/v1/datanets/", DATANET | {"licence": "mine"}, format="json")

    assert answer.status_code == 422
    assert answer.json() == {
        "error": {"code": "invalid_value", "message": "This licence is not in the list."},
        "fields": {},
    }


def test_what_only_the_database_refuses_is_a_conflict_and_no_fault(alice):
    class Twice(ApiView):
        def post(self, request):
            for _ in range(2):
                Consent.objects.create(user=request.user, document="terms", version="1")

    request = APIRequestFactory().post("/", {}, format="json")
    force_authenticate(request, person("alice"))
    with transaction.atomic():
        answer = Twice.as_view()(request)

    assert (answer.status_code, answer.data["error"]["code"]) == (409, "changed_meanwhile")
    assert not Consent.objects.filter(version="1").exists()


@pytest.mark.parametrize(
    ("method", "address", "headers", "status", "code"),
    [
        ("put", "/api/v1/me/", {}, 405, "method_not_allowed"),
        ("get", "/api/v1/me/", {"accept": "text/csv"}, 406, "not_acceptable"),
        ("post", "/api/v1/datanets/", {"content-type": "text/plain"}, 415, "unsupported_media_type"),
    ],
)
def test_a_request_that_no_address_takes_is_refused_in_the_same_shape(alice, method, address, headers, status, code):
    answer = alice.generic(
        method.upper(), address, "x", headers.get("content-type", "application/json"), headers=headers
    )

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()) == {"error", "fields"}


def test_pages_follow_each_other_without_gap_or_repetition(alice):
    made = {make_datanet(f"Number {n}", kind="text").slug for n in range(7)}

    address, seen = "/api/v1/datanets/?limit=3", []
    while address:
        page = alice.get(address).json()
        seen += [row["path"].split("/")[1] for row in page["results"]]
        address = page["next"]

    assert len(seen) == 7
    assert set(seen) == made


def test_a_list_costs_the_same_queries_whatever_its_size(alice, django_assert_max_num_queries):
    for n in range(12):
        make_datanet(f"Number {n}", kind="text")

    for limit in (1, 12):
        with django_assert_max_num_queries(6):
            assert len(alice.get(f"/api/v1/datanets/?limit={limit}").json()["results"]) == limit


def test_a_token_that_is_not_known_is_401(db):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Token nothing")

    answer = client.get("/api/v1/me/")

    assert (answer.status_code, set(answer.json()["error"])) == (401, {"code", "message"})


def test_an_act_by_session_needs_its_csrf_token(db):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(person("alice"))

    assert client.get("/api/v1/me/").status_code == 200
    assert client.post("/api/v1/datanets/", DATANET, format="json").status_code == 403


def test_an_admin_without_a_second_factor_does_nothing_by_program_where_one_is_required(db, settings):
    settings.REQUIRE_MFA = True

    answer = program_of(person("ada", is_staff=True)).get("/api/v1/admin/revenue/")

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "second_factor_required")
