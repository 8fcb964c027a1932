"""Whatever is sent, the answer is a refusal in one shape, nothing is charged, nothing stays held, and it has an end.

Over plain sockets: clients send what no client library would.
"""

from __future__ import annotations

import contextlib
import json
import re
import select
import socket
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest
from django.conf import settings

from ledger import chart
from ledger import services as ledger
from marketplace.models import Call
from tests.gateway.conftest import Gateway, running_gateway, wait_until
from tests.gateway.shop import OPEN

MIB = 1024 * 1024
LIMITS = {
    "GATEWAY_HEAD_S": "2",
    "GATEWAY_BODY_S": "2",
    "GATEWAY_SEND_S": "2",
    "GATEWAY_CONNECTIONS_MAX": "24",
}
CHAT = {"model": "erin/fine", "messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture(scope="module")
def gateway(shop) -> Iterator[Gateway]:
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0], **LIMITS) as running:
        yield running


@pytest.fixture(scope="module")
def dan(shop):
    """A buyer with money, and the key."""
    return shop.buyer("dan-sends", OPEN)


@pytest.fixture(autouse=True)
def nothing_is_paid_or_held(shop, dan) -> Iterator[None]:
    yield
    assert ledger.open_holds(chart.wallet(dan[0].pk)) == []
    assert not Call.objects.filter(buyer=dan[0]).exclude(status="refused").exists()
    assert shop.balance_nano(dan[0]) == OPEN


