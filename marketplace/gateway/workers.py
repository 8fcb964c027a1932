"""Several gateway processes on one port, and who looks after them.

Each worker has a listening socket of its own in one group (SO_REUSEPORT), so that the kernel spreads connections evenly.
The sockets belong to the supervisor: what connects while a worker is dead waits for the next one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable

from . import config

logger = logging.getLogger("marketplace.gateway.workers")
_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
_STEADY_S = 10.0  # who lived longer is replaced at once
_PAUSE_S, _PAUSE_MAX_S = 0.25, 10.0
_BACKLOG = 2048


class _Worker:
    def __init__(self, number: int, listener: socket.socket):
        self.number, self.listener = number, listener
        self.pid = 0
        self.crashes = 0
        self.started_at = self.start_at = 0.0


class Supervisor:
    """Starts the workers, replaces those that die, and ends all of them when it is told to.

    Args:
        serve: Runs in each worker, with its number and its socket; returns its exit code.
    """

    def __init__(self, serve: Callable[[int, socket.socket], int], *, host: str, port: int, count: int):
        self._serve = serve
        self._workers = [_Worker(number, listener) for number, listener in enumerate(listeners(host, port, count))]
        # Nobody writes into it: its end is how a worker sees that the supervisor is gone.
        self._alive_read, self._alive_write = os.pipe()

    def run(self) -> int:
        """Until SIGTERM or SIGINT. The main thread, and the only one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        while True:
            now = time.monotonic()
            for worker in self._workers:
                if not worker.pid and worker.start_at <= now:
                    self._start(worker)
            due = [worker.start_at - now for worker in self._workers if not worker.pid]
            came = signal.sigtimedwait(_SIGNALS, min(due, default=3600.0))
            if came is not None and came.si_signo in (signal.SIGTERM, signal.SIGINT):
                return self._stop()
            for pid, status in _ended():
                self._bury(pid, status)

    def _start(self, worker: _Worker) -> None:
        worker.started_at = time.monotonic()
        worker.pid = os.fork()
        if worker.pid:
            return
        code = 1
        try:
            for other in self._workers:
                if other is not worker:
                    other.listener.close()
            os.close(self._alive_write)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            threading.Thread(target=_end_with, args=(self._alive_read,), daemon=True).start()
            code = self._serve(worker.number, worker.listener)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # what follows a fork is the supervisor's

    def _bury(self, pid: int, status: int) -> None:
        for worker in self._workers:
            if worker.pid == pid:
                now = time.monotonic()
                worker.pid = 0
                worker.crashes = 0 if now - worker.started_at > _STEADY_S else worker.crashes + 1
                pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2 ** (worker.crashes - 1)) if worker.crashes else 0.0
                worker.start_at = now + pause_s
                ended = os.waitstatus_to_exitcode(status)
                logger.warning("worker %s ended (%s); another one in %.1f s", worker.number, ended, pause_s)

    def _stop(self) -> int:
        """Nothing new is accepted; what runs may end."""
        for worker in self._workers:
            worker.listener.close()
        self._send(signal.SIGTERM)
        give_up_at = time.monotonic() + config.END_S
        while running := [worker for worker in self._workers if worker.pid]:
            for pid, _ in _ended():
                for worker in running:
                    worker.pid = 0 if worker.pid == pid else worker.pid
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                self._send(signal.SIGKILL)
            if any(worker.pid for worker in running):
                signal.sigtimedwait({signal.SIGCHLD}, max(0.1, left_s))
        return 0

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker.pid, number)


def listeners(host: str, port: int, count: int) -> list[socket.socket]:
    """Listening sockets of one port. Raises OSError if somebody else has it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    found: list[socket.socket] = []
    with socket.socket(family, kind, protocol) as probe:  # SO_REUSEPORT alone would share the port with anybody
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
    for _ in range(count):
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        found.append(listener)
    for listener in found:
        listener.listen(_BACKLOG)
    return found


def _ended() -> list[tuple[int, int]]:
    found = []
    with contextlib.suppress(ChildProcessError):
        while (one := os.waitpid(-1, os.WNOHANG))[0]:
            found.append(one)
    return found


def _end_with(pipe: int) -> None:
    """In a worker: end in order once the supervisor is gone, however it went."""
    os.read(pipe, 1)
    os.kill(os.getpid(), signal.SIGTERM)
