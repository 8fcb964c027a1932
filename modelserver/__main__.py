"""`python -m modelserver --port P`: serve the bundled models on one port. The key comes from MODELS_API_KEY."""

from __future__ import annotations

import argparse
import os
import signal
import sys

# Before NumPy and the native libraries are loaded: pools that spin made everything 3 to 10 times slower.
for _name, _value in (("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "1"), ("OMP_WAIT_POLICY", "passive")):
    os.environ.setdefault(_name, _value)

import uvicorn  # noqa: E402

from modelserver import config  # noqa: E402
from modelserver.app import Application  # noqa: E402

# Running answers may finish in this time after SIGTERM; then they are stopped.
_GRACE_S = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="modelserver", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    try:
        settings = config.from_environment()
    except ValueError as error:
        print(f"modelserver: {error}", file=sys.stderr)
        return 2
    # uvicorn stops in order, then sends itself the same signal again: without this we would end as if killed.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = uvicorn.Server(
        uvicorn.Config(
            Application(settings),
            host=arguments.host,
            port=arguments.port,
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
