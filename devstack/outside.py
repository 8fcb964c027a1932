"""Servers that are not ours: DATABASE_URL and REDIS_URL, tried once so that a mistake is told in a sentence."""

from __future__ import annotations

import os

from devstack.machine import Missing
from devstack.processes import CLOSELY_HELD
from devstack.services import POSTGRES_OLDEST


def database() -> dict[str, str]:
    """The environment for an outside PostgreSQL.

    DATABASE_OWNER_URL may name the role that migrates, and DATABASE_SEQUENCER_URL one for the sequencer alone.

    Raises:
        Missing: it cannot be reached, or is too old.
    """
    import psycopg2

    url = os.environ["DATABASE_URL"]
    found = {name: os.environ.get(name) or url for name in ("DATABASE_URL", *CLOSELY_HELD)}
    for name, address in found.items():
        try:
            connection = psycopg2.connect(address, connect_timeout=5)
        except psycopg2.Error as error:
            raise Missing(f"{name} cannot be used: {str(error).strip()}") from None
        version = connection.server_version // 10_000
        connection.close()
        if version < POSTGRES_OLDEST:
            raise Missing(f"{name} is PostgreSQL {version}; {POSTGRES_OLDEST} or newer is needed.")
    # For every command of this site, whatever is set where it is called: a role that the sequencer does not use, but that
    # is named, would take its rights away. Empty: the user of the address.
    names = {"APP_DB_ROLE": "DATABASE_URL", "SEQUENCER_DB_ROLE": "DATABASE_SEQUENCER_URL"}
    return found | {role: os.environ.get(role, "") if os.environ.get(url) else "" for role, url in names.items()}


def queue() -> dict[str, str]:
    """The environment for an outside Valkey or Redis.

    Raises:
        Missing: it cannot be reached, or throws entries away when its memory is full.
    """
    import redis

    url = os.environ["REDIS_URL"]
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5)
        client.ping()
    except (redis.RedisError, ValueError) as error:
        raise Missing(f"REDIS_URL cannot be used: {error}") from None
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy")
    except redis.RedisError:  # managed servers often forbid CONFIG
        policy = None
    if policy not in (None, "noeviction"):
        raise Missing(f"REDIS_URL has maxmemory-policy {policy}: tasks could be thrown away. Set noeviction.")
    return {"REDIS_URL": url}
