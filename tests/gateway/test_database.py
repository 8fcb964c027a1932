"""The threads of a gateway that speak to the database."""

from __future__ import annotations

import contextlib
import resource
import threading
from pathlib import Path

from marketplace.gateway import database
from tests.gateway.conftest import application_url

SELECT_MAX = 1024


def test_a_connection_that_is_made_again_under_many_clients_still_hears_notifications(books):
    # Given a process with more open connections than select(2) can name, as after a crash of the database
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    heard = threading.Event()
    thread = database.DatabaseThread(
        "catalogue",
        application_url(books),
        listen=["wren"],
        on_notify=lambda _channel, _payload: heard.set(),
        on_tick=lambda cursor: cursor.execute("SELECT"),
        tick_s=60,
    )
    with contextlib.ExitStack() as clients:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * SELECT_MAX), hard))
        clients.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while clients.enter_context(Path("/dev/null").open()).fileno() < SELECT_MAX:
            pass
        thread.start()
        clients.callback(thread.stop)

        # When somebody notifies it, then it hears of it
        with contextlib.closing(books.connect()) as session:
            session.autocommit = True
            with session.cursor() as cursor:
                for _ in range(200):
                    cursor.execute("NOTIFY wren")
                    if heard.wait(0.1):
                        break

    assert heard.is_set()
