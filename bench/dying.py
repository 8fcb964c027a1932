"""Lives that end by kill -9 between two statements: right before or right after the n-th that a process sends to PostgreSQL.

COMMIT is no statement here. Who dies after the last one of a transaction dies before its COMMIT; who dies before the next
one dies after it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

from devstack.children import bound_to_parent


class Death(NamedTuple):
    """At the n-th statement (from 1), or, where there is none, so many seconds after the birth: in the middle of one, too."""

    statement: int | None = None
    is_before: bool = False
    after_s: float = 0.0


def live(act: Callable[[], object], death: Death | None = None) -> bool:
    """Run an act in a child of ours that dies as told. Returns whether it came to that; an act that fails ends us too.

    We fork, so that a life costs milliseconds: call this from a process without threads, and without open connections.
    """
    bind = bound_to_parent(signal.SIGKILL)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            bind()
            with _dying(death):
                act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    if death is not None and death.statement is None:
        time.sleep(death.after_s)
        os.kill(child, signal.SIGKILL)  # which is ours until we have waited for it, also if it has ended
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("an act ended by an error")
    return False


def at_each_statement(prepare: Callable[[], Callable[[], object]]) -> int:
    """Let an act die before and after each of its statements. Returns how many it has.

    prepare: Called before each life; returns the act. After a death the same act is lived again, to its end.
    """
    for statement in itertools.count(1):
        for is_before in (True, False):
            act = prepare()
            if not live(act, Death(statement, is_before)):
                return statement - 1
            live(act)
    raise AssertionError


@contextlib.contextmanager
def _dying(death: Death | None) -> Iterator[None]:
    from django.db import connection

    statements = itertools.count(1)

    def execute(run: Callable, *told: object) -> object:
        is_last = death is not None and next(statements) == death.statement
        if is_last and death.is_before:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return run(*told)
        finally:
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)

    with connection.execute_wrapper(execute):
        yield
