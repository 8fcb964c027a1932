"""`python -m marketplace.gateway --port P`: serve `/v1/*` on one port."""

from __future__ import annotations

import argparse
import os
import signal
import sys

# Before NumPy is loaded: pools that spin made everything 3 to 10 times slower.
for _name, _value in (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "marketplace.settings")

import logging.config  # noqa: E402

import uvicorn  # noqa: E402
from django.conf import settings  # noqa: E402

from marketplace.gateway.app import Application  # noqa: E402

# Running answers may finish in this time after SIGTERM; then they are stopped.
_GRACE_S = 8


def main() -> int:
    parser = argparse.ArgumentParser(prog="marketplace.gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    logging.config.dictConfig(settings.LOGGING)
    # uvicorn stops in order, then sends itself the same signal again: without this we would end as if killed.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            Application(settings),
            host=arguments.host,
            port=arguments.port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
