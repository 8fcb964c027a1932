"""Generated requests against every operation, as five kinds of people: no 5xx, and nothing the schema does not describe."""

from __future__ import annotations

import secrets

import pytest
import schemathesis
from django.conf import settings
from django.db import transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from marketplace.wsgi import application
from tests.api.operations import operations
from tests.api.test_authorisation import ACCESS, ROLES
from tests.api.world import client_of

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
EXAMPLES = 1  # per operation, mode and role: about 190 requests a role


@pytest.fixture(scope="module")
def described(world):
    return schemathesis.openapi.from_wsgi("/api/schema/", application)


@pytest.mark.parametrize("role", ROLES)
def test_no_generated_request_breaks_the_site(world, described, role):
    sessions = {name: _signed_in(world, name) for name in _names(role)}
    asked = 0
    for operation in operations():
        _policy, (member, owner), _body, ids = ACCESS[operation.method, operation.route]
        name = {"anonymous": None, "stranger": "zoe", "member": member, "owner": owner, "admin": "ada"}[role]
        target = described[operation.address][operation.method.upper()]
        known = {**world.ids, **{place: world.ids[other] for place, other in ids.items()}}
        for mode in MODES:
            try:
                strategy = target.as_strategy(generation_mode=mode)
            except Exception as nothing_to_get_wrong:  # an address without anything to fill in
                assert mode is GenerationMode.NEGATIVE, nothing_to_get_wrong
                continue

            @limits(
                max_examples=EXAMPLES,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def ask(case, mode=mode, known=known, session=sessions[name]):
                nonlocal asked
                if mode is GenerationMode.POSITIVE:  # well formed requests meet things that exist
                    for place in case.path_parameters:
                        case.path_parameters[place] = str(known[place])
                with transaction.atomic():
                    response = case.call(**session)
                    transaction.set_rollback(True)
                asked += 1
                case.validate_response(response, checks=CHECKS)

            ask()
    assert asked > len(operations())


def _names(role: str) -> set[str | None]:
    return {
        {"anonymous": None, "stranger": "zoe", "member": member, "owner": owner, "admin": "ada"}[role]
        for _policy, (member, owner), _body, _ids in ACCESS.values()
    }


def _signed_in(world, name: str | None) -> dict:
    if name is None:
        return {}
    csrf = secrets.token_hex(16)
    cookie = client_of(world.person(name)).cookies[settings.SESSION_COOKIE_NAME].value
    return {
        "cookies": {settings.SESSION_COOKIE_NAME: cookie, settings.CSRF_COOKIE_NAME: csrf},
        "headers": {"X-CSRFToken": csrf},
    }
