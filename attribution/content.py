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
    fresh = secrets.token_bytes(KEY_BYTES + 2 * NONCE_BYTES)  # at once: each time is a system call
    call_key, nonce, key_nonce = fresh[:KEY_BYTES], fresh[KEY_BYTES:-NONCE_BYTES], fresh[-NONCE_BYTES:]
    sealed = nonce + AESGCM(call_key).encrypt(nonce, plaintext, call_id.bytes)
    return sealed, key_nonce + _site_cipher(site_key_hex).encrypt(key_nonce, call_key, call_id.bytes)


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


def _decrypt(cipher: AESGCM, call_id: UUID, sealed: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], call_id.bytes)
    except (InvalidTag, ValueError) as error:
        raise Unreadable("This content cannot be opened with this key.") from error
