"""Who may open which page: every name and method outside the API, for five kinds of people, own and others' objects."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from urllib.parse import urlsplit

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from django.conf import settings
from django.db import connection, transaction
from django.test import Client
from django.urls import get_resolver, reverse
from django.urls.resolvers import URLResolver

from datanets import media, storage
from tests.api.page_policies import ACCESS, AWAY, LOGIN, MAY, POLICIES
from tests.api.test_authorisation import ACCESS as API_ACCESS
from tests.api.test_authorisation import ROLES
from tests.api.world import World
from tests.datanets.cast import person
from tests.marketplace.test_security_headers import POLICY, policy_of

OTHER_REASONS = (400, 402, 409, 422)
METHODS = ("get", "post", "put", "patch", "delete")
SIGN_IN = "/accounts/login/"
AGAIN = "again"  # is asked for the password first, which nobody here is: they have just given it


def names(patterns=None, prefix: str = "", above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name, its parameters) of every page; the API has a test of its own."""
    for one in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(one.pattern)
        places = (*above, *one.pattern.regex.groupindex)
        if not isinstance(one, URLResolver):
            yield one.name, places
        elif route != "api/v1/":
            yield from names(one.url_patterns, route, places)


PARAMETERS = dict(names())


@pytest.fixture(scope="module")
def site(world):
    """The world with people who have a password, and what only addresses outside the API are filled with."""
    for name in ("alice", "dan", "zoe", "ada"):
        user = person(name)
        user.set_password("wren nests in the wall 7")
        user.save(update_fields=["password"])
    mina = person("mina")
    TOTP.activate(mina, generate_totp_secret())
    RecoveryCodes.activate(mina)
    passkey = Authenticator.objects.create(user=mina, type="webauthn", data={"name": "Phone", "credential": {}})
    picture = storage.new_key("records")
    storage.put(picture, b"\x89PNG")
    more = {"page": "api", "tab": "versions", "key": "set-password", "uidb36": "1", "pk": passkey.pk}
    return World(world.ids | more | {"token": media.url_of(picture).rpartition("/")[2]})


def test_every_page_has_a_policy_for_reading_or_acting():
    assert {name for _method, name, *_which in ACCESS} == set(PARAMETERS)


def test_every_policy_of_a_page_speaks_of_every_kind_of_person():
    assert all(set(policy) == set(ROLES) for policy in POLICIES.values())


@pytest.mark.parametrize("role", ROLES)
def test_each_kind_of_person_is_answered_as_the_policy_says(site, role):
    wrong = []
    for cell in ACCESS:
        expected = _policy(cell)[role]
        found = _outcome(*_ask(site, cell, role))
        if found != expected:
            wrong.append(f"{' '.join(cell)}: {found}, not {expected}")

    assert wrong == []


@pytest.mark.parametrize("role", ("anonymous", "stranger", "admin"))
def test_a_method_that_a_page_does_not_declare_is_refused_or_reads(site, role):
    """A page that only reads may answer any method: then it must be as careful as with GET, and change nothing."""
    declared = {(method, name) for method, name, *_which in ACCESS}
    wrong = []
    for name in PARAMETERS:
        readings = [cell for cell in ACCESS if cell[:2] == ("get", name)]
        cell = next((one for one in ACCESS if one[1] == name), None)
        for method in METHODS:
            if (method, name) in declared:
                continue
            asked = (method, *(readings[0] if readings else cell)[1:])
            found = _outcome(*_ask(site, asked, role, like=readings[0] if readings else cell, form={}))
            allowed = {LOGIN, AWAY, 401, 403, 404, 405, 412, 429}
            if readings:
                allowed.add(_policy(readings[0])[role])
            if found not in allowed:
                wrong.append(f"{method} {name}: {found}")

    assert wrong == []


def test_every_page_that_anybody_may_read_forbids_foreign_scripts(site):
    """media has a policy of its own, stricter still: nothing runs there at all."""
    public = [cell for cell in ACCESS if cell[0] == "get" and _policy(cell)["anonymous"] == MAY and cell[1] != "media"]

    loose = [cell[1] for cell in public if policy_of(_ask(site, cell, "anonymous")[0]) != POLICY]

    assert len(public) > 25
    assert loose == []


def test_both_matrices_together_say_how_many_cells_they_hold(capsys):
    pages, api = len(ACCESS) * len(ROLES), len(API_ACCESS) * len(ROLES)

    with capsys.disabled():
        print(f"\nAuthorisation cells: {pages} of pages, {api} of the API, {pages + api} in all.")
    assert pages >= 5 * len(PARAMETERS)


def _policy(cell) -> dict:
    policy = ACCESS[cell][0]
    return POLICIES[policy] if isinstance(policy, str) else policy


def _ask(world, cell, role, *, like=None, form=None):
    _policy_name, (member, owner), given, ids = ACCESS[like or cell]
    name = {"anonymous": None, "stranger": "zoe", "member": member, "owner": owner, "admin": "ada"}[role]
    method, page = cell[:2]
    values = world.ids | {place: world.ids.get(other, other) for place, other in ids.items()}
    address = reverse(page, kwargs={place: values[place] for place in PARAMETERS[page]})
    given = form if form is not None else given(world.ids) if callable(given) else given
    client = Client(raise_request_exception=False)
    if name:
        client.cookies[settings.SESSION_COOKIE_NAME] = session_of(name)
    with transaction.atomic():
        if page.startswith("tus_"):
            answer = getattr(client, method)(address, **(given or {}))
        else:
            answer = getattr(client, method)(address, given or {})
        transaction.set_rollback(True)
    return answer, page


def session_of(name: str) -> str:
    """The cookie of somebody who gave the password just now: some pages ask for that again after a while."""
    return _session_in(connection.settings_dict["NAME"], name)  # each module has a database of its own


@cache
def _session_in(_database: str, name: str) -> str:
    user = person(name)
    client = Client()
    client.force_login(user)
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time(), "reauthenticated": True}]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()
    return session.session_key


def _outcome(answer, page: str):
    """MAY, LOGIN, AWAY, AGAIN, or the status of a refusal."""
    if answer.status_code not in (301, 302, 303):
        return MAY if answer.status_code < 300 or answer.status_code in OTHER_REASONS else answer.status_code
    target = urlsplit(answer["Location"]).path
    if target == SIGN_IN and page != "account_login":
        return LOGIN
    if target in (SIGN_IN, "/") and page.startswith(("account_", "mfa_")):
        return AWAY
    return AGAIN if target.endswith("/reauthenticate/") and "reauthenticate" not in page else MAY
