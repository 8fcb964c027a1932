"""What is expensive to read and may be a little old. The cache may be gone: then it is read each time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.core.cache import cache
from redis.exceptions import RedisError

_NOTHING = object()


def kept(key: str, read: Callable[[], Any], *, for_s: int) -> Any:
    """What `read` says, at most `for_s` seconds old."""
    try:
        found = cache.get(key, _NOTHING)
    except RedisError:
        return read()
    if found is _NOTHING:
        found = read()
        with suppress(RedisError):
            cache.set(key, found, for_s)
    return found


def forget(key: str) -> None:
    """Read it anew the next time."""
    with suppress(RedisError):
        cache.delete(key)
