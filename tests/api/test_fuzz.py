"""Generated requests against every operation, as five kinds of people: no 5xx, and nothing the schema does not describe."""

from __future__ import annotations

import os
import secrets
from collections import Counter
from unittest import SkipTest

import pytest
import schemathesis
from django.conf import settings
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as limits
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from marketplace.wsgi import application
from tests.api.operations import Operation, operations
from tests.api.test_authorisation import ACCESS, ROLES
from tests.api.world import client_of

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
MODES = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
# Per operation, mode and role: with 1 about 190 requests a role. A long run asks for more.
EXAMPLES = int(os.environ.get("API_FUZZ_EXAMPLES", "1"))


@pytest.fixture(scope="module")
def cases(world, one_connection) -> list[tuple[Operation, GenerationMode, Case]]:
    """Made once, since making them takes longer than asking: each kind of people sends the same ones."""
    described = schemathesis.openapi.from_wsgi("/api/schema/", application)
    return [
        (operation, mode, case)
        for operation in operations()
        for mode in MODES
        for case in _generated(described[operation.address][operation.method.upper()], mode)
    ]


@pytest.fixture(scope="module")
def one_connection():
    # As Django's own test client does: a request's end must not close the connection that the rollback needs.
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.mark.parametrize("role", ROLES)
def test_no_generated_request_breaks_the_site(world, cases, role):
    sessions = {name: _signed_in(world, name) for name in _names(role)}
    broken, statuses = [], Counter()
    for operation, mode, case in cases:
        _policy, (member, owner), _body, ids = ACCESS[operation.method, operation.route]
        known = {**world.ids, **{place: world.ids[other] for place, other in ids.items()}}
        if mode is GenerationMode.POSITIVE:  # well formed requests meet things that exist
            case.path_parameters.update({place: str(known[place]) for place in case.path_parameters})
        with transaction.atomic():
            response = case.call(**sessions[_name(role, member, owner)])
            transaction.set_rollback(True)
        statuses[response.status_code] += 1
        try:
            case.validate_response(response, checks=CHECKS)
        except schemathesis.core.failures.FailureGroup as found:
            broken += [f"{operation.method} {operation.address}: {one}" for one in found.exceptions]
    asked = statuses.total()
    print(f"As {role}: {asked} requests, answered {dict(sorted(statuses.items()))}")  # seen with -rP
    assert broken == [], "\n".join(broken)
    assert asked > len(operations())
    # Were everything refused, nothing would have been tried.
    assert sum(count for status, count in statuses.items() if status < 300) > len(operations()) // 12, statuses


def _generated(target, mode: GenerationMode) -> list:
    """Requests to one operation; none where nothing can be got wrong."""
    found: list = []

    @limits(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=target.as_strategy(generation_mode=mode))
    def collect(case):
        found.append(case)

    try:
        collect()
    except (Unsatisfiable, SkipTest):
        assert mode is GenerationMode.NEGATIVE
    return found


def _name(role: str, member: str, owner: str) -> str | None:
    return {"anonymous": None, "stranger": "zoe", "member": member, "owner": owner, "admin": "ada"}[role]


def _names(role: str) -> set[str | None]:
    return {_name(role, member, owner) for _policy, (member, owner), _body, _ids in ACCESS.values()}


def _signed_in(world, name: str | None) -> dict:
    if name is None:
        return {}
    csrf = secrets.token_hex(16)
    cookie = client_of(world.person(name)).cookies[settings.SESSION_COOKIE_NAME].value
    return {
        "cookies": {settings.SESSION_COOKIE_NAME: cookie, settings.CSRF_COOKIE_NAME: csrf},
        "headers": {"X-CSRFToken": csrf},
    }
