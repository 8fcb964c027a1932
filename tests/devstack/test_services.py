import os

import psycopg2
import pytest
import redis


def test_each_process_that_runs_tests_has_a_cluster_with_three_roles():
    with psycopg2.connect(os.environ["DATABASE_SUPERUSER_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolname, rolsuper, rolcreatedb FROM pg_roles WHERE rolname LIKE 'openledger%' ORDER BY 1"
        )
        assert cursor.fetchall() == [("openledger_app", False, False), ("openledger_owner", False, True)]


def test_the_database_asks_for_a_password():
    address = os.environ["DATABASE_SUPERUSER_URL"]
    without = address.replace(address.split("postgres:")[2].split("@")[0], "wrong")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(without)


def test_the_queue_never_evicts():
    assert (
        redis.Redis.from_url(os.environ["REDIS_URL"]).config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    )