def head(path: str = "/v1/chat/completions", *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: gateway", *lines, "", ""]).encode("latin-1")


def request(body: bytes, key: str, *lines: str, path: str = "/v1/chat/completions") -> bytes:
    return head(path, f"authorization: Bearer {key}", f"content-length: {len(body)}", *lines) + body


@contextlib.contextmanager
def connected(gateway: Gateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as client:
        yield client


def read(client: socket.socket) -> tuple[int, dict[str, str], bytes]:
    answer = HTTPResponse(client)
    answer.begin()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def sent(gateway: Gateway, raw: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send it all, and read the one answer."""
    with connected(gateway) as client:
        with contextlib.suppress(ConnectionError):  # refused before its end
            client.sendall(raw)
        return read(client)


def refused(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """The status and the code of a refusal, which has the shape of all refusals."""
    status, headers, payload = answer
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"]
    error = json.loads(payload)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and error["type"]
    return status, error["code"]


def is_closed(client: socket.socket) -> bool:
    """Wait for the end of the connection."""
    with contextlib.suppress(ConnectionError):
        return client.recv(1) == b""
    return True


BODIES = {
    "empty": (b"", 400, "invalid_value"),
    "no JSON": (b"{", 400, "invalid_value"),
    "no object": (b"[]", 400, "invalid_value"),
    "not a number": (b'{"temperature":NaN}', 400, "invalid_value"),
    "invalid UTF-8": (b'{"model":"\xff"}', 400, "invalid_value"),
    "surrogates as UTF-8": (b'{"model":"\xed\xa0\x80"}', 400, "invalid_value"),
    "a lone surrogate": (b'{"model":"\\ud800"}', 400, "invalid_value"),
    "nested without end": (b'{"model":' + b"[" * 100_000, 400, "invalid_value"),
    "nested deeply": (
        json.dumps(CHAT).encode()[:-1] + b',"tools":' + b"[" * 300 + b"]" * 300 + b"}",
        400,
        "invalid_value",
    ),
    "a million values": (b'{"model":[' + b"1," * 999_999 + b"1]}", 400, "invalid_value"),
    "no model": (b"{}", 400, "invalid_value"),
    "a model that is no text": (b'{"model":7}', 400, "invalid_value"),
    "an unknown model": (b'{"model":"erin/nothing"}', 404, "model_not_found"),
    "a path as a model": (b'{"model":"../../etc/passwd"}', 404, "model_not_found"),
    "a model of another kind": (json.dumps({**CHAT, "model": "erin/tumours"}).encode(), 400, "invalid_value"),
    "no messages": (b'{"model":"erin/fine"}', 400, "invalid_value"),
    "a message that is none": (b'{"model":"erin/fine","messages":[7]}', 400, "invalid_value"),
    "a NUL": (b'{"model":"erin/fine","messages":[{"role":"user","content":"\\u0000"}]}', 400, "invalid_value"),
    "too many tokens": (json.dumps({**CHAT, "max_tokens": 2**40}).encode(), 400, "invalid_value"),
    "tokens below one": (json.dumps({**CHAT, "max_tokens": 0}).encode(), 400, "invalid_value"),
    "tokens as a truth": (json.dumps({**CHAT, "max_tokens": True}).encode(), 400, "invalid_value"),
    "a truth as a number": (json.dumps({**CHAT, "stream": 1}).encode(), 400, "invalid_value"),
    "options that are none": (json.dumps({**CHAT, "stream_options": 0}).encode(), 400, "invalid_value"),
    "an unknown field": (json.dumps({**CHAT, "surprise": 1}).encode(), 400, "unsupported_parameter"),
    "a price that is none": (json.dumps({**CHAT, "max_cost": "much"}).encode(), 400, "invalid_value"),
    "a long text": (
        json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * MIB}]}).encode(),
        400,
        "invalid_value",
    ),
    "10 MB": (
        json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * 10 * MIB}]}).encode(),
        413,
        "body_too_large",
    ),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_cannot_be_used_is_refused(gateway, dan, name):
    body, status, code = BODIES[name]

    assert refused(sent(gateway, request(body, dan[1]))) == (status, code)


def test_a_body_without_a_length_is_refused_beyond_the_limit(gateway, dan):
    part = b"%x\r\n%s\r\n" % (MIB, b" " * MIB)
    raw = head("/v1/chat/completions", f"authorization: Bearer {dan[1]}", "transfer-encoding: chunked") + 5 * part

    assert refused(sent(gateway, raw)) == (413, "body_too_large")


def test_too_many_fields_in_an_address_are_refused(gateway, dan):
    path = "/v1/calls?" + "&".join(f"field{number}=1" for number in range(21))

    assert refused(sent(gateway, head(path, f"authorization: Bearer {dan[1]}", method="GET"))) == (400, "invalid_value")


def doubled(line: str) -> bytes:
    return head("/v1/models", line, line, method="GET")


MALFORMED = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "no method": b"SURPRISE /v1/models HTTP/1.1\r\nhost: a\r\n\r\n",
    "another version": b"GET /v1/models HTTP/3.0\r\nhost: a\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "bare line feeds": b"GET /v1/models HTTP/1.1\nhost: a\n\n",
    "a space before the colon": head("/v1/models", "content-length : 1"),
    "a folded header": head("/v1/models", "x-a: b\r\n c"),
    "a NUL in a header": head("/v1/models", "x-a: b\x00c"),
    "a negative length": head("/v1/models", "content-length: -1"),
    "a length with a sign": head("/v1/models", "content-length: +1"),
    "an endless length": head("/v1/models", "content-length: 99999999999999999999"),
    "length and chunks": head("/v1/models", "content-length: 3", "transfer-encoding: chunked") + b"0\r\n\r\n",
    "chunks and length": head("/v1/models", "transfer-encoding: chunked", "content-length: 3") + b"0\r\n\r\n",
    "an unknown coding": head("/v1/models", "transfer-encoding: gzip, chunked") + b"0\r\n\r\n",
    "a disguised coding": head("/v1/models", "transfer-encoding: chunked\x0b"),
    "chunks twice": head("/v1/models", "transfer-encoding: chunked", "transfer-encoding: chunked") + b"0\r\n\r\n",
    "chunks for an old version": b"POST /v1/models HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": doubled("content-length: 0"),
    "two lengths that differ": head("/v1/models", "content-length: 0", "content-length: 5") + b"hello",
    "a list of lengths": head("/v1/models", "content-length: 5, 5") + b"hello",
    "a coding that begins with another line": head("/v1/models", "transfer-encoding:", " chunked") + b"0\r\n\r\n",
    "two keys": doubled("authorization: Bearer x"),
    "two hosts": doubled("host: b"),
    "two idempotency keys": doubled("idempotency-key: a"),
    "two limits of the cost": doubled("x-max-cost: 1"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_two_readers_could_understand_differently_is_refused(gateway, name):
    with connected(gateway) as client:
        client.sendall(MALFORMED[name])

        assert refused(read(client)) == (400, "malformed_request")
        assert is_closed(client)


@pytest.mark.parametrize(
    "lines", [["x-many: 1"] * 101, ["x-long: " + "x" * 33 * 1024]], ids=["too many", "one too long"]
)
def test_headers_beyond_the_limit_are_refused(gateway, lines):
    assert refused(sent(gateway, head("/v1/models", *lines, method="GET"))) == (431, "headers_too_large")


def test_a_header_without_an_end_is_refused_before_its_end(gateway):
    with connected(gateway) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-long: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                client.sendall(b"x" * 1024)

        assert refused(read(client)) == (431, "headers_too_large")
        assert is_closed(client)


def test_chunks_that_are_none_end_the_request_they_are_in(gateway, dan):
    raw = head("/v1/chat/completions", f"authorization: Bearer {dan[1]}", "transfer-encoding: chunked")

    assert refused(sent(gateway, raw + b"5\r\n{\r\nno number\r\n")) == (400, "malformed_request")


def test_a_good_request_is_answered_before_the_bad_one_behind_it_closes_the_connection(gateway):
    with connected(gateway) as client:
        client.sendall(head("/v1/models", method="GET") + b"SURPRISE\r\n\r\n")

        status, headers, payload = read(client)
        assert (status, headers["connection"]) == (200, "close")
        assert json.loads(payload)["object"] == "list"
        assert is_closed(client)


def test_requests_that_follow_each_other_are_answered_in_order(gateway):
    with connected(gateway) as client:
        client.sendall(head("/v1/models", method="GET") + head("/livez", method="GET") + head("/nothing", method="GET"))
        stream = client.makefile("rb")
        statuses = []
        for _ in range(3):
            statuses.append(int(stream.readline().split()[1]))
            length = int(re.search(rb"content-length: (\d+)", b"".join(iter(stream.readline, b"\r\n")))[1])
            stream.read(length)

    assert statuses == [200, 200, 404]


def test_an_upgrade_is_answered_as_if_it_had_not_been_asked_for(gateway):
    with connected(gateway) as client:
        client.sendall(head("/livez", "connection: Upgrade", "upgrade: h2c", method="GET"))

        assert read(client)[0] == 200
        assert is_closed(client)


def test_a_client_that_sends_its_head_slowly_is_told_and_left(gateway):
    with connected(gateway) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nhost:")

        assert refused(read(client)) == (408, "request_timeout")
        assert is_closed(client)


def test_a_client_that_sends_its_body_slowly_is_told_and_left(gateway, dan):
    with connected(gateway) as client:
        client.sendall(request(b"x" * 100, dan[1])[:-50])

        assert refused(read(client)) == (408, "request_timeout")
        assert is_closed(client)


def test_a_client_that_sends_a_body_nobody_waits_for_is_left(gateway):
    with connected(gateway) as client:
        client.sendall(head("/v1/chat/completions", "content-length: 1000") + b"x")

        assert refused(read(client)) == (401, "invalid_api_key")
        assert is_closed(client)


def test_a_client_that_says_nothing_is_left(gateway):
    with connected(gateway) as client:
        assert is_closed(client)


def test_a_client_that_reads_nothing_is_left(gateway):
    # It asks on and on, its answers wait for a reader behind a window of 4 kB, and then it is cut off.
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", gateway.port))
        client.settimeout(30)
        ended = select.poll()
        ended.register(client, select.POLLHUP | select.POLLERR)
        with contextlib.suppress(ConnectionError):
            while not ended.poll(20):
                client.sendall(head("/v1/models", method="GET") * 8)


def test_requests_that_wait_on_one_connection_are_bounded(gateway):
    with connected(gateway) as client:
        client.sendall(head("/livez", method="GET") * 100)

        answers = b""
        with contextlib.suppress(ConnectionError):
            while part := client.recv(65536):
                answers += part

    assert 1 <= answers.count(b"HTTP/1.1 200 OK") < 100


def test_connections_are_bounded_and_who_comes_later_is_told_so(gateway):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connected(gateway)) for _ in range(24)]
        for client in clients:
            client.sendall(head("/livez", method="GET"))
            assert read(client)[0] == 200

        with connected(gateway) as late:
            status, code = refused(read(late))
            assert (status, code) == (503, "gateway_busy")
            assert is_closed(late)

    # And once they have gone there is room again
    wait_until(lambda: sent(gateway, head("/livez", method="GET"))[0] == 200)
