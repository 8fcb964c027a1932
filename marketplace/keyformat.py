"""The form of an API key: `open_sk_`, or `open_test_` for test money, + 30 base62 characters + 6 characters of CRC32. Pure.

The checksum lets a wrong or half-copied key be refused without a look-up, and lets scanners recognise a leaked one.
"""

from __future__ import annotations

import hashlib
import secrets
import string
import zlib

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
PREFIX, TEST_PREFIX = "open_sk_", "open_test_"
SECRET_CHARS = 30
CHECK_CHARS = 6


def new_secret(*, is_test: bool = False) -> str:
    """Return a fresh key (179 bits of randomness). It is shown once; only `digest` of it is stored."""
    body = (TEST_PREFIX if is_test else PREFIX) + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARS))
    return body + _checksum(body)


def is_well_formed(secret: str) -> bool:
    """Whether a text has the form and the checksum of a key. Says nothing about whether it exists."""
    body, check = secret[:-CHECK_CHARS], secret[-CHECK_CHARS:]
    return (
        secret.startswith((PREFIX, TEST_PREFIX))
        and len(secret) == len(_prefix_of(secret)) + SECRET_CHARS + CHECK_CHARS
        and secret.isascii()
        and check == _checksum(body)
    )


def digest(secret: str) -> bytes:
    """Return the SHA-256 that is stored. A fast hash is right here: the secret is random, not chosen."""
    return hashlib.sha256(secret.encode()).digest()


def shown_prefix(secret: str) -> str:
    """Return what lists and snippets show of a key."""
    return secret[: len(_prefix_of(secret)) + 4]


def _prefix_of(secret: str) -> str:
    return TEST_PREFIX if secret.startswith(TEST_PREFIX) else PREFIX


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode())
    digits = []
    for _ in range(CHECK_CHARS):
        value, rest = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[rest])
    return "".join(reversed(digits))
