"""`python -m marketplace.gateway --port P`: serve `/v1/*` on one port, by one process or several."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import resource
import signal
import socket
import sys

# Before NumPy is loaded: pools that spin made everything 3 to 10 times slower.
for _name, _value in (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

import logging.config  # noqa: E402
from types import FrameType  # noqa: E402

import uvicorn  # noqa: E402
from django.conf import settings  # noqa: E402

from marketplace.gateway import config, logs  # noqa: E402
from marketplace.gateway.app import Application  # noqa: E402
from marketplace.gateway.protocol import Protocol  # noqa: E402
from marketplace.gateway.workers import Supervisor  # noqa: E402

#: New objects until Python looks for cycles among the young, then the older, then all. A call makes some hundreds.
_GARBAGE_AFTER = (50_000, 50, 100)


def main() -> int:
    parser = argparse.ArgumentParser(prog="marketplace.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=config.WORKERS, help="processes (default: GATEWAY_WORKERS)")
    arguments = parser.parse_args()
    if not 1 <= arguments.workers <= config.WORKERS_MAX:
        parser.error(f"--workers (GATEWAY_WORKERS) must be 1 to {config.WORKERS_MAX}")
    logging.config.dictConfig(logs.configuration(settings.LOGGING))
    _allow_connections()
    if arguments.workers == 1:
        return serve(host=arguments.host, port=arguments.port)
    try:
        supervisor = Supervisor(
            lambda number, listener: serve(number=number, listener=listener),
            host=arguments.host,
            port=arguments.port,
            count=arguments.workers,
        )
    except OSError as error:
        parser.exit(1, f"{parser.prog}: port {arguments.port} on {arguments.host}: {error.strerror}\n")
    return supervisor.run()


def serve(*, number: int = 0, listener: socket.socket | None = None, host: str = "", port: int = 0) -> int:
    """Run one process, on its own port or on a socket that it was given."""
    application = Application(settings, number=number)
    server = _Server(
        application,
        uvicorn.Config(
            application,
            host=host,
            port=port,
            loop="uvloop",
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nobody asks from where a call came
            date_header=False,
            timeout_keep_alive=config.KEEP_ALIVE_S,
            timeout_graceful_shutdown=config.GRACE_S,
        ),
    )
    # Ours before uvicorn hears signals, and after: it stops in order, then sends itself the same one again, which would end
    # us as if killed. Who is told to end before serving must not go on: a worker without a supervisor would keep the port.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: setattr(server, "should_exit", True))
    server.run(sockets=[listener] if listener else None)
    return 0 if server.started else 1


class _Server(uvicorn.Server):
    """Sets the process up for many short calls, and tells the application when it is to end: no more calls from then on."""

    def __init__(self, application: Application, configuration: uvicorn.Config):
        super().__init__(configuration)
        self._application = application

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What is here now stays for the life of the process: nobody has to look through it for garbage again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE_AFTER)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._application.draining = True
        super().handle_exit(sig, frame)


def _allow_connections() -> None:
    """A connection needs a file, and one to a model's server perhaps a second; many systems allow 1,024 by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * config.CONNECTIONS_MAX + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


if __name__ == "__main__":
    sys.exit(main())
