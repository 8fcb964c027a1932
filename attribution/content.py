"""Call content under seal: one AES-GCM blob per call, under a key of its own. Pure.

The call's key is wrapped under the site's CONTENT_KEY. Deleting the wrapped key erases the content everywhere, in
backups too. The call id is authenticated with both, so that a blob cannot be passed off as another call's.
"""

from __future__ import annotations

import secrets
from functools import lru_cache
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
KEY_BYTES = 32


class Unreadable(Exception):
    """The blob, its key or the call id do not belong together."""


def seal(site_key_hex: str, call_id: UUID, plaintext: bytes) -> tuple[bytes, bytes]:
    """Return (sealed content, wrapped key) for one call."""
    call_key = secrets.token_bytes(KEY_BYTES)
    return _encrypt(AESGCM(call_key), call_id, plaintext), _encrypt(_site_cipher(site_key_hex), call_id, call_key)


def open_sealed(site_key_hex: str, call_id: UUID, sealed: bytes, sealed_key: bytes) -> bytes:
    """Return what `seal` was given.

    Raises:
        Unreadable: something was changed, or belongs to another call.
    """
    call_key = _decrypt(_site_cipher(site_key_hex), call_id, sealed_key)
    return _decrypt(AESGCM(call_key), call_id, sealed)


@lru_cache(maxsize=2)
def _site_cipher(site_key_hex: str) -> AESGCM:
    return AESGCM(bytes.fromhex(site_key_hex))


def _encrypt(cipher: AESGCM, call_id: UUID, plaintext: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, call_id.bytes)


def _decrypt(cipher: AESGCM, call_id: UUID, sealed: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], call_id.bytes)
    except (InvalidTag, ValueError) as error:
        raise Unreadable("This content cannot be opened with this key.") from error
