"""What the site tells browsers to refuse: foreign scripts, frames, guessed types, plain http."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

ROOT = Path(__file__).resolve().parents[2]
CSP = "Content-Security-Policy"
# Word for word: whoever loosens it changes this list too, and says why.
POLICY = [
    "base-uri 'none'",
    f"connect-src 'self' {settings.GATEWAY_URL}",
    "default-src 'none'",
    "font-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "img-src 'self'",
    "manifest-src 'self'",
    "media-src 'self'",
    "script-src 'self'",
    "style-src 'self'",
]
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# Answers without a database, as a site on https would give them.
ASK_BY_HTTPS = """
import django, json
django.setup()
from django.test import Client
client = Client()
print(json.dumps({
    "by https": dict(client.get("/r/verify_receipt.py", secure=True).headers),
    "by http": dict(client.get("/r/verify_receipt.py").headers),
    "cookies": [django.conf.settings.SESSION_COOKIE_SECURE, django.conf.settings.CSRF_COOKIE_SECURE],
}))
"""


def policy_of(answer) -> list[str]:
    """The directives; the middleware sends them in any order."""
    return sorted(answer.headers.get(CSP, "").split("; "))


@pytest.mark.parametrize(
    "address",
    [
        "/en/",
        "/fr/datanets/",
        "/accounts/login/",
        "/r/00000000-0000-4000-8000-000000000000",
        "/api/v1/me/",
    ],
)
def test_every_answer_says_what_a_browser_must_refuse(client, db, address):
    answer = client.get(address)

    assert policy_of(answer) == POLICY
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_a_site_on_https_is_never_spoken_to_in_the_clear():
    environment = os.environ | {"SITE_URL": "https://testserver", "DJANGO_SETTINGS_MODULE": "marketplace.settings"}

    done = subprocess.run(
        [sys.executable, "-c", ASK_BY_HTTPS],
        cwd=ROOT,
        env=environment | {"TESTING": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    told = json.loads(done.stdout)
    assert told["by https"]["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"
    assert told["by http"]["Location"] == "https://testserver/r/verify_receipt.py"
    assert told["cookies"] == [True, True]
