"""Several gateway processes on one port: who dies is replaced, its money comes back, and all know the same keys."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from django.conf import settings
from django.db import connection

from devstack.children import free_port
from ledger import chart
from ledger import services as ledger
from marketplace import keys, reaping
from marketplace.gateway import config
from marketplace.models import ApiKey
from tests.gateway.conftest import Gateway, application_url, running_gateway, wait_for, wait_until
from tests.gateway.shop import CALL_NANO, OPEN
from tests.processes import ROOT

# Keys are kept for so long that only a notification can tell of a revocation.
TWO = {"GATEWAY_WORKERS": "2", "GATEWAY_KEY_CACHED_S": "3600"}


@pytest.fixture
def gateway(shop) -> Iterator[Gateway]:
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0], **TWO) as running:
        wait_until(lambda: len(workers(running)) == 2)
        yield running


def workers(gateway: Gateway) -> set[int]:
    """The process ids of those that serve: they live, and have the lock of their name."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE l.locktype = 'advisory' AND l.mode = 'ShareLock' AND a.datname = current_database()"
            " AND a.application_name = 'gateway leases'"
        )
        locks = cursor.fetchone()[0]
    path = f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children"
    with open(path) as file:
        children = {int(pid) for pid in file.read().split()}
    return children if locks == len(children) else set()


def owners(buyer) -> set[str]:
    return {hold.owner for hold in ledger.open_holds(chart.wallet(buyer.pk))}


def test_two_processes_answer_and_one_that_is_killed_is_replaced_and_gives_its_money_back(shop, gateway):
    # Given a buyer whose calls come to both, so that each holds some of the money
    dan, key = shop.buyer("dan-two", OPEN)

    def both_hold() -> bool:
        assert gateway.classify(key).status_code == 200
        return len(owners(dan)) == 2

    wait_until(both_hold)
    before, pids = owners(dan), workers(gateway)

    # When one is killed
    os.kill(min(pids), signal.SIGKILL)

    # Then another one takes its place, and what it held is released, and nothing else
    wait_until(lambda: len(workers(gateway) - pids) == 1 and len(workers(gateway)) == 2)
    wait_until(lambda: reaping.Reaper(grace_s=0).reap() > 0)
    assert len(owners(dan)) == 1 and owners(dan) < before

    # And both answer again, until they are told to end: then nothing is held
    wait_until(both_hold)
    assert not owners(dan) <= before
    assert gateway.stop() == 0
    assert owners(dan) == set()
    assert shop.balance_nano(dan) == OPEN - sum(call.cost_nano for call in dan.calls.all())


def test_a_wallet_is_spent_to_its_end_over_several_processes_and_nothing_of_it_is_stranded(shop, gateway):
    # Given a wallet for exactly forty calls, and 64 clients that are spread over both processes
    dan, key = shop.buyer("dan-spends", 40 * CALL_NANO)
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: gateway.classify(key).status_code, range(96)))
    assert set(answers) == {200, 402}

    # When a client goes on, on whichever process, then all of it can be spent, and no more
    wait_until(lambda: gateway.classify(key).status_code == 402 and shop.balance_nano(dan) == 0)
    assert dan.calls.filter(status="succeeded").count() == 40
    assert sum(call.cost_nano for call in dan.calls.all()) == 40 * CALL_NANO
    wait_until(lambda: owners(dan) == set())


def test_what_is_left_of_a_wallet_is_too_little_for_one_call_more_and_nobody_holds_it(shop, gateway):
    # Given calls that cost a fraction of the most they could, and money for a dozen
    ask = {"model": "erin/fine", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}
    _, asking = shop.buyer("dan-asks", OPEN)
    dearest_nano = gateway.post("/v1/quote", ask, key=asking).json()["max_cost_nano"]
    granted_nano = 2 * dearest_nano
    dan, key = shop.buyer("dan-dozen", granted_nano)

    # When 32 clients call, and one goes on
    def call(_=None) -> int:
        return gateway.post("/v1/chat/completions", ask, key=key).status_code

    with ThreadPoolExecutor(32) as threads:
        assert set(threads.map(call, range(64))) <= {200, 402}
    wait_until(lambda: call() == 402 and shop.balance_nano(dan) < dearest_nano)

    # Then nothing is held, nor lost
    wait_until(lambda: owners(dan) == set())
    left_nano = ledger.balance(chart.wallet(dan.pk)).available_nano
    assert left_nano == granted_nano - sum(call.cost_nano for call in dan.calls.all())
    assert 0 <= left_nano < dearest_nano


def test_a_revoked_key_is_refused_by_every_process(shop, gateway):
    # Given a key that both processes know
    dan, secret = shop.buyer("dan-revokes", OPEN)

    def both_hold() -> bool:
        assert gateway.classify(secret).status_code == 200
        return len(owners(dan)) == 2

    wait_until(both_hold)

    # When it is revoked, then each hears of it
    keys.revoke(ApiKey.objects.get(owner=dan), by=dan)
    sessions = [requests.Session() for _ in range(16)]  # a connection each: they come to both
    wait_for(
        lambda: all(
            session.get(f"{gateway.url}/v1/credits", headers=bearer(secret)).status_code == 401 for session in sessions
        )
    )


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


def test_each_process_keeps_to_its_connections_to_the_database(shop, gateway):
    _, key = shop.buyer("dan-connects", OPEN)
    for _ in range(8):
        assert gateway.classify(key).status_code == 200
        assert gateway.get("/v1/credits", key=key).status_code == 200

    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'gateway %'"
        )
        assert cursor.fetchone()[0] <= 2 * config.DATABASE_CONNECTIONS


# Told to end at the last moment before its server hears signals.
TOLD_TOO_SOON = """
import os, signal, sys
from marketplace.gateway import __main__ as gateway

def set_and_send(number, handler, really_set=signal.signal):
    really_set(number, handler)
    if number == signal.SIGINT:
        signal.signal = really_set
        os.kill(os.getpid(), signal.SIGTERM)

signal.signal = set_and_send
sys.exit(gateway.serve(host="127.0.0.1", port=int(sys.argv[1])))
"""


def test_who_is_told_to_end_before_it_serves_does_not_go_on(shop):
    # As a worker is whose supervisor dies while it starts: it would keep the port from the next one.
    environment = os.environ | {"DATABASE_URL": application_url(shop.books), "WITNESS_QUORUM": "0"}
    told = [sys.executable, "-c", TOLD_TOO_SOON, str(free_port())]

    assert subprocess.run(told, cwd=ROOT, env=environment, timeout=60).returncode == 0


def test_a_worker_ends_with_its_supervisor(gateway):
    pids = workers(gateway)

    gateway.process.kill()

    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
